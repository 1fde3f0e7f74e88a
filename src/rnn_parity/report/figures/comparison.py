"""Two runs in two pictures: every speedup of one against the other, and what became of the verdicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from rnn_parity.compare.criterion import EXPECTED_TO_HOLD, Verdict
from rnn_parity.findings.compare import RunComparison
from rnn_parity.report.figures import FORMATS, style
from rnn_parity.report.figures.speedup import ratio_axis

_MOST_PANELS = 4


def draw_comparison(comparison: RunComparison, folder: Path) -> list[str]:
    """Write `folder/compare_speedups.*` and `folder/compare_verdicts.*`; their names, without ending."""
    drawn = {"compare_speedups": speedups, "compare_verdicts": verdicts}
    with style.applied():
        for name, draw in drawn.items():
            style.save(draw(comparison), folder, name, FORMATS)
    return list(drawn)


def speedups(comparison: RunComparison) -> Figure:
    """A panel per candidate: speedup in `a` against speedup in `b`, filled where the intervals part."""
    table = comparison.speedups
    names = list(table["candidate"].unique())[:_MOST_PANELS]
    if not names:
        return style.say_no_data("No case was timed in both runs.")
    across = style.fitting(style.PAGE_MM, 60, min(2, len(names)))
    down = -(-len(names) // across)
    width_mm = style.COLUMN_MM if across == 1 else style.PAGE_MM
    figure, grid = style.grid_of_axes(down, across, 76 * down + 10, width_mm)
    bounds = [f"speedup_ci_{end}_{side}" for end in ("low", "high") for side in "ab"]
    low, high = table[bounds].min().min() / 1.08, table[bounds].max().max() * 1.08
    for axes, name in zip(grid.flat, names, strict=False):
        _against(axes, table[table["candidate"] == name], min(low, 0.95), max(high, 1.05))
        axes.set_title(style.wrapped(name, 40))
        axes.set_xlabel(f"speedup in {style.wrapped(comparison.a, 34)}")
        axes.set_ylabel(f"speedup in {style.wrapped(comparison.b, 34)}")
    style.hidden(grid.flat[len(names) :])
    phases = [phase for phase in style.PHASE_MARKERS if phase in set(table["phase"])]
    handles = [Line2D([], [], color=style.DARK, marker=style.PHASE_MARKERS[p], ls="none", label=p) for p in phases]
    handles.append(Line2D([], [], color=style.GREY, marker="o", mfc="white", ls="none", label="intervals meet"))
    handles.append(Line2D([], [], color="#0072b2", marker="o", ls="none", label="intervals part"))
    style.legend_above(figure, handles)
    return figure


def _against(axes: Axes, rows: pd.DataFrame, low: float, high: float) -> None:
    axes.plot([low, high], [low, high], color=style.DARK, lw=0.6, zorder=1)
    axes.axhline(1, color=style.LIGHT, lw=0.6, zorder=0)
    axes.axvline(1, color=style.LIGHT, lw=0.6, zorder=0)
    for phase, marker in style.PHASE_MARKERS.items():
        for parted, colour in ((False, style.GREY), (True, "#0072b2")):
            some = rows[(rows["phase"] == phase) & (rows["parted"] == parted)]
            x, y = some["speedup_a"].to_numpy(float), some["speedup_b"].to_numpy(float)
            wide = np.array([x - some["speedup_ci_low_a"], some["speedup_ci_high_a"] - x]).clip(0)
            tall = np.array([y - some["speedup_ci_low_b"], some["speedup_ci_high_b"] - y]).clip(0)
            look = {"color": colour, "ecolor": colour, "elinewidth": 0.5, "ls": "none", "ms": 3, "mew": 0.6}
            fill = colour if parted else "white"
            axes.errorbar(x, y, yerr=tall, xerr=wide, marker=marker, mfc=fill, zorder=2 + parted, **look)
    ratio_axis(axes, low, high)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(axes.yaxis.get_major_locator())
    axes.xaxis.set_minor_locator(axes.yaxis.get_minor_locator())
    axes.xaxis.set_major_formatter(axes.yaxis.get_major_formatter())
    axes.set_aspect("equal")


def verdicts(comparison: RunComparison) -> Figure:
    """How many cases went from which verdict to which: in the regimes that must hold, and with the same seed."""
    held = comparison.verdicts["regime"].isin(EXPECTED_TO_HOLD)
    parts = {"regimes that must hold": comparison.verdicts[held], "same seed": comparison.verdicts[~held]}
    parts = {title: rows for title, rows in parts.items() if len(rows)}
    if not parts:
        return style.say_no_data("No case was checked in both runs.")
    width_mm = style.PAGE_MM if len(parts) > 1 else style.COLUMN_MM
    figure, grid = style.grid_of_axes(1, len(parts), 62, width_mm)
    for axes, (title, rows) in zip(grid[0], parts.items(), strict=True):
        _changes(axes, rows)
        axes.set_title(f"{title}: cases × candidates × regimes", pad=16)
        axes.set_ylabel(f"verdict in {style.wrapped(comparison.a, 30)}")
        axes.set_xlabel(f"verdict in {style.wrapped(comparison.b, 34)}")
    return figure


def _changes(axes: Axes, rows: pd.DataFrame) -> None:
    words = [str(verdict) for verdict in Verdict]
    count = rows.groupby(["verdict_a", "verdict_b"]).size()
    for y, before in enumerate(words):
        for x, after in enumerate(words):
            number = int(count.get((before, after), 0))
            fill = "#f4f4f4" if x == y else "#ffffff" if not number else "#b5361c" if x > y else "#9bd0bd"
            ink = "white" if number and x > y else style.DARK if number else style.LIGHT
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=fill, edgecolor=style.LIGHT, lw=0.4))
            axes.text(x + 0.5, y + 0.5, f"{number:,}", ha="center", va="center", color=ink)
    axes.set_xlim(0, len(words))
    axes.set_ylim(len(words), 0)
    axes.set_xticks([at + 0.5 for at in range(len(words))], words, fontsize=5.5)
    axes.set_yticks([at + 0.5 for at in range(len(words))], words)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
