"""The look of every figure in one place: palette, sizes, readable log axes, and files that are the same every time."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from rnn_parity.tables import atomic_path

FORMATS = ("pdf", "png", "svg")

PAGE_MM, COLUMN_MM = 178, 85
"""Two columns of a journal, and one: the widths of the figures by `report.width`."""

LIGHT, GREY, DARK = "#dcdcdc", "#8a8a8a", "#202020"

# Okabe and Ito's colours; the baseline is neutral, so that colour always means a candidate.
_BASELINE = "#4d4d4d"
_CANDIDATES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_MARKERS = ("D", "s", "^", "v", "P", "X")
PHASE_MARKERS = {"inference": "o", "forward": "^", "backward": "v", "step": "D"}
PHASE_LINES = {"inference": "-", "forward": ":", "backward": "-.", "step": "--"}

# Told apart by lightness as well, so that they survive a grey printer: fill, text.
VERDICT_COLOURS = {
    "identical": ("#dcefe9", DARK),
    "equivalent": ("#9bd0bd", DARK),
    "not judged": ("#ffffff", DARK),
    "unsupported": ("#ececec", DARK),
    "different": ("#b5361c", "#ffffff"),
    "failed": ("#1a1a1a", "#ffffff"),
}
NO_FAULT = ("#f0c987", DARK)
"""Fill and text of `different` where a correct implementation may well be."""


@contextmanager
def applied() -> Iterator[None]:
    """Draw in this project's style; every figure made inside is closed at the end."""
    with plt.rc_context(), sns.axes_style("ticks"):
        plt.style.use(str(Path(__file__).with_name("rnn_parity.mplstyle")))
        try:
            yield
        finally:
            plt.close("all")


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure in every format, without dates, each file moved into its place whole."""
    undated = {"pdf": {"CreationDate": None, "ModDate": None}, "svg": {"Date": None}}
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, not once for every format
    for kind in FORMATS:
        with atomic_path(folder / f"{name}.{kind}") as path:
            figure.savefig(path, format=kind, metadata=undated.get(kind))
    plt.close(figure)


def grid_of_axes(rows: int, columns: int, height_mm: float, width_mm: float = PAGE_MM, **options):
    """A figure and its axes, (rows, columns), `height_mm` for the whole of it."""
    size = width_mm / 25.4, height_mm / 25.4
    return plt.subplots(rows, columns, figsize=size, squeeze=False, **options)


def looks(baselines: Sequence[str], candidates: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Implementation to colour, marker and fill: baselines are neutral and filled, candidates coloured and hollow."""
    shapes = zip(baselines, itertools.cycle("osXP"), strict=False)
    drawn: dict[str, dict[str, Any]] = {
        name: {"color": _BASELINE, "marker": marker, "mfc": _BASELINE} for name, marker in shapes
    }
    for name, colour, marker in zip(candidates, itertools.cycle(_CANDIDATES), itertools.cycle(_MARKERS), strict=False):
        drawn.setdefault(name, {"color": colour, "marker": marker, "mfc": "white"})
    return drawn


def key(label: str, **look: Any) -> Line2D:
    """An entry of a legend: a dark marker without a line, unless `look` says otherwise."""
    return Line2D([], [], **{"color": DARK, "ls": "none", "label": label} | look)


def say_no_data(needs: str) -> Figure:
    """A figure that says in a line or two what data it needs."""
    figure, axes = grid_of_axes(1, 1, 16, COLUMN_MM)
    say_instead(axes[0, 0], textwrap.fill(needs, 60))
    return figure


def say_instead(axes: Axes, words: str) -> None:
    """Say why there is nothing in these axes."""
    axes.axis("off")
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes, color="#505050")


