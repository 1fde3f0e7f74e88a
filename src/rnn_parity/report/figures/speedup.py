"""What is gained: speedup with its interval, against what each sweep varies."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from rnn_parity.findings.speedups import NOT_TIMED, UNSURE, speedup_table
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import panel_grid, value_axis
from rnn_parity.report.figures.study import Panel, Study, panels

_MOST_POINTS = 100  # side by side in one panel; more are drawn as a line with a band
_POINT_MM = 1.6


def plot(study: Study) -> Figure:
    """Plot a panel per sweep (and per value of its other axes): candidates and phases side by side at each value."""
    table = speedup_table(study.timing)
    table = table[table["phase"].isin(list(style.PHASE_MARKERS))]
    timed = table.dropna(subset=["speedup"])
    if timed.empty:
        return style.say_no_data(
            "Speedups need a case in which baseline and candidate were both timed.", study.width_mm
        )
    every = list(panels(table))
    phases = [phase for phase in style.PHASE_MARKERS if phase in set(table["phase"])]
    slots = list(itertools.product(study.candidates, phases))
    busiest = max(len(panel.values) for panel in every) * len(slots)
    low, high = _limits(timed)
    figure, grid = panel_grid(
        study,
        every,
        lambda axes, panel: _panel(axes, panel, slots, study, low),
        least_mm=max(40, min(busiest, _MOST_POINTS) * _POINT_MM),
        row_mm=38,
        most_rows=6,
        sharey=True,
    )
    style.ratio_axis(grid[0, 0], "y", low, high)
    for axes in grid[:, 0]:
        axes.set_ylabel("speedup")
    style.legend_above(figure, _handles(study, table, phases, busiest > _MOST_POINTS))
    return figure


def _limits(timed: pd.DataFrame) -> tuple[float, float]:
    low = timed[["speedup_ci_low", "speedup", "control_ci_low"]].min().min()
    high = timed[["speedup_ci_high", "speedup", "control_ci_high"]].max().max()
    return min(low, 0.95) / 1.08, max(high, 1.05) * 1.08


def _panel(axes: Axes, panel: Panel, slots: list[tuple[str, str]], study: Study, bottom: float) -> None:
    rows = panel.rows.assign(at=panel.rows[panel.x].map(panel.places))
    axes.axhline(1, color=style.DARK, lw=0.6, zorder=1)
    dense = len(panel.places) * len(slots) > _MOST_POINTS
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


def _handles(study: Study, table: pd.DataFrame, phases: list[str], dense: bool) -> list:
    palette = style.colours(study.implementations)
    handles: list = [Patch(color=palette[name], label=name) for name in study.candidates]
    for phase in phases:
        look = {"marker": style.PHASE_MARKERS[phase], "ls": style.PHASE_LINES[phase] if dense else "none", "lw": 0.8}
        handles.append(Line2D([], [], color=style.DARK, label=phase, **look))
    unsure = {"marker": "o", "mfc": "white", "ls": "none", "label": " or ".join(UNSURE)}
    handles.append(Line2D([], [], color=style.DARK, **unsure))
    handles.append(Patch(color=style.LIGHT, label="baseline against itself"))
    if table["conclusion"].isin(NOT_TIMED).any():
        handles.append(Line2D([], [], color=style.DARK, marker="x", ms=3, ls="none", label="not timed"))
    return handles
