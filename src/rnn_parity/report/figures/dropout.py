"""Why the same seed gives other masks: one stream of random numbers, dealt out in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from rnn_parity.findings import figure_tables
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Study, panels

_MOST_GAPS, _MOST_STEPS, _MOST_ROWS, _MOST_UNITS, _MOST_IMPLEMENTATIONS = 2, 3, 10, 16, 4
_MOST_CASES = 500  # more are points without lines
_REGIMES = {"train_same_seed": ("same seed", "-", True), "train_matched_masks": ("same masks", "--", False)}


def plot(study: Study) -> Figure:
    """Plot the masks on the left, what they do to the output on the right."""
    differences = figure_tables.dropout(study.equivalence)
    usual = (differences["dtype"] == study.config["defaults"]["dtype"]) & ~differences["tf32"].astype(bool)
    differences = differences[usual] if usual.any() else differences
    names = [name for name in study.looks if name in set(study.masks["implementation"])][:_MOST_IMPLEMENTATIONS]
    if differences.empty and not names:
        return style.say_no_data("The dropout experiment needs a case with dropout, three layers or more and T > 1.")
    masks, image_mm = study.masks, 0.0
    masks = masks[masks["implementation"].isin(names) & (masks["gap"] < _MOST_GAPS) & (masks["step"] < _MOST_STEPS)]
    if names:
        images = len(masks[["gap", "step"]].drop_duplicates())
        rows, units = min(masks["row"].max() + 1, _MOST_ROWS), min(masks["unit"].max() + 1, _MOST_UNITS)
        image_mm = study.width_mm * (0.585 if study.wide else 0.92) / images * rows / units
    masks_mm, below_mm = max(60, 24 + len(names) * (image_mm + 7)), 56 + 4 * len(study.candidates)
    figure, [[axes]] = style.grid_of_axes(1, 1, masks_mm if study.wide else masks_mm + below_mm, study.width_mm)
    axes.remove()
    if study.wide:
        left, right = figure.subfigures(1, 2, width_ratios=[1.75, 1])
    else:
        left, right = figure.subfigures(2, 1, height_ratios=[masks_mm, below_mm])
    if names:
        _masks(left, masks, names, image_mm)
    else:
        none = "no masks seen: no case with dropout, three\nlayers and T > 1, or they are drawn out of sight"
        style.say_instead(left.subplots(), none)
    if len(differences):
        _differences(right, differences, study)
    else:
        style.say_instead(right.subplots(), "no training case with dropout")
    return figure


def _masks(figure: SubFigure, masks: pd.DataFrame, names: list[str], image_mm: float) -> None:
    case = masks.iloc[0]
    cropped = masks["row"].max() >= _MOST_ROWS or masks["unit"].max() >= _MOST_UNITS
    sizes = f"L {case.num_layers}, T {case.sequence_length}, B {case.batch_size}, H {case.hidden_size}"
    title = f"masks for {sizes}, p {case.dropout:g}{' (the first of them)' if cropped else ''}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=7, weight="bold")
    images = masks.groupby(["gap", "step"])
    grid = figure.subplots(len(names), images.ngroups, squeeze=False)
    norm, colours = Normalize(0, masks["draw"].max() + 1), sns.color_palette("viridis", as_cmap=True)
    for column, ((gap, step), blocks) in zip(grid.T, images, strict=True):
        column[0].set_title(f"gap {gap + 1},\nstep {step + 1}", weight="normal", loc="center")
        for axes, name in zip(column, names, strict=True):
            _mask(axes, blocks[blocks["implementation"] == name], norm, colours)
    for axes, name in zip(grid[:, 0], names, strict=True):
        axes.set_ylabel(style.wrapped(name, max(8, int(image_mm))), fontsize=6)
    mappable, bar = ScalarMappable(norm=norm, cmap=colours), {"location": "bottom", "aspect": 45, "fraction": 0.05}
    bar = figure.colorbar(mappable, ax=grid, **bar)
    bar.outline.set_visible(False)
    bar.set_label("position in the generator's stream   (• dropped)")


def _mask(axes: Axes, block: pd.DataFrame, norm: Normalize, colours: Any) -> None:
    axes.set_xlabel(f"{block['draw'].min()}–{block['draw'].max()}", fontsize=6.5)
    block = block[(block["row"] < _MOST_ROWS) & (block["unit"] < _MOST_UNITS)]
    draws = block.pivot(index="row", columns="unit", values="draw").to_numpy()
    line, dot = (0.25, 2.4) if draws.shape[1] <= 12 else (0.1, 1.6)
    axes.pcolormesh(draws, norm=norm, cmap=colours, edgecolors="white", linewidth=line)
    dropped = block.loc[~block["kept"].astype(bool), ["unit", "row"]] + 0.5
    axes.plot(dropped["unit"], dropped["row"], ls="none", marker="o", ms=dot, mfc="black", mec="white", mew=0.4)
    axes.invert_yaxis()
    axes.set(aspect="equal", xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _differences(figure: SubFigure, table: pd.DataFrame, study: Study) -> None:
    axes = figure.subplots()
    positive = table.loc[table["max_abs_diff"] > 0, "max_abs_diff"]
    bottom = 10.0 ** (np.floor(np.log10(positive.min())) - 1) if len(positive) else 1e-9
    top = max([1.0, *positive])
    table = table.assign(shown=table["max_abs_diff"].clip(lower=bottom))
    for (name, regime), rows in table.groupby(["implementation", "regime"], sort=False):
        _, line, filled = _REGIMES[regime]
        look = study.looks[name]
        look |= {"mfc": look["color"] if filled else "white"}
        many = len(rows) > _MOST_CASES
        axes.plot(rows["sequence_length"], rows["shown"], ls="none", zorder=3, clip_on=False, rasterized=many, **look)
        for panel in () if many else panels(rows, "sequence_length"):
            along = panel.rows.sort_values("sequence_length")
            axes.plot(along["sequence_length"], along["shown"], color=look["color"], ls=line, lw=0.7)
    axes.set(yscale="log", ylim=(bottom, top * 2), ylabel="largest difference\nfrom the baseline")
    ticks = [bottom, *(10.0**power for power in range(int(np.log10(bottom)) + 1, int(np.ceil(np.log10(top))) + 1))]
    ticks = ticks[:: max(1, len(ticks) // 6)]
    style.fixed_ticks(axes.yaxis, ticks, lambda value: "0" if value < 1.01 * bottom else style.plain(value))
    style.length_axis(axes, table["sequence_length"])
    shown = [name for name in study.candidates if name in set(table["implementation"])]
    colour = style.DARK if len(shown) > 1 else study.looks[shown[0]]["color"]
    marker = study.looks[study.candidates[0]]["marker"]
    handles = [style.key(style.wrapped(name, 34), **study.looks[name]) for name in shown] if len(shown) > 1 else []
    for regime, (words, line, filled) in _REGIMES.items():
        if (table["regime"] == regime).any():
            fill = colour if filled else "white"
            handles.append(style.key(words, color=colour, marker=marker, ls=line, mfc=fill))
    figure.legend(handles=handles, loc="outside upper left", ncols=1 if len(handles) > 2 else 2)
