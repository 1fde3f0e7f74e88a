"""Whether the error grows with the length of the sequence: every case, in units of the roundoff of its dtype."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnn_parity.findings import figure_tables
from rnn_parity.findings.figure_tables import FAMILIES
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import implementation_looks
from rnn_parity.report.figures.study import Study, panels

_SMALLEST = 0.1
_ROW_MM, _MOST_LINES, _MOST_SWEEPS, _MOST_VECTORS = 37, 40, 24, 500


def plot(study: Study) -> Figure:
    """Plot a row per family of quantities: left against T, in the sweeps that vary it; right the other sweeps."""
    table = figure_tables.error_vs_length(study.equivalence)
    if table.empty:
        return style.say_no_data("Errors need a case that gave numbers in eval or train_matched_masks.", study.width_mm)
    limits = table["limit_over_u"].to_numpy(dtype=float)
    table["error_over_u"] = table["error_over_u"].clip(_SMALLEST, 10 * limits[np.isfinite(limits)].max(initial=1.0))
    along, beside = _parts(table)
    columns = [part for part in (along, beside) if len(part)]
    ratios = {"width_ratios": [1.15, 1] if len(columns) > 1 else [1]}
    size_mm = _ROW_MM * len(FAMILIES) + 16 + (9 if len(beside) else 0)
    width_mm = study.width_mm
    options = {"sharey": True, "sharex": "col", "gridspec_kw": ratios}
    figure, grid = style.grid_of_axes(len(FAMILIES), len(columns), size_mm, width_mm, **options)
    for line, family in zip(grid, FAMILIES, strict=True):
        for axes, part in zip(line, columns, strict=True):
            rows = part[part["family"] == family]
            (_against_length if part is along else _by_sweep)(axes, rows, study, part)
            axes.axhline(1, color=style.DARK, lw=0.7, ls=":", zorder=1)
        line[0].set_ylabel(f"{style.wrapped(family, 22)}\nerror / u")
    first = grid[0, 0]
    first.set_yscale("log")
    style.log_axis(first.yaxis, [_SMALLEST, *table["error_over_u"], *table["limit_over_u"]])
    for axes, part in zip(grid[-1], columns, strict=True):
        if part is along:
            style.length_axis(axes, part["sequence_length"])
    figure.align_ylabels(grid[:, 0])
    style.legend_above(figure, _handles(study))
    style.left_out(figure, beside.attrs.get("left_out", 0), "sweep")
    return figure


def _parts(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the sweeps that vary T, and those of the others, as many as can be told apart."""
    varies = table.groupby("sweep")["sequence_length"].transform("nunique") > 1
    along, beside = table[varies], table[~varies]
    sweeps = list(beside["sweep"].unique())
    beside = beside[beside["sweep"].isin(sweeps[:_MOST_SWEEPS])].copy()
    beside.attrs["left_out"] = len(sweeps) - _MOST_SWEEPS
    return along, beside


def _against_length(axes: Axes, rows: pd.DataFrame, study: Study, part: pd.DataFrame) -> None:
    """Lines along T, a line per sweep and value of its other axes; past so many, points alone."""
    names, look = _looks(study)
    lines = list(panels(rows, "sequence_length"))
    if len(lines) > _MOST_LINES:
        for name in names:
            mine = rows[rows["implementation"] == name]
            small = {"ms": 1.8, "mew": 0.4, "rasterized": len(mine) > _MOST_VECTORS}
            axes.plot(mine["sequence_length"], mine["error_over_u"], ls="none", **look[name] | small)
            _limits(axes, mine["sequence_length"], mine["limit_over_u"], name != study.baseline, lw=0.0)
        return
    for name in names:
        for panel in panels(rows[rows["implementation"] == name], "sequence_length"):
            line = panel.rows.sort_values("sequence_length")
            axes.plot(line["sequence_length"], line["error_over_u"], lw=0.7, **look[name])
            _limits(axes, line["sequence_length"], line["limit_over_u"], name != study.baseline, lw=0.5)


def _by_sweep(axes: Axes, rows: pd.DataFrame, study: Study, part: pd.DataFrame) -> None:
    """The cases of a sweep side by side, in the order of the grid."""
    names, look = _looks(study)
    sweeps = list(part["sweep"].unique())
    cases = part.drop_duplicates("case_id").groupby("sweep", sort=False)
    at = cases.cumcount() / cases["case_id"].transform("size").sub(1).clip(lower=1) - 0.5
    single = cases["case_id"].transform("size") == 1
    place = pd.Series((at.mask(single, 0) * 0.66).to_numpy(), part.drop_duplicates("case_id")["case_id"])
    for name in names:
        mine = rows[rows["implementation"] == name]
        x = mine["sweep"].map(sweeps.index) + mine["case_id"].map(place)
        axes.plot(x, mine["error_over_u"], ls="none", rasterized=len(mine) > _MOST_VECTORS, **look[name])
        _limits(axes, x, mine["limit_over_u"], name != study.baseline, lw=0.0)
    narrow = 1.5 * max(map(len, sweeps)) * len(sweeps) > 0.4 * study.width_mm
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if narrow else {}
    axes.set_xticks(range(len(sweeps)), [style.wrapped(sweep, 14) for sweep in sweeps], **turned)
    axes.set_xlim(-0.6, len(sweeps) - 0.4)
    axes.tick_params(axis="x", length=0)
    for edge in np.arange(0.5, len(sweeps) - 1):
        axes.axvline(edge, color="#eeeeee", lw=0.5, zorder=0)


def _limits(axes: Axes, x, y, shown: bool, lw: float) -> None:
    if shown:
        line = {"lw": lw, "ls": "-" if lw else "none", "zorder": 1.5, "rasterized": len(x) > _MOST_VECTORS}
        axes.plot(x, y, marker="_", color=style.GREY, ms=4, **line)


def _looks(study: Study) -> tuple[list[str], dict[str, dict]]:
    """Implementations from the back to the front, and how each is drawn: the baseline small, on hollow candidates."""
    looks = {}
    for name, look in implementation_looks(study).items():
        own = name == study.baseline
        size = {"ms": 2} if own else {"ms": 3.6, "mfc": "none"}
        looks[name] = look | size | {"mew": 0.7, "zorder": 2 + own}
    return [*study.candidates, study.baseline], looks


def _handles(study: Study) -> list[Line2D]:
    _, look = _looks(study)
    handles = [Line2D([], [], lw=0.7, label=name, **look[name]) for name in study.implementations]
    handles.append(Line2D([], [], color=style.GREY, marker="_", ms=4, lw=0.5, label="limit of the criterion"))
    return [*handles, Line2D([], [], color=style.DARK, lw=0.7, ls=":", label="unit roundoff u")]
