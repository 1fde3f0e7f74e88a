"""How long a call takes as the sequence grows, for every implementation and phase."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnn_parity.figures import numbers, style
from rnn_parity.figures.numbers import Panel, Study

_MOST_ROWS = 6


def draw(study: Study) -> Figure:
    """Draw a row per sweep that varies T (and per value of its other axes), a column per phase."""
    timed = study.timing.dropna(subset=["median_s"])
    every = [panel for panel in numbers.panels(timed, "sequence_length") if len(panel.values) > 1]
    if not every:
        return style.say_no_data("Latency against T needs a sweep with two or more values of sequence_length.")
    shown = every[:_MOST_ROWS]
    phases = [phase for phase in style.PHASE_MARKERS if phase in set(timed["phase"])]
    figure, grid = style.grid_of_axes(len(shown), len(phases), 34 * len(shown) + 12, sharey="row", sharex="row")
    for line, panel in zip(grid, shown, strict=True):
        for axes, phase in zip(line, phases, strict=True):
            _panel(axes, panel, phase, study)
        line[0].set_yscale("log")
        rows = panel.rows
        style.log_axis(line[0].yaxis, [*rows["q25_s"], *rows["q75_s"]], wanted=4, unit="s")
        line[0].set_ylabel(f"{panel.title}\ntime per call")
        for axes in line:
            style.length_axis(axes, panel.values, label="")
    for column, phase in zip(grid.T, phases, strict=True):
        column[0].set_title(phase)
        column[-1].set_xlabel("sequence length T")
    figure.align_ylabels(grid[:, 0])
    if len(every) > len(shown):
        figure.supxlabel(f"{len(every) - len(shown)} more rows: see the table of this figure", fontsize=6.5)
    style.legend_above(figure, _handles(study))
    return figure


def _panel(axes: Axes, panel: Panel, phase: str, study: Study) -> None:
    palette, marks = style.colours(study.implementations), style.markers(study.implementations)
    for name in study.implementations:
        rows = panel.rows[(panel.rows["implementation"] == name) & (panel.rows["phase"] == phase)]
        rows = rows.sort_values("sequence_length")
        fill = palette[name] if name == study.config["baseline"] else "white"
        axes.fill_between(rows["sequence_length"], rows["q25_s"], rows["q75_s"], color=palette[name], alpha=0.25, lw=0)
        axes.plot(rows["sequence_length"], rows["median_s"], color=palette[name], marker=marks[name], mfc=fill)


def _handles(study: Study) -> list[Line2D]:
    palette, marks = style.colours(study.implementations), style.markers(study.implementations)
    fills = {name: palette[name] if name == study.config["baseline"] else "white" for name in palette}
    return [Line2D([], [], color=palette[n], marker=marks[n], mfc=fills[n], label=n) for n in study.implementations]
