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


def draw(study: Study) -> Figure:
    """Draw a panel per family of quantities: errors of baseline and candidates, limits, and u itself."""
    table = numbers.error_vs_length(study.equivalence)
    if table.empty:
        return style.say_no_data("Errors need a case that gave numbers in eval or train_matched_masks.")
    finite = table[["error_over_u", "limit_over_u"]].to_numpy(dtype=float)
    largest = finite[np.isfinite(finite)].max()
    table["error_over_u"] = table["error_over_u"].clip(_SMALLEST, 2 * largest)
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
        look = {"color": palette[name], "mfc": palette[name] if own else "white", "ms": 2.6 if own else 3.6}
        axes.plot(mine["at"], mine["error_over_u"], ls="none", marker=marks[name], mew=0.8, zorder=3 - own, **look)
        if not own:
            axes.plot(mine["at"], mine["limit_over_u"], ls="none", marker="_", color=style.GREY, ms=4, zorder=2)
        for panel in numbers.panels(mine, "sequence_length"):
            line = panel.rows.sort_values("sequence_length")
            if len(line) > 1:
                axes.plot(line["at"], line["error_over_u"], color=palette[name], lw=0.7, zorder=2 - own, alpha=0.7)
                if not own:
                    axes.plot(line["at"], line["limit_over_u"], color=style.GREY, lw=0.5, zorder=1)


def _side_by_side(table: pd.DataFrame) -> pd.Series:
    """T of each row, spread a little where several cases have the same, so that none hides another."""
    cases = numbers.case_frame(table)
    rank = cases.groupby("sequence_length").cumcount()
    count = cases.groupby("sequence_length")["case_id"].transform("size")
    lengths = np.log(np.sort(cases["sequence_length"].unique()))
    gap = np.diff(lengths).min() if len(lengths) > 1 else 1.0
    width = np.minimum(0.7 * gap, 0.05 * (count - 1))
    spread = np.exp(width * (rank / (count - 1).clip(lower=1) - 0.5))
    at = pd.Series((cases["sequence_length"] * spread).to_numpy(), index=cases["case_id"].to_numpy())
    return table["case_id"].map(at)


def _handles(study: Study) -> list[Line2D]:
    palette, marks = style.colours(study.implementations), style.markers(study.implementations)
    handles = []
    for name in study.implementations:
        fill = palette[name] if name == study.config["baseline"] else "white"
        handles.append(Line2D([], [], color=palette[name], marker=marks[name], mfc=fill, lw=0.7, label=name))
    handles.append(Line2D([], [], color=style.GREY, marker="_", ms=4, lw=0.5, label="limit of the criterion"))
    return [*handles, Line2D([], [], color=style.DARK, lw=0.7, ls=":", label="unit roundoff u")]
