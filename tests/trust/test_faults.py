"""Every planted fault of every kind of cell is caught, and layers that only round differently are not."""

import dataclasses

import pytest

from rnn_parity.cells.base import load_cell
from rnn_parity.compare.case import compare_case
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.names import CELLS
from rnn_parity.experiment.vocabulary import FAULT_KINDS
from rnn_parity.trust.examine import faults_of
from rnn_parity.trust.right import right_layers
from rnn_parity.workloads.layer import Layer

CASE = Case("test", "cpu", "float32", False, 7, 12, 3, 12, 5, 0.5, 1)
DTYPES = ["float64", "float32", "bfloat16", "float16"]
REGIMES = ["eval", "train_matched_masks"]
PASSES = {"identical", "equivalent"}
PLANTED = {(cell, path): fault for cell in CELLS for path, fault in faults_of(cell).items()}


def of_kind(*kinds):
    return [pair for pair, fault in PLANTED.items() if fault.kind in kinds]


def verdicts(name, regimes, **changes):
    """Regime and quantity to verdict."""
    case = dataclasses.replace(CASE, **changes)
    baseline, *_ = right_layers(case.cell)
    rows = compare_case(Layer(), case, baseline, [name], [0], regimes)
    return {(row["regime"], row["quantity"]): row["verdict"] for row in rows}


def forward(cell, regime, found):
    """The verdicts of the forward pass."""
    return {found[regime, quantity] for quantity in load_cell(cell).quantities(1) if not quantity.startswith("grad_")}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "layer"), [(cell, layer) for cell in CELLS for layer in right_layers(cell)[1:]])
def test_a_right_layer_that_rounds_differently_raises_no_alarm(cell, layer, dtype):
    assert set(verdicts(layer, REGIMES, cell=cell, dtype=dtype).values()) <= PASSES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "fault"), of_kind("equations"))
def test_a_fault_in_the_equations_is_different_in_every_dtype(cell, fault, dtype):
    assert "different" in verdicts(fault, ["eval"], cell=cell, dtype=dtype).values()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "fault"), of_kind("dropout"))
def test_a_fault_of_dropout_is_different_with_matched_masks(cell, fault, dtype):
    found = verdicts(fault, ["train_matched_masks"], cell=cell, dtype=dtype)
    assert "different" in found.values()
    if fault.endswith(":MaskMissingInBackward"):
        assert forward(cell, "train_matched_masks", found) <= PASSES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "fault"), of_kind("backward"))
def test_a_fault_of_the_backward_pass_is_different_and_only_there(cell, fault, dtype):
    found = verdicts(fault, ["eval"], cell=cell, dtype=dtype)
    assert "different" in found.values()
    assert forward(cell, "eval", found) <= PASSES


@pytest.mark.parametrize(("cell", "fault"), of_kind("precision"))
def test_lost_precision_is_different_in_float32(cell, fault):
    assert "different" in verdicts(fault, ["eval"], cell=cell).values()


@pytest.mark.parametrize(("cell", "fault"), of_kind("dropout"))
def test_without_dropout_a_fault_of_dropout_is_right(cell, fault):
    """Else another fault might be what is caught."""
    assert set(verdicts(fault, ["eval"], cell=cell, dropout=0.0).values()) <= PASSES


@pytest.mark.parametrize(("cell", "fault"), PLANTED)
def test_every_fault_runs_at_the_smallest_sizes(cell, fault):
    sizes = dict.fromkeys(("input_size", "hidden_size", "num_layers", "sequence_length", "batch_size"), 1)
    assert "failed" not in verdicts(fault, REGIMES, cell=cell, **sizes).values()


@pytest.mark.parametrize("fault", PLANTED.values())
def test_every_fault_says_what_is_wrong_with_it(fault):
    assert fault.kind in FAULT_KINDS
    assert fault.__doc__.endswith(".")
    assert "\n" not in fault.__doc__


def test_a_kind_has_faults_of_its_own_beside_those_of_any_kind():
    of_any = set.intersection(*(set(faults_of(cell)) for cell in CELLS))
    assert len(of_any) == 33
    assert len(set(faults_of("lstm")) - of_any) >= 20
    assert set(faults_of("my_cells:MGU")) == of_any
