"""Every planted fault is caught, and layers that only round differently are not."""

import dataclasses

import pytest

from rnn_parity.equivalence import FORWARD_QUANTITIES, compare_case
from rnn_parity.grid import Case
from rnn_parity.self_test.correct import Hoisted, WrittenOut
from rnn_parity.self_test.mutants import BACKWARD, DROPOUT, EQUATIONS, PRECISION, FinalStateEarly, MaskMissingInBackward

CORRECT = (WrittenOut, Hoisted)

CASE = Case("test", "cpu", "float32", False, 7, 12, 3, 12, 12, 0.5, 1)  # T = B, so that a transposed layer runs at all
DTYPES = ["float64", "float32", "bfloat16", "float16"]
REGIMES = ["eval", "train_matched_masks"]


def verdicts(mutant, dtype, regimes):
    """Regime and quantity to verdict."""
    case = dataclasses.replace(CASE, dtype=dtype)
    rows = compare_case(case, "stacking_gru_cell", [f"{mutant.__module__}:{mutant.__name__}"], [0], regimes)
    return {(row["regime"], row["quantity"]): row["verdict"] for row in rows}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", CORRECT)
def test_a_right_layer_that_rounds_differently_raises_no_alarm(layer, dtype):
    assert set(verdicts(layer, dtype, REGIMES).values()) <= {"identical", "equivalent"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mutant", EQUATIONS)
def test_a_fault_in_the_equations_is_different_in_every_dtype(mutant, dtype):
    assert "different" in verdicts(mutant, dtype, ["eval"]).values()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mutant", DROPOUT)
def test_a_fault_of_dropout_is_different_with_matched_masks(mutant, dtype):
    found = verdicts(mutant, dtype, ["train_matched_masks"])
    assert "different" in found.values()
    if mutant is MaskMissingInBackward:
        assert {found["train_matched_masks", quantity] for quantity in FORWARD_QUANTITIES} <= {
            "identical",
            "equivalent",
        }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mutant", BACKWARD)
def test_a_fault_of_the_backward_pass_is_different_and_only_there(mutant, dtype):
    found = verdicts(mutant, dtype, ["eval"])
    assert "different" in found.values()
    assert {found["eval", quantity] for quantity in FORWARD_QUANTITIES} <= {"identical", "equivalent"}


@pytest.mark.parametrize("mutant", PRECISION)
def test_lost_precision_is_different_in_float32(mutant):
    assert "different" in verdicts(mutant, "float32", ["eval"]).values()


def test_each_mutant_is_wrong_in_one_way_only():
    """With its fault out of the way, a mutant is right: else another fault might be what is caught."""
    for mutant in (*DROPOUT, FinalStateEarly):
        quiet = dataclasses.replace(CASE, dropout=0.0)
        rows = list(compare_case(quiet, "stacking_gru_cell", [f"{mutant.__module__}:{mutant.__name__}"], [0], ["eval"]))
        wrong = {row["quantity"] for row in rows if row["verdict"] not in ("identical", "equivalent")}
        assert ("output" in wrong) is False, mutant
        assert (not wrong) or mutant is FinalStateEarly
