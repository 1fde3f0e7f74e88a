"""How near each quantity comes to its limit, sweep by sweep."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rnn_parity.experiment.vocabulary import FAILING, UNDECIDED
from rnn_parity.findings import figure_tables
from rnn_parity.report.figures import style
from rnn_parity.report.figures.study import Study

_SPAN = 30.0
_COLUMN_MM, _NARROWEST_MM, _ROW_MM, _BAR_MM = 13.0, 4.2, 5.5, 18.0


def plot(study: Study) -> Figure:
    """Plot a heat map per candidate, side by side while they fit, coloured around 1."""
    table = figure_tables.error_ratio(study.equivalence)
    candidates = [name for name in study.candidates if name in set(table["implementation"])]
    if not candidates:
        return style.say_no_data("Errors over limits need a case in eval or train_matched_masks.", study.width_mm)
    every, quantities = list(table["sweep"].unique()), list(table["quantity"].unique())
    room_mm = study.width_mm - 38 - _BAR_MM
    sweeps = every[: int(room_mm // _NARROWEST_MM)]
    column_mm = min(_COLUMN_MM, room_mm / len(sweeps))
    across = style.fitting(room_mm, column_mm * len(sweeps), len(candidates))
    down = -(-len(candidates) // across)
    height_mm = down * (_ROW_MM * len(quantities) + 8 + (14 if column_mm < 11 else 6)) + 6
    width_mm = min(study.width_mm, 38 + column_mm * len(sweeps) * across + _BAR_MM)
    width_mm = max(min(style.COLUMN_MM, study.width_mm), width_mm)
    figure, grid = style.grid_of_axes(down, across, height_mm, width_mm, sharey=True)
    norm, colours = LogNorm(1 / _SPAN, _SPAN), sns.color_palette("vlag", as_cmap=True)
    for axes, name in zip(grid.flat, candidates, strict=False):
        _heat_map(axes, table[table["implementation"] == name], sweeps, quantities, norm, colours, column_mm)
        axes.set_title(style.wrapped(name, int(column_mm * len(sweeps) / 1.45) + 6))
    style.hidden(grid.flat[len(candidates) :])
    label = "worst error / limit (passes below 1)"
    bar = style.ratio_bar(figure, grid, norm, colours, [0.03, 0.1, 0.3, 1, 3, 10, 30], label, aspect=25, extend="both")
    bar.ax.axhline(1, color=style.DARK, lw=1.2)
    style.left_out(figure, len(every) - len(sweeps), "sweep")
    return figure


def _heat_map(axes: Axes, rows: pd.DataFrame, sweeps: list[str], quantities: list[str], norm, colours, mm) -> None:
    shape = {"index": quantities, "columns": sweeps}
    ratios = rows.pivot(index="quantity", columns="sweep", values="ratio").reindex(**shape).astype(float)
    verdicts = rows.pivot(index="quantity", columns="sweep", values="verdict").reindex(**shape)
    judged = ratios.notna() & (~verdicts.isin(UNDECIDED))
    small = {"size": 6.5 if mm > 8 else 5 if mm > 5.5 else 4}
    sns.heatmap(
        ratios.clip(1 / _SPAN, _SPAN),
        mask=~judged,
        norm=norm,
        cmap=colours,
        annot=ratios.map(_text if mm > 5.5 else _short),
        fmt="",
        annot_kws=small,
        cbar=False,
        linewidths=0.6,
        linecolor="white",
        ax=axes,
    )
    for y, quantity in enumerate(quantities):
        for x, sweep in enumerate(sweeps):
            verdict = verdicts.loc[quantity, sweep]
            if not judged.loc[quantity, sweep]:
                hatch = "" if pd.isna(verdict) else "////"
                axes.add_patch(Rectangle((x, y), 1, 1, facecolor="white", edgecolor="#c0c0c0", hatch=hatch, lw=0))
                if verdict in FAILING:
                    axes.text(x + 0.5, y + 0.5, verdict, ha="center", va="center", weight="bold", **small)
            if verdict in FAILING:
                frame = Rectangle((x + 0.05, y + 0.07), 0.9, 0.86, fill=False, edgecolor="black", lw=1.1, zorder=4)
                axes.add_patch(frame)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(length=0)
    if mm < 11 or max(map(len, sweeps)) > 9:
        axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="y", rotation=0)


def _text(ratio: float) -> str:
    if not np.isfinite(ratio):
        return "" if np.isnan(ratio) else "∞"
    if ratio < 10:
        return f"{ratio:.2f}"
    return f"{ratio:.0f}" if ratio < 1e3 else f"{ratio:.0e}".replace("e+0", "e").replace("e+", "e")


def _short(ratio: float) -> str:
    return f"{ratio:.1f}".lstrip("0") if np.isfinite(ratio) and ratio < 10 else _text(ratio)
