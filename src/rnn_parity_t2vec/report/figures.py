"""The decoder's two figures: where the gain comes from, and two trainings laid over each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rnn_parity.report.figures import style
from rnn_parity_t2vec.report.findings import MODE_WORDS, PHASE_WORDS, divergence, largest_case, last_losses

_CHANGES = {"attention_once": ("attention once", "then layer"), "layer_replaced": ("layer", "then attention")}
_LABEL = 28.0
"""What a label takes of an axis that ends at 104."""
_COLOURS = {"attention": "#e69f00", "layer": "#0072b2"}


def plot_all(config: Mapping, results: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write both figures as `folder/{name}.pdf`, `.png` and `.svg`."""
    with style.applied():
        for name, draw in {"decoder_attribution": plot_attribution, "decoder_training": plot_training}.items():
            style.save(draw(config, results), folder, name)


def plot_attribution(config: Mapping, results: Mapping[str, pd.DataFrame]) -> Figure:
    """A waterfall per phase, in both orders, for every candidate a row."""
    rows = results["attribution"]
    case_id = largest_case(rows)
    rows = rows[(rows["case_id"] == case_id) & (rows["way"] != "input_feeding")]
    phases = [phase for phase in PHASE_WORDS if phase in set(rows["phase"])]
    timed = set(rows.dropna(subset=["median_s"])["implementation"])
    candidates = [name for name in config["cells"]["gru"]["candidates"] if name in timed]
    if case_id is None or not candidates:
        return style.say_no_data("Where the gain comes from needs a decoder case that was timed both ways.")
    height_mm = 56 * len(candidates) + 4
    figure, grid = style.grid_of_axes(len(candidates), len(phases), height_mm, sharey=True, sharex=True)
    for line, name in zip(grid, candidates, strict=True):
        for axes, phase in zip(line, phases, strict=True):
            chosen = rows[(rows["implementation"] == name) & (rows["phase"] == phase)].set_index("way")
            _waterfall(axes, chosen)
            axes.set_title(PHASE_WORDS[phase] if len(candidates) == 1 else f"{PHASE_WORDS[phase]}: {name}")
    for axes in grid[-1]:
        axes.set_xlabel("time, % of the original")
    return figure


def _waterfall(axes: Axes, rows: pd.DataFrame) -> None:
    """Two orders of the same two changes, one below the other."""
    labels: dict[float, str] = {}
    for top, (first, (alone, then)) in zip((0.0, 4.6), _CHANGES.items(), strict=True):
        axes.barh(top, 100, height=0.72, color=style.GREY)
        between = _change(axes, top + 1, alone, rows, first, first, 100.0)
        left = _change(axes, top + 2, then, rows, "both", first, between)
        axes.barh(top + 3, left, height=0.72, color=style.LIGHT)
        labels |= {top: "original", top + 1: alone, top + 2: then, top + 3: "replaced"}
    axes.set_yticks(list(labels), list(labels.values()))
    axes.set_ylim(8.2, -0.6)
    axes.set_xlim(0, 104)
    axes.axvline(100, color=style.LIGHT, lw=0.6, zorder=0)


def _change(axes: Axes, position: float, label: str, rows: pd.DataFrame, way: str, first: str, before: float) -> float:
    """The bar of one change, from the time before it to the time after it; that time, in % of the original."""
    row = rows.loc[way]
    if not np.isfinite(row["speedup"]):
        axes.text(1.5, position, "not timed", va="center", fontsize=6, color=style.DARK)
        return before
    after = 100 / row["speedup"]
    colour = _COLOURS["attention" if "attention" in label else "layer"]
    axes.barh(position, abs(before - after), left=min(before, after), height=0.72, color=colour)
    interval = 100 / row["speedup_ci_high"], 100 / row["speedup_ci_low"]
    axes.plot(interval, [position, position], color=style.DARK, lw=0.9, solid_capstyle="butt")
    share = rows.loc[first, "share"] if way == first else 1 - rows.loc[first, "share"]
    words = f"{after - before:+.0f}".replace("-", "\N{MINUS SIGN}")
    words += f" ({share:.0%})".replace("%", " %").replace("-", "\N{MINUS SIGN}") if np.isfinite(share) else ""
    left, right = min(before, after, *interval), max(before, after, *interval)
    if left >= _LABEL:
        at, ink = 1.5, style.DARK
    elif right <= 100 - _LABEL:
        at, ink = right + 1.5, style.DARK
    else:  # no room but on the bar
        at, ink = min(before, after) + 1.5, "white"
    axes.text(at, position, words, va="center", fontsize=6, color=ink)
    return after


