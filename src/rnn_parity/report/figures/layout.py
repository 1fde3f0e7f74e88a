"""What is drawn and how it falls into panels: a study, the panels of its sweeps, and the grid that most figures are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from rnn_parity.experiment.grid import implementations
from rnn_parity.experiment.vocabulary import AXES, Dtype, axis_word, tick_label
from rnn_parity.findings.cases import swept_axes
from rnn_parity.report.figures import style

_MOST_ACROSS = 4


@dataclass(frozen=True)
class Study:
    """The completed config, the tables that are drawn, and the machine they were measured on."""

    config: Mapping[str, Any]
    equivalence: pd.DataFrame
    timing: pd.DataFrame
    masks: pd.DataFrame
    environment: Mapping[str, Any]

    @property
    def width_mm(self) -> int:
        """The width of the figures."""
        return {"page": style.PAGE_MM, "column": style.COLUMN_MM}[self.config["report"]["width"]]

    @property
    def wide(self) -> bool:
        """Whether there is room for two parts of a figure side by side."""
        return self.width_mm >= style.PAGE_MM

    @property
    def baselines(self) -> list[str]:
        """The implementations that might be replaced, one for each kind of cell."""
        return implementations(self.config, "baseline")

    @property
    def candidates(self) -> list[str]:
        """The candidates in the order of the config."""
        return implementations(self.config, "candidates")

    def baseline_of(self, candidate: str) -> str:
        """The implementation that a candidate might replace."""
        return next(kind["baseline"] for kind in self.config["cells"].values() if candidate in kind["candidates"])

    @property
    def looks(self) -> dict[str, dict[str, Any]]:
        """The baselines, then the candidates, each with its colour, marker and fill."""
        return style.looks(self.baselines, self.candidates)

    def handles(self, drawn: Iterable[str], **options: Any) -> list[Line2D]:
        """An entry of the legend per implementation that is drawn; `options` are those of `Line2D`."""
        shown = set(drawn)
        return [style.key(name, **{"ls": "-"} | look | options) for name, look in self.looks.items() if name in shown]


@dataclass(frozen=True)
class Panel:
    """The rows of one sweep that differ in the axis `x` only."""

    title: str
    x: str
    rows: pd.DataFrame

    @property
    def values(self) -> list:
        """The values of the axis `x`, in order."""
        values = self.rows[self.x].unique().tolist()
        return sorted(values, key=list(Dtype).index if self.x == "dtype" else None)

    @property
    def places(self) -> dict[Any, int]:
        """Value of the axis `x` to its place on an axis with the values side by side."""
        return {value: at for at, value in enumerate(self.values)}


def panels(table: pd.DataFrame, x: str | None = None) -> Iterator[Panel]:
    """Split a table by sweep, and by every swept axis but one: `x`, or else the numeric axis with the most values."""
    for sweep, rows in table.groupby("sweep", sort=False):
        swept = swept_axes(rows)
        numeric = [axis for axis in swept if rows[axis].dtype.kind in "if"]
        along = x or max(numeric or swept or ["sequence_length"], key=lambda axis: rows[axis].nunique())
        for words, group in split_by(rows, [axis for axis in swept if axis != along]):
            yield Panel(", ".join([str(sweep), *words]), along, group)


def spread(panels: Sequence[Panel], most: int) -> list[Panel]:
    """At most so many panels, in their order: the first of every sweep goes before the second of any."""
    sweeps = [panel.rows["sweep"].iloc[0] for panel in panels]
    turns = sorted((sweeps[:at].count(sweep), at) for at, sweep in enumerate(sweeps))
    return [panels[at] for at in sorted(at for _, at in turns[:most])]


def split_by(rows: pd.DataFrame, axes: Sequence[str]) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """Yield the values of some axes, in words, with the rows that have them."""
    for values, group in rows.groupby(list(axes), sort=False) if axes else [((), rows)]:
        yield [axis_word(axis, value) for axis, value in zip(axes, values, strict=True)], group


def panel_grid(
    width_mm: float,
    panels: Sequence[Any],
    plot: Callable[[Axes, Any], None],
    *,
    least_mm: float,
    row_mm: float,
    most_rows: int,
    **options: Any,
) -> tuple[Figure, np.ndarray]:
    """Plot every panel into axes of its own, side by side while they fit.

    Args:
        panels: what `plot` is given, one after the other.
        least_mm, row_mm: the least width of a panel, and its height. most_rows: as many; below the figure stands how
            many panels are left out. options: those of `plt.subplots`.

    Returns:
        the figure and its axes, (rows, columns).
    """
    across = style.fitting(width_mm, least_mm, min(_MOST_ACROSS, len(panels)))
    shown = panels[: across * most_rows]
    rows = [shown[at : at + across] for at in range(0, len(shown), across)]
    figure, grid = plot_rows(width_mm, rows, plot, row_mm=row_mm, **options)
    style.left_out(figure, len(panels) - len(shown), "panel")
    return figure, grid


def plot_rows(
    width_mm: float, rows: Sequence[Sequence[Any]], plot: Callable[[Axes, Any], None], *, row_mm: float, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Plot rows of panels that may be of unlike length."""
    height_mm = row_mm * len(rows) + 14
    figure, grid = style.grid_of_axes(len(rows), max(map(len, rows)), height_mm, width_mm, **options)
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
    stride = max(1, -(-len(labels) * (max(map(len, labels)) * 1.3 + 0.5) // (width_mm + 3)))
    shown = range(0, len(labels), int(stride))
    axes.set_xticks(shown, [labels[at] for at in shown])
    axes.set_xlim(-0.5, len(labels) - 0.5)
    for edge in np.arange(0.5, len(labels) - 1) if len(labels) <= 30 else ():
        axes.axvline(edge, color="#eeeeee", lw=0.5, zorder=0)
    axes.set_xlabel(AXES[panel.x].label)
    axes.set_title(style.wrapped(panel.title, int(width_mm / 1.5)))


def heat_map(
    axes: Axes, ratios: pd.DataFrame, hatched: pd.DataFrame, norm: LogNorm, colours: Colormap, size_pt: float | None
) -> None:
    """Plot a table of ratios around 1, its first row below, with their numbers (none for `size_pt=None`).

    A cell without a number is white. `hatched`: the cells that say nothing for sure.
    """
    values = ratios.to_numpy(dtype=float).clip(norm.vmin, norm.vmax)
    axes.pcolormesh(np.ma.masked_invalid(values), norm=norm, cmap=colours, edgecolors="white", linewidth=0.6)
    for (y, x), value in np.ndenumerate(values):
        look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": size_pt}
        look["color"] = "white" if abs(np.log(value)) > 0.72 * np.log(norm.vmax) else style.DARK
        if hatched.iloc[y, x]:
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor="none", edgecolor=style.GREY, hatch="////", lw=0))
            look["color"] = style.DARK
            look["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        if size_pt:
            axes.text(x + 0.5, y + 0.5, _in_few_letters(ratios.iloc[y, x]), **look)
    axes.set_xticks(np.arange(values.shape[1]) + 0.5, ratios.columns)
    axes.set_yticks(np.arange(values.shape[0]) + 0.5, ratios.index)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _in_few_letters(ratio: float) -> str:
    if not np.isfinite(ratio):
        return "" if np.isnan(ratio) else "∞"
    if ratio < 10:
        return f"{ratio:.2f}"
    return f"{ratio:.0f}" if ratio < 1e3 else f"{ratio:.0e}".replace("e+0", "e")
