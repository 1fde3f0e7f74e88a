"""The whole study on one sheet: what is said of every sweep in every regime, and what it gains."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from rnn_parity.experiment.vocabulary import UNDECIDED, Regime
from rnn_parity.findings import figure_tables
from rnn_parity.report.figures import style
from rnn_parity.report.figures.study import Study

_REGIMES = {
    "eval": "dropout off",
    "train_matched_masks": "dropout on,\nsame masks",
    "train_distribution": "dropout on,\nmany draws",
    "train_same_seed": "dropout on,\nsame seed",
}
_ROW_MM, _PAGE_MM = 6.2, 220
_MOST_LINES, _MOST_BLOCKS = 45, 8
_SIZES_PT = (6.5, 5.2, 4.2)
_PHASES = {"inference": ("o", -0.16), "step": ("D", 0.16)}


def plot(study: Study) -> Figure:
    """Plot one block per candidate: a row per sweep, its verdicts and its speedup, side by side where there is room."""
    table = figure_tables.overview(study.equivalence, study.timing)
    candidates = [name for name in study.candidates if name in set(table["implementation"])][:_MOST_BLOCKS]
    if not candidates:
        return style.say_no_data("Verdicts need at least one case in the equivalence table.", study.width_mm)
    sweeps = list(table["sweep"].unique())
    shown = sweeps[: max(3, _MOST_LINES // len(candidates))]
    blocks = [table[(table["implementation"] == name) & table["sweep"].isin(shown)] for name in candidates]
    figure, grid = _places(study, [block["sweep"].nunique() for block in blocks])
    regimes = [name for name in _REGIMES if name in set(table["regime"])]
    low, high = _speedup_range(table)
    for (matrix, dots), name, block in zip(grid, candidates, blocks, strict=True):
        _verdicts(matrix, block, regimes)
        letters = int((study.width_mm - 1.3 * max(map(len, shown)) - 10) / 1.45)
        title = style.wrapped(f"{name} in place of {study.baseline}", letters)
        matrix.set_title(title, loc="left", pad=24, fontsize=6.5)
        _speedups(dots, block, style.colours(study.implementations)[name], low, high)
    grid[-1][1].set_xlabel("speedup over the baseline")
    handles = [
        Line2D([], [], color=style.DARK, marker=marker, lw=1, label=phase) for phase, (marker, _) in _PHASES.items()
    ]
    grid[0][1].legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0)
    style.left_out(figure, len(sweeps) - len(shown), "sweep")
    return figure


def _places(study: Study, heights: list[int]) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """A pair of axes per block: verdicts left of speedups, or above them in a narrow figure."""
    row_mm = max(4, min(_ROW_MM, (_PAGE_MM - 15 * len(heights)) / sum(heights)))
    if study.width_mm >= style.PAGE_MM:
        size_mm = row_mm * sum(heights) + 15 * len(heights) + 8
        ratios = {"width_ratios": [1.55, 1], "height_ratios": heights}
        figure, grid = style.grid_of_axes(len(heights), 2, size_mm, study.width_mm, gridspec_kw=ratios)
        return figure, [tuple(line) for line in grid]
    size_mm = 2 * row_mm * sum(heights) + 22 * len(heights) + 8
    ratios = {"height_ratios": [height for height in heights for _ in range(2)]}
    figure, grid = style.grid_of_axes(2 * len(heights), 1, size_mm, study.width_mm, gridspec_kw=ratios)
    return figure, [(grid[2 * at, 0], grid[2 * at + 1, 0]) for at in range(len(heights))]


def _verdicts(axes: Axes, block: pd.DataFrame, regimes: list[str]) -> None:
    sweeps = list(block["sweep"].unique())
    cells = {(row.sweep, row.regime): row for row in block.itertuples()}
    whole_mm = axes.figure.get_figwidth() * 25.4
    axes_mm = (0.58 if whole_mm > 100 else 0.95) * whole_mm - 1.25 * (max(map(len, sweeps)) + 5)
    for y, sweep in enumerate(sweeps):
        for x, regime in enumerate(regimes):
            row = cells.get((sweep, regime))
            fill, ink = _colours(row)
            hatch = "////" if row and row.verdict in UNDECIDED else None
            box = Rectangle((x - 0.47, y - 0.42), 0.94, 0.84, facecolor=fill, edgecolor="#c8c8c8", hatch=hatch, lw=0.4)
            axes.add_patch(box)
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.2} if hatch else None
            words = _words(row)
            size = next((pt for pt in _SIZES_PT if 0.19 * pt * len(words) * len(regimes) < axes_mm), _SIZES_PT[-1])
            axes.text(x, y, words, ha="center", va="center", color=ink, fontsize=size, bbox=paper)
    cases = block.groupby("sweep", sort=False)["cases"].max()
    axes.set_xlim(-0.5, len(regimes) - 0.5)
    axes.set_ylim(len(sweeps) - 0.5, -0.5)
    axes.set_yticks(range(len(sweeps)), [f"{sweep} ({cases[sweep]})" for sweep in sweeps])
    axes.set_xticks(
        range(len(regimes)),
        [_REGIMES[regime] for regime in regimes],
        fontsize=6.5 if axes_mm > 18 * len(regimes) else 5,
    )
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _colours(row) -> tuple[str, str]:
    """Fill and text of a cell."""
    if row is None:
        return "#ffffff", style.GREY
    if row.regime == Regime.TRAIN_SAME_SEED and row.verdict == "different":
        return style.NO_FAULT
    return style.VERDICT_COLOURS[row.verdict]


def _words(row) -> str:
    if row is None:
        return "not run"
    partly = 0 < row.cases_passing < row.cases
    return f"{row.verdict}, {row.cases - row.cases_passing} of {row.cases}" if partly else row.verdict


def _speedup_range(table: pd.DataFrame) -> tuple[float, float]:
    values = table[[column for column in table if "_speedup_" in column]].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    return (min(0.95, values.min()), max(1.05, values.max())) if values.size else (0.9, 1.1)


def _speedups(axes: Axes, block: pd.DataFrame, colour: str, low: float, high: float) -> None:
    rows = block.drop_duplicates("sweep").reset_index(drop=True)
    narrow = axes.figure.get_figwidth() * 25.4 < style.PAGE_MM
    axes.axvline(1, color=style.DARK, lw=0.6)
    for phase, (marker, shift) in _PHASES.items():
        for y, row in rows.iterrows():
            mean = row[f"{phase}_speedup_geometric_mean"]
            if not np.isfinite(mean):
                continue
            ends = row[f"{phase}_speedup_lowest"], row[f"{phase}_speedup_highest"]
            axes.plot(ends, [y + shift] * 2, color=colour, lw=1.2, solid_capstyle="butt")
            axes.plot(mean, y + shift, marker=marker, color=colour, mec="white", mew=0.4, ms=4)
    style.ratio_axis(axes, "x", low / 1.06, high * 1.06, wanted=6)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)) if narrow else [], rows["sweep"] if narrow else [])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for y in range(len(rows)):
        axes.axhline(y, color="#eeeeee", lw=0.5, zorder=0)
