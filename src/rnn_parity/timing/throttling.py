"""The clock of a GPU's multiprocessors beside every sample: what it was held down for is no speed of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from rnn_parity.statistics import Conclusion, conclude, median_ratio

STEADY = 0.95
"""A clock of less than this share of its median was held down."""


class Sampled(Protocol):
    """The samples of an implementation, and the clock in MHz beside each; `rnn_parity.timing.rounds.Contender`."""

    seconds: list[float]
    device_seconds: list[float]
    sm_mhz: list[int | None]
    not_timed: tuple[Any, str] | None


def leave_out_throttled(contenders: Sequence[Sampled]) -> int | None:
    """Take the rounds in which the clock was held down from the samples of all; how many, None where it is not known.

    Where that would leave less than half of the rounds, none is taken: there is no clock that they had in common.
    """
    timed = [contender for contender in contenders if contender.not_timed is None]
    if not timed or any(_cycles(contender) is None for contender in timed):
        return None
    clocks = np.array([contender.sm_mhz for contender in timed], float)  # (contenders, rounds)
    steady = (clocks >= STEADY * np.median(clocks)).all(axis=0)
    if steady.mean() < 0.5:
        return 0
    for contender in timed:
        measured: tuple[list[Any], ...] = contender.seconds, contender.device_seconds, contender.sm_mhz
        for samples in measured:
            samples[:] = [sample for sample, kept in zip(samples, steady, strict=False) if kept]
    return int((~steady).sum())


def conclude_in_cycles(baseline: Sampled, control: Sampled, contender: Sampled, confidence: float) -> Conclusion | None:
    """What is concluded where times are counted in cycles of the clock; None where that is not known."""
    cycles = [found for one in (baseline, control, contender) if (found := _cycles(one)) is not None]
    if len(cycles) < 3:
        return None
    of_baseline, of_control, of_contender = cycles
    noise = median_ratio(of_baseline, of_control, confidence)
    return conclude(median_ratio(of_baseline, of_contender, confidence), noise)


def _cycles(contender: Sampled) -> np.ndarray | None:
    """Millions of cycles of every sample."""
    known = [mhz for mhz in contender.sm_mhz if mhz is not None]
    return np.multiply(contender.seconds, known) if len(known) == len(contender.seconds) else None
