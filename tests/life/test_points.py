"""Every point sees a fault that no first call shows, and accuses no right layer."""

import importlib
import random

import pytest
import torch

from rnn_parity.experiment.vocabulary import LIFE_FAULT_KINDS
from rnn_parity.life.live import POINTS, live
from rnn_parity.trust.examine import faults_of
from rnn_parity.trust.life.planting import ANYWHERE, LIFE_FAULTS, PROCESS, Remembering
from rnn_parity.trust.lives import draw_life

CELLS = ("gru", "lstm", "gru_reset_before")
FAULTS = {path: fault for cell in CELLS for path, fault in faults_of(cell, LIFE_FAULTS).items()}
# For every point a fault that it alone may name.
OWN = {fault.points[0]: path for path, fault in reversed(FAULTS.items()) if len(fault.points) == 1}
TELLING = {"first_at_shape", "kept", "other_generators"}  # what is to be minded, and is no fault
EVERYWHERE = {key for key, point in POINTS.items() if not point.deep} - TELLING


@pytest.fixture(autouse=True)
def new_process():
    PROCESS.clear()


def failing(name, cell, points):
    case = draw_life("cpu", "float32", 3, cell)
    rows = list(live(case, name, seed=3, points=points))
    assert {row["point"] for row in rows} == set(points)
    return {row["point"]: row["reason"] for row in rows if row["verdict"] in ("different", "failed")}


def test_every_point_has_a_fault_of_its_own_and_every_fault_a_point():
    assert set(OWN) - {ANYWHERE} == EVERYWHERE
    assert {point for fault in FAULTS.values() for point in fault.points} - {ANYWHERE} == EVERYWHERE
    assert {fault.kind for fault in FAULTS.values()} == set(LIFE_FAULT_KINDS)
    assert len(FAULTS) >= 40
    assert len({fault.__doc__ for fault in FAULTS.values()}) == len(FAULTS)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path in OWN.values() else pytest.mark.slow) for path in FAULTS],
    ids=lambda path: path.partition(":")[2],
)
def test_a_fault_is_seen_by_its_point_and_not_by_a_first_call(path):
    fault = FAULTS[path]
    cell = fault.cells[0] if fault.cells else "gru"
    if not {ANYWHERE, "first_call"} & set(fault.points):
        assert not failing(path, cell, ["first_call"])
        PROCESS.clear()
    assert failing(path, cell, EVERYWHERE if ANYWHERE in fault.points else fault.points)


@pytest.mark.parametrize("name", [name for name in FAULTS if name.endswith("InProcess")])
def test_a_fault_of_the_process_is_seen_as_well_where_a_compiler_is_loaded(name):
    importlib.import_module("torch._dynamo")
    assert set(failing(name, "gru", ["first_call", "same_seed"])) == {"same_seed"}


class CheckedAtRandom(torch.nn.GRU):
    """As beartype does, which looks at one entry of a list that it draws."""

    def forward(self, input, states=None):
        random.random()
        return super().forward(input, states)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        f"{Remembering.__module__}:Remembering",
        *(f"{__name__}:{n}" for n in ("CheckedAtRandom", "InPieces", "InHalves")),
    ],
)
def test_no_point_accuses_a_right_layer(name):
    assert not failing(name, "gru", EVERYWHERE | TELLING)


class InPieces(torch.nn.GRU):
    """Calls the kernel for five steps at a time, which then draws its masks: an order that no other shape tells."""

    def forward(self, input, states=None):
        outputs = []
        for piece in input.split(5) if isinstance(input, torch.Tensor) else [input]:
            output, states = super().forward(piece, states)
            outputs.append(output)
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0], states


class InHalves(torch.nn.GRU):
    """Calls the kernel for each half of the rows."""

    def forward(self, input, states=None):
        if not isinstance(input, torch.Tensor) or input.shape[1] < 2 or states is None:
            return super().forward(input, states)
        pairs = zip(input.chunk(2, 1), states.chunk(2, 1), strict=True)
        outputs, last = zip(*(super(InHalves, self).forward(x, h.contiguous()) for x, h in pairs), strict=True)
        return torch.cat(outputs, 1), torch.cat(last, 1)


class Frozen(torch.nn.GRU):
    """Asks for no gradient of its parameters, which the comparison of a case says."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.requires_grad_(False)


def test_where_no_parameter_asks_for_a_gradient_none_adds_up_and_nothing_fails():
    (row,) = live(draw_life("cpu", "float32", 3, "gru"), f"{__name__}:Frozen", points=["accumulated"])
    assert (row["verdict"], row["reason"]) == ("not judged", "nothing asks for a gradient")


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise NotImplementedError("backward is not supported")


class NoBackward(torch.nn.GRU):
    """A kernel for inference alone."""

    def forward(self, input, states=None):
        output, last = super().forward(input, states)
        return _NoGradient.apply(output), _NoGradient.apply(last)


@pytest.mark.slow
def test_a_layer_without_a_backward_pass_refuses_and_does_nothing_wrong():
    case = draw_life("cpu", "float32", 3, "gru")
    rows = list(live(case, f"{__name__}:NoBackward", seed=3))
    assert {row["verdict"] for row in rows} <= {"unsupported", "equivalent", "identical", "not judged"}
    assert {row["reason"] for row in rows if row["point"] == "without_seed"} == {"backward is not supported"}
