"""What a call takes beside time: peak memory, calls of operators, launches of kernels on a GPU."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnn_parity.findings import figure_tables
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Panel, Study, panels, plot_rows, spread, value_axis

_MEASURES = {
    "peak_memory_bytes": ("peak memory", "B"),
    "operator_calls": ("operator calls", ""),
    "kernel_launches": ("kernel launches", ""),
}
_FILLED = {"step": True, "inference": False}
_MOST_ROWS = 9


def plot(study: Study) -> Figure:
    """Plot a column per sweep (and per value of its other axes), a row per measure; a block of rows for every few."""
    table = figure_tables.resources(study.timing)
    table = table[table["phase"].isin(_FILLED)]
    measures = [name for name in _MEASURES if (table[name] > 0).any()]
    if not measures:
        return style.say_no_data("Memory and calls need a case that was timed.")
    every = list(panels(table.dropna(subset=measures, how="all")))
    across = style.fitting(study.width_mm, 40, min(4, len(every)))
    shown = spread(every, across * (_MOST_ROWS // len(measures)))
    blocks = [shown[at : at + across] for at in range(0, len(shown), across)]
    rows = [[(panel, measure) for panel in block] for block in blocks for measure in measures]

    def plot_panel(axes: Axes, item: tuple[Panel, str]) -> None:
        panel, measure = item
        _panel(axes, panel, measure, study)
        value_axis(axes, panel)
        axes.set_title(axes.get_title(loc="left") if measure == measures[0] else "")
        axes.set_xlabel(axes.get_xlabel() if measure == measures[-1] else "")

    figure, grid = plot_rows(study.width_mm, rows, plot_panel, row_mm=31, sharey="row")
    for line, row in zip(grid, rows, strict=True):
        label, unit = _MEASURES[row[0][1]]
        line[0].set_yscale("log")
        limits = [axes.dataLim for axes in line[: len(row)]]
        span = min(limit.y0 for limit in limits), max(limit.y1 for limit in limits)
        style.log_axis(line[0].yaxis, span, wanted=4, unit=unit)
        line[0].set_ylabel(label)
    figure.align_ylabels(grid[:, 0])
    drawn = pd.concat([panel.rows["implementation"] for panel in shown])
    handles = study.handles(drawn, lw=0.7, ms=3, mfc=None)
    for phase, filled in _FILLED.items():
        if phase in set(table["phase"]):
            handles.append(style.key(phase, marker="o", ms=3, mfc=style.DARK if filled else "white"))
    style.legend_above(figure, handles)
    style.left_out(figure, len(every) - len(shown), "panel")
    return figure


def _panel(axes: Axes, panel: Panel, measure: str, study: Study) -> None:
    if not (panel.rows[measure] > 0).any():
        axes.text(0.5, 0.5, "not counted", ha="center", va="center", transform=axes.transAxes, color=style.GREY)
    size = {"lw": 0.7, "mew": 0.6, "ms": 3 if len(panel.places) <= 30 else 1.5}
    for name, look in study.looks.items():
        for phase, filled in _FILLED.items():
            mine = panel.rows[(panel.rows["implementation"] == name) & (panel.rows["phase"] == phase)]
            mine = mine[mine[measure] > 0].assign(at=mine[panel.x].map(panel.places)).sort_values("at")
            axes.plot(mine["at"], mine[measure], **look | size | {"mfc": look["color"] if filled else "white"})
