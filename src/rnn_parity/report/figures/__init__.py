"""The figures of the report: their names, titles and captions, and `plot_all`.

Importing this package is cheap, since the Snakefile does it for the names: what plots is imported when it plots.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMATS = ("pdf", "png", "svg")
SECTIONS = ("verdicts", "speed", "numbers", "dropout", "trust")
"""The sections of the report that hold figures, in its order; figures are numbered in that order."""


@dataclass(frozen=True)
class FigureEntry:
    """What is said of a figure, the CSV file with the numbers it draws, and the section of the report that has it."""

    title: str
    caption: str
    table: str
    section: str = "speed"


FIGURES = {
    "overview": FigureEntry(
        "The verdict of every sweep, and what it gains",
        "Left: the worst verdict among all cases, seeds and quantities of a sweep in each regime; where only some "
        "cases do not pass, how many. With the same seed only, `different` is no fault, and has another colour. Right: "
        "the geometric mean of the speedup over the cases of the sweep, with its range from the slowest to the fastest "
        "case; 1 is the baseline.",
        "overview",
        "verdicts",
    ),
    "speedup": FigureEntry(
        "Speedup over the baseline",
        "Median over rounds of time of the baseline / time of the candidate, with its interval, against what each "
        "sweep varies. The grey box behind a point is the interval of the baseline timed against itself in the same "
        "rounds. Hollow points are within noise, where the interval does not clear both 1 and the box, or disturbed.",
        "speedup",
    ),
    "crossover": FigureEntry(
        "Who wins where",
        "Speedup of the candidate in the sweeps that vary two sizes: blue where the candidate is faster, red where the "
        "baseline is. Hatched cells are within noise or disturbed.",
        "crossover",
    ),
    "phases": FigureEntry(
        "Where the time goes",
        "Forward in training and backward, stacked, with the baseline's two together as the unit; the ring is "
        "inference in that unit. The dot is the training step timed as a whole, the baseline's as the unit. The split "
        "is that of the baseline's medians; what a candidate takes of it is by its speedup in that phase.",
        "phases",
    ),
    "latency": FigureEntry(
        "Latency against sequence length",
        "Median wall time of one call, with the band between the quartiles, in the sweeps that vary the sequence "
        "length. The dashed line is the time of the operations at the peak rate of this machine, or of the bytes where "
        "these take longer: no call gets below it. The phase `step` is forward and backward.",
        "timing",
    ),
    "roofline": FigureEntry(
        "How much of the machine each call uses",
        "Rate of the matrix products over the best that this machine reached in a large one, of every case. Across: "
        "operations per byte that must be moved, over those at which computing and copying take the same time here; "
        "the line is what no call can pass. A dash is the second ceiling of a case: the products in which each step "
        "waits for the one before it take the time that they take alone, at their own size. A kernel that keeps its "
        "weights between the steps may pass the dash. What lies below is gates, copies and calls.",
        "roofline",
    ),
    "resources": FigureEntry(
        "Memory and operator calls",
        "Upper row: peak memory that one call allocates. Lower row: calls of operators that it makes on the CPU, or "
        "kernels that it launches on a GPU. Filled points are a training step, hollow ones inference.",
        "resources",
    ),
    "error_ratio": FigureEntry(
        "The worst error as a share of its limit",
        "Largest error / limit in either norm, over the cases, seeds and layers of each sweep, in the regimes that "
        "must hold. Above 1 a quantity is over the limit. A framed cell is `different` or `failed`; a hatched one was "
        "not judged.",
        "error_ratio",
        "numbers",
    ),
    "error_vs_length": FigureEntry(
        "Error against sequence length",
        "Relative error to the float64 oracle, ‖x − x*‖₂ / ‖x*‖₂, in units of the unit roundoff u of the case's dtype. "
        "One point per case and implementation: the worst over seeds, over the regimes that must hold and over the "
        "quantities named on the axis. Left: the sweeps that vary T, a line where nothing else varies. Right: the "
        "cases of every other sweep. The dash above a point is the criterion's limit for the candidate's. "
        "Points at ten times the largest limit lie there or beyond.",
        "error_vs_length",
        "numbers",
    ),
    "dropout": FigureEntry(
        "Why the same seed does not give the same dropout masks",
        "Left: the masks of one small case, one image per gap between layers and step, rows of the batch by hidden "
        "units. Colour is the place of an entry in the generator's stream, drawn on the CPU, a dot an entry that was "
        "dropped. The same stream is dealt out in another order. Right: the largest difference to the baseline in "
        "output and hn, once with the same seed and once with the same masks, in the cases of the default dtype "
        "with dropout and three layers or more (two, where there are no others); 0 means bit for bit.",
        "dropout",
        "dropout",
    ),
    "detection": FigureEntry(
        "The check tried on planted faults and on right layers",
        "Above: of the random cases in which a planted fault changes anything that can be judged, the share in which "
        "it was caught. Below: of the comparisons with right layers that only round differently, the share that this "
        "check and the usual ones at their defaults call different: false alarms, with the 95 % interval.",
        "detection",
        "trust",
    ),
}
"""Figure name to entry. `{name}.py` in this folder has its `plot`."""


def plot_all(config: Mapping, results: Mapping[str, Any], masks: Any, environment: Mapping, folder: Path) -> None:
    """Write every figure as `folder/{name}.pdf`, `.png` and `.svg`, byte for byte the same for the same tables.

    Args:
        config: the completed config; `report.width` says how wide the figures are.
        results, masks: the tables of `rnn_parity.tables` as pandas data frames, the collected ones by name.
        environment: as `rnn_parity.timing.environment.describe_environment` gives it.
        folder: where to; made if missing.
    """
    from rnn_parity.report.figures import style
    from rnn_parity.report.figures.study import Study

    study = Study(config, results["equivalence"], results["timing"], masks, environment, results["self_test"])
    with style.applied():
        for name in FIGURES:
            plot = importlib.import_module(f"{__name__}.{name}").plot
            style.save(plot(study), folder, name, FORMATS)