def fitting(width_mm: float, least_mm: float, wanted: int) -> int:
    """How many panels of at least `least_mm` stand side by side, `wanted` at the most."""
    return max(1, min(wanted, int(width_mm // least_mm)))


def left_out(figure: Figure, number: int, what: str) -> None:
    """Say below a figure how many of something it does not show."""
    if number > 0:
        some = f"{number:,} more {what}{'' if number == 1 else 's'}"
        figure.supxlabel(f"{some}: see the table of this figure", fontsize=6.5)


def legend_above(figure: Figure, handles: Sequence) -> None:
    """One legend for the whole figure, above its panels, in as few rows as its words allow."""
    width_mm, shown = figure.get_figwidth() * 25.4, list(handles)
    for handle in shown:
        handle.set_label(wrapped(handle.get_label(), int((width_mm - 10) / 1.35)))
    lengths = [max(map(len, handle.get_label().split("\n"))) * 1.35 + 10 for handle in shown]
    columns = len(shown) if sum(lengths) <= width_mm else max(1, int(width_mm // max(lengths)))
    rows = -(-len(shown) // columns) + sum(handle.get_label().count("\n") for handle in shown)
    figure.set_figheight(figure.get_figheight() + 3.8 * (rows - 1) / 25.4)
    figure.legend(handles=shown, loc="outside upper left", ncols=columns)


def wrapped(name: str, width: int) -> str:
    """A name in lines of about `width` letters, broken after its spaces, dots, colons and underscores."""
    lines = [""]
    for word in re.findall(r"[^._: ]*[._: ]?", name):
        if len(lines[-1]) + len(word) > width and lines[-1]:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip(" ") for line in lines)


def ratio_bar(
    figure: Figure, grid: Any, norm: LogNorm, colours: Any, ticks: Sequence[float], label: str, **options
) -> Any:
    """A bar that says which colour is which ratio, right of a grid of axes."""
    bar = figure.colorbar(ScalarMappable(norm=norm, cmap=colours), ax=grid, fraction=0.03, pad=0.015, **options)
    fixed_ticks(bar.ax.yaxis, ticks)
    bar.outline.set_visible(False)
    bar.set_label(label)
    return bar


def plain(value: float) -> str:
    """A number as one writes it: 0.01, 2, 1,000; a power of ten where that is shorter."""
    if value and (value >= 1e5 or value < 1e-3):
        exponent = math.floor(math.log10(value) + 1e-9)
        head = value / 10**exponent
        return f"$10^{{{exponent}}}$" if abs(head - 1) < 1e-9 else f"${head:g}\\!\\times\\!10^{{{exponent}}}$"
    return f"{value:,.12g}"


def fixed_ticks(axis: Axis, ticks: Sequence[float], words: Callable[[Any], str] = plain) -> None:
    """These ticks and no others, each with its label from `words`."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))


def log_axis(axis: Axis, values: Iterable[float], *, wanted: int = 5, unit: str = "") -> None:
    """Ticks on a log axis that a person would choose: decades, or 1-2-5 where there are few decades."""
    values = [value for value in values if value > 0 and math.isfinite(value)]
    low, high = (min(values), max(values)) if values else (0.1, 10)
    fixed_ticks(axis, _decades(low, high, wanted), EngFormatter(unit, sep=" ").format_data if unit else plain)


def _decades(low: float, high: float, wanted: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for heads, stride in (((1, 2, 5), 1), ((1,), 1), ((1,), 2), ((1,), 3), ((1,), 5), ((1,), 10), ((1,), 50)):
        ticks = [head * 10.0**power for power in powers if power % stride == 0 for head in heads]
        if sum(low <= tick <= high for tick in ticks) <= wanted:
            break
    return ticks


def length_axis(axes: Axes, lengths: Iterable[float], *, label: str = "sequence length T") -> None:
    """A log axis of sequence lengths with a tick at every length that occurs, and as many labels as fit."""
    lengths = sorted(set(lengths))
    axes.set_xscale("log")
    low, high = lengths[0], lengths[-1]
    spread = math.log(high / low) or 1.0
    shown: list[float] = []
    for length in lengths:
        if not shown or math.log(length / shown[-1]) > 0.12 * spread:
            shown.append(length)
    shown[-1] = high  # in place of one that is too close
    axes.set_xlim(low * math.exp(-0.08 * spread), high * math.exp(0.08 * spread))
    fixed_ticks(axes.xaxis, shown)
    axes.xaxis.set_minor_locator(FixedLocator([length for length in lengths if length not in shown]))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)


def ratio_axis(axes: Axes, which: str, low: float, high: float, wanted: int = 7) -> None:
    """A log axis of ratios around 1, `x` or `y`, from `low` to `high`."""
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    fixed_ticks(getattr(axes, f"{which}axis"), ratio_ticks(low, high, wanted))


def ratio_ticks(low: float, high: float, wanted: int = 7) -> list[float]:
    """Ticks of an axis of ratios around 1: evenly spaced in a narrow range, else round numbers; 1 is among them."""
    if high < 2.5 * low:
        ticks = MaxNLocator(wanted, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    elif high < 10 * low:
        ticks = np.array([0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10])
    else:
        ticks = np.array(_decades(low, high, wanted))
    return [float(tick) for tick in ticks if low <= tick <= high]
