"""How near each call comes to what the machine reaches: a roofline on which every dtype and device has a place."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnn_parity.findings.efficiency import efficiency_table
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Study, panel_grid

_STEP = {"color": style.GREY, "marker": "_", "ls": "none", "ms": 6, "mew": 1.1}
_ROOF = {"color": style.DARK, "ls": "-", "lw": 0.9}


def plot(study: Study) -> Figure:
    """Plot a panel per phase: share of the peak rate against operations per byte, over the machine's own."""
    table = efficiency_table(study.timing, study.environment.get("peaks") or []).dropna(subset=["share_of_peak"])
    if table.empty:
        return style.say_no_data("A roofline needs a timed case and the peak rates of its setting.")
    table["intensity"] = table["flops"] / table["least_bytes"] * table["copy_bytes_per_s"] / table["gemm_flops_per_s"]
    table["step_ceiling"] = table["flops"] / table["step_floor_s"] / table["gemm_flops_per_s"]
    phases = [phase for phase in style.PHASE_MARKERS if phase in set(table["phase"])]

    def plot_panel(axes: Axes, phase: str) -> None:
        _panel(axes, table[table["phase"] == phase], study)
        _scale(axes, table)
        axes.set_title(phase)

    size = {"least_mm": 40, "row_mm": 46, "most_rows": len(phases)}
    figure, grid = panel_grid(study.width_mm, phases, plot_panel, sharey=True, **size)
    for line in grid:
        line[0].set_ylabel("share of peak rate")
    figure.supxlabel("operations per byte ÷ the machine's balance", fontsize=7)
    bounds = [style.key("peak rates", **_ROOF), style.key("products at one step's size", **_STEP)]
    style.legend_above(figure, [*study.handles(table["implementation"], ls="none"), *bounds])
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, study: Study) -> None:
    roof = np.geomspace(1e-4, 1e6, 500)
    axes.plot(roof, np.minimum(1, roof), zorder=1, **_ROOF)
    cases = rows.drop_duplicates("case_id")
    axes.plot(cases["intensity"], cases["step_ceiling"], zorder=2, **_STEP)
    for name, look in study.looks.items():
        mine = rows[rows["implementation"] == name]
        axes.plot(mine["intensity"], mine["share_of_peak"], ls="none", ms=3, mew=0.8, zorder=3, **look)


def _scale(axes: Axes, table: pd.DataFrame) -> None:
    across, up = table["intensity"], table[["share_of_peak", "step_ceiling"]]
    axes.set(xscale="log", xlim=(min(across.min(), 1) / 1.6, max(across.max(), 1) * 1.6))
    axes.set(yscale="log", ylim=(up.min().min() / 1.6, max(up.max().max(), 1) * 1.6))
    style.log_axis(axes.xaxis, axes.get_xlim(), wanted=4)
    style.log_axis(axes.yaxis, axes.get_ylim(), wanted=6)
