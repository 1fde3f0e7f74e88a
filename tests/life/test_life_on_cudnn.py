"""A fused layer whose backward pass is refused in eval mode lives its whole life, in training with dropout 0."""

import copy

import pytest
import torch
from torch import nn

import fake_cudnn
from fake_cudnn import CudnnGRU
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.registry import named
from rnn_parity.life import live as lives
from rnn_parity.life.live import live
from rnn_parity.steps import lived_together
from rnn_parity.trust.life.planting import as_if_contiguous, replaced

pytestmark = pytest.mark.usefixtures("cudnn")

REFUSED = {
    "first_call": "cudnn RNN backward can only be called in training mode",
    "strided": "RuntimeError: rnn: hx is not contiguous",
    "packed": "RuntimeError: Overloaded torch operator",  # the layer of the tests takes none
    "unbatched": "IndexError: Dimension out of range",
    "batch_first": "TypeError: _AsOnAGpu.__init__() got an unexpected keyword argument 'batch_first'",
    "no_bias": "TypeError: _AsOnAGpu.__init__() got an unexpected keyword argument 'bias'",
    "bidirectional": "TypeError: _AsOnAGpu.__init__() got an unexpected keyword argument 'bidirectional'",
    "second_derivatives": "the derivative for '_cudnn_rnn_backward' is not implemented",
    "forward_mode": "Trying to use forward AD with _cudnn_rnn that does not support it",
}


def rows(name, points=(), cell="gru", dropout=0.3, dtype="float32", **how):
    case = Case("life", "cpu", dtype, False, 5, 6, 3, 5, 4, dropout, 1, cell)
    return {row["point"]: row for row in live(case, name, max_seconds=1000, points=points, **how)}


def failing(name, point):
    """The points that fail of a first call and one other, with their words."""
    found = rows(name, {"first_call", point})
    return {key: row["when"] for key, row in found.items() if row["verdict"] in ("different", "failed")}


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "name", "dtype"), [("gru", "CudnnGRU", "float64"), ("lstm", "CudnnLSTM", "float32")])
def test_a_whole_life_accuses_nothing_and_refuses_what_pytorch_refuses(cell, name, dtype):
    found = rows(f"fake_cudnn:{name}", cell=cell, dtype=dtype)
    refused = {point: row["reason"] for point, row in found.items() if row["verdict"] == "unsupported"}
    refused.pop("autocast", None)  # oneDNN has no LSTM in bfloat16 for every CPU
    others = {point for point, row in found.items() if row["verdict"] not in ("equivalent", "unsupported")}
    assert others == {"dropout_attribute"}  # the layer of the tests has none
    assert refused.keys() == REFUSED.keys()
    assert all(refused[point].startswith(words) for point, words in REFUSED.items())
    assert found["first_call"]["when"] == "at its first call in eval"


def test_the_words_say_in_which_mode_and_with_which_dropout():
    found = rows("fake_cudnn:CudnnGRU", ["first_call", "same_seed", "modes_in_turn", "inference_mode", "batches"])
    assert [row["when"] for row in found.values()][1:] == [
        "at its first training step",
        "at a first call in train",
        "under torch.inference_mode, with dropout 0",
        "at T 3, B 12, in train, with dropout 0",
    ]


def test_without_dropout_nothing_is_said_of_it():
    found = rows("fake_cudnn:CudnnGRU", ["first_call", "inference_mode", "without_seed"], dropout=0.0)
    assert found["first_call"]["verdict"] == "unsupported"
    assert found["inference_mode"]["when"] == "under torch.inference_mode"
    assert found["without_seed"]["calls"] == 0


@pytest.mark.slow
def test_points_in_a_process_of_their_own_go_without_evaluation_too():
    _, aside = lived_together()
    found = rows("fake_cudnn:CudnnGRU", aside)
    assert {row["verdict"] for row in found.values() if row["calls"]} == {"equivalent"}
    assert [key for key, row in found.items() if not row["calls"]] == ["dropout_attribute"]  # there is nothing to try


def test_a_state_of_its_own_is_no_fixed_state_of_the_generator():
    assert rows("fake_cudnn:CudnnGRU", ["without_seed"])["without_seed"]["verdict"] == "equivalent"


