"""The check tried on itself: which planted faults it catches, and how often it accuses a right layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnn_parity.experiment.vocabulary import tick_label
from rnn_parity.findings import rates
from rnn_parity.report.figures import style
from rnn_parity.report.figures.study import Study
from rnn_parity.statistics import wilson

_CHECKS = {
    "this check": ("alarms", "o", "#0072b2"),
    "torch.allclose": ("allclose", "s", "#d55e00"),
    "assert_close": ("assert_close", "^", "#8a8a8a"),
}
_ROW_MM = 3.7
_SHARES = LinearSegmentedColormap.from_list("caught", ["#b5361c", "#f0c987", "#dcefe9", "#9bd0bd"])


def plot(study: Study) -> Figure:
    """Plot the kept rates: a heat map of the faults by dtype, grouped by kind, and below it the false alarms."""
    kept = rates.kept_rates()
    caught, alarms = (table.assign(column=_columns(table)) for table in (kept.detection, kept.false_alarms))
    columns = list(alarms["column"].unique())
    faults = caught.drop_duplicates("implementation")
    width_mm = min(study.width_mm, max(style.COLUMN_MM, 62 + 22 * len(columns)))
    heights = [_ROW_MM * (len(faults) + faults["kind"].nunique() - 1), 30]
    figure, _ = style.grid_of_axes(1, 1, sum(heights) + 26, width_mm)
    figure.clear()
    above, below = figure.subfigures(2, 1, height_ratios=[heights[0] + 10, heights[1] + 16])
    _faults(above.subplots(), study.width_mm >= style.PAGE_MM, caught, faults, columns)
    _alarms(below.subplots(), alarms, columns)
    return figure


def _columns(table: pd.DataFrame) -> list[str]:
    several = table["device"].nunique() > 1
    pairs = zip(table["dtype"], table["device"], strict=True)
    return [
        f"{tick_label('dtype', dtype)}, {device}" if several else tick_label("dtype", dtype) for dtype, device in pairs
    ]


def _faults(axes: Axes, wide: bool, caught: pd.DataFrame, faults: pd.DataFrame, columns: list[str]) -> None:
    places, at, ends = {}, 0.0, []
    for kind, group in faults.groupby("kind", sort=False):
        ends.append((kind, at, at + len(group)))
        for layer in group["implementation"]:
            places[layer] = at
            at += 1
        at += 1
    for row in caught.itertuples():
        x, y = columns.index(row.column), places[row.implementation]
        judged = row.exercised - row.not_judged
        fill = _SHARES(row.share) if judged else "white"
        axes.barh(y + 0.5, 0.96, left=x + 0.02, height=0.9, color=fill, lw=0)
        ink = "white" if judged and row.share < 0.25 else style.DARK
        axes.text(x + 0.5, y + 0.5, f"{row.caught}/{judged}" if judged else "–", ha="center", va="center", fontsize=5.5,
                  color=ink, weight="bold" if row.missed else "normal")  # fmt: skip
    names = dict(zip(faults["implementation"], faults["fault"], strict=True))
    axes.set_yticks(
        [y + 0.5 for y in places.values()], [names[layer] for layer in places], fontsize=5.5 if wide else 4.5
    )
    axes.set_xticks([x + 0.5 for x in range(len(columns))], columns)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlim(0, len(columns))
    axes.set_ylim(at - 1, 0)
    for kind, low, high in ends:
        turned = {"rotation": -90} if high - low > 2 else {}
        place = len(columns) + 0.06, (low + high) / 2
        axes.annotate(kind, place, va="center", ha="left", fontsize=6.5, annotation_clip=False, **turned)
    axes.set_title("planted faults: caught / judged", pad=14)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _alarms(axes: Axes, alarms: pd.DataFrame, columns: list[str]) -> None:
    floor = 0.3 / alarms["comparisons"].max()
    for index, (column, marker, colour) in enumerate(_CHECKS.values()):
        for row in alarms.to_dict("records"):
            x = columns.index(row["column"]) + 0.5 + (index - 1) * 0.2
            share = row[column] / row["comparisons"]
            low, high = wilson(int(row[column]), int(row["comparisons"]))
            axes.plot([x, x], np.clip([low, high], floor, 1), color=colour, lw=0.9)
            fill = colour if share else "white"
            axes.plot(x, max(share, floor), marker=marker, color=colour, mfc=fill, ms=3.4, clip_on=False)
    axes.set_yscale("log")
    axes.set_ylim(floor, 1)
    ticks = [10.0**power for power in range(int(np.ceil(np.log10(2 * floor))), 1)]
    style.fixed_ticks(axes.yaxis, [floor, *ticks], lambda v: "0" if v < floor * 1.01 else f"{100 * v:g} %")
    axes.set_xticks([x + 0.5 for x in range(len(columns))], columns)
    axes.set_xlim(0, len(columns))
    axes.set_ylabel("false alarms")
    axes.axhline(rates.LARGEST_FALSE_ALARM_RATE, color=style.DARK, lw=0.6, ls=":", zorder=0)
    counts = alarms["comparisons"]
    number = f"{counts.min():,}" if counts.nunique() == 1 else f"{counts.min():,} to {counts.max():,}"
    axes.set_title(f"right layers: {number} comparisons each", pad=14)
    handles = [Line2D([], [], color=colour, marker=marker, ls="none", ms=3.4, label=label)
               for label, (_, marker, colour) in _CHECKS.items()]  # fmt: skip
    handles.append(Line2D([], [], color=style.DARK, lw=0.6, ls=":", label="allowed"))
    tight = {"borderaxespad": 0, "columnspacing": 0.7, "handlelength": 1, "handletextpad": 0.3, "fontsize": 6}
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, **tight)
