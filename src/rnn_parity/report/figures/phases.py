"""Where the time goes: forward and backward of every implementation, over both of the baseline."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rnn_parity.findings import figure_tables as numbers
from rnn_parity.report.figures import style
from rnn_parity.report.figures.speedup import value_axis
from rnn_parity.report.figures.study import Panel, Study, panels

_MOST_ROWS, _MOST_BARS = 6, 90


def draw(study: Study) -> Figure:
    """Draw a panel per sweep (and per value of its other axes): a stacked bar per value and implementation."""
    table = numbers.phases(study.timing).dropna(subset=["relative_time"])
    if table.empty:
        return style.say_no_data("Where the time goes needs a case whose training was timed.", study.width_mm)
    every = list(panels(table))
    busiest = min(max(len(panel.values) for panel in every) * len(study.implementations), _MOST_BARS)
    across = style.fitting(study.width_mm, max(40, 2.2 * busiest), min(4, len(every)))
    shown = every[: across * _MOST_ROWS]
    down = -(-len(shown) // across)
    figure, grid = style.grid_of_axes(down, across, 36 * down + 14, study.width_mm, sharey=True)
    for axes, panel in zip(grid.flat, shown, strict=False):
        _panel(axes, panel, study)
    style.hidden(grid.flat[len(shown) :])
    grid[0, 0].set_ylim(0, None)
    for axes in grid[:, 0]:
        axes.set_ylabel("relative time")
    style.legend_above(figure, _handles(study, set(table["phase"])))
    style.left_out(figure, len(every) - len(shown), "panel")
    return figure


def _panel(axes: Axes, panel: Panel, study: Study) -> None:
    places = {value: at for at, value in enumerate(panel.values)}
    wide = 0.8 / len(study.implementations)
    hatch = "/////" if len(places) * len(study.implementations) <= 60 else None
    axes.axhline(1, color=style.DARK, lw=0.6, zorder=1)
    for index, name in enumerate(study.implementations):
        colour = style.colours(study.implementations)[name]
        mine = panel.rows[panel.rows["implementation"] == name]
        share = mine.pivot_table(index=panel.x, columns="phase", values="relative_time", aggfunc="first")
        x = pd.Series(share.index.map(places), share.index) + (index - (len(study.implementations) - 1) / 2) * wide
        bars = {"width": wide * 0.88, "color": colour, "lw": 0.4, "zorder": 2}
        if "forward" in share:
            axes.bar(x, share["forward"], **bars)
        if {"forward", "backward"} <= set(share):
            bars |= {"edgecolor": "white", "hatch": hatch, "alpha": 0.55}
            axes.bar(x, share["backward"], bottom=share["forward"], **bars)
        small = len(places) * len(study.implementations) > 24
        look = {"ls": "none", "color": style.DARK, "ms": 1.6 if small else 2.6, "zorder": 3}
        for phase, fill in (("step", style.DARK), ("inference", "white")):
            if phase in share:
                axes.plot(x, share[phase], marker="o", mfc=fill, mew=0.5, **look)
    value_axis(axes, panel)


def _handles(study: Study, phases: set[str]) -> list:
    palette = style.colours(study.implementations)
    handles: list = [Patch(color=palette[name], label=name) for name in study.implementations]
    kinds = {
        "forward": Patch(facecolor=style.GREY, label="forward"),
        "backward": Patch(facecolor=style.GREY, edgecolor="white", hatch="/////", alpha=0.55, lw=0, label="backward"),
        "step": Line2D([], [], color=style.DARK, marker="o", ms=2.6, ls="none", label="step"),
        "inference": Line2D(
            [], [], color=style.DARK, marker="o", ms=2.6, mfc="white", mew=0.5, ls="none", label="inference"
        ),
    }
    return handles + [handle for phase, handle in kinds.items() if phase in phases]
