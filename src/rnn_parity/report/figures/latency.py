"""How long a call takes as the sequence grows, for every implementation and phase."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnn_parity.findings.efficiency import efficiency_table
from rnn_parity.findings.figure_tables import with_lengths
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import implementation_handles, implementation_looks, plot_rows
from rnn_parity.report.figures.study import Panel, Study, panels

_MOST_ROWS = 6


def plot(study: Study) -> Figure:
    """Plot a row per sweep that varies T (and per value of its other axes), a column per phase."""
    timed = _with_floor(study)
    every = [panel for panel in panels(with_lengths(timed), "sequence_length") if len(panel.values) > 1]
    if not every:
        return style.say_no_data(
            "Latency against T needs a sweep with two or more values of sequence_length.", study.width_mm
        )
    phases = [phase for phase in style.PHASE_MARKERS if phase in set(timed["phase"])]
    across = style.fitting(study.width_mm, 38, len(phases))
    shown = every[: _MOST_ROWS * across // len(phases) or 1]
    rows = [
        [(panel, phase) for phase in phases[at : at + across]]
        for panel in shown
        for at in range(0, len(phases), across)
    ]

    def plot_panel(axes: Axes, item: tuple[Panel, str]) -> None:
        _panel(axes, *item, study)
        axes.set_title(item[1] if across < len(phases) or item[0] is shown[0] else "")

    figure, grid = plot_rows(study, rows, plot_panel, row_mm=34, sharey="row", sharex="row")
    for line, row in zip(grid, rows, strict=True):
        panel = row[0][0]
        for axes in line:
            style.length_axis(axes, panel.values, label="sequence length T" if line[0] is grid[-1, 0] else "")
        line[0].set_yscale("log")
        drawn = [*panel.rows["q25_s"], *panel.rows["q75_s"], *panel.rows["floor_s"].dropna()]
        style.log_axis(line[0].yaxis, drawn, wanted=4, unit="s")
        line[0].set_ylabel(f"{style.wrapped(panel.title, 26)}\ntime per call")
    figure.align_ylabels(grid[:, 0])
    style.left_out(figure, len(every) - len(shown), "row")
    handles = implementation_handles(study)
    if timed["floor_s"].notna().any():
        handles.append(Line2D([], [], color=style.GREY, ls="--", lw=0.9, label="peak rates"))
    style.legend_above(figure, handles)
    return figure


def _with_floor(study: Study) -> pd.DataFrame:
    """The timed rows, each with `floor_s`, the time that no call gets below, where the peak rates are known."""
    keys = ["case_id", "implementation", "phase"]
    table = efficiency_table(study.timing, study.environment.get("peaks") or [])
    return study.timing.dropna(subset=["median_s"]).merge(table[[*keys, "floor_s"]], on=keys, how="left")


def _panel(axes: Axes, panel: Panel, phase: str, study: Study) -> None:
    rows = panel.rows[panel.rows["phase"] == phase].sort_values("sequence_length")
    floor = rows.drop_duplicates("sequence_length")
    axes.plot(floor["sequence_length"], floor["floor_s"], color=style.GREY, ls="--", lw=0.9)
    for name, look in implementation_looks(study).items():
        mine = rows[rows["implementation"] == name]
        axes.fill_between(mine["sequence_length"], mine["q25_s"], mine["q75_s"], color=look["color"], alpha=0.25, lw=0)
        axes.plot(mine["sequence_length"], mine["median_s"], **look)
