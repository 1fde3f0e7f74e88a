"""How near each call comes to what the machine reaches: a roofline on which every dtype and device has a place."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnn_parity.findings.efficiency import efficiency_table
from rnn_parity.report.figures import style
from rnn_parity.report.figures.study import Study


def draw(study: Study) -> Figure:
    """Draw a panel per phase: share of the peak rate against operations per byte, over the machine's own."""
    table = efficiency_table(study.timing, study.environment.get("peaks") or []).dropna(subset=["share_of_peak"])
    if table.empty:
        return style.say_no_data("A roofline needs a timed case and the peak rates of its setting.", study.width_mm)
    table["intensity"] = table["flops"] / table["least_bytes"] * table["copy_bytes_per_s"] / table["gemm_flops_per_s"]
    table["step_ceiling"] = table["flops"] / table["step_floor_s"] / table["gemm_flops_per_s"]
    phases = [phase for phase in style.PHASE_MARKERS if phase in set(table["phase"])]
    across = style.fitting(study.width_mm, 40, len(phases))
    down, width_mm = -(-len(phases) // across), min(study.width_mm, max(style.COLUMN_MM, 45 * len(phases)))
    figure, grid = style.grid_of_axes(down, across, 46 * down + 16, width_mm, sharey=True, sharex=True)
    for axes, phase in zip(grid.flat, phases, strict=False):
        _panel(axes, table[table["phase"] == phase], study)
        axes.set_title(phase)
    style.hidden(grid.flat[len(phases) :])
    _scale(grid[0, 0], table)
    for line in grid:
        line[0].set_ylabel("share of peak rate")
    figure.supxlabel("operations per byte ÷ the machine's balance", fontsize=7)
    style.legend_above(figure, _handles(study))
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, study: Study) -> None:
    palette, marks = style.colours(study.implementations), style.markers(study.implementations)
    roof = np.geomspace(1e-4, 1e6, 500)
    axes.plot(roof, np.minimum(1, roof), color=style.DARK, lw=0.9, zorder=1)
    cases = rows.drop_duplicates("case_id")
    axes.plot(
        cases["intensity"], cases["step_ceiling"], color=style.GREY, marker="_", ls="none", ms=6, mew=1.1, zorder=2
    )
    for name in study.implementations:
        mine = rows[rows["implementation"] == name]
        fill = palette[name] if name == study.config["baseline"] else "white"
        axes.plot(
            mine["intensity"], mine["share_of_peak"], color=palette[name], marker=marks[name], mfc=fill, ls="none",
            ms=3, mew=0.8, zorder=3,
        )  # fmt: skip


def _scale(axes: Axes, table: pd.DataFrame) -> None:
    across, up = table["intensity"], table[["share_of_peak", "step_ceiling"]]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(min(across.min(), 1) / 1.6, max(across.max(), 1) * 1.6)
    axes.set_ylim(up.min().min() / 1.6, max(up.max().max(), 1) * 1.6)
    style.log_axis(axes.xaxis, axes.get_xlim(), wanted=4)
    style.log_axis(axes.yaxis, axes.get_ylim(), wanted=6)


def _handles(study: Study) -> list[Line2D]:
    palette, marks = style.colours(study.implementations), style.markers(study.implementations)
    fills = {name: palette[name] if name == study.config["baseline"] else "white" for name in palette}
    names = [
        Line2D([], [], color=palette[n], marker=marks[n], mfc=fills[n], ls="none", label=n)
        for n in study.implementations
    ]
    roof = Line2D([], [], color=style.DARK, lw=0.9, label="peak rates")
    step = Line2D([], [], color=style.GREY, marker="_", ms=6, mew=1.1, ls="none", label="products at one step's size")
    return [*names, roof, step]
