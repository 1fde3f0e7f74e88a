"""What is gained: speedup with its interval, against what each sweep varies."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rnn_parity.figures import numbers, style
from rnn_parity.figures.numbers import AXIS_LABELS, Panel, Study
from rnn_parity.gains import NOT_TIMED, speedup_table

_MOST_ROWS = 6
_MOST_TICKS = 8


def draw(study: Study) -> Figure:
    """Draw a panel per sweep (and per value of its other axes): candidates and phases side by side at each value."""
    table = speedup_table(study.timing)
    timed = table.dropna(subset=["speedup"])
    if timed.empty:
        return style.say_no_data("Speedups need a case in which baseline and candidate were both timed.")
    every = list(numbers.panels(table))
    slots = list(itertools.product(study.candidates, _phases(table)))
    busiest = max(len(panel.values) for panel in every) * len(slots)
    across = min(len(every), 4 if busiest <= 20 else 3 if busiest <= 36 else 2)
    shown = every[: across * _MOST_ROWS]
    down = -(-len(shown) // across)
    width_mm = style.PAGE_MM if across > 1 else style.COLUMN_MM
    figure, grid = style.grid_of_axes(down, across, 38 * down + (12 if across > 1 else 22), width_mm, sharey=True)
    low, high = _limits(timed)
    for axes, panel in zip(grid.flat, shown, strict=False):
        _panel(axes, panel, slots, study, low)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    first = grid[0, 0]
    first.set_yscale("log")
    first.set_ylim(low, high)
    first.yaxis.set_major_locator(FixedLocator(style.ratio_ticks(low, high)))
    first.yaxis.set_minor_locator(NullLocator())
    first.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.plain(value)))
    for axes in grid[:, 0]:
        axes.set_ylabel("speedup over the baseline")
    style.legend_above(figure, _handles(study, table))
    if len(every) > len(shown):
        figure.supxlabel(f"{len(every) - len(shown)} more panels: see the table of this figure", fontsize=6.5)
    return figure


def _phases(table: pd.DataFrame) -> list[str]:
    return [phase for phase in style.PHASE_MARKERS if phase in set(table["phase"])]


def _limits(timed: pd.DataFrame) -> tuple[float, float]:
    low = timed[["speedup_ci_low", "speedup", "control_ci_low"]].min().min()
    high = timed[["speedup_ci_high", "speedup", "control_ci_high"]].max().max()
    return min(low, 0.95) / 1.08, max(high, 1.05) * 1.08


def _panel(axes: Axes, panel: Panel, slots: list[tuple[str, str]], study: Study, bottom: float) -> None:
    palette, values = style.colours(study.implementations), panel.values
    step = 0.78 / len(slots)
    axes.axhline(1, color=style.DARK, lw=0.6, zorder=1)
    for index, (name, phase) in enumerate(slots):
        mine = panel.rows[(panel.rows["implementation"] == name) & (panel.rows["phase"] == phase)]
        shift = (index - (len(slots) - 1) / 2) * step
        look = {"color": palette[name], "marker": style.PHASE_MARKERS[phase], "ls": "none", "zorder": 3}
        for row in mine.itertuples():
            x = values.index(getattr(row, panel.x)) + shift
            if row.conclusion in NOT_TIMED or not np.isfinite(row.speedup):
                axes.plot(x, bottom * 1.04, marker="x", color=palette[name], ms=3, mew=0.8, clip_on=False)
                continue
            noise = row.control_ci_high - row.control_ci_low
            axes.add_patch(
                Rectangle((x - step / 2, row.control_ci_low), step, noise, color=style.LIGHT, lw=0, zorder=0.5)
            )
            axes.plot([x, x], [row.speedup_ci_low, row.speedup_ci_high], color=palette[name], lw=0.9, zorder=2)
            fill = "white" if row.conclusion == "within noise" else palette[name]
            axes.plot(x, row.speedup, mfc=fill, ms=3.4 if len(slots) * len(values) <= 24 else 2.4, **look)
    stride = -(-len(values) // _MOST_TICKS)
    axes.set_xticks(range(0, len(values), stride), [numbers.tick_label(panel.x, v) for v in values[::stride]])
    axes.set_xlim(-0.5, len(values) - 0.5)
    for edge in np.arange(0.5, len(values) - 1):
        axes.axvline(edge, color="#eeeeee", lw=0.5, zorder=0)
    axes.set_xlabel(AXIS_LABELS[panel.x])
    axes.set_title(panel.title)


def _handles(study: Study, table: pd.DataFrame) -> list:
    palette = style.colours(study.implementations)
    handles = [Patch(color=palette[name], label=name) for name in study.candidates]
    for phase in _phases(table):
        handles.append(Line2D([], [], color=style.DARK, marker=style.PHASE_MARKERS[phase], ls="none", label=phase))
    handles.append(Line2D([], [], color=style.DARK, marker="o", mfc="white", ls="none", label="within noise"))
    handles.append(Patch(color=style.LIGHT, label="baseline against itself"))
    if table["conclusion"].isin(NOT_TIMED).any():
        handles.append(Line2D([], [], color=style.DARK, marker="x", ms=3, ls="none", label="not timed"))
    return handles
