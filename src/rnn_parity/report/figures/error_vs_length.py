"""Whether the error grows with the length of the sequence: every case, in units of the roundoff of its dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnn_parity.findings import figure_tables
from rnn_parity.findings.cases import case_names
from rnn_parity.findings.figure_tables import FAMILIES
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Study, panels

_SMALLEST = 0.1
_ROW_MM, _MOST_LINES, _MOST_SWEEPS, _MOST_VECTORS = 37, 40, 24, 500
_MOST_NAMED = 5  # lines of one candidate, each with its sweep at its end, where there is room
_MOST_TICKS, _MOST_LETTERS, _LEAST_MM = 24, 8, 2.2  # of the cases beside; narrower, their ticks have no labels
_LIMIT = {"color": style.GREY, "marker": "_", "ms": 4}
_ROUNDOFF = {"color": style.DARK, "ls": ":", "lw": 0.7}


def plot(study: Study) -> Figure:
    """Plot a row per family of quantities: left against T, in the sweeps that vary it; right the other sweeps."""
    table = figure_tables.error_vs_length(study.equivalence)
    if table.empty:
        return style.say_no_data("Errors need a case that gave numbers in eval or train_matched_masks.")
    limits = table["limit_over_u"].to_numpy(dtype=float)
    table["error_over_u"] = table["error_over_u"].clip(_SMALLEST, 10 * limits[np.isfinite(limits)].max(initial=1.0))
    varies = table.groupby("sweep")["sequence_length"].transform("nunique") > 1
    along, beside = table[varies], table[~varies]
    sweeps = list(beside["sweep"].unique())
    beside = beside[beside["sweep"].isin(sweeps[:_MOST_SWEEPS])]
    parts = [(part, plot_part) for part, plot_part in ((along, _against_length), (beside, _by_sweep)) if len(part)]
    height_mm = _ROW_MM * len(FAMILIES) + 16 + (9 if len(beside) else 0)
    options = {"sharey": True, "sharex": "col", "gridspec_kw": {"width_ratios": [1.15, 1][-len(parts) :]}}
    figure, grid = style.grid_of_axes(len(FAMILIES), len(parts), height_mm, study.width_mm, **options)
    for line, family in zip(grid, FAMILIES, strict=True):
        for axes, (part, plot_part) in zip(line, parts, strict=True):
            plot_part(axes, part, family, study)
            axes.axhline(1, zorder=1, **_ROUNDOFF)
        line[0].set_ylabel(f"{style.wrapped(family, 22)}\nerror / u")
    grid[0, 0].set_yscale("log")
    style.log_axis(grid[0, 0].yaxis, [_SMALLEST, *table["error_over_u"], *table["limit_over_u"]])
    if len(along):
        style.length_axis(grid[-1, 0], along["sequence_length"])
    figure.align_ylabels(grid[:, 0])
    looks, drawn = _looks(study), set(table["implementation"])
    handles = [style.key(name, lw=0.7, ls="-", **looks[name]) for name in study.looks if name in drawn]
    limit = style.key("limit of the criterion", lw=0.5, ls="-", **_LIMIT)
    style.legend_above(figure, [*handles, limit, style.key("unit roundoff u", **_ROUNDOFF)])
    style.left_out(figure, len(sweeps) - _MOST_SWEEPS, "sweep")
    return figure


def _against_length(axes: Axes, part: pd.DataFrame, family: str, study: Study) -> None:
    """Lines along T, a line per sweep and value of its other axes; past so many, points alone."""
    part = part[part["family"] == family]
    lines = len(list(panels(part, "sequence_length")))
    drawn = [name for name in study.candidates if name in set(part["implementation"])]
    only = drawn[0] if len(drawn) == 1 and lines <= _MOST_NAMED and family == next(iter(FAMILIES)) else ""
    named: list[tuple[float, float]] = []
    for name, look in _looks(study).items():
        mine = part[part["implementation"] == name]
        if lines > _MOST_LINES:
            small = {"ms": 1.8, "mew": 0.4, "ls": "none"}
            _points(axes, mine["sequence_length"], mine, look | small, name not in study.baselines)
            continue
        for panel in panels(mine, "sequence_length"):
            rows = panel.rows.sort_values("sequence_length")
            _points(axes, rows["sequence_length"], rows, look | {"lw": 0.7}, name not in study.baselines)
            if name == only:
                end = rows["sequence_length"].iloc[-1], rows["error_over_u"].iloc[-1]
                if all(_apart(end, other) for other in named):
                    place = {"xytext": (4, 3), "textcoords": "offset points", "ha": "right", "va": "bottom"}
                    axes.annotate(panel.title, end, fontsize=5, color=look["color"], **place)
                    named.append(end)


def _apart(end: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether there is room for a name at both ends of lines."""
    across, up = (abs(np.log(mine / its)) for mine, its in zip(end, other, strict=True))
    return bool(across > np.log(4) or up > np.log(3))


