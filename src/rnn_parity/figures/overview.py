"""The whole study on one sheet: what is said of every sweep in every regime, and what it gains."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rnn_parity.figures import numbers, style
from rnn_parity.figures.numbers import Study

_REGIMES = {
    "eval": "dropout off",
    "train_matched_masks": "dropout on,\nsame masks",
    "train_distribution": "dropout on,\nmany draws",
    "train_same_seed": "dropout on,\nsame seed",
}
_ROW_MM, _PAGE_MM = 6.2, 220
_PHASES = {"inference": ("o", -0.16), "step": ("D", 0.16)}


def draw(study: Study) -> Figure:
    """Draw one block per candidate: a row per sweep, its verdicts on the left, its speedup on the right."""
    table = numbers.overview(study.equivalence, study.timing)
    candidates = [name for name in study.candidates if name in set(table["candidate"])]
    if not candidates:
        return style.say_no_data("Verdicts need at least one case in the equivalence table.")
    blocks = [table[table["candidate"] == name] for name in candidates]
    heights = [block["sweep"].nunique() for block in blocks]
    row_mm = max(4, min(_ROW_MM, (_PAGE_MM - 15 * len(blocks)) / sum(heights)))
    height_mm = row_mm * sum(heights) + 15 * len(blocks) + 8
    figure, grid = style.grid_of_axes(
        len(blocks), 2, height_mm, gridspec_kw={"width_ratios": [1.55, 1], "height_ratios": heights}
    )
    regimes = [name for name in _REGIMES if name in set(table["regime"])]
    low, high = _speedup_range(table)
    for (matrix, dots), name, block in zip(grid, candidates, blocks, strict=True):
        _verdicts(matrix, block, regimes)
        matrix.set_title(f"{name} in place of {study.config['baseline']}", loc="left", pad=22)
        _speedups(dots, block, style.colours(study.implementations)[name], low, high)
    grid[-1, 1].set_xlabel("speedup over the baseline")
    handles = [
        Line2D([], [], color=style.DARK, marker=marker, lw=1, label=phase) for phase, (marker, _) in _PHASES.items()
    ]
    grid[0, 1].legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0)
    return figure


def _verdicts(axes: Axes, block: pd.DataFrame, regimes: list[str]) -> None:
    sweeps = list(block["sweep"].unique())
    cells = {(row.sweep, row.regime): row for row in block.itertuples()}
    for y, sweep in enumerate(sweeps):
        for x, regime in enumerate(regimes):
            row = cells.get((sweep, regime))
            fill, ink = style.VERDICT_COLOURS[row.verdict] if row else ("#ffffff", style.GREY)
            hatch = "////" if row and row.verdict == "unsupported" else None
            box = Rectangle((x - 0.47, y - 0.42), 0.94, 0.84, facecolor=fill, edgecolor="#c8c8c8", hatch=hatch, lw=0.4)
            axes.add_patch(box)
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.2} if hatch else None
            words = _words(row)
            size = 6.5 if len(words) * len(regimes) < 72 else 5.2
            axes.text(x, y, words, ha="center", va="center", color=ink, fontsize=size, bbox=paper)
    cases = block.groupby("sweep", sort=False)["cases"].max()
    axes.set_xlim(-0.5, len(regimes) - 0.5)
    axes.set_ylim(len(sweeps) - 0.5, -0.5)
    axes.set_yticks(range(len(sweeps)), [f"{sweep} ({cases[sweep]})" for sweep in sweeps])
    axes.set_xticks(range(len(regimes)), [_REGIMES[regime] for regime in regimes])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _words(row) -> str:
    if row is None:
        return "not run"
    partly = 0 < row.cases_passing < row.cases
    return f"{row.verdict}, {row.cases_passing} of {row.cases}" if partly else row.verdict


def _speedup_range(table: pd.DataFrame) -> tuple[float, float]:
    values = table[[column for column in table if "_speedup_" in column]].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    return (min(0.95, values.min()), max(1.05, values.max())) if values.size else (0.9, 1.1)


def _speedups(axes: Axes, block: pd.DataFrame, colour: str, low: float, high: float) -> None:
    rows = block.drop_duplicates("sweep").reset_index(drop=True)
    axes.axvline(1, color=style.DARK, lw=0.6)
    for phase, (marker, shift) in _PHASES.items():
        for y, row in rows.iterrows():
            mean = row[f"{phase}_speedup_geometric_mean"]
            if not np.isfinite(mean):
                continue
            ends = row[f"{phase}_speedup_lowest"], row[f"{phase}_speedup_highest"]
            axes.plot(ends, [y + shift] * 2, color=colour, lw=1.2, solid_capstyle="butt")
            axes.plot(mean, y + shift, marker=marker, color=colour, mec="white", mew=0.4, ms=4)
    axes.set_xscale("log")
    axes.set_xlim(low / 1.06, high * 1.06)
    ticks = style.ratio_ticks(low / 1.06, high * 1.06, wanted=6)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.plain(value)))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for y in range(len(rows)):
        axes.axhline(y, color="#eeeeee", lw=0.5, zorder=0)
