"""A point of a life: what it tries, what it is called, and what a raised error or a wrong number there means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rnn_parity.life.course import Life
from rnn_parity.life.judging import Found

Probe = Callable[[Life], Iterator[Found]]


@dataclass(frozen=True)
class Point:
    """A point of a life.

    Attributes:
        title: what is tried, for people. probe: yields what every call came to; the first that fails ends it.
        may_refuse: whether a layer that raises there merely cannot do it. Elsewhere it fails.
        condition: what must not be done, where a wrong number leaves a `yes` with this condition; empty for a `no`.
        deep: whether it takes more time or memory than every check can spend.
    """

    title: str
    probe: Probe
    may_refuse: bool = False
    condition: str = ""
    deep: bool = False


def point(title: str, **attributes) -> Callable[[Probe], Point]:
    """Make a `Point` of a probe; the function's name is the point's."""
    return lambda probe: Point(title, probe, **attributes)
