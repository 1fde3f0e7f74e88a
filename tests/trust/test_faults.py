"""Every planted fault is caught, and layers that only round differently are not."""

import dataclasses

import pytest

from rnn_parity.compare.case import compare_case
from rnn_parity.compare.run import FORWARD_QUANTITIES
from rnn_parity.experiment.grid import Case
from rnn_parity.trust.faults import FAULTS, KINDS, MaskMissingInBackward
from rnn_parity.trust.right import CORRECT
from rnn_parity.workloads.layer import Layer

CASE = Case("test", "cpu", "float32", False, 7, 12, 3, 12, 5, 0.5, 1)
DTYPES = ["float64", "float32", "bfloat16", "float16"]
REGIMES = ["eval", "train_matched_masks"]
PASSES = {"identical", "equivalent"}


def of_kind(kind):
    return [layer for layer in FAULTS.values() if layer.kind == kind]


def verdicts(layer, case, regimes):
    """Regime and quantity to verdict."""
    name = layer if isinstance(layer, str) else f"{layer.__module__}:{layer.__name__}"
    rows = compare_case(Layer(), case, "stacking_gru_cell", [name], [0], regimes)
    return {(row["regime"], row["quantity"]): row["verdict"] for row in rows}


def in_dtype(dtype):
    return dataclasses.replace(CASE, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", CORRECT[1:])
def test_a_right_layer_that_rounds_differently_raises_no_alarm(layer, dtype):
    assert set(verdicts(layer, in_dtype(dtype), REGIMES).values()) <= PASSES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mutant", of_kind("equations"))
def test_a_fault_in_the_equations_is_different_in_every_dtype(mutant, dtype):
    assert "different" in verdicts(mutant, in_dtype(dtype), ["eval"]).values()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mutant", of_kind("dropout"))
def test_a_fault_of_dropout_is_different_with_matched_masks(mutant, dtype):
    found = verdicts(mutant, in_dtype(dtype), ["train_matched_masks"])
    assert "different" in found.values()
    if mutant is MaskMissingInBackward:
        assert {found["train_matched_masks", quantity] for quantity in FORWARD_QUANTITIES} <= PASSES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mutant", of_kind("backward"))
def test_a_fault_of_the_backward_pass_is_different_and_only_there(mutant, dtype):
    found = verdicts(mutant, in_dtype(dtype), ["eval"])
    assert "different" in found.values()
    assert {found["eval", quantity] for quantity in FORWARD_QUANTITIES} <= PASSES


@pytest.mark.parametrize("mutant", of_kind("precision"))
def test_lost_precision_is_different_in_float32(mutant):
    assert "different" in verdicts(mutant, CASE, ["eval"]).values()


@pytest.mark.parametrize("mutant", of_kind("dropout"))
def test_without_dropout_a_mutant_of_dropout_is_right(mutant):
    """Else another fault might be what is caught."""
    assert set(verdicts(mutant, dataclasses.replace(CASE, dropout=0.0), ["eval"]).values()) <= PASSES


@pytest.mark.parametrize("mutant", FAULTS.values())
def test_every_mutant_runs_at_the_smallest_sizes(mutant):
    smallest = dataclasses.replace(CASE, input_size=1, hidden_size=1, num_layers=1, sequence_length=1, batch_size=1)
    assert "failed" not in verdicts(mutant, smallest, REGIMES).values()


@pytest.mark.parametrize("mutant", FAULTS.values())
def test_every_mutant_says_what_is_wrong_with_it(mutant):
    assert mutant.kind in KINDS
    assert mutant.__doc__.endswith(".")
    assert "\n" not in mutant.__doc__
