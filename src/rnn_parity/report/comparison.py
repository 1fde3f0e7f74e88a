"""Two folders of results read, held against each other, and written down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnn_parity.findings.compare import Run, RunComparison
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import panel_grid
from rnn_parity.report.markdown import render_markdown
from rnn_parity.tables import COLLECTED, atomic_path, read_json, read_table, write_text

_DISJOINT = "#0072b2"
MOST_ROWS = 12
"""Rows of each list in the Markdown: it is pasted into a pull request."""


def read_run(folder: Path, name: str) -> Run:
    """A folder of results as `snakemake` leaves it; the environment and the config may be missing."""
    tables = {
        part: read_table(folder / f"{part}.parquet", COLLECTED[part]).to_pandas() for part in ("equivalence", "timing")
    }
    paths = {part: folder / f"{part}.json" for part in ("environment", "config")}
    facts = {part: read_json(path) if path.exists() else {} for part, path in paths.items()}
    return Run(name, **tables, **facts)


def comparison_markdown(comparison: RunComparison) -> str:
    """The comparison, short enough for a pull request."""
    facts = {
        name: getattr(comparison, name)
        for name in ("a", "b", "differing_axes", "machines", "cases", "only_a", "only_b")
    }
    times_faster = comparison.speedups.groupby("phase", sort=False)["times_faster"].median().dropna()
    return render_markdown(
        "compare.md.j2",
        facts
        | {
            "most": MOST_ROWS,
            "flipped": comparison.flipped.to_dict("records"),
            "regressions": len(comparison.regressions),
            "compared": len(comparison.verdicts),
            "disjoint": comparison.disjoint.to_dict("records"),
            "timed": len(comparison.speedups),
            "on_unlike_machines": comparison.on_unlike_machines,
            "times_faster": times_faster.to_dict(),
        },
    )


def write_comparison(comparison: RunComparison, folder: Path) -> None:
    """Write `compare.md`, both tables as CSV, and the figure of the speedups."""
    for name, table in {"verdicts": comparison.verdicts, "speedups": comparison.speedups}.items():
        with atomic_path(folder / f"compare_{name}.csv") as path:
            table.to_csv(path, index=False)
    with style.applied():
        style.save(plot_speedups(comparison), folder, "compare_speedups")
    write_text(folder / "compare.md", comparison_markdown(comparison))


def plot_speedups(comparison: RunComparison) -> Figure:
    """Plot a panel per candidate: speedup in `a` against speedup in `b`, filled where the intervals are disjoint."""
    table = comparison.speedups
    names = list(table["implementation"].unique())
    if not names:
        return style.say_no_data("No case was timed in both runs.")
    bounds = [f"speedup_ci_{end}_{side}" for end in ("low", "high") for side in "ab"]
    low, high = min(table[bounds].min().min() / 1.08, 0.95), max(table[bounds].max().max() * 1.08, 1.05)

    def plot_panel(axes: Axes, name: str) -> None:
        _against(axes, table[table["implementation"] == name], low, high)
        axes.set_title(style.wrapped(name, 40))
        axes.set_xlabel(f"speedup in {style.wrapped(comparison.a, 34)}")
        axes.set_ylabel(f"speedup in {style.wrapped(comparison.b, 34)}")

    width_mm = style.PAGE_MM if len(names) > 1 else style.COLUMN_MM
    figure, _ = panel_grid(width_mm, names, plot_panel, least_mm=style.COLUMN_MM, row_mm=72, most_rows=2)
    phases = [phase for phase in style.PHASE_MARKERS if phase in set(table["phase"])]
    handles = [style.key(phase, marker=style.PHASE_MARKERS[phase]) for phase in phases]
    handles.append(style.key("intervals overlap", color=style.GREY, marker="o", mfc="white"))
    handles.append(style.key("intervals disjoint", color=_DISJOINT, marker="o"))
    style.legend_above(figure, handles)
    return figure


def _against(axes: Axes, rows: pd.DataFrame, low: float, high: float) -> None:
    axes.plot([low, high], [low, high], color=style.DARK, lw=0.6, zorder=1)
    axes.axhline(1, color=style.LIGHT, lw=0.6, zorder=0)
    axes.axvline(1, color=style.LIGHT, lw=0.6, zorder=0)
    for phase, marker in style.PHASE_MARKERS.items():
        for disjoint, colour in ((False, style.GREY), (True, _DISJOINT)):
            some = rows[(rows["phase"] == phase) & (rows["disjoint"] == disjoint)]
            x, y = some["speedup_a"].to_numpy(float), some["speedup_b"].to_numpy(float)
            wide = np.array([x - some["speedup_ci_low_a"], some["speedup_ci_high_a"] - x]).clip(0)
            tall = np.array([y - some["speedup_ci_low_b"], some["speedup_ci_high_b"] - y]).clip(0)
            look = {"color": colour, "ecolor": colour, "elinewidth": 0.5, "ls": "none", "ms": 3, "mew": 0.6}
            fill = colour if disjoint else "white"
            axes.errorbar(x, y, yerr=tall, xerr=wide, marker=marker, mfc=fill, zorder=2 + disjoint, **look)
    for which in "xy":
        style.ratio_axis(axes, which, low, high)
    axes.set_aspect("equal")
