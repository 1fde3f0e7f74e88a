"""How long a call takes as the sequence grows, for every implementation and phase."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnn_parity.findings.efficiency import efficiency_table
from rnn_parity.findings.figure_tables import with_lengths
from rnn_parity.report.figures import style
from rnn_parity.report.figures.study import Panel, Study, panels

_MOST_ROWS = 6


def draw(study: Study) -> Figure:
    """Draw a row per sweep that varies T (and per value of its other axes), a column per phase."""
    timed = _with_floor(study)
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
        drawn = [*rows["q25_s"], *rows["q75_s"], *rows["floor_s"].dropna()]
        style.log_axis(line[0].yaxis, drawn, wanted=4, unit="s")
        line[0].set_ylabel(f"{style.wrapped(panel.title, 26)}\ntime per call")
    figure.align_ylabels(grid[:, 0])
    style.left_out(figure, len(every) - len(shown), "row")
    style.legend_above(figure, _handles(study, bool(timed["floor_s"].notna().any())))
    return figure


def _with_floor(study: Study) -> pd.DataFrame:
    """What was timed, and below each call the time that no call gets below, where the peak rates are known."""
    keys = ["case_id", "implementation", "phase"]
    table = efficiency_table(study.timing, study.environment.get("peaks") or [])
    return study.timing.dropna(subset=["median_s"]).merge(table[[*keys, "floor_s"]], on=keys, how="left")


def _panel(axes: Axes, panel: Panel, phase: str, study: Study) -> None:
    palette, marks = style.colours(study.implementations), style.markers(study.implementations)
    floor = panel.rows[panel.rows["phase"] == phase].drop_duplicates("sequence_length").sort_values("sequence_length")
    axes.plot(floor["sequence_length"], floor["floor_s"], color=style.GREY, ls="--", lw=0.9)
    for name in study.implementations:
        rows = panel.rows[(panel.rows["implementation"] == name) & (panel.rows["phase"] == phase)]
        rows = rows.sort_values("sequence_length")
        fill = palette[name] if name == study.config["baseline"] else "white"
        axes.fill_between(rows["sequence_length"], rows["q25_s"], rows["q75_s"], color=palette[name], alpha=0.25, lw=0)
        axes.plot(rows["sequence_length"], rows["median_s"], color=palette[name], marker=marks[name], mfc=fill)


def _handles(study: Study, floor: bool) -> list[Line2D]:
    palette, marks = style.colours(study.implementations), style.markers(study.implementations)
    fills = {name: palette[name] if name == study.config["baseline"] else "white" for name in palette}
    handles = [Line2D([], [], color=palette[n], marker=marks[n], mfc=fills[n], label=n) for n in study.implementations]
    return handles + [Line2D([], [], color=style.GREY, ls="--", lw=0.9, label="peak rates")] * floor
