"""The tricks tried on the clock: what each is said to be, and what a clock that believes it would have said."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from rnn_parity.compare.run import Role
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import numerics
from rnn_parity.layers.settings import put_back, settings_changed_by
from rnn_parity.statistics import Conclusion
from rnn_parity.timing.calls import TimedWorkload
from rnn_parity.timing.rounds import time_case
from rnn_parity.trust.examine import PARENT, fault_title
from rnn_parity.trust.tricks.planted import CHANGED, HONEST_CALLS, TRICKS, UNMOVED, Trick

LEAST_GAIN = 1.1
"""A speedup that may be less than this is none."""

_PROTOCOL: dict[str, Any] = {"precision": 0.02, "min_rounds": 30, "max_seconds": 0.5, "confidence": 0.95}


def trick_case(trick: type[Trick]) -> Case:
    """The sizes at which a trick is tried; for some a call must be long."""
    steps, rows, units = (4, 256, 128) if trick.large else (12, 4, 16)
    return Case("tricks", "cpu", "float32", False, units // 2, units, 2, steps, rows, 0.0, 1)


def examine_tricks(
    workload: TimedWorkload, progress: Callable[[str], None] = lambda trick: None
) -> Iterator[dict[str, Any]]:
    """Yield one row per trick, timed against a right layer that does the same work.

    Columns:
        trick: in words. believed: the speedup that a clock has of it which calls with the same tensors again and again.
        conclusion, reason, speedup: of this clock. settings: what it was seen to change, and was put back.
        held: whether it has lost its gain, and for the reason that it should.
    """
    for name, trick in TRICKS.items():
        progress(trick.__name__)
        case = trick_case(trick)
        believed = _believed_s(workload, case, PARENT, trick) / _believed_s(workload, case, name, trick)
        rows = time_case(workload, case, PARENT, [name], phases=[trick.phase], exclusive=False, **_PROTOCOL)
        (row,) = (row for row in rows if row["implementation"] == name)
        yield {
            "implementation": name,
            "trick": fault_title(trick),
            "phase": trick.phase,
            "believed": believed,
            **{column: row.get(column) for column in ("conclusion", "reason", "speedup", "speedup_ci_low")},
            "settings": settings_changed_by(name),
            "held": holds(trick, row),
        }


def holds(trick: type[Trick], row: dict[str, Any]) -> bool:
    """Whether a trick has no time for the reason that is expected, or one that shows no gain."""
    if "speedup" not in row:
        return trick.said in row["reason"]
    no_gain = row["conclusion"] != Conclusion.FASTER or row["speedup_ci_low"] < LEAST_GAIN
    return no_gain and trick.said not in (CHANGED, UNMOVED)  # where no core is free, a second thread gains nothing


def _believed_s(workload: TimedWorkload, case: Case, name: str, trick: type[Trick]) -> float:
    """The median of calls with the same tensors, after a while."""
    seconds = []
    with numerics(case.threads, case.tf32), put_back(name):
        calls = workload.draw(case, 0).calls(name, Role.CANDIDATE, trick.phase)
        given = calls.prepare(0, 1)[0]
        for _ in range(HONEST_CALLS + 20):
            if trick.phase == "backward":
                given = calls.prepare(0, 1)[0]
            start = perf_counter()
            calls.call(given)
            seconds.append(perf_counter() - start)
    return statistics.median(seconds[HONEST_CALLS:])
