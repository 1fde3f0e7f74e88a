"""From numbers to a verdict. Pure: no tensors, no files, no settings.

A quantity passes when, in both norms, its relative error to the float64 oracle is

    error ≤ 6 · max(sensitivity, f·u)

where u is the unit roundoff of the dtype. `sensitivity` is how far the oracle itself moves (root mean square over some
draws) when everything it is given, and every gate and state that a layer must keep, is multiplied by 1 ± u; on a GPU in
float32, every value of σ and tanh by 1 ± 2⁻¹⁸. What is multiplied with a weight and summed moves by the roundoffs of
such a sum: wide inputs and large weights saturate gates, and the error of a large sum is not that of a small gate.
f = 2, and more where a sum is long. Baseline and candidate stand under
the same bar, so that a baseline that leaves the equations excuses no candidate.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict, coarsest_roundoff, unit_roundoff

if TYPE_CHECKING:  # who reads the tables needs no torch
    from rnn_parity.cells.base import Cell

FACTOR = 6.0
"""How many times further than the sensitivity or the roundoff floor an error may be."""

GROWTH = 0.3
"""The roundoffs of a sum of n terms add up like a random walk, to about this times √n."""

ILL_CONDITIONED = 2.0**10
"""A sensitivity of more than this many unit roundoffs leaves nothing to judge."""

LARGEST_LIMIT = 0.3
"""A limit above this share of a quantity passes what is plainly wrong; bfloat16 and long sums get there."""

Pair = tuple[float, float]


def layer_terms(quantity: str, case: Case, cell: type[Cell]) -> int:
    """How many terms the longest sum on the way to a quantity of a layer has, in the case's own precision.

    Every quantity comes out of products that sum up to max(3H, I) terms, and a parameter's gradient sums over T·B. In
    half precision and TF32 products sum in float32, and only the T steps of a parameter's gradient are left.
    """
    of_parameter = quantity.startswith(("grad_weight", "grad_bias"))
    if sums_in_float32(case):
        return case.sequence_length if of_parameter else 1
    terms = max(len(cell.gates) * case.hidden_size, case.input_size)
    return max(terms, case.sequence_length * case.batch_size) if of_parameter else terms


def floor_of_sums(terms: int, case: Case) -> float:
    """f·u, the least error that is granted: f = max(2, 0.3·√n) for sums of n terms in the case's own precision."""
    return max(2.0, GROWTH * math.sqrt(terms)) * unit_roundoff(case.dtype, case.tf32)


def roundoffs_of_sum(terms: int, case: Case) -> float:
    """How many roundoffs a sum of n products has in the case's own precision: 0.3·√n, and at least one.

    The k-th partial sum is about √k times as large as one term, and is rounded by 0.4·u of itself. Together that is
    0.4·u·√(1 + … + n) terms, and so 0.3·√n·u of the sum, which is √n times as large as one term.
    """
    return 1.0 if sums_in_float32(case) else max(1.0, GROWTH * math.sqrt(terms))


def sums_in_float32(case: Case) -> bool:
    """Whether products sum in a wider precision than their factors have."""
    return case.tf32 or case.dtype in ("float16", "bfloat16")


def limit(sensitivity: float, floor: float) -> float:
    """The largest error that passes."""
    return FACTOR * max(sensitivity, floor)


def limits(sensitivities: Pair, floor: float) -> Pair:
    """The largest errors that pass, in both norms."""
    of_2, of_inf = sensitivities
    return limit(of_2, floor), limit(of_inf, floor)


def ill_conditioned(sensitivities: Pair, u: float) -> bool:
    """Whether rounding alone moves a quantity so far, or nobody knows how far, that nothing can be judged."""
    return not all(sensitivity <= ILL_CONDITIONED * u for sensitivity in sensitivities)


def error_ratio(error: float, limit: float) -> float:
    """Error over limit; NaN and infinite errors are infinitely over it."""
    return error / limit if math.isfinite(error) else math.inf


def can_judge(sensitivities: Pair, limits: Pair, u: float) -> bool:
    """Whether errors over these limits say anything."""
    return not ill_conditioned(sensitivities, u) and max(limits) <= LARGEST_LIMIT


def judged_limits(sensitivities: Pair, terms: int, case: Case) -> Pair | None:
    """The largest errors that pass in a quantity with sums of so many terms; None where nothing can be judged."""
    found = limits(sensitivities, floor_of_sums(terms, case))
    u = coarsest_roundoff(case.device, case.dtype, case.tf32)
    return found if can_judge(sensitivities, found, u) else None


def worst_ratio(errors: Pair, limits: Pair) -> float:
    """The larger error over its limit of the two norms."""
    return max(map(error_ratio, errors, limits))


def judge(
    errors: Pair, baseline_errors: Pair, sensitivities: Pair, limits: Pair, *, u: float, bit_identical: bool
) -> tuple[Verdict, str, float]:
    """Judge one quantity by its errors in the 2-norm and the maximum norm.

    Returns:
        the verdict, the reason in plain words (empty when it passes), and the worse ratio of error to limit.
    """
    ratio, baseline_ratio = worst_ratio(errors, limits), worst_ratio(baseline_errors, limits)
    if bit_identical:
        return Verdict.IDENTICAL, "", ratio
    if ill_conditioned(sensitivities, u):
        moved = max(sensitivities)
        return (
            Verdict.NOT_JUDGED,
            f"ill-conditioned: rounding the inputs once changes it by {moved:.1e} (relative)",
            ratio,
        )
    if not max(limits) <= LARGEST_LIMIT:
        percent = 100 * max(limits)
        return Verdict.NOT_JUDGED, f"too coarse: at this precision its limit is {percent:.0f} % of its size", ratio
    if baseline_ratio > 1:
        reason = f"the baseline itself is {baseline_ratio:.3g}× over the limit of the equations"
        return Verdict.DIFFERENT, reason, ratio
    if ratio > 1:
        return Verdict.DIFFERENT, f"error is {ratio:.3g}× its limit", ratio
    return Verdict.EQUIVALENT, "", ratio
