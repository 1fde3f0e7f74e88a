"""The fault that a layer has is named by its numbers alone, in every dtype; a fault that is in no table is not."""

import dataclasses
import functools

import pytest
import torch
from torch.nn import functional as F

from rnn_parity.cells.base import load_cell
from rnn_parity.compare.reference import References
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.names import CELLS
from rnn_parity.layers.registry import named
from rnn_parity.layers.stepwise import StackingGRUCellLoop
from rnn_parity.layers.stimulus import draw_stimulus
from rnn_parity.trust import diagnose as diagnosing
from rnn_parity.trust import gru_faults
from rnn_parity.trust.diagnose import diagnose
from rnn_parity.trust.examine import fault_title, faults_of
from rnn_parity.trust.right import WrittenOut, right_layers
from rnn_parity.trust.run import faults_for

CASE = Case("test", "cpu", "float32", False, 7, 12, 3, 6, 4, 0.2, 1)
TRAINING = "train_matched_masks"

OF_THE_DRAWS = {"OneMaskForAllSteps", "OneMaskForAllLayers"}
"""Right with the masks that it draws: the reason says what is wrong with these."""

EQUIVALENT = {("EvalAndTrainSwapped", TRAINING): "NoDropout"}
"""In a regime, faults whose numbers are also those of another."""


@pytest.fixture(autouse=True, scope="module")
def _each_fault_runs_once():
    """Every layer is tried against all faults, which give the same each time."""
    known, run = {}, diagnosing._run

    def once(case, name, stimulus, *how, **more):
        key = case, name, stimulus.input.sum().item(), how, tuple(more.items())
        if not name.startswith("rnn_parity.trust."):
            return run(case, name, stimulus, *how, **more)
        if key not in known:
            known[key] = run(case, name, stimulus, *how, **more)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnosing, "_run", once)
        yield


@functools.cache
def references_of(case):
    return References(case, draw_stimulus(case, 0), 0)


def found(name, regime="eval", **axes):
    case = dataclasses.replace(CASE, **axes)
    return diagnose(references_of(case), name, regime, load_cell(case.cell).quantities(case.num_layers))


def found_of(layer, *arguments, **axes):
    with named(layer, "candidate") as name:
        return found(name, *arguments, **axes)


def expected(cell, path, regime):
    module, name = path.split(":")
    name = EQUIVALENT.get((name, regime), name)
    return "" if name in OF_THE_DRAWS else fault_title(faults_of(cell)[f"{module}:{name}"])


PLANTED = [
    (cell, path, regime)
    for cell in CELLS
    for path, fault in faults_of(cell).items()
    for regime in ([TRAINING] if fault.kind == "dropout" else ["eval"])
]


@pytest.mark.parametrize(("cell", "path", "regime"), PLANTED)
def test_every_planted_fault_is_named(cell, path, regime):
    assert found(path, regime, cell=cell) == expected(cell, path, regime)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize("cell", CELLS)
def test_it_is_named_in_every_dtype(cell, dtype):
    for path in faults_for(cell, dtype)[::12]:
        regime = TRAINING if faults_of(cell)[path].kind == "dropout" else "eval"
        assert found(path, regime, cell=cell, dtype=dtype) == expected(cell, path, regime)


def test_of_what_drops_in_evaluation_nothing_is_said_of_training():
    assert found("rnn_parity.trust.faults:EvalAndTrainSwapped", "eval") == ""


def test_a_fault_of_the_equations_is_named_in_training_too():
    fault = "rnn_parity.trust.gru_faults:UpdateInverted"
    assert found(fault, TRAINING) == found(fault, "eval") == "Update gate inverted"


class StepThenLayer(StackingGRUCellLoop):
    """A loop of its own, whose masks are drawn step by step."""

    def forward(self, input, h0):
        h, outputs = list(h0), []
        for x in input:
            for k, cell in enumerate(self.cell.grus):
                h[k], x = self.after(k, cell(x, h[k]))
            outputs.append(x)
        return torch.stack(outputs), torch.stack(h)

    def after(self, k, h):
        """The new state, and what the next layer reads."""
        return h, self.drop(h) if k < len(self.cell.grus) - 1 else h

    def drop(self, h):
        return F.dropout(h, self.cell.dropout, self.training)


class CarriesDropped(StepThenLayer):
    def after(self, k, h):
        dropped = self.drop(h) if k < len(self.cell.grus) - 1 else h
        return dropped, dropped


class CarriesDroppedInAll(StepThenLayer):
    def after(self, k, h):
        return (self.drop(h),) * 2


class DropsNothing(StepThenLayer):
    def drop(self, h):
        return h


class DropsTheLastToo(StepThenLayer):
    def after(self, k, h):
        return h, self.drop(h)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (StepThenLayer, ""),
        (CarriesDropped, "What is dropped is also the state of the next step"),
        (CarriesDroppedInAll, "What is dropped is also the state of the next step, in the last layer too"),
        (DropsNothing, "No dropout between the layers"),
        (DropsTheLastToo, "Dropout after the last layer too"),
    ],
)
def test_it_is_named_in_whatever_order_the_masks_are_drawn(layer, words):
    assert found_of(layer, TRAINING) == words
    assert found_of(layer, "eval") == ""


@pytest.mark.parametrize("regime", ["eval", TRAINING])
@pytest.mark.parametrize("cell", CELLS)
def test_a_right_layer_has_none(cell, regime):
    for dtype in ("float32", "bfloat16"):
        assert {found(name, regime, cell=cell, dtype=dtype) for name in right_layers(cell)} == {""}


class HalfInverted(gru_faults.UpdateInverted):
    """Wrong: one layer alone has the planted fault."""

    def parameters_of(self, layer):
        return super().parameters_of(layer) if layer == 1 else WrittenOut.parameters_of(self, layer)


class TwoFaults(gru_faults.UpdateInverted):
    """Wrong: two planted faults at once."""

    def initial(self, states):
        return tuple(0 * state for state in states)


class SecondBiasHalved(WrittenOut):
    def parameters_of(self, layer):
        *others, b_hh = super().parameters_of(layer)
        return [*others, b_hh / 2]


class OutputScaled(WrittenOut):
    def result(self, sequence, last):
        return sequence * 1.01, last


class AlsoWithoutGradient(gru_faults.UpdateInverted):
    """Wrong forward as planted, and backward in a way of its own."""

    def given(self, input):
        return input.detach() + 0.5 * (input - input.detach())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layer", [HalfInverted, TwoFaults, SecondBiasHalved, OutputScaled, AlsoWithoutGradient])
def test_a_fault_that_is_in_no_table_is_not_named(layer, dtype):
    assert found_of(layer, dtype=dtype) == ""


def test_a_layer_that_raises_or_gives_another_shape_has_none():
    assert found("faults:Crash") == found("faults:WrongShape") == ""


def test_without_a_backward_pass_the_forward_pass_tells():
    class ForwardOnly(gru_faults.UpdateInverted):
        def forward(self, input, states):
            with torch.no_grad():
                return super().forward(input, states)

    assert found_of(ForwardOnly) == "Update gate inverted"
