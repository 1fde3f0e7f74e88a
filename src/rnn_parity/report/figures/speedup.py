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

from rnn_parity.findings.speedups import NOT_TIMED, UNSURE, speedup_table
from rnn_parity.report.figures import style
from rnn_parity.report.figures.study import AXIS_LABELS, Panel, Study, panels, tick_label

_MOST_ROWS = 6
_MOST_POINTS = 100  # side by side in one panel; more are drawn as a line with a band
_POINT_MM = 1.6


def draw(study: Study) -> Figure:
    """Draw a panel per sweep (and per value of its other axes): candidates and phases side by side at each value."""
    table = speedup_table(study.timing)
    table = table[table["phase"].isin(list(style.PHASE_MARKERS))]
    timed = table.dropna(subset=["speedup"])
    if timed.empty:
        return style.say_no_data(
            "Speedups need a case in which baseline and candidate were both timed.", study.width_mm
        )
    every = list(panels(table))
    slots = list(itertools.product(study.candidates, phases_of(table)))
    busiest = max(len(panel.values) for panel in every) * len(slots)
    dense = busiest > _MOST_POINTS
    across = style.fitting(study.width_mm, max(40, min(busiest, _MOST_POINTS) * _POINT_MM), min(4, len(every)))
    shown = every[: across * _MOST_ROWS]
    down = -(-len(shown) // across)
    figure, grid = style.grid_of_axes(down, across, 38 * down + 14, study.width_mm, sharey=True)
    low, high = _limits(timed)
    for axes, panel in zip(grid.flat, shown, strict=False):
        _panel(axes, panel, slots, study, low)
    style.hidden(grid.flat[len(shown) :])
    ratio_axis(grid[0, 0], low, high)
    for axes in grid[:, 0]:
        axes.set_ylabel("speedup")
    style.legend_above(figure, _handles(study, table, dense))
    style.left_out(figure, len(every) - len(shown), "panel")
    return figure


def phases_of(table: pd.DataFrame) -> list[str]:
    """The phases of a table in the order in which they are drawn."""
    return [phase for phase in style.PHASE_MARKERS if phase in set(table["phase"])]


def ratio_axis(axes: Axes, low: float, high: float) -> None:
    """A log axis of ratios, from `low` to `high`."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(style.ratio_ticks(low, high)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.plain(value)))


def value_axis(axes: Axes, panel: Panel) -> None:
    """The values of a panel's axis at 0, 1, 2, …, with as many labels as fit."""
    labels = [tick_label(panel.x, value) for value in panel.values]
    width_mm = axes.figure.get_figwidth() * 25.4 / axes.get_gridspec().ncols - 12
    stride = max(1, -(-len(labels) * (max(map(len, labels)) + 1.5) * 1.4 // width_mm))
    shown = range(0, len(labels), int(stride))
    axes.set_xticks(shown, [labels[at] for at in shown])
    axes.set_xlim(-0.5, len(labels) - 0.5)
    for edge in np.arange(0.5, len(labels) - 1) if len(labels) <= 30 else ():
        axes.axvline(edge, color="#eeeeee", lw=0.5, zorder=0)
    axes.set_xlabel(AXIS_LABELS[panel.x])
    axes.set_title(style.wrapped(panel.title, int(width_mm / 1.5)))


def _limits(timed: pd.DataFrame) -> tuple[float, float]:
    low = timed[["speedup_ci_low", "speedup", "control_ci_low"]].min().min()
    high = timed[["speedup_ci_high", "speedup", "control_ci_high"]].max().max()
    return min(low, 0.95) / 1.08, max(high, 1.05) * 1.08


def _panel(axes: Axes, panel: Panel, slots: list[tuple[str, str]], study: Study, bottom: float) -> None:
    places = {value: at for at, value in enumerate(panel.values)}
    rows = panel.rows.assign(at=panel.rows[panel.x].map(places))
    axes.axhline(1, color=style.DARK, lw=0.6, zorder=1)
    dense = len(places) * len(slots) > _MOST_POINTS
    step = 0.78 / len(slots)
    for index, (name, phase) in enumerate(slots):
        mine = rows[(rows["implementation"] == name) & (rows["phase"] == phase)]
        bad = mine["conclusion"].isin(NOT_TIMED) | ~np.isfinite(mine["speedup"].astype(float))
        shift = 0.0 if dense else (index - (len(slots) - 1) / 2) * step
        colour = style.colours(study.implementations)[name]
        if bad.any():  # an artist without points would count in the layout, as wide as the figure
            x, y = mine.loc[bad, "at"] + shift, [bottom * 1.04] * int(bad.sum())
            axes.plot(x, y, marker="x", color=colour, ms=3, mew=0.8, ls="none", clip_on=False)
        (_line if dense else _points)(axes, mine[~bad].sort_values("at"), shift, step, colour, phase)
    value_axis(axes, panel)


def _points(axes: Axes, rows: pd.DataFrame, shift: float, step: float, colour: str, phase: str) -> None:
    for row in rows.itertuples():
        x = row.at + shift
        noise = row.control_ci_high - row.control_ci_low
        axes.add_patch(Rectangle((x - step / 2, row.control_ci_low), step, noise, color=style.LIGHT, lw=0, zorder=0.5))
        axes.plot([x, x], [row.speedup_ci_low, row.speedup_ci_high], color=colour, lw=0.9, zorder=2)
        fill = "white" if row.conclusion in UNSURE else colour
        look = {"color": colour, "marker": style.PHASE_MARKERS[phase], "ls": "none", "zorder": 3}
        axes.plot(x, row.speedup, mfc=fill, ms=3.4 if step * axes.bbox.width < 400 else 2.4, **look)


def _line(axes: Axes, rows: pd.DataFrame, shift: float, step: float, colour: str, phase: str) -> None:
    x, dash = rows["at"], style.PHASE_LINES[phase]
    axes.fill_between(x, rows["control_ci_low"], rows["control_ci_high"], color=style.LIGHT, lw=0, zorder=0.5)
    axes.fill_between(x, rows["speedup_ci_low"], rows["speedup_ci_high"], color=colour, alpha=0.2, lw=0, zorder=2)
    axes.plot(x, rows["speedup"], color=colour, lw=0.8, ls=dash, zorder=3)


def _handles(study: Study, table: pd.DataFrame, dense: bool) -> list:
    palette = style.colours(study.implementations)
    handles: list = [Patch(color=palette[name], label=name) for name in study.candidates]
    for phase in phases_of(table):
        look = {"marker": style.PHASE_MARKERS[phase], "ls": style.PHASE_LINES[phase] if dense else "none", "lw": 0.8}
        handles.append(Line2D([], [], color=style.DARK, label=phase, **look))
    unsure = {"marker": "o", "mfc": "white", "ls": "none", "label": " or ".join(UNSURE)}
    handles.append(Line2D([], [], color=style.DARK, **unsure))
    handles.append(Patch(color=style.LIGHT, label="baseline against itself"))
    if table["conclusion"].isin(NOT_TIMED).any():
        handles.append(Line2D([], [], color=style.DARK, marker="x", ms=3, ls="none", label="not timed"))
    return handles
