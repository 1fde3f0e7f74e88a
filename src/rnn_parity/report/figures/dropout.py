"""Why the same seed gives other masks: one stream of random numbers, dealt out in another order."""

from __future__ import annotations

import matplotlib.cm
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnn_parity.findings import figure_tables
from rnn_parity.report.figures import style
from rnn_parity.report.figures.study import Study, panels

_MOST_GAPS, _MOST_STEPS, _MOST_ROWS, _MOST_UNITS, _MOST_IMPLEMENTATIONS = 2, 3, 10, 16, 4
_MOST_CASES = 500  # more are points without lines
_REGIMES = {"train_same_seed": ("same seed", "-", True), "train_matched_masks": ("same masks", "--", False)}


def plot(study: Study) -> Figure:
    """Plot the masks on the left, what they do to the output on the right."""
    differences = figure_tables.dropout(study.equivalence)
    usual = differences["dtype"] == study.config["defaults"]["dtype"]
    differences = differences[usual] if usual.any() else differences
    names = [name for name in study.implementations if name in set(study.masks["implementation"])]
    names = names[:_MOST_IMPLEMENTATIONS]
    if differences.empty and not names:
        what = "The dropout experiment needs a case with dropout, three layers or more and T > 1."
        return style.say_no_data(what, study.width_mm)
    wide = study.width_mm >= style.PAGE_MM
    masks_mm = study.width_mm * (0.585 if wide else 0.92)
    height_mm, below_mm = _height_mm(study.masks, names, masks_mm), 56 + 4 * len(study.candidates)
    figure, _ = style.grid_of_axes(1, 1, height_mm if wide else height_mm + below_mm, study.width_mm)
    figure.clear()
    if wide:
        left, right = figure.subfigures(1, 2, width_ratios=[1.75, 1])
    else:
        left, right = figure.subfigures(2, 1, height_ratios=[height_mm, below_mm])
    if names:
        _masks(left, study, names, masks_mm)
    else:
        none = "no masks seen: no case with dropout, three\nlayers and T > 1, or they are drawn out of sight"
        left.text(0.5, 0.5, none, ha="center", va="center", color="#505050")
    _differences(right, differences, study)
    return figure


def _height_mm(masks: pd.DataFrame, names: list[str], width_mm: float) -> float:
    """So much that the images, as wide as fits, leave no white between them."""
    if not names:
        return 62.0
    return max(60.0, 24 + len(names) * (_image_mm(masks, width_mm) + 7))


def _image_mm(masks: pd.DataFrame, width_mm: float) -> float:
    """Height of one image."""
    rows, units = min(masks["row"].max() + 1, _MOST_ROWS), min(masks["unit"].max() + 1, _MOST_UNITS)
    return width_mm / len(_places(masks)) * rows / units


def _places(masks: pd.DataFrame) -> list[tuple[int, int]]:
    """Gap and step of each image."""
    gaps, steps = (sorted(masks[name].unique().tolist()) for name in ("gap", "step"))
    return [(gap, step) for gap in gaps[:_MOST_GAPS] for step in steps[:_MOST_STEPS]]


def _masks(figure, study: Study, names: list[str], width_mm: float) -> None:
    masks, places = study.masks, _places(study.masks)
    case = masks.iloc[0]
    sizes = [f"L {case.num_layers}", f"T {case.sequence_length}", f"B {case.batch_size}", f"H {case.hidden_size}"]
    cropped = len(masks) > len(names) * len(places) * _MOST_ROWS * _MOST_UNITS
    title = f"masks for {', '.join(sizes)}, p {case.dropout:g}{' (the first of them)' if cropped else ''}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=7, weight="bold")
    grid = figure.subplots(len(names), len(places), squeeze=False)
    norm = Normalize(0, masks["draw"].max() + 1)
    colours = sns.color_palette("viridis", as_cmap=True)
    between = " " if width_mm / len(places) > 21 else "\n"
    for axes, (gap, step) in zip(grid[0], places, strict=True):
        axes.set_title(f"gap {gap + 1},{between}step {step + 1}", weight="normal", loc="center")
    for line, name in zip(grid, names, strict=True):
        for axes, (gap, step) in zip(line, places, strict=True):
            block = masks[(masks["implementation"] == name) & (masks["gap"] == gap) & (masks["step"] == step)]
            _mask(axes, block, norm, colours)
        line[0].set_ylabel(style.wrapped(name, max(8, int(_image_mm(masks, width_mm)))), fontsize=6)
    bar = figure.colorbar(
        matplotlib.cm.ScalarMappable(norm=norm, cmap=colours), ax=grid, location="bottom", aspect=45, fraction=0.05
    )
    bar.outline.set_visible(False)
    bar.set_label("place in the generator's stream   (• dropped)")


