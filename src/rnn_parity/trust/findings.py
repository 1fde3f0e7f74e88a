"""What the checker may make of a layer whose fault, or the lack of one, is known."""

from __future__ import annotations

from enum import StrEnum


class Detection(StrEnum):
    """What the checker made of a layer in one case."""

    HELD = "held"  # a right layer, and nothing was said against it
    FALSE_ALARM = "false alarm"
    CAUGHT = "caught"
    MISSED = "missed"
    HIDDEN = "hidden"  # computed exactly, the fault is smaller than what rounding may do to a right layer here
    NOT_JUDGED = "not judged"  # it shows only in quantities of which the checker said that it cannot tell
    NOT_EXERCISED = "not exercised"  # the mutant gives what its parent gives: bit for bit, or exactly to within u
