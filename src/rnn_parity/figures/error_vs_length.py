"""Whether the error grows with the length of the sequence: every case, in units of the roundoff of its dtype."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnn_parity.figures import numbers, style
from rnn_parity.figures.numbers import FAMILIES, Study

_SMALLEST = 0.1
_NEAR, _WIDEST = 0.15, 0.55  # in log T: lengths this close are spread together, over so much


def draw(study: Study) -> Figure:
    """Draw a panel per family of quantities: errors of baseline and candidates, limits, and u itself."""
    table = numbers.error_vs_length(study.equivalence)
    if table.empty:
        return style.say_no_data("Errors need a case that gave numbers in eval or train_matched_masks.")
    limits = table["limit_over_u"].to_numpy(dtype=float)
    table["error_over_u"] = table["error_over_u"].clip(_SMALLEST, 10 * limits[np.isfinite(limits)].max(initial=1.0))
    table["at"] = _side_by_side(table)
    figure, grid = style.grid_of_axes(1, len(FAMILIES), 68, sharey=True, sharex=True)
    for axes, family in zip(grid[0], FAMILIES, strict=True):
        _family(axes, table[table["family"] == family], study)
        axes.set_title(family)
        style.length_axis(axes, table["sequence_length"])
        axes.axhline(1, color=style.DARK, lw=0.7, ls=":", zorder=1)
    first = grid[0, 0]
    first.set_yscale("log")
    style.log_axis(first.yaxis, [_SMALLEST, *table["error_over_u"], *table["limit_over_u"]])
    first.set_ylabel("relative error / unit roundoff u")
    style.legend_above(figure, _handles(study))
    return figure


def _family(axes: Axes, rows: pd.DataFrame, study: Study) -> None:
    palette, marks = style.colours(study.implementations), style.markers(study.implementations)
    for name in study.implementations:
        own = name == study.config["baseline"]
        mine = rows[rows["implementation"] == name]
        look = {"color": palette[name], "marker": marks[name], "mfc": palette[name] if own else "none", "mew": 0.7}
        for panel in numbers.panels(mine, "sequence_length"):
            line = panel.rows.sort_values("sequence_length")
            joined = len(line) > 1
            size, alpha = (2.2 if own else 4, 1) if joined else (1.5 if own else 3, 0.6)
            axes.plot(line["at"], line["error_over_u"], lw=0.7, ms=size, alpha=alpha, zorder=2 + joined + own, **look)
            if not own:
                axes.plot(line["at"], line["limit_over_u"], marker="_", color=style.GREY, lw=0.5, ms=size, alpha=alpha)


def _side_by_side(table: pd.DataFrame) -> pd.Series:
    """T of each row; where several cases that no line joins have about the same, they are spread a little."""
    cases = numbers.case_frame(table).sort_values("sequence_length", kind="stable")
    lines = [panel.rows for panel in numbers.panels(cases, "sequence_length") if len(panel.rows) > 1]
    cases = cases[~cases["case_id"].isin({case_id for rows in lines for case_id in rows["case_id"]})]
    logs = np.log(cases["sequence_length"].to_numpy(dtype=float))
    cluster = np.cumsum(np.diff(logs, prepend=logs[:1]) > _NEAR)
    at = logs.copy()
    for members in (np.flatnonzero(cluster == number) for number in np.unique(cluster)):
        width = min(_WIDEST, 0.04 * (len(members) - 1))
        at[members] = logs[members].mean() + width * np.linspace(-0.5, 0.5, len(members))
    places = pd.Series(np.exp(at), index=cases["case_id"].to_numpy())
    return table["case_id"].map(places).fillna(table["sequence_length"])


def _handles(study: Study) -> list[Line2D]:
    palette, marks = style.colours(study.implementations), style.markers(study.implementations)
    handles = []
    for name in study.implementations:
        own = name == study.config["baseline"]
        look = {"mfc": palette[name] if own else "none", "ms": 2.2 if own else 4, "mew": 0.7}
        handles.append(Line2D([], [], color=palette[name], marker=marks[name], lw=0.7, label=name, **look))
    handles.append(Line2D([], [], color=style.GREY, marker="_", ms=4, lw=0.5, label="limit of the criterion"))
    return [*handles, Line2D([], [], color=style.DARK, lw=0.7, ls=":", label="unit roundoff u")]
