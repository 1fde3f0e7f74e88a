"""From numbers to a verdict. Pure: no tensors, no files, no settings.

A candidate's quantity passes when, in both norms, its relative error to the float64 oracle is

    error ≤ 8 · max(baseline_error, sensitivity, f·u)

where u is the unit roundoff of the dtype, `sensitivity` is what one rounding of every input does to the oracle itself
(root mean square of three draws), and f = 2, or for a parameter's gradient f = max(2, 0.2·√(T·B)), the growth of a
long sum. The baseline stands under twice that bar without its own error: one that leaves the GRU's equations makes no
candidate `equivalent`, whatever the candidate does.
"""

from __future__ import annotations

import math
from enum import StrEnum

FACTOR = 8.0
"""How many times worse than the baseline, the sensitivity or the roundoff floor a candidate may be."""

BASELINE_FACTOR = 2.0
"""How far over that limit the baseline itself may be: it has no baseline of its own to excuse a case of bad luck."""

ILL_CONDITIONED = 2.0**10
"""A sensitivity of more than this many unit roundoffs leaves nothing to judge."""

LARGEST_LIMIT = 0.5
"""A limit above half the size of a quantity would pass what is plainly wrong; bfloat16 and long sums get there."""

EXPECTED_TO_HOLD = ("eval", "train_matched_masks")
"""The regimes in which a correct implementation must agree; in `train_same_seed` it need not."""

_UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}


class Verdict(StrEnum):
    """What is said of one compared quantity, from the best to the worst."""

    IDENTICAL = "identical"
    EQUIVALENT = "equivalent"
    UNSUPPORTED = "unsupported"
    DIFFERENT = "different"
    FAILED = "failed"


def worst(verdicts) -> Verdict:
    """The worst of some verdicts: what is said of a case, a sweep or a study. Raises `ValueError` for none."""
    order = list(Verdict)
    return max((Verdict(verdict) for verdict in verdicts), key=order.index)


def unit_roundoff(dtype: str, tf32: bool = False) -> float:
    """Half the distance from 1 to the next number of `dtype`; of TF32's 10-bit products where they are used."""
    return _UNIT_ROUNDOFF["tf32" if tf32 else dtype]


def roundoff_floor(quantity: str, u: float, sequence_length: int, batch_size: int) -> float:
    """f·u: the least error that is granted, more to a parameter's gradient, a sum of T·B terms."""
    sums = quantity.startswith(("grad_weight", "grad_bias"))
    return u * max(2.0, 0.2 * math.sqrt(sequence_length * batch_size)) if sums else 2.0 * u


def limit(baseline_error: float, sensitivity: float, floor: float) -> float:
    """The largest error that passes."""
    return FACTOR * max(baseline_error, sensitivity, floor)


def error_ratio(error: float, limit: float) -> float:
    """Error over limit; NaN and infinite errors are infinitely over it."""
    return error / limit if math.isfinite(error) else math.inf


def judge(
    *,
    errors: tuple[float, float],
    baseline_errors: tuple[float, float],
    sensitivities: tuple[float, float],
    floor: float,
    u: float,
    bit_identical: bool,
) -> tuple[Verdict, str, float]:
    """Judge one quantity by its errors in the 2-norm and the maximum norm.

    Returns:
        the verdict, the reason in plain words (empty when it passes), and the worse ratio of error to limit.
    """
    limits = [limit(b, s, floor) for b, s in zip(baseline_errors, sensitivities, strict=True)]
    ratio = max(error_ratio(e, bar) for e, bar in zip(errors, limits, strict=True))
    if bit_identical:
        return Verdict.IDENTICAL, "", ratio
    if not max(sensitivities) <= ILL_CONDITIONED * u:
        moved = max(sensitivities)
        return Verdict.UNSUPPORTED, f"ill-conditioned: one rounding of the inputs moves it by {moved:.1e}", ratio
    baseline_ratio = max(
        error_ratio(b, limit(0.0, s, floor)) for b, s in zip(baseline_errors, sensitivities, strict=True)
    )
    if baseline_ratio > BASELINE_FACTOR:
        reason = f"the baseline itself is {baseline_ratio:.3g}× over the limit of the GRU equations"
        return Verdict.DIFFERENT, reason, ratio
    if not max(limits) <= LARGEST_LIMIT:
        return Verdict.UNSUPPORTED, f"too coarse: at this precision its limit is {max(limits):.0%} of its size", ratio
    if ratio > 1:
        return Verdict.DIFFERENT, f"error is {ratio:.3g}× its limit", ratio
    return Verdict.EQUIVALENT, "", ratio
