"""Who wins where: maps of the speedup over two sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from rnn_parity.experiment.vocabulary import AXES, tick_label
from rnn_parity.findings import figure_tables
from rnn_parity.findings.cases import swept_axes
from rnn_parity.findings.speedups import UNSURE
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Study, heat_map, panel_grid, split_by

_ROW_MM, _MOST_ROWS = 5.5, 40
_BAR_MM = 14  # of the width, for the bar of colours


@dataclass(frozen=True)
class Map:
    """The rows of one candidate and phase that differ in the axes `x` and `y` only."""

    title: str
    x: str
    y: str
    rows: pd.DataFrame


def plot(study: Study) -> Figure:
    """Plot a map per sweep, candidate, phase and value of its other axes."""
    table = figure_tables.crossover(study.timing)
    every = list(_maps(table, study))
    if not every:
        return style.say_no_data("A map of who wins needs a sweep that varies two sizes.")
    columns, lines = (max(panel.rows[getattr(panel, axis)].nunique() for panel in every) for axis in "xy")
    least_mm = max(41, 9 * columns + 17)
    across = style.fitting(study.width_mm, least_mm, min(4, len(every)))
    if across == 3:  # the phases of a candidate stay side by side
        across, least_mm = 2, study.width_mm / 2
    panel_mm = (study.width_mm - _BAR_MM) / across - 12
    cell_mm = panel_mm / columns
    size_pt = None if cell_mm < 4 or lines > _MOST_ROWS else 6.5 if cell_mm > 7 else 5
    span = float(np.exp(np.abs(np.log([1.25, *table["speedup"].dropna()])).max()))
    norm, colours = LogNorm(1 / span, span), sns.color_palette("vlag_r", as_cmap=True)

    def plot_panel(axes: Axes, panel: Map) -> None:
        found = panel.rows.drop_duplicates([panel.y, panel.x]).pivot(index=panel.y, columns=panel.x)
        heat_map(axes, found["speedup"], found["conclusion"].isin(UNSURE), norm, colours, size_pt)
        for axis, name in ((axes.xaxis, panel.x), (axes.yaxis, panel.y)):
            values = sorted(panel.rows[name].unique())
            stride = max(1, len(values) // 12)
            axis.set_ticks(axis.get_ticklocs()[::stride], [tick_label(name, value) for value in values[::stride]])
            axis.set_label_text(AXES[name].label)
        axes.set_title(style.wrapped(panel.title, int(panel_mm / 1.45)))

    row_mm = max(16, _ROW_MM * min(_MOST_ROWS, lines)) + 22
    figure, grid = panel_grid(study.width_mm, every, plot_panel, least_mm=least_mm, row_mm=row_mm, most_rows=3)
    style.ratio_bar(figure, grid, norm, colours, style.ratio_ticks(1 / span, span), "speedup over the baseline")
    hatched = {"facecolor": "white", "edgecolor": style.GREY, "hatch": "////", "lw": 0.4}
    style.legend_above(figure, [Patch(label=" or ".join(UNSURE), **hatched)])
    return figure


def _maps(table: pd.DataFrame, study: Study) -> Iterator[Map]:
    several = len(study.candidates) > 1
    for (sweep, x, y), of_sweep in table.groupby(["sweep", "x", "y"], sort=False):
        for words, rows in split_by(of_sweep, [axis for axis in swept_axes(of_sweep) if axis not in (x, y)]):
            for (name, phase), part in rows.groupby(["implementation", "phase"], sort=False):
                yield Map(", ".join([sweep, *words, *([name] if several else []), phase]), x, y, part)
