"""The verdict follows from the numbers alone, and each part of the criterion bears weight."""

import dataclasses
import math

import pytest
import torch

from rnn_parity.cells.gru import GRU
from rnn_parity.compare.criterion import (
    FACTOR,
    ILL_CONDITIONED,
    LARGEST_LIMIT,
    can_judge,
    floor_of_sums,
    judge,
    judged_limits,
    layer_terms,
    limit,
    roundoffs_of_sum,
    unit_roundoff,
)
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict, worst

U = unit_roundoff("float32")
CASE = Case("test", "cpu", "float32", False, 5, 8, 3, 4, 4, 0.0, 1)


def pair(number):
    return number, number


def verdict(error=1.0, error_inf=None, baseline=1.0, sensitivity=1.0, floor=2.0, bit_identical=False):
    """Judge with every number given in units of u."""
    errors = error * U, (error if error_inf is None else error_inf) * U
    numbers = errors, pair(baseline * U), pair(sensitivity * U), pair(limit(sensitivity * U, floor * U))
    return judge(*numbers, u=U, bit_identical=bit_identical)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_unit_roundoff_is_half_of_torchs_epsilon(dtype):
    assert unit_roundoff(dtype) == torch.finfo(getattr(torch, dtype)).eps / 2


def test_tf32_products_have_ten_bits():
    assert unit_roundoff("float32", tf32=True) == 2.0**-11


def factor(quantity, **axes):
    """f: the floor in units of u."""
    case = dataclasses.replace(CASE, **axes)
    return floor_of_sums(layer_terms(quantity, case, GRU), case) / unit_roundoff(case.dtype, case.tf32)


def test_the_floor_grows_with_the_sums_that_are_made_in_the_dtype():
    assert factor("output") == factor("grad_weight_hh_l0") == 2
    assert factor("grad_h0", hidden_size=1024) == pytest.approx(0.3 * math.sqrt(3 * 1024))
    assert factor("output", input_size=5000) == pytest.approx(0.3 * math.sqrt(5000))
    assert factor("output", sequence_length=500, batch_size=128) == 2
    for dtype in ("float32", "float64"):
        of_weight = factor("grad_weight_hh_l1", dtype=dtype, sequence_length=500, batch_size=128)
        assert of_weight == pytest.approx(0.3 * math.sqrt(500 * 128))


@pytest.mark.parametrize(
    ("terms", "precision", "roundoffs"),
    [
        (1, {}, 1), (11, {}, 1), (100, {}, 3), (10_000, {"dtype": "float64"}, 30),
        (10_000, {"dtype": "bfloat16"}, 1), (10_000, {"tf32": True}, 1),
    ],
)  # fmt: skip
def test_a_sum_is_rounded_in_the_dtype_by_a_third_of_the_root_of_its_terms(terms, precision, roundoffs):
    assert roundoffs_of_sum(terms, dataclasses.replace(CASE, **precision)) == pytest.approx(roundoffs)


@pytest.mark.parametrize("precision", [{"dtype": "float16"}, {"dtype": "bfloat16"}, {"tf32": True}])
def test_where_products_sum_in_float32_only_the_steps_of_a_gradient_count(precision):
    large = {"hidden_size": 1024, "input_size": 1024, "sequence_length": 500, "batch_size": 128, **precision}
    assert factor("output", **large) == factor("grad_input", **large) == 2
    assert layer_terms("output", dataclasses.replace(CASE, **large), GRU) == 1
    assert factor("grad_bias_hh_l1", **large) == pytest.approx(0.3 * math.sqrt(500))


@pytest.mark.parametrize(("numbers", "bar"), [({"floor": 5}, 5), ({"sensitivity": 7}, 7)])
def test_the_limit_is_a_multiple_of_the_larger_of_two(numbers, bar):
    assert limit(7 * U, 5 * U) == FACTOR * 7 * U
    assert verdict(error=FACTOR * bar * 0.999, **numbers)[0] is Verdict.EQUIVALENT
    found, reason, ratio = verdict(error=FACTOR * bar * 1.001, **numbers)
    assert found is Verdict.DIFFERENT
    assert reason == "error is 1× its limit"
    assert ratio == pytest.approx(1.001)


def test_both_norms_must_hold():
    assert verdict(error=1, error_inf=2 * FACTOR + 1)[0] is Verdict.DIFFERENT
    assert verdict(error=2 * FACTOR + 1, error_inf=1)[0] is Verdict.DIFFERENT


