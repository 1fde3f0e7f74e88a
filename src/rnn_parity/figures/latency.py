"""How long a call takes as the sequence grows, for every implementation and phase."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnn_parity.figures import style
from rnn_parity.figures.numbers import with_lengths
from rnn_parity.figures.study import Panel, Study, panels

_MOST_ROWS = 6


def draw(study: Study) -> Figure:
    """Draw a row per sweep that varies T (and per value of its other axes), a column per phase."""
    timed = study.timing.dropna(subset=["median_s"])
    every = [panel for panel in panels(with_lengths(timed), "sequence_length") if len(panel.values) > 1]
    if not every:
        return style.say_no_data(
            "Latency against T needs a sweep with two or more values of sequence_length.", study.width_mm
        )
    phases = [phase for phase in style.PHASE_MARKERS if phase in set(timed["phase"])]
    across = style.fitting(study.width_mm, 38, len(phases))
    shown = every[: _MOST_ROWS * across // len(phases) or 1]
    lines = [(panel, phases[at : at + across]) for panel in shown for at in range(0, len(phases), across)]
    height_mm = 34 * len(lines) + 14
    figure, grid = style.grid_of_axes(len(lines), across, height_mm, study.width_mm, sharey="row", sharex="row")
    for line, (panel, some) in zip(grid, lines, strict=True):
        for axes, phase in zip(line, some, strict=False):
            _panel(axes, panel, phase, study)
            axes.set_title(phase if across < len(phases) or panel is shown[0] else "")
            style.length_axis(axes, panel.values, label="sequence length T" if line[0] is grid[-1, 0] else "")
        style.hidden(line[len(some) :])
        line[0].set_yscale("log")
        rows = panel.rows
        style.log_axis(line[0].yaxis, [*rows["q25_s"], *rows["q75_s"]], wanted=4, unit="s")
        line[0].set_ylabel(f"{style.wrapped(panel.title, 26)}\ntime per call")
    figure.align_ylabels(grid[:, 0])
    style.left_out(figure, len(every) - len(shown), "row")
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
