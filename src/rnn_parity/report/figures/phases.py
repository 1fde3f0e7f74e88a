"""Where the time goes: forward and backward of every implementation, over both of the baseline."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rnn_parity.findings import figure_tables
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import panel_grid, value_axis
from rnn_parity.report.figures.study import Panel, Study, panels

_MOST_BARS = 90


def plot(study: Study) -> Figure:
    """Plot a panel per sweep (and per value of its other axes): a stacked bar per value and implementation."""
    table = figure_tables.phases(study.timing).dropna(subset=["relative_time"])
    if table.empty:
        return style.say_no_data("Where the time goes needs a case whose training was timed.", study.width_mm)
    every = list(panels(table))
    busiest = min(max(len(panel.values) for panel in every) * len(study.implementations), _MOST_BARS)
    figure, grid = panel_grid(
        study,
        every,
        lambda axes, panel: _panel(axes, panel, study),
        least_mm=max(40, 2.2 * busiest),
        row_mm=36,
        most_rows=6,
        sharey=True,
    )
    grid[0, 0].set_ylim(0, None)
    for axes in grid[:, 0]:
        axes.set_ylabel("relative time")
    style.legend_above(figure, _handles(study, set(table["phase"])))
    return figure


def _panel(axes: Axes, panel: Panel, study: Study) -> None:
    bars = len(panel.places) * len(study.implementations)
    wide = 0.8 / len(study.implementations)
    axes.axhline(1, color=style.DARK, lw=0.6, zorder=1)
    for index, name in enumerate(study.implementations):
        colour = style.colours(study.implementations)[name]
        mine = panel.rows[panel.rows["implementation"] == name]
        share = mine.pivot_table(index=panel.x, columns="phase", values="relative_time", aggfunc="first")
        x = (
            pd.Series(share.index.map(panel.places), share.index)
            + (index - (len(study.implementations) - 1) / 2) * wide
        )
        look = {"width": wide * 0.88, "color": colour, "lw": 0.4, "zorder": 2}
        if "forward" in share:
            axes.bar(x, share["forward"], **look)
        if {"forward", "backward"} <= set(share):
            look |= {"edgecolor": "white", "hatch": "/////" if bars <= 60 else None, "alpha": 0.55}
            axes.bar(x, share["backward"], bottom=share["forward"], **look)
        dots = {"marker": "o", "mew": 0.5, "ls": "none", "color": style.DARK, "ms": 1.6 if bars > 24 else 2.6}
        for phase, fill in (("step", style.DARK), ("inference", "white")):
            if phase in share:
                axes.plot(x, share[phase], mfc=fill, zorder=3, **dots)
    value_axis(axes, panel)


def _handles(study: Study, phases: set[str]) -> list:
    dot = {"color": style.DARK, "marker": "o", "ms": 2.6, "ls": "none"}
    kinds = {
        "forward": Patch(facecolor=style.GREY, label="forward"),
        "backward": Patch(facecolor=style.GREY, edgecolor="white", hatch="/////", alpha=0.55, lw=0, label="backward"),
        "step": Line2D([], [], label="step", **dot),
        "inference": Line2D([], [], mfc="white", mew=0.5, label="inference", **dot),
    }
    palette = style.colours(study.implementations)
    implementations = [Patch(color=palette[name], label=name) for name in study.implementations]
    return implementations + [handle for phase, handle in kinds.items() if phase in phases]