class SetsGenerator(CudnnGRU):
    def forward(self, input, states=None):
        if self.training:
            torch.random.default_generator.manual_seed(7)
        return super().forward(input, states)


class DropsInEval(CudnnGRU):
    """Where gradients are enabled, without any backward pass."""

    def forward(self, input, states=None):
        output, last = super().forward(input, states)
        return (output if self.training or not torch.is_grad_enabled() else output * 0.9), last


class StateCutLater(CudnnGRU):
    """From its second training step on no gradient reaches the state."""

    steps = 0

    def forward(self, input, states=None):
        self.steps += self.training
        return super().forward(input, states if self.steps < 2 or states is None else states.detach())


class Stale(CudnnGRU):
    """Without gradients it reads the weights of its first such call."""

    kept = None

    def forward(self, input, states=None):
        if torch.is_grad_enabled():
            return super().forward(input, states)
        self.kept = self.kept or [copy.deepcopy(self)]  # in a list, lest its parameters are the module's
        return CudnnGRU.forward(self.kept[0], input, states)


class ReadsInputAsContiguous(CudnnGRU):
    """Of states that are not contiguous it says that it takes none."""

    def forward(self, input, states=None):
        return super().forward(replaced(input, as_if_contiguous(input.detach())), states)


@pytest.mark.parametrize(
    ("layer", "point", "when"),
    [
        (ReadsInputAsContiguous, "strided", "with an input transposed in memory, in inference, with dropout 0"),
        (SetsGenerator, "without_seed", "at a training step with no seed before it"),
        (DropsInEval, "first_call", "at its first call in eval"),
        (StateCutLater, "same_seed", "from its second training step on"),
        (Stale, "optimizer_steps", "after an optimizer's step, in inference, with dropout 0"),
    ],
)
def test_a_fault_of_a_later_call_is_seen_at_its_point(layer, point, when):
    assert failing(f"{__name__}:{layer.__name__}", point) == {point: when}


def test_a_workspace_of_the_last_forward_pass_is_seen_where_two_graphs_live(monkeypatch):
    forward, backward, last = fake_cudnn._forward, fake_cudnn._backward, []

    def kept(input, *rest):
        last[:] = [input]
        return forward(input, *rest)

    monkeypatch.setattr(fake_cudnn, "_forward", kept)
    monkeypatch.setattr(fake_cudnn, "_backward", lambda input, *rest: backward(*last, *rest))
    when = "after two forward passes, backward in the same order, in train, with dropout 0"
    assert failing("fake_cudnn:CudnnGRU", "two_graphs") == {"two_graphs": when}


def test_a_wrong_gradient_under_masks_out_of_sight_is_seen_with_dropout_0(monkeypatch):
    monkeypatch.setattr(fake_cudnn, "_stack", fake_cudnn.with_half_the_gradient_of_states)
    found = rows("fake_cudnn:CudnnGRU")
    assert found["first_call"]["when"] == "at its first call in train, with dropout 0"
    assert {row["reason"] for point, row in found.items() if point != "first_call"} == {
        "left out: its first call is wrong already"
    }


def test_a_layer_that_holds_in_evaluation_keeps_its_own_dropout():
    life = lives.Life("stacking_gru", Case("life", "cpu", "float32", False, 5, 6, 3, 5, 4, 0.3, 1, "gru"))
    assert not life.refuses_eval()
    assert (life.draw().case.dropout, life.quiet) == (0.3, "eval")
    life.leave_eval()
    assert (life.draw().case.dropout, life.draw(dropout=0.3).case.dropout, life.quiet) == (0.0, 0.3, "train")


def test_a_layer_that_cannot_be_built_does_not_refuse_evaluation_alone():
    class NeedsAGpu(nn.GRU):
        def __init__(self, **sizes):
            raise RuntimeError("needs a GPU")

    with named(NeedsAGpu, "candidate") as name:
        found = rows(name, ["widths", "lengths"]).values()
    assert {(row["verdict"], row["reason"]) for row in found} == {("unsupported", "RuntimeError: needs a GPU")}
