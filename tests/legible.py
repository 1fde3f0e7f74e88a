"""Whether the words of a figure can be read: none runs over another, over the edge, or is too small."""

from __future__ import annotations

import itertools

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

SMALLEST_PT = 3.9
_SLACK = 1.0  # pixels: boxes that touch are read well


def illegible(figure: Figure) -> list[str]:
    """What cannot be read in a figure, in words."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    hidden = _not_drawn(figure)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    texts = [text for text in texts if text not in hidden]
    boxes = [(text, text.get_window_extent(renderer)) for text in texts]
    page = figure.bbox
    faults = [f"{t.get_text()!r} is {t.get_fontsize()} points" for t in texts if t.get_fontsize() < SMALLEST_PT]
    for text, box in boxes:
        if box.x0 < page.x0 - 2 or box.y0 < page.y0 - 2 or box.x1 > page.x1 + 2 or box.y1 > page.y1 + 2:
            faults.append(f"{text.get_text()!r} runs over the edge")
    for (one, box), (other, second) in itertools.combinations(boxes, 2):
        if one.get_rotation() % 90 or other.get_rotation() % 90:
            continue  # the box of slanted words is larger than they are
        common = Bbox.intersection(box, second)
        if common is not None and common.width > _SLACK and common.height > _SLACK:
            faults.append(f"{one.get_text()!r} runs over {other.get_text()!r}")
    return faults


def _not_drawn(figure: Figure) -> set[Text]:
    """The words that matplotlib keeps but does not draw: ticks outside the limits, whatever is in hidden axes."""
    found = set()
    for axes in figure.findobj(Axes):
        if not axes.get_visible():
            found |= set(axes.findobj(Text))
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            off = not axis.get_visible() or not axes.axison
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if off or not axes.get_visible() or not low <= tick.get_loc() <= high:
                    found |= {tick.label1, tick.label2}
            if off:
                found |= {axis.label, axis.offsetText}
    return found