def plot_training(config: Mapping, results: Mapping[str, pd.DataFrame]) -> Figure:
    """Losses above, what they differ by below; a column per mode."""
    training = results["training"].dropna(subset=["loss"])
    case_id = largest_case(training)
    training = training[training["case_id"] == case_id]
    modes = [mode for mode in MODE_WORDS if mode in set(training["mode"])]
    if not modes:
        return style.say_no_data("Trainings laid over each other need a decoder case that was trained.")
    names = [config["cells"]["gru"]["baseline"], *config["cells"]["gru"]["candidates"]]
    palette = {name: look["color"] for name, look in style.looks(names[:1], names[1:]).items()}
    figure, grid = style.grid_of_axes(2, len(modes), 88, height_ratios=[1, 1])
    far = divergence(training)
    for (above, below), mode in zip(grid.T, modes, strict=True):
        _losses(above, training[training["mode"] == mode], palette, names)
        above.set_title(MODE_WORDS[mode])
        if mode == "own_masks":
            _last(below, last_losses(training[training["mode"] == mode]), palette, names)
        else:
            _distances(below, far[far["mode"] == mode], palette, names)
    for axes in grid[0, 1:]:
        axes.sharey(grid[0, 0])
    grid[0, 0].set_ylabel("loss per token, nats")
    grid[1, 0].set_ylabel("distance from the baseline's loss")
    handles = [style.key(name, color=palette[name], ls="-" if i == 0 else "--") for i, name in enumerate(names)]
    handles.append(style.key("floor: the baseline, one rounding away", lw=0.9, ls=":"))
    style.legend_above(figure, handles)
    return figure


def _losses(axes: Axes, rows: pd.DataFrame, palette: Mapping[str, str], names: list[str]) -> None:
    for index, name in enumerate(names):
        mine = rows[(rows["implementation"] == name) & (rows["role"] != "perturbed")]
        for _, run in mine.groupby("seed"):
            look = {"lw": 1.6, "alpha": 0.6} if index == 0 else {"lw": 0.8, "ls": (0, (3, 2))}
            axes.plot(run["step"], run["loss"], color=palette[name], **look)
    axes.set_xlabel("training step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _distances(axes: Axes, far: pd.DataFrame, palette: Mapping[str, str], names: list[str]) -> None:
    """On a log axis; a loss that is the same bit for bit has no distance, and no point."""
    for name in [*names[1:], "floor"]:
        rows = far[far["what"] == name]
        look = {"color": style.DARK, "ls": ":"} if name == "floor" else {"color": palette[name]}
        axes.plot(rows["step"], rows["difference"].where(rows["difference"] > 0), lw=0.9, marker=".", ms=2.5, **look)
    shown = far[far["difference"] > 0]["difference"]
    if len(shown):
        axes.set_yscale("log")
        style.log_axis(axes.yaxis, shown)
    else:
        axes.text(0.5, 0.5, "no loss differs in any bit", ha="center", transform=axes.transAxes, fontsize=6.5)
    axes.set_xlabel("training step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _last(axes: Axes, last: pd.DataFrame, palette: Mapping[str, str], names: list[str]) -> None:
    for index, name in enumerate(names):
        losses = last[last["implementation"] == name]["loss"].to_numpy()
        spread = np.linspace(-0.12, 0.12, len(losses)) if len(losses) > 1 else [0.0]
        axes.plot(index + np.asarray(spread), losses, "o", color=palette[name], ms=3.4, mec="white", mew=0.4)
        axes.plot([index - 0.25, index + 0.25], [losses.mean()] * 2, color=palette[name], lw=1.2)
    axes.set_xticks(range(len(names)), [style.wrapped(name, 14) for name in names])
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylabel("loss at the end")
