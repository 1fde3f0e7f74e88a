"""From numbers to a verdict. Pure: no tensors, no files, no settings.

A quantity passes when, in both norms, its relative error to the float64 oracle is

    error ≤ 6 · max(sensitivity, f·u)

where u is the unit roundoff of the dtype. `sensitivity` is how far the oracle itself moves (root mean square over some
draws) when everything it is given, and every gate and state that a layer must keep, is multiplied by 1 ± u. f = 2, and
more where a sum is long. Baseline and candidate stand under the same bar, so that a
baseline that leaves the GRU's equations excuses no candidate.
"""

from __future__ import annotations

import math
from enum import StrEnum

from rnn_parity.experiment.grid import Case

FACTOR = 6.0
"""How many times further than the sensitivity or the roundoff floor an error may be."""

GROWTH = 0.3
"""The roundoffs of a sum of n terms add up like a random walk, to about this times √n."""

ILL_CONDITIONED = 2.0**10
"""A sensitivity of more than this many unit roundoffs leaves nothing to judge."""

LARGEST_LIMIT = 0.3
"""A limit above this share of a quantity passes what is plainly wrong; bfloat16 and long sums get there."""

EXPECTED_TO_HOLD = ("eval", "train_matched_masks", "train_distribution")
"""The regimes in which a correct implementation must agree; in `train_same_seed` it need not."""

_UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}


Pair = tuple[float, float]


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


def roundoff_floor(quantity: str, case: Case) -> float:
    """f·u: the least error that is granted, f = max(2, 0.3·√n) for sums of n terms in the case's own precision.

    Every quantity comes out of products that sum up to max(3H, I) terms, and a parameter's gradient sums over T·B. In
    half precision and TF32 products sum in float32, and only the T steps of a parameter's gradient are left.
    """
    of_parameter = quantity.startswith(("grad_weight", "grad_bias"))
    if sums_in_float32(case):
        terms = case.sequence_length if of_parameter else 1
    else:
        terms = max(3 * case.hidden_size, case.input_size)
        terms = max(terms, case.sequence_length * case.batch_size) if of_parameter else terms
    return floor_of_sums(terms, case)


def floor_of_sums(terms: int, case: Case) -> float:
    """f·u for sums of so many terms in the case's own precision."""
    return max(2.0, GROWTH * math.sqrt(terms)) * unit_roundoff(case.dtype, case.tf32)


def sums_in_float32(case: Case) -> bool:
    """Whether products sum in a wider precision than their factors have."""
    return case.tf32 or case.dtype in ("float16", "bfloat16")


def limit(sensitivity: float, floor: float) -> float:
    """The largest error that passes."""
    return FACTOR * max(sensitivity, floor)


def error_ratio(error: float, limit: float) -> float:
    """Error over limit; NaN and infinite errors are infinitely over it."""
    return error / limit if math.isfinite(error) else math.inf


def judge(
    errors: Pair, baseline_errors: Pair, sensitivities: Pair, limits: Pair, *, u: float, bit_identical: bool
) -> tuple[Verdict, str, float]:
    """Judge one quantity by its errors in the 2-norm and the maximum norm.

    Returns:
        the verdict, the reason in plain words (empty when it passes), and the worse ratio of error to limit.
    """
    ratio, baseline_ratio = (
        max(error_ratio(error, bar) for error, bar in zip(pair, limits, strict=True))
        for pair in (errors, baseline_errors)
    )
    if bit_identical:
        return Verdict.IDENTICAL, "", ratio
    if not max(sensitivities) <= ILL_CONDITIONED * u:
        moved = max(sensitivities)
        return Verdict.UNSUPPORTED, f"ill-conditioned: one rounding moves it by {moved:.1e} of itself", ratio
    if not max(limits) <= LARGEST_LIMIT:
        return Verdict.UNSUPPORTED, f"too coarse: at this precision its limit is {max(limits):.0%} of its size", ratio
    if baseline_ratio > 1:
        reason = f"the baseline itself is {baseline_ratio:.3g}× over the limit of the GRU equations"
        return Verdict.DIFFERENT, reason, ratio
    if ratio > 1:
        return Verdict.DIFFERENT, f"error is {ratio:.3g}× its limit", ratio
    return Verdict.EQUIVALENT, "", ratio
