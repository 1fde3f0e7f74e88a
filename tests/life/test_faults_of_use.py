"""Faults of how a layer is used: in training, for inference, by an optimizer, frozen, saved, in batches that grow."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rnn_parity.life.live import live
from rnn_parity.trust.life_planting import Remembering, passed
from rnn_parity.trust.lives import draw_life

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class CutsItsStates(Remembering):
    """Truncated backpropagation built in: states that come out of a graph are detached."""

    def initial(self, states):
        return tuple(s.detach() if self.training and s.grad_fn else s for s in states)


class ClearsItsGradients(Remembering):
    def forward(self, input, states=None):
        if self.training:
            self.zero_grad()
        return super().forward(input, states)


class RunsBiasesWithoutGraph(Remembering):
    """Where neither an argument nor a matrix learns, it keeps no graph."""

    def parameters_of(self, layer):
        found = super().parameters_of(layer)
        learn = self.learning or any(p.requires_grad for p in self.parameters() if p.dim() == 2)
        return found if learn else [p.detach() for p in found]


class BiasWithItsMatrix(Remembering):
    """A bias has its gradient where its matrix has one."""

    def parameters_of(self, layer):
        w_ih, w_hh, b_ih, b_hh = super().parameters_of(layer)
        return [
            w_ih,
            w_hh,
            b_ih if w_ih.requires_grad else b_ih.detach(),
            b_hh if w_hh.requires_grad else b_hh.detach(),
        ]


class NothingAboveFrozen(Remembering):
    """Over a first layer that is frozen, weight_ih has no gradient."""

    def parameters_of(self, layer):
        w_ih, *others = super().parameters_of(layer)
        frozen = not self.learning and not any(getattr(self, f"{name}_l0").requires_grad for name in NAMES)
        return [w_ih.detach() if layer and frozen else w_ih, *others]


class NewParameters(Remembering):
    """At its first call in training it registers new parameters: an optimizer has the old ones."""

    def forward(self, input, states=None):
        if self.training and not self.trained:
            for name, parameter in list(self.named_parameters()):
                self._parameters[name] = nn.Parameter(parameter.detach().clone())
        return super().forward(input, states)


class SavesWhatWasPacked(Remembering):
    """`state_dict` holds the weights of the first inference."""

    def forward(self, input, states=None):
        if not torch.is_grad_enabled():
            self.memory.setdefault("packed", {name: p.detach().clone() for name, p in self.named_parameters()})
        return super().forward(input, states)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.update({prefix + name: p for name, p in self.memory.get("packed", {}).items()})


class ReadsRows(Remembering):
    """Weights are read as if their rows lay one after another in memory."""

    def parameters_of(self, layer):
        return [w.as_strided(w.shape, (w.shape[-1], 1)[-w.dim() :]) for w in super().parameters_of(layer)]


class ThirdMaskIsOld(Remembering):
    """It draws a mask at every call, and at every third drops what the call before dropped."""

    def between(self, layer, sequence):
        mask = F.dropout(torch.ones_like(sequence), self.dropout, self.training)
        old, self.memory[layer] = self.memory.get(layer, mask), mask
        return sequence * (old if self.training and self.trained % 3 == 0 and old.shape == mask.shape else mask)


class HalfUnscaled(Remembering):
    """A path of its own for dropout 0.5 forgets 1 / (1 − p)."""

    def between(self, layer, sequence):
        dropped = super().between(layer, sequence)
        return dropped / 2 if self.training and self.dropout == 0.5 else dropped


class ClipsLargeGradients(Remembering):
    def given(self, input):
        return passed(input, lambda gradient: gradient.clamp(-1000, 1000))


class DropsSmallGradients(Remembering):
    def given(self, input):
        return passed(input, lambda gradient: torch.where(gradient.abs() < 1e-7, 0, gradient))


class LastTileOfInference(Remembering):
    def result(self, sequence, last):
        whole = self.rows // 32 * 32 if self.rows > 32 and not torch.is_grad_enabled() else self.rows
        return torch.cat([sequence[:, :whole], 0 * sequence[:, whole:]], 1), last


class RowsOfTrainingOver64(Remembering):
    """In training, rows over 64 give no gradient to the input."""

    def given(self, input):
        if not self.training:
            return input
        return passed(input, lambda gradient: torch.cat([gradient[:, :64], 0 * gradient[:, 64:]], 1))


class LastStepOfInference(Remembering):
    """Inference in chunks of 16 steps forgets a last chunk of one."""

    def result(self, sequence, last):
        forgotten = not torch.is_grad_enabled() and self.steps > 16 and self.steps % 16 == 1
        return torch.cat([sequence[:-1], sequence[-2:-1]]) if forgotten else sequence, last


class RowsOfFirstTotal(Remembering):
    """What it keeps for a batch, it finds by the number of steps of all rows."""

    def initial(self, states):
        rows = self.memory.setdefault(self.steps * self.rows, self.rows)
        return states if rows == self.rows else tuple(torch.cat([s[:, :1], 0 * s[:, 1:]], 1) for s in states)


class GrowsWithSteps(Remembering):
    """What it keeps for a batch is made anew where the number of steps is another."""

    def result(self, sequence, last):
        steps, rows = self.memory.get("made", (0, 0))
        if steps != self.steps:
            steps, rows = self.memory["made"] = self.steps, self.rows
        return torch.cat([sequence[:, :rows], 0 * sequence[:, rows:]], 1), last


class ClearsInput(Remembering):
    """Writes numbers in place of what is not finite."""

    def forward(self, input, states=None):
        with torch.no_grad():
            input.nan_to_num_()
        return super().forward(input, states)


class ClearsInfinity(Remembering):
    """Writes the largest number in place of infinity, and leaves NaN."""

    def forward(self, input, states=None):
        with torch.no_grad():
            input.nan_to_num_(nan=torch.nan)
        return super().forward(input, states)


FAULTS = {
    CutsItsStates: ("pieces", "in pieces of 1, 1, 1, 1, 1 steps, in train, with dropout 0", "error is"),
    ClearsItsGradients: ("accumulated", "after two backward passes into .grad, in train, with dropout 0", "0.5×"),
    RunsBiasesWithoutGraph: ("frozen", "with biases alone that learn, in eval", "no gradient arrives"),
    BiasWithItsMatrix: ("frozen", "with biases alone that learn, in eval", "no gradient arrives"),
    NothingAboveFrozen: ("frozen", "with the parameters of the first layer frozen, in eval", "no gradient arrives"),
    NewParameters: ("optimizer_steps", "after an optimizer's step, in inference", "is what it was before"),
    SavesWhatWasPacked: ("loaded", "with the state_dict of a module whose weights changed", "is what it was before"),
    ReadsRows: ("strided", "with weights transposed in memory, in inference", "error is"),
    ThirdMaskIsOld: ("without_seed", "at a training step with no seed before it", "drops the same entries again"),
    HalfUnscaled: ("sampled", "in training mode under torch.no_grad", "× its limit"),
    ClipsLargeGradients: ("forms", "from a loss of output, one row, times 2^20", "wrong only at row 0"),
    DropsSmallGradients: ("forms", "from a loss of output, its mean over steps, times 2^-20", "no gradient arrives"),
    LastTileOfInference: ("batches", "at T 3, B 33, in inference, with dropout 0", "is zero at row 32 of 33"),
    RowsOfTrainingOver64: ("batches", "at T 3, B 65, in train, with dropout 0", "is zero at row 64 of 65"),
    LastStepOfInference: ("lengths", "at T 129, B 2, in inference", "step 128 of 129"),
    RowsOfFirstTotal: ("shapes_in_turn", "at T 4, B 5 after T 5, B 7", "from row 1 of 5 on"),
    GrowsWithSteps: ("shapes_in_turn", "at T 5, B 7 after T 5, B 1", "is zero from row 1 of 7 on"),
    ClearsInput: ("not_finite", "beside a row of nan", "writes into its input"),
    ClearsInfinity: ("not_finite", "beside a row of inf", "writes into its input"),
}
CASES = [(fault, cell) for fault in FAULTS for cell in ("gru", "lstm")]
globals().update({f"{fault.__name__}_{cell}": partial(fault, cell=cell) for fault, cell in CASES})


@pytest.mark.parametrize(("fault", "cell"), CASES, ids=lambda one: getattr(one, "__name__", one))
def test_a_fault_of_use_is_seen_and_named(fault, cell):
    point, when, reason = FAULTS[fault]
    case, name = draw_life("cpu", "float32", 3, cell), f"{__name__}:{fault.__name__}_{cell}"
    case = replace(case, sequence_length=5, batch_size=4, num_layers=3, dropout=0.3)
    first, found = live(case, name, seed=3, points=["first_call", point])
    assert first["verdict"] in ("identical", "equivalent")
    assert found["verdict"] == "different"
    assert found["when"].startswith(when)
    assert reason in found["reason"]


class NamesItsGradients(nn.GRU):
    """Right; it names all gradients together."""

    def load_canonical(self, weights):
        for name, parameter in self.named_parameters():
            parameter.copy_(weights[name])

    def canonical_gradients(self):
        return {name: parameter.grad.clone() for name, parameter in self.named_parameters()}


def test_a_layer_that_names_its_gradients_together_can_name_some():
    rows = live(draw_life("cpu", "float32", 3, "gru"), f"{__name__}:NamesItsGradients", points=["first_call", "frozen"])
    assert [row["verdict"] for row in rows] == ["equivalent", "equivalent"]


class OneBias(nn.LSTM):
    """Right; its biases are one, the sum of an LSTM's two."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.mute = [self._parameters.pop(f"bias_hh_l{k}").detach().zero_() for k in range(self.num_layers)]
        for k, bias in enumerate(self.mute):
            setattr(self, f"bias_hh_l{k}", bias)


def test_one_bias_that_an_optimizer_moves_counts_once():
    case = draw_life("cpu", "float32", 3, "lstm")
    rows = live(case, f"{__name__}:OneBias", points=["first_call", "optimizer_steps"])
    assert [row["verdict"] for row in rows] == ["equivalent", "equivalent"]
