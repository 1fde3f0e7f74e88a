"""What is gained: speedup with its interval, against what each sweep varies."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from rnn_parity.findings.speedups import NOT_TIMED, UNSURE, speedup_table
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Panel, Study, panel_grid, panels, value_axis

_MOST_POINTS = 100  # side by side in one panel; more are drawn as a line with a band
_POINT_MM = 1.45


def plot(study: Study) -> Figure:
    """Plot a panel per sweep (and per value of its other axes): candidates and phases side by side at each value."""
    table = speedup_table(study.timing)
    table = table[table["phase"].isin(list(style.PHASE_MARKERS))]
    timed = table.dropna(subset=["speedup"])
    if timed.empty:
        return style.say_no_data("Speedups need a case in which baseline and candidate were both timed.")
    table = table[table["sweep"].isin(timed["sweep"])]  # a panel without a single point would say nothing
    every = list(panels(table))
    phases = [phase for phase in style.PHASE_MARKERS if phase in set(table["phase"])]
    slots = {panel.title: _slots(panel, study, phases) for panel in every}
    busiest = max(len(panel.values) * len(slots[panel.title]) for panel in every)
    bounds = timed[["speedup", "speedup_ci_low", "speedup_ci_high", "control_ci_low", "control_ci_high"]]
    low, high = min(bounds.min().min(), 0.95) / 1.08, max(bounds.max().max(), 1.05) * 1.08
    size = {"least_mm": max(40, min(busiest, _MOST_POINTS) * _POINT_MM), "row_mm": 38, "most_rows": 6}
    figure, grid = panel_grid(
        study.width_mm,
        every,
        lambda axes, panel: _panel(axes, panel, slots[panel.title], study, low),
        sharey=True,
        **size,
    )
    style.ratio_axis(grid[0, 0], "y", low, high)
    for axes in grid[:, 0]:
        axes.set_ylabel("speedup")
    handles = [Patch(color=study.looks[name]["color"], label=name) for name in study.candidates]
    lines = style.PHASE_LINES if busiest > _MOST_POINTS else dict.fromkeys(phases, "none")
    handles += [style.key(phase, marker=style.PHASE_MARKERS[phase], ls=lines[phase], lw=0.8) for phase in phases]
    handles.append(style.key(" or ".join(UNSURE), marker="o", mfc="white"))
    handles.append(Patch(color=style.LIGHT, label="baseline against itself"))
    if table["conclusion"].isin(NOT_TIMED).any():
        handles.append(style.key("not timed", marker="x", ms=3))
    style.legend_above(figure, handles)
    return figure


def _slots(panel: Panel, study: Study, phases: list[str]) -> list[tuple[str, str]]:
    """The points that stand side by side at each value: the candidates of a panel, each with every phase."""
    present = set(panel.rows["implementation"])
    return list(itertools.product([name for name in study.candidates if name in present], phases))


def _panel(axes: Axes, panel: Panel, slots: list[tuple[str, str]], study: Study, bottom: float) -> None:
    rows = panel.rows.assign(at=panel.rows[panel.x].map(panel.places))
    axes.axhline(1, color=style.DARK, lw=0.6, zorder=1)
    dense = len(panel.places) * len(slots) > _MOST_POINTS
    step = 0.78 / len(slots)
    for index, (name, phase) in enumerate(slots):
        mine = rows[(rows["implementation"] == name) & (rows["phase"] == phase)]
        mine = mine.assign(at=mine["at"] + (0.0 if dense else (index - (len(slots) - 1) / 2) * step))
        bad = mine["conclusion"].isin(NOT_TIMED) | ~np.isfinite(mine["speedup"].astype(float))
        colour = study.looks[name]["color"]
        if bad.any():  # an artist without points would count in the layout, as wide as the figure
            x, y = mine.loc[bad, "at"], [bottom * 1.04] * int(bad.sum())
            axes.plot(x, y, marker="x", color=colour, ms=3, mew=0.8, ls="none", clip_on=False)
        good = mine[~bad].sort_values("at")
        if dense:
            _line(axes, good, colour, phase)
        else:
            _points(axes, good, step, colour, phase)
    value_axis(axes, panel)


def _points(axes: Axes, rows: pd.DataFrame, step: float, colour: str, phase: str) -> None:
    look = {"color": colour, "marker": style.PHASE_MARKERS[phase], "ms": 3.4 if step * axes.bbox.width < 400 else 2.4}
    for row in rows.itertuples():
        noise = row.control_ci_high - row.control_ci_low
        box = (row.at - step / 2, row.control_ci_low), step, noise
        axes.add_patch(Rectangle(*box, color=style.LIGHT, lw=0, zorder=0.5))
        axes.plot([row.at] * 2, [row.speedup_ci_low, row.speedup_ci_high], color=colour, lw=0.9, zorder=2)
        axes.plot(row.at, row.speedup, mfc="white" if row.conclusion in UNSURE else colour, zorder=3, **look)


def _line(axes: Axes, rows: pd.DataFrame, colour: str, phase: str) -> None:
    x, dash = rows["at"], style.PHASE_LINES[phase]
    axes.fill_between(x, rows["control_ci_low"], rows["control_ci_high"], color=style.LIGHT, lw=0, zorder=0.5)
    axes.fill_between(x, rows["speedup_ci_low"], rows["speedup_ci_high"], color=colour, alpha=0.2, lw=0, zorder=2)
    axes.plot(x, rows["speedup"], color=colour, lw=0.8, ls=dash, zorder=3)
