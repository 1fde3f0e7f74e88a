"""Who wins where: maps of the speedup over two sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from rnn_parity.experiment.vocabulary import AXES, axis_word, tick_label
from rnn_parity.findings import figure_tables
from rnn_parity.findings.cases import swept_axes
from rnn_parity.findings.speedups import UNSURE
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import panel_grid
from rnn_parity.report.figures.study import Study

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
    every = list(maps(table, study))
    if not every:
        return style.say_no_data("A map of who wins needs a sweep that varies two sizes.", study.width_mm)
    columns, lines = (max(panel.rows[getattr(panel, axis)].nunique() for panel in every) for axis in "xy")
    least_mm = max(41, 9 * columns + 17)
    panel_mm = (study.width_mm - _BAR_MM) / style.fitting(study.width_mm, least_mm, min(4, len(every))) - 12
    span = _span(table["speedup"])
    norm, colours = LogNorm(1 / span, span), sns.color_palette("vlag_r", as_cmap=True)
    figure, grid = panel_grid(
        study,
        every,
        lambda axes, panel: _map(axes, panel, norm, colours, panel_mm / columns, panel_mm),
        least_mm=least_mm,
        row_mm=max(16, _ROW_MM * min(_MOST_ROWS, lines)) + 22,
        most_rows=3,
        what="map",
    )
    ticks = style.ratio_ticks(1 / span, span)
    style.ratio_bar(figure, grid, norm, colours, ticks, "speedup over the baseline")
    handle = Patch(facecolor="white", edgecolor=style.GREY, hatch="////", lw=0.4, label=" or ".join(UNSURE))
    style.legend_above(figure, [handle])
    return figure


def maps(table: pd.DataFrame, study: Study):
    """The maps of a table of `figure_tables.crossover`."""
    several = len(study.candidates) > 1
    for (sweep, x, y), of_sweep in table.groupby(["sweep", "x", "y"], sort=False):
        others = [axis for axis in swept_axes(of_sweep) if axis not in (x, y)]
        for values, rows in of_sweep.groupby(others, sort=False) if others else [((), of_sweep)]:
            for (name, phase), part in rows.groupby(["implementation", "phase"], sort=False):
                words = [axis_word(axis, value) for axis, value in zip(others, values, strict=True)]
                yield Map(", ".join([sweep, *words, *([name] if several else []), phase]), x, y, part)


def _span(speedups: pd.Series) -> float:
    """How far the colours reach on either side of 1."""
    values = np.abs(np.log(speedups.dropna().astype(float)))
    return float(np.exp(max(values.max() if len(values) else 0.0, np.log(1.25))))


def _map(axes: Axes, panel: Map, norm: LogNorm, colours, cell_mm: float, panel_mm: float) -> None:
    columns, lines = (sorted(panel.rows[axis].unique()) for axis in (panel.x, panel.y))
    found = panel.rows.drop_duplicates([panel.y, panel.x]).set_index([panel.y, panel.x])
    speedup, words = (found[name].unstack().reindex(index=lines, columns=columns) for name in ("speedup", "conclusion"))
    values = speedup.to_numpy(dtype=float)
    axes.pcolormesh(np.ma.masked_invalid(values), norm=norm, cmap=colours, edgecolors="white", linewidth=0.6)
    size = 6.5 if cell_mm > 7 else 5
    for (y, x), value in np.ndenumerate(values):
        said = words.iloc[y, x]
        if said in UNSURE:
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor="none", edgecolor=style.GREY, hatch="////", lw=0))
        if cell_mm < 4 or len(lines) > _MOST_ROWS:
            continue
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85 * (said in UNSURE)}
        ink = "white" if np.isfinite(value) and abs(np.log(value)) > 0.72 * np.log(norm.vmax) else style.DARK
        text = f"{value:.2f}" if np.isfinite(value) and value < 10 else f"{value:.0f}" if np.isfinite(value) else "–"
        axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=size, color=ink, bbox=paper)
    for axis, name, found in ((axes.xaxis, panel.x, columns), (axes.yaxis, panel.y, lines)):
        stride = max(1, len(found) // 12)
        axis.set_ticks(
            [at + 0.5 for at in range(0, len(found), stride)], [tick_label(name, v) for v in found[::stride]]
        )
        axis.set_label_text(AXES[name].label)
    axes.tick_params(length=0)
    axes.set_title(style.wrapped(panel.title, int(panel_mm / 1.45)))
    for spine in axes.spines.values():
        spine.set_visible(False)
