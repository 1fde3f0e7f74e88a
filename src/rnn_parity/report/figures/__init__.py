"""The figures of the report: their names, titles and captions, and `plot_all`.

Importing this package is cheap, since the Snakefile does it for the names: what plots is imported when it plots.
"""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rnn_parity.experiment.workloads import load_object, workloads_of

SECTIONS = ("verdicts", "speed", "numbers", "dropout", "trust")
"""The sections of the report that hold figures, in its order; figures are numbered in that order."""


@dataclass(frozen=True)
class FigureEntry:
    """What is said of a figure, the section of the report that has it, and the CSV file with the numbers it draws.

    `table`: the name of that file; empty for the figure's own.
    """

    title: str
    caption: str
    section: str = "speed"
    table: str = ""


FIGURES = {
    "overview": FigureEntry(
        "The verdict of every sweep, and what it gains",
        "Left: the worst verdict of each sweep in each regime, over all cases, seeds and quantities that a layer "
        "gives there. A number is given where only some of the cases do not pass. With the same seed, `different` is "
        "no fault and has a colour of its own. Right: the geometric mean of the speedup over the cases of a sweep. "
        "The line runs from the slowest to the fastest case. 1 is the baseline.",
        section="verdicts",
    ),
    "speedup": FigureEntry(
        "Speedup over the baseline",
        "Median over rounds of the baseline's time / the candidate's time, with its interval, against the axis that "
        "each sweep varies. The grey box behind a point is the interval of the baseline timed against itself in the "
        "same rounds. Hollow points are within noise (the interval does not clear both 1 and the box) or disturbed.",
    ),
    "crossover": FigureEntry(
        "Who wins where",
        "Speedup of the candidate in the sweeps that vary two sizes. Blue: the candidate is faster. Red: the "
        "baseline is. Hatched cells are within noise or disturbed.",
    ),
    "latency": FigureEntry(
        "Latency against sequence length",
        "Median wall time of one call, with a band between the quartiles, in the sweeps that vary the sequence "
        "length. The dashed line is a lower bound: the time of the operations at the machine's peak rate, or the "
        "time of moving the bytes where that is longer. It is left out where every call takes more than a thousand "
        "times as long. The phase `step` is forward and backward.",
        table="timing",
    ),
    "roofline": FigureEntry(
        "How much of the machine each call uses",
        "Rate of the matrix products of every case, as a share of the best rate that its machine reached in a "
        "large product. The x axis is the number of operations per byte moved, divided by the machine's own ratio: "
        "at 1, computing and copying take the same time. The line is the upper bound of every call. A dash is a "
        "second bound of a case: every step's product at the rate of such a product alone, as for a layer that "
        "loads its weights anew in each step. A kernel that keeps its weights in cache may pass the dash. Gates, "
        "copies and calls take the rest of the time.",
    ),
    "resources": FigureEntry(
        "Memory and operator calls",
        "Peak memory that one call allocates, and the number of operators that it calls. On a GPU, also the number "
        "of kernels that it launches. Filled points are a training step, hollow points inference.",
    ),
    "error_ratio": FigureEntry(
        "The worst error as a share of its limit",
        "Largest error / limit in either norm, over the cases, seeds and layers of each sweep, in the regimes in "
        "which a correct layer must agree. Above 1 a quantity is over its limit. A framed cell is `different` or "
        "`failed`. What a layer does not support in one regime is judged in the others. A hatched cell was judged in "
        "none.",
        section="numbers",
    ),
    "error_vs_length": FigureEntry(
        "Error against sequence length",
        "Relative error to the float64 oracle, ‖x − x*‖₂ / ‖x*‖₂, in units of the unit roundoff u of the case's "
        "dtype. A point is one case and implementation: its largest error over seeds, over the regimes in which a "
        "correct layer must agree, and over the quantities named on the axis. Left: the sweeps that vary T. Right: "
        "the cases of the other sweeps. A dash is the criterion's limit for the candidate below it. A point at ten "
        "times the largest limit may lie beyond.",
        section="numbers",
    ),
    "dropout": FigureEntry(
        "Why the same seed does not give the same dropout masks",
        "Left: the masks of one small case, one image per gap between layers and step, with rows of the batch by "
        "hidden units. The colour is an entry's position in the stream of random numbers, drawn on the CPU. A dot "
        "marks a dropped entry. The implementations use the same stream in different orders. Right: the largest "
        "difference from the baseline in output and final states, with the same seed and with the same masks. Shown "
        "are the cases of the default dtype without TF32, with dropout and at least three layers (two, where there "
        "are no others). 0 means identical bits.",
        section="dropout",
    ),
    "detection": FigureEntry(
        "This check and the usual ones, on correct layers and on planted faults",
        "Left: the share of comparisons with correct layers, which only round differently, that a check calls "
        "different (false alarms): this check, and the usual ones at their defaults. The dotted line is the most "
        "that is allowed. Right: the share of random cases in which a planted fault is missed, of those in which it "
        "changes anything that can be judged. Lines are 95 % intervals. A hollow point on the axis is a share of 0.",
        section="trust",
    ),
}
"""Figure name to entry. `{name}.py` in this folder has its `plot`."""


def workload_figures(config: Mapping[str, Any]) -> dict[str, FigureEntry]:
    """The figures of the config's workloads from outside, by name."""
    entries = [load_object(entry.figures) for entry in workloads_of(config) if entry.figures]
    return {name: figure for figures in entries for name, figure in figures.items()}


def plot_all(
    config: Mapping, results: Mapping[str, Any], environment: Mapping, folder: Path, processes: int = 1
) -> None:
    """Write every figure as `folder/{name}.pdf`, `.png` and `.svg`, byte for byte the same for the same tables.

    A sweep that was timed on unlike machines is several in them.

    Args:
        config: the completed config; `report.width` says how wide the figures are.
        results: the collected tables of `rnn_parity.tables` as pandas data frames, by name.
        environment: as `rnn_parity.timing.environment.describe_environment` gives it.
        folder: where to; made if missing. processes: how many draw side by side.
    """
    from rnn_parity.findings.machines import split_sweeps
    from rnn_parity.report.figures.layout import Study

    timing = results["timing"]
    equivalence, timing = (split_sweeps(table, timing) for table in (results["equivalence"], timing))
    draw = partial(_draw, Study(config, equivalence, timing, results["masks"], environment), folder)
    if processes == 1:
        for name in FIGURES:
            draw(name)
    else:
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            pool.map(draw, FIGURES, chunksize=1)


def _draw(study: Any, folder: Path, name: str) -> None:
    from rnn_parity.report.figures import style

    with style.applied():
        style.save(importlib.import_module(f"{__name__}.{name}").plot(study), folder, name)
