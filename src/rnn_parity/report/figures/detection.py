"""The check tried on itself, beside the checks that people use: false alarms on right layers, faults missed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnn_parity.experiment.vocabulary import tick_label
from rnn_parity.findings import rates
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Study, plot_rows
from rnn_parity.statistics import wilson

_CHECKS = {"this check": ("o", "#0072b2"), "torch.allclose": ("s", "#d55e00"), "assert_close": ("^", "#8a8a8a")}
_FALSE_ALARMS = [("alarms", "comparisons"), ("allclose", "comparisons"), ("assert_close", "comparisons")]
_LET_PASS = [("passes", "judged"), ("allclose_passes", "exercised"), ("assert_close_passes", "exercised")]


def plot(study: Study) -> Figure:
    """Plot the kept rates of the three checks by dtype: on the left false alarms, on the right faults missed."""
    kept = rates.kept_rates(tuple(study.config["cells"]))
    planted = rates.totals(kept.detection)
    planted["passes"] = planted["judged"] - planted["caught"]
    items = [
        ("correct layers called different", kept.false_alarms, _FALSE_ALARMS),
        ("planted faults missed", planted, _LET_PASS),
    ]

    def plot_panel(axes: Axes, item: tuple[str, pd.DataFrame, list[tuple[str, str]]]) -> None:
        title, table, columns = item
        _shares(axes, table, columns)
        axes.set_title(title)

    rows = [items] if study.wide else [[item] for item in items]
    figure, grid = plot_rows(study.width_mm, rows, plot_panel, row_mm=44)
    grid[0, 0].axhline(rates.LARGEST_FALSE_ALARM_RATE, color=style.DARK, lw=0.6, ls=":", zorder=0)
    handles = [style.key(name, marker=marker, color=colour, ms=3.4) for name, (marker, colour) in _CHECKS.items()]
    style.legend_above(figure, [*handles, style.key("false alarms allowed", lw=0.6, ls=":")])
    return figure


def _shares(axes: Axes, table: pd.DataFrame, columns: list[tuple[str, str]]) -> None:
    """Plot a count over another per check and dtype, with its 95 % interval; a share of 0 lies on the axis, hollow."""
    floor = 0.3 / table[[of for _, of in columns]].to_numpy().max()
    for index, ((marker, colour), (count, of)) in enumerate(zip(_CHECKS.values(), columns, strict=True)):
        for place, (n, total) in enumerate(table[[count, of]].itertuples(index=False)):
            x = place + (index - 1) * 0.2
            axes.plot([x, x], np.clip(wilson(n, total), floor, 1), color=colour, lw=0.9)
            look = {"marker": marker, "color": colour, "mfc": colour if n else "white", "ms": 3.4}
            axes.plot(x, max(n / total, floor), clip_on=False, **look)
    axes.set(yscale="log", ylim=(floor, 1), xlim=(-0.5, len(table) - 0.5))
    ticks = [10.0**power for power in range(int(np.ceil(np.log10(2 * floor))), 1)]
    style.fixed_ticks(axes.yaxis, [floor, *ticks], lambda value: "0" if value == floor else f"{100 * value:g} %")
    labels = [tick_label("dtype", dtype) for dtype in table["dtype"]]
    if table["cell"].nunique() > 1:  # the name of a kind once, below its dtypes
        names = [" "] * len(labels)
        for cell, places in table.reset_index(drop=True).groupby("cell").groups.items():
            names[places[(len(places) - 1) // 2]] = str(cell)
        labels = list(map("\n".join, zip(labels, names, strict=True)))
    axes.set_xticks(range(len(table)), labels)
