"""From samples to the numbers that are quoted. Pure: arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap

RESAMPLES = 1999


class Conclusion(StrEnum):
    """What is said of a timing."""

    BASELINE = "baseline"
    FASTER = "faster"
    SLOWER = "slower"
    WITHIN_NOISE = "within noise"
    NO_BASELINE = "no baseline"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float

    @property
    def relative_width(self) -> float:
        """Width of the interval as a fraction of the estimate."""
        return (self.high - self.low) / self.estimate


def ratio_of_medians(numerator: ArrayLike, denominator: ArrayLike, confidence: float, seed: int = 0) -> Interval:
    """median(numerator) / median(denominator) with a percentile bootstrap interval.

    The two are paired: element k of both was timed in round k, and whole rounds are resampled, so that what slows a
    round down slows both. Raises `ValueError` unless both have the same number, at least 2, of elements.
    """
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    result = bootstrap(
        (numerator, denominator),
        lambda a, b, axis=-1: np.median(a, axis=axis) / np.median(b, axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        rng=np.random.default_rng(seed),
    )
    estimate = float(np.median(numerator) / np.median(denominator))
    return Interval(estimate, float(result.confidence_interval.low), float(result.confidence_interval.high))


def conclude(speedup: Interval, control: Interval) -> Conclusion:
    """`faster` or `slower` only if the speedup's interval clears 1 and the baseline's interval against itself."""
    if speedup.low > max(1.0, control.high):
        return Conclusion.FASTER
    if speedup.high < min(1.0, control.low):
        return Conclusion.SLOWER
    return Conclusion.WITHIN_NOISE


def describe_samples(seconds: ArrayLike) -> dict[str, float | int]:
    """Number, median, quartiles and 95th percentile of samples in seconds, as table columns."""
    q25, median, q75, p95 = (float(q) for q in np.percentile(seconds, [25, 50, 75, 95]))
    return {"samples": len(np.asarray(seconds)), "median_s": median, "q25_s": q25, "q75_s": q75, "p95_s": p95}
