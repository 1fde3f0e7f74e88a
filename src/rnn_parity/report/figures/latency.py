"""How long a call takes as the sequence grows, for every implementation and phase."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnn_parity.findings.efficiency import efficiency_table
from rnn_parity.findings.figure_tables import with_lengths
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Panel, Study, panels, plot_rows, spread

_MOST_ROWS = 6
_NEAR = 1e3  # a bound is drawn where some call takes less than so many times as long
_FLOOR = {"color": style.GREY, "ls": "--", "lw": 0.9}


def plot(study: Study) -> Figure:
    """Plot a row per sweep that varies T (and per value of its other axes), a column per phase."""
    keys = ["case_id", "implementation", "phase"]
    floors = efficiency_table(study.timing, study.environment.get("peaks") or [])[[*keys, "floor_s"]]
    timed = study.timing.dropna(subset=["median_s"]).merge(floors, on=keys, how="left")
    every = [panel for panel in panels(with_lengths(timed), "sequence_length") if len(panel.values) > 1]
    if not every:
        return style.say_no_data("Latency against T needs a sweep with two or more values of sequence_length.")
    every = [replace(panel, rows=_with_near_floor(panel.rows)) for panel in every]
    phases = [phase for phase in style.PHASE_MARKERS if phase in set(timed["phase"])]
    across = style.fitting(study.width_mm, 38, len(phases))
    blocks = [phases[at : at + across] for at in range(0, len(phases), across)]
    shown = spread(every, _MOST_ROWS // len(blocks) or 1)
    rows = [[(panel, phase) for phase in block] for panel in shown for block in blocks]

    def plot_panel(axes: Axes, item: tuple[Panel, str]) -> None:
        panel, phase = item
        _panel(axes, panel, phase, study)
        axes.set_title(phase if len(blocks) > 1 or panel is shown[0] else "")

    figure, grid = plot_rows(study.width_mm, rows, plot_panel, row_mm=34, sharey="row", sharex="row")
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
    bounded = any(panel.rows["floor_s"].notna().any() for panel in shown)
    floor = [style.key("lower bound", **_FLOOR)] if bounded else []
    drawn = pd.concat([panel.rows["implementation"] for panel in shown])
    style.legend_above(figure, [*study.handles(drawn), *floor])
    return figure


def _with_near_floor(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without their lower bounds where no call comes near: an axis down to these would flatten the times."""
    near = (rows["floor_s"] * _NEAR > rows["median_s"]).any()
    return rows if near else rows.assign(floor_s=float("nan"))


def _panel(axes: Axes, panel: Panel, phase: str, study: Study) -> None:
    rows = panel.rows[panel.rows["phase"] == phase].sort_values("sequence_length")
    floor = rows.drop_duplicates("sequence_length")
    axes.plot(floor["sequence_length"], floor["floor_s"], **_FLOOR)
    for name, look in study.looks.items():
        mine = rows[rows["implementation"] == name]
        axes.fill_between(mine["sequence_length"], mine["q25_s"], mine["q75_s"], color=look["color"], alpha=0.25, lw=0)
        axes.plot(mine["sequence_length"], mine["median_s"], **look)