def _by_sweep(axes: Axes, part: pd.DataFrame, family: str, study: Study) -> None:
    """The cases of a sweep side by side, in the order of the grid."""
    sweeps = list(part["sweep"].unique())
    cases = part.drop_duplicates("case_id").set_index("case_id")["sweep"]
    of_sweep = cases.groupby(cases, sort=False)
    last = of_sweep.transform("size") - 1
    shift = (of_sweep.cumcount() / last.clip(lower=1) - 0.5).where(last > 0, 0)
    places = cases.map(sweeps.index) + 0.66 * shift
    for name, look in _looks(study).items():
        mine = part[(part["family"] == family) & (part["implementation"] == name)]
        _points(axes, mine["case_id"].map(places), mine, look | {"ls": "none"}, name not in study.baselines)
    narrow = 1.5 * max(map(len, sweeps)) * len(sweeps) > 0.4 * study.width_mm
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if narrow else {}
    axes.set_xticks(range(len(sweeps)), [style.wrapped(sweep, 14) for sweep in sweeps], **turned)
    axes.set_xlim(-0.6, len(sweeps) - 0.4)
    axes.tick_params(axis="x", length=0)
    if len(places) <= _MOST_TICKS:
        _name_cases(axes, part, places, study)
    for edge in np.arange(0.5, len(sweeps) - 1):
        axes.axvline(edge, color="#eeeeee", lw=0.5, zorder=0)


def _name_cases(axes: Axes, part: pd.DataFrame, places: pd.Series, study: Study) -> None:
    """A tick for each case, with the values that its sweep varies: upright where it is narrow; sweeps stand below."""
    across_mm = 0.4 * study.width_mm * places.sort_values().diff().min() / (axes.get_xlim()[1] - axes.get_xlim()[0])
    names = {case_id: name for case_id, name in case_names(part).items() if len(name) <= _MOST_LETTERS}
    words = ["" if across_mm < _LEAST_MM else names.get(case_id, "") for case_id in places.index]
    longest = max(map(len, words))
    upright = across_mm < 1.2 * longest
    axes.set_xticks(places, words, minor=True, fontsize=5.5, rotation=90 if upright else 0)
    axes.xaxis.remove_overlapping_locs = False  # a case may stand above the name of its sweep
    axes.tick_params(axis="x", which="major", pad=5 + (3.9 * longest if upright else 7 * bool(longest)))


def _points(axes: Axes, x: pd.Series, rows: pd.DataFrame, look: dict[str, Any], limits: bool) -> None:
    many = len(rows) > _MOST_VECTORS
    axes.plot(x, rows["error_over_u"], rasterized=many, **look)
    if limits:
        line = {"lw": 0.5, "ls": look.get("ls", "-"), "zorder": 1.5}
        axes.plot(x, rows["limit_over_u"], rasterized=many, **_LIMIT | line)


def _looks(study: Study) -> dict[str, dict[str, Any]]:
    """How each implementation is drawn, from the back to the front: candidates hollow, baselines small on them."""
    looks = {name: look | {"ms": 3.6, "mfc": "none", "mew": 0.7, "zorder": 2} for name, look in study.looks.items()}
    baselines = {name: study.looks[name] | {"ms": 2, "mew": 0.7, "zorder": 3} for name in study.baselines}
    return {name: looks[name] for name in study.candidates} | baselines
