"""What a call takes beside time: peak memory, and calls of operators."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnn_parity.findings import figure_tables as numbers
from rnn_parity.report.figures import style
from rnn_parity.report.figures.speedup import value_axis
from rnn_parity.report.figures.study import Panel, Study, panels

_MEASURES = {"peak_memory_bytes": ("peak memory", "B"), "operator_calls": ("operator calls", "")}
_FILLED = {"step": True, "inference": False}
_MOST_BLOCKS = 4


def draw(study: Study) -> Figure:
    """Draw a column per sweep (and per value of its other axes), memory above calls; a block of rows for every few."""
    table = numbers.resources(study.timing)
    table = table[table["phase"].isin(_FILLED)]
    measures = [name for name in _MEASURES if (table[name] > 0).any()]
    if not measures:
        return style.say_no_data("Memory and operator calls need a case that was timed.", study.width_mm)
    every = list(panels(table.dropna(subset=measures, how="all")))
    across = style.fitting(study.width_mm, 40, min(4, len(every)))
    shown = every[: across * _MOST_BLOCKS]
    blocks = -(-len(shown) // across)
    rows = blocks * len(measures)
    figure, grid = style.grid_of_axes(rows, across, 31 * rows + 12, study.width_mm, sharey="row")
    for at, panel in enumerate(shown):
        for below, measure in enumerate(measures):
            axes = grid[at // across * len(measures) + below, at % across]
            _panel(axes, panel, measure, study)
            value_axis(axes, panel)
            axes.set_title(axes.get_title(loc="left") if below == 0 else "")
            axes.set_xlabel(axes.get_xlabel() if below == len(measures) - 1 else "")
    used = {
        (at // across * len(measures) + below, at % across)
        for at in range(len(shown))
        for below in range(len(measures))
    }
    style.hidden(grid[place] for place in ((y, x) for y in range(rows) for x in range(across)) if place not in used)
    for at, line in enumerate(grid):
        label, unit = _MEASURES[measures[at % len(measures)]]
        line[0].set_yscale("log")
        some = [axes for axes in line if axes.get_visible()]
        low, high = min(a.dataLim.y0 for a in some), max(a.dataLim.y1 for a in some)
        style.log_axis(line[0].yaxis, [low, high], wanted=4, unit=unit)
        line[0].set_ylabel(label)
    figure.align_ylabels(grid[:, 0])
    style.legend_above(figure, _handles(study, set(table["phase"])))
    style.left_out(figure, len(every) - len(shown), "panel")
    return figure


def _panel(axes: Axes, panel: Panel, measure: str, study: Study) -> None:
    places = {value: at for at, value in enumerate(panel.values)}
    palette, marks = style.colours(study.implementations), style.markers(study.implementations)
    for name in study.implementations:
        for phase, full in _FILLED.items():
            mine = panel.rows[(panel.rows["implementation"] == name) & (panel.rows["phase"] == phase)]
            mine = mine[mine[measure] > 0].assign(at=mine[panel.x].map(places)).sort_values("at")
            look = {"color": palette[name], "marker": marks[name], "mfc": palette[name] if full else "white"}
            axes.plot(mine["at"], mine[measure], lw=0.7, ms=3 if len(places) <= 30 else 1.5, mew=0.6, **look)


def _handles(study: Study, phases: set[str]) -> list[Line2D]:
    palette, marks = style.colours(study.implementations), style.markers(study.implementations)
    handles = [Line2D([], [], color=palette[n], marker=marks[n], lw=0.7, ms=3, label=n) for n in study.implementations]
    for phase, full in _FILLED.items():
        if phase in phases:
            look = {"marker": "o", "ms": 3, "mfc": style.DARK if full else "white", "ls": "none"}
            handles.append(Line2D([], [], color=style.DARK, label=phase, **look))
    return handles
