"""Panels side by side: the grid that most figures are, its axis of values, and the legend of implementations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnn_parity.experiment.vocabulary import AXES, tick_label
from rnn_parity.report.figures import style
from rnn_parity.report.figures.study import Panel, Study

_MOST_ACROSS = 4


def panel_grid(
    study: Study,
    panels: Sequence[Any],
    plot: Callable[[Axes, Any], None],
    *,
    least_mm: float,
    row_mm: float,
    most_rows: int,
    what: str = "panel",
    **options: Any,
) -> tuple[Figure, np.ndarray]:
    """Plot every panel into axes of its own, side by side while they fit.

    Args:
        panels: what `plot` is given, one after the other.
        least_mm, row_mm: the least width of a panel, and its height. most_rows: as many; below the figure stands how
            many panels (`what`) are left out. options: those of `plt.subplots`.

    Returns:
        the figure and its axes, (rows, columns).
    """
    across = style.fitting(study.width_mm, least_mm, min(_MOST_ACROSS, len(panels)))
    shown = panels[: across * most_rows]
    rows = [shown[at : at + across] for at in range(0, len(shown), across)]
    figure, grid = plot_rows(study, rows, plot, row_mm=row_mm, **options)
    style.left_out(figure, len(panels) - len(shown), what)
    return figure, grid


def plot_rows(
    study: Study, rows: Sequence[Sequence[Any]], plot: Callable[[Axes, Any], None], *, row_mm: float, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Plot rows of panels that may be of unlike length."""
    figure, grid = style.grid_of_axes(
        len(rows), max(map(len, rows)), row_mm * len(rows) + 14, study.width_mm, **options
    )
    for line, row in zip(grid, rows, strict=True):
        for axes, panel in zip_longest(line, row):
            if panel is None:
                axes.set_visible(False)
            else:
                plot(axes, panel)
    return figure, grid


def value_axis(axes: Axes, panel: Panel) -> None:
    """The values of a panel's axis at 0, 1, 2, …, with as many labels as fit; the panel's title."""
    labels = [tick_label(panel.x, value) for value in panel.values]
    width_mm = axes.figure.get_figwidth() * 25.4 / axes.get_gridspec().ncols - 12
    stride = max(1, -(-len(labels) * (max(map(len, labels)) + 1.5) * 1.4 // width_mm))
    shown = range(0, len(labels), int(stride))
    axes.set_xticks(shown, [labels[at] for at in shown])
    axes.set_xlim(-0.5, len(labels) - 0.5)
    for edge in np.arange(0.5, len(labels) - 1) if len(labels) <= 30 else ():
        axes.axvline(edge, color="#eeeeee", lw=0.5, zorder=0)
    axes.set_xlabel(AXES[panel.x].label)
    axes.set_title(style.wrapped(panel.title, int(width_mm / 1.5)))


def implementation_looks(study: Study) -> dict[str, dict[str, Any]]:
    """Implementation to colour, marker and fill: the baseline filled, candidates hollow."""
    palette, marks = style.colours(study.implementations), style.markers(study.implementations)
    return {
        name: {
            "color": palette[name],
            "marker": marks[name],
            "mfc": palette[name] if name == study.baseline else "white",
        }
        for name in study.implementations
    }


def implementation_handles(study: Study, **options: Any) -> list[Line2D]:
    """A line of the legend per implementation; `options` are those of `Line2D`."""
    return [Line2D([], [], label=name, **look | options) for name, look in implementation_looks(study).items()]