def test_what_is_exactly_at_a_bar_passes_it():
    assert verdict(error=FACTOR * 2, baseline=FACTOR * 2)[:2] == (Verdict.EQUIVALENT, "")
    assert verdict(sensitivity=ILL_CONDITIONED)[0] is Verdict.EQUIVALENT
    assert judge(*[pair(0.0)] * 3, pair(LARGEST_LIMIT), u=U, bit_identical=False)[0] is Verdict.EQUIVALENT
    assert can_judge(pair(ILL_CONDITIONED * U), pair(LARGEST_LIMIT), U)


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_a_result_that_is_no_number_is_different(error):
    found, _, ratio = verdict(error=error)
    assert found is Verdict.DIFFERENT
    assert ratio == math.inf


def test_bit_equality_with_the_baseline_is_identical():
    assert verdict(bit_identical=True) == (Verdict.IDENTICAL, "", pytest.approx(0.5 / FACTOR))


def test_an_ill_conditioned_case_is_reported_and_not_judged():
    for error in (1, 1e6):
        found, reason, ratio = verdict(error=error, sensitivity=1025)
        assert found is Verdict.NOT_JUDGED
        assert reason == "ill-conditioned: rounding the inputs once changes it by 6.1e-05 (relative)"
        assert ratio == pytest.approx(error / 1025 / FACTOR)
    assert verdict(sensitivity=1023)[0] is Verdict.EQUIVALENT


@pytest.mark.parametrize("one", [(1025 * U, 0.0), (0.0, 1025 * U), (math.nan, 0.0), (0.0, math.nan)])
def test_one_norm_that_is_ill_conditioned_is_enough(one):
    limits = tuple(limit(sensitivity, 2 * U) for sensitivity in one)
    assert judge(pair(U), pair(U), one, limits, u=U, bit_identical=False)[0] is Verdict.NOT_JUDGED
    assert judged_limits(one, 1, CASE) is None


def test_limits_are_known_where_errors_can_be_judged_and_only_there():
    assert judged_limits((7 * U, 0.0), 1, CASE) == (FACTOR * 7 * U, FACTOR * 2 * U)
    assert judged_limits(pair(7 * U), 900, CASE) == pair(FACTOR * 9 * U)
    in_tf32 = dataclasses.replace(CASE, tf32=True)
    assert judged_limits(pair(1025 * U), 1, CASE) is None
    assert judged_limits(pair(1025 * U), 1, in_tf32) == pair(FACTOR * 2 * unit_roundoff("float32", tf32=True))
    assert judged_limits(pair(0.0), 10**9, dataclasses.replace(CASE, dtype="bfloat16")) is None  # too coarse


def test_a_limit_that_would_pass_anything_is_no_test():
    """In bfloat16 a long sum, or a chaotic case, brings the limit near the quantity itself."""
    u = unit_roundoff("bfloat16")

    def found(steps, error, sensitivity=0.0):
        case = dataclasses.replace(CASE, dtype="bfloat16", sequence_length=steps)
        floor = floor_of_sums(layer_terms("grad_weight_ih_l0", case, GRU), case)
        numbers = pair(error), pair(error), pair(sensitivity), pair(limit(sensitivity, floor))
        return judge(*numbers, u=u, bit_identical=False)[:2]

    assert found(steps=100, error=0.06) == (Verdict.EQUIVALENT, "")
    coarse = Verdict.NOT_JUDGED, "too coarse: at this precision its limit is 35 % of its size"
    assert found(steps=2475, error=0.01) == coarse
    assert found(steps=1, error=0.01, sensitivity=0.35 / FACTOR) == coarse


def test_a_wrong_baseline_makes_no_candidate_equivalent():
    for error in (1, 1e5):
        found, reason, ratio = verdict(error=error, baseline=2e5 * FACTOR)
        assert found is Verdict.DIFFERENT
        assert reason == "the baseline itself is 1e+05× over the limit of the equations"
        assert ratio == pytest.approx(error / 2 / FACTOR)
    assert verdict(baseline=2.001 * FACTOR)[0] is Verdict.DIFFERENT


def test_the_worst_verdict_speaks_for_a_case():
    assert worst(["identical", "equivalent"]) is Verdict.EQUIVALENT
    assert worst(["equivalent", "not judged"]) is Verdict.NOT_JUDGED
    assert worst(["not judged", "unsupported"]) is Verdict.UNSUPPORTED
    assert worst([Verdict.DIFFERENT, "unsupported", "identical"]) is Verdict.DIFFERENT
    assert worst(["different", "failed"]) is Verdict.FAILED
    with pytest.raises(ValueError, match="empty"):
        worst([])
