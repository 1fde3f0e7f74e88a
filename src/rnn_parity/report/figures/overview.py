"""The whole study on one sheet: the verdict of every sweep in every regime, and what it gains."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rnn_parity.experiment.vocabulary import UNDECIDED, Regime, Verdict
from rnn_parity.findings import figure_tables
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Study

_ROW_MM, _PAGE_MM = 6.2, 220
_MOST_LINES, _MOST_BLOCKS = 45, 8
_SIZES_PT = (6.5, 5.2, 4.2)
_PHASES = {"inference": ("o", -0.16), "step": ("D", 0.16)}


def plot(study: Study) -> Figure:
    """Plot one block per candidate: a row per sweep, its verdicts and its speedup, side by side where there is room."""
    table = figure_tables.overview(study.equivalence, study.timing)
    candidates = [name for name in study.candidates if name in set(table["implementation"])][:_MOST_BLOCKS]
    if not candidates:
        return style.say_no_data("Verdicts need at least one case in the equivalence table.")
    sweeps = list(table["sweep"].unique())
    shown = sweeps[: max(3, _MOST_LINES // len(candidates))]
    blocks = [table[(table["implementation"] == name) & table["sweep"].isin(shown)] for name in candidates]
    figure, pairs = _places(study, [block["sweep"].nunique() for block in blocks])
    regimes = [regime for regime in Regime if regime in set(table["regime"])]
    speedups = table.filter(like="_speedup_").astype(float)
    low, high = min(0.95, speedups.min().min()), max(1.05, speedups.max().max())
    letters = int((study.width_mm - 1.3 * max(map(len, shown)) - 10) / 1.45)
    for (matrix, dots), name, block in zip(pairs, candidates, blocks, strict=True):
        _verdicts(matrix, block, regimes, study)
        title = style.wrapped(f"{name} in place of {study.baseline_of(name)}", letters)
        matrix.set_title(title, loc="left", pad=24, fontsize=6.5)
        _speedups(dots, block, study.looks[name]["color"])
        style.ratio_axis(dots, "x", low / 1.06, high * 1.06, wanted=6)
        if not study.wide:
            dots.set_yticks(range(block["sweep"].nunique()), block["sweep"].unique())
    pairs[-1][1].set_xlabel("speedup over the baseline")
    handles = [style.key(phase, marker=marker, ls="-", lw=1) for phase, (marker, _) in _PHASES.items()]
    pairs[0][1].legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0)
    style.left_out(figure, len(sweeps) - len(shown), "sweep")
    return figure


def _places(study: Study, heights: list[int]) -> tuple[Figure, np.ndarray]:
    """A pair of axes per block: verdicts left of speedups, or above them in a narrow figure."""
    across = 2 if study.wide else 1
    row_mm = max(4, min(_ROW_MM, (_PAGE_MM - 15 * len(heights)) / sum(heights)))
    rows = np.repeat(heights, 2 // across)
    height_mm = row_mm * rows.sum() + (15 if study.wide else 22) * len(heights) + 8
    ratios = {"width_ratios": [1.55, 1][:across], "height_ratios": rows}
    figure, grid = style.grid_of_axes(len(rows), across, height_mm, study.width_mm, gridspec_kw=ratios)
    return figure, grid.reshape(-1, 2)


def _verdicts(axes: Axes, block: pd.DataFrame, regimes: Sequence[Regime], study: Study) -> None:
    cases = block.groupby("sweep", sort=False)["cases"].max()
    cells = {(row.sweep, row.regime): row for row in block.itertuples()}
    axes_mm = (0.58 if study.wide else 0.95) * study.width_mm - 1.25 * (max(map(len, cases.index)) + 5)
    for (y, sweep), (x, regime) in itertools.product(enumerate(cases.index), enumerate(regimes)):
        row = cells.get((sweep, regime))
        words, fill, ink, hatch = _cell(row)
        box = Rectangle((x - 0.47, y - 0.42), 0.94, 0.84, facecolor=fill, edgecolor="#c8c8c8", hatch=hatch, lw=0.4)
        axes.add_patch(box)
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.2} if hatch else None
        lines = [words, f"no {row.withheld}"] if row is not None and row.withheld else [words]
        letters = max(map(len, lines))
        sizes = _SIZES_PT[len(lines) - 1 :]  # two lines in one cell are small
        size = next((pt for pt in sizes if 0.19 * pt * letters * len(regimes) < axes_mm), sizes[-1])
        axes.text(x, y, "\n".join(lines), ha="center", va="center", color=ink, fontsize=size, bbox=paper)
    axes.set(xlim=(-0.5, len(regimes) - 0.5), ylim=(len(cases) - 0.5, -0.5))
    axes.set_yticks(range(len(cases)), [f"{sweep} ({count})" for sweep, count in cases.items()])
    size = 6.5 if axes_mm > 18 * len(regimes) else 5
    axes.set_xticks(range(len(regimes)), [style.wrapped(regime.words, 16) for regime in regimes], fontsize=size)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def _cell(row: Any) -> tuple[str, str, str, str | None]:
    """Words, fill, ink and hatch of a cell."""
    if row is None:
        return "not run", "#ffffff", style.GREY, None
    failing = row.cases - row.cases_passing
    words = f"{row.verdict}, {failing} of {row.cases}" if 0 < failing < row.cases else row.verdict
    if row.regime == Regime.TRAIN_SAME_SEED and row.verdict == Verdict.DIFFERENT:
        return words, *style.NO_FAULT, None
    return words, *style.VERDICT_COLOURS[row.verdict], "////" if row.verdict in UNDECIDED else None


def _speedups(axes: Axes, block: pd.DataFrame, colour: str) -> None:
    rows = block.drop_duplicates("sweep").reset_index(drop=True)
    axes.axvline(1, color=style.DARK, lw=0.6)
    for phase, (marker, shift) in _PHASES.items():
        for y, row in rows.dropna(subset=[f"{phase}_speedup_geometric_mean"]).iterrows():
            ends = row[f"{phase}_speedup_lowest"], row[f"{phase}_speedup_highest"]
            axes.plot(ends, [y + shift] * 2, color=colour, lw=1.2, solid_capstyle="butt")
            mean = row[f"{phase}_speedup_geometric_mean"]
            axes.plot(mean, y + shift, marker=marker, color=colour, mec="white", mew=0.4, ms=4)
    untimed = rows[[f"{phase}_speedup_geometric_mean" for phase in _PHASES]].isna().all(axis=1)
    for y, without in enumerate(untimed):
        axes.axhline(y, color="#eeeeee", lw=0.5, zorder=0)
        if without:
            right = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center", "fontsize": 5.2}
            axes.text(0.99, y, "not timed", color=style.GREY, bbox={"facecolor": "white", "lw": 0, "pad": 0.5}, **right)
    axes.set(ylim=(len(rows) - 0.5, -0.5), yticks=[])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