def _mask(axes: Axes, block: pd.DataFrame, norm: Normalize, colours) -> None:
    axes.set_xlabel(f"{block['draw'].min()}–{block['draw'].max()}", fontsize=6.5)
    block = block[(block["row"] < _MOST_ROWS) & (block["unit"] < _MOST_UNITS)]
    draws = block.pivot(index="row", columns="unit", values="draw").to_numpy()
    kept = block.pivot(index="row", columns="unit", values="kept").to_numpy(dtype=bool)
    line, dot = (0.25, 2.4) if draws.shape[1] <= 12 else (0.1, 1.6)
    axes.pcolormesh(draws, norm=norm, cmap=colours, edgecolors="white", linewidth=line)
    rows, units = np.nonzero(~kept)
    axes.plot(units + 0.5, rows + 0.5, ls="none", marker="o", ms=dot, mfc="black", mec="white", mew=0.4)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _differences(figure, table: pd.DataFrame, study: Study) -> None:
    axes = figure.subplots()
    if table.empty:
        axes.axis("off")
        axes.text(0.5, 0.5, "no training case with dropout", ha="center", va="center", color="#505050")
        return
    palette, marks = style.colours(study.implementations), style.markers(study.implementations)
    positive = table.loc[table["max_abs_diff"] > 0, "max_abs_diff"]
    bottom = 10.0 ** (np.floor(np.log10(positive.min())) - 1) if len(positive) else 1e-9
    top = max(positive.max() if len(positive) else 1.0, 1.0)
    table = table.assign(shown=table["max_abs_diff"].clip(lower=bottom))
    for (name, regime), rows in table.groupby(["implementation", "regime"], sort=False):
        _, line, full = _REGIMES[regime]
        many = len(rows) > _MOST_CASES
        look = {"color": palette[name], "marker": marks[name], "mfc": palette[name] if full else "white"}
        look |= {"zorder": 3, "clip_on": False, "rasterized": many}  # type: ignore[dict-item]
        axes.plot(rows["sequence_length"], rows["shown"], ls="none", **look)
        for panel in () if many else panels(rows, "sequence_length"):
            along = panel.rows.sort_values("sequence_length")
            axes.plot(along["sequence_length"], along["shown"], color=palette[name], ls=line, lw=0.7)
    axes.set_yscale("log")
    axes.set_ylim(bottom, top * 2)
    ticks = [bottom, *(10.0**power for power in range(int(np.log10(bottom)) + 1, int(np.ceil(np.log10(top))) + 1))]
    ticks = ticks[:: max(1, len(ticks) // 6)]
    style.fixed_ticks(axes.yaxis, ticks, lambda value: "0" if value < 1.01 * bottom else style.plain(value))
    axes.set_ylabel("largest difference to the baseline")
    style.length_axis(axes, table["sequence_length"])
    handles = _handles(study, palette, marks, table)
    figure.legend(handles=handles, loc="outside upper left", ncols=1 if len(handles) > 2 else 2)


def _handles(study: Study, palette: dict, marks: dict, table: pd.DataFrame) -> list[Line2D]:
    handles = []
    several = table["implementation"].nunique() > 1
    for name in [name for name in study.candidates if several and name in set(table["implementation"])]:
        look = {"color": palette[name], "marker": marks[name], "ls": "none"}
        handles.append(Line2D([], [], label=style.wrapped(name, 34), **look))
    for regime, (words, line, full) in _REGIMES.items():
        name = study.candidates[0]
        look = {"color": style.DARK if several else palette[name], "marker": marks[name], "ls": line}
        look |= {} if full else {"mfc": "white"}
        if (table["regime"] == regime).any():
            handles.append(Line2D([], [], label=words, **look))
    return handles
