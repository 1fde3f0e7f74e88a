"""From samples to the numbers that are quoted. Pure: arrays in, numbers out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike


class Conclusion(StrEnum):
    """The word for a timing."""

    BASELINE = "baseline"
    FASTER = "faster"
    SLOWER = "slower"
    WITHIN_NOISE = "within noise"
    DISTURBED = "disturbed"
    NO_BASELINE = "no baseline"
    UNSUPPORTED = "unsupported"
    NOT_JUDGED = "not judged"
    DIFFERENT = "different"  # its result changed while it was being timed
    FAILED = "failed"


LARGEST_CHANGE = 0.05
"""The largest fraction by which a ratio may differ between the halves of the rounds."""


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


def median_ratio(numerator: ArrayLike, denominator: ArrayLike, confidence: float) -> Interval:
    """The median over rounds of numerator / denominator, with its distribution-free interval.

    Element k of both was timed in round k, so that what slows a round down slows both, and their ratio not at all. The
    interval is that of the sign test: the k-th smallest and the k-th largest of n ratios cover the median with
    probability 1 - 2 P(Binomial(n, 1/2) < k). The intervals of the two k next to `confidence` are interpolated as in
    Hettmansperger and Sheather (1986, Statistics & Probability Letters 4, 75-79). With fewer than 6 rounds the extremes
    cover less than 95 %.

    Raises `ValueError` unless both have the same number, at least 2, of elements.
    """
    numerator, denominator = np.asarray(numerator), np.asarray(denominator)
    n = len(numerator)
    if n != len(denominator) or n < 2:
        raise ValueError(f"{n} and {len(denominator)} samples, expected the same number, at least 2")
    ratios = np.sort(numerator / denominator)
    coverage = 1 - 2 * _fewer_heads(n)  # of the interval from the (k + 1)-th ratio on either side
    k = int((coverage >= confidence).sum())
    if k == 0:
        return Interval(float(np.median(ratios)), float(ratios[0]), float(ratios[-1]))
    inner = coverage[k] if k < len(coverage) else 0.0
    excess = (coverage[k - 1] - confidence) / (coverage[k - 1] - inner)
    inward = (n - k) * excess / (k + (n - 2 * k) * excess)
    low = (1 - inward) * ratios[k - 1] + inward * ratios[k]
    high = (1 - inward) * ratios[n - k] + inward * ratios[n - 1 - k]
    return Interval(float(np.median(ratios)), float(low), float(high))


def _fewer_heads(n: int) -> np.ndarray:
    """The chance of at most k heads in n fair coins, for k from 0 to n/2 - 1.

    As `scipy.special.bdtr`, whose import would be a tenth of a timing process.
    """
    k = np.arange(1, n // 2)
    log_choices = np.concatenate([[0.0], np.cumsum(np.log((n - k + 1) / k))])
    return np.cumsum(np.exp(log_choices - n * math.log(2)))


def ratio_changes(numerator: ArrayLike, denominator: ArrayLike, confidence: float) -> bool:
    """Whether the ratio of the first half of the rounds differs from that of the second.

    True where the medians differ by more than `LARGEST_CHANGE` and the intervals are apart. A load that slows both
    alike changes nothing. Fewer than 10 rounds cannot tell.
    """
    half = len(np.asarray(numerator)) // 2
    if half < 5:
        return False
    parts = (slice(half), slice(half, None))
    first, second = (median_ratio(np.asarray(numerator)[p], np.asarray(denominator)[p], confidence) for p in parts)
    apart = first.low > second.high or second.low > first.high
    return bool(apart and abs(math.log(first.estimate / second.estimate)) > math.log(1 + LARGEST_CHANGE))


def wilson(count: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; the whole range where nothing was tried."""
    from scipy.stats import binomtest  # half a second that timing need not pay

    if of == 0:
        return 0.0, 1.0
    interval = binomtest(count, of).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def conclude(speedup: Interval, control: Interval) -> Conclusion:
    """`faster` or `slower` only if the speedup's interval clears 1 and the baseline's interval against itself."""
    if speedup.low > max(1.0, control.high):
        return Conclusion.FASTER
    if speedup.high < min(1.0, control.low):
        return Conclusion.SLOWER
    return Conclusion.WITHIN_NOISE


def describe_samples(seconds: ArrayLike) -> dict[str, float | int]:
    """Number, median and quartiles of samples in seconds, as table columns."""
    q25, median, q75 = (float(q) for q in np.percentile(np.asarray(seconds), [25, 50, 75]))
    return {"samples": len(np.asarray(seconds)), "median_s": median, "q25_s": q25, "q75_s": q75}
