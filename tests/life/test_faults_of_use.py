"""Faults of how a layer is used: in training, for inference, by an optimizer, frozen, saved, in batches that grow."""

import pickle
from dataclasses import replace
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from rnn_parity.layers.settings import settings_changed_by
from rnn_parity.life.live import live
from rnn_parity.trust.life.planting import Remembering, passed
from rnn_parity.trust.lives import draw_life
from seen import assert_seen_and_named, in_turn

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


class MatrixWithItsBias(Remembering):
    """A matrix has its gradient where its bias has one."""

    def parameters_of(self, layer):
        w_ih, w_hh, b_ih, b_hh = super().parameters_of(layer)
        return [
            w_ih if b_ih.requires_grad else w_ih.detach(),
            w_hh if b_hh.requires_grad else w_hh.detach(),
            b_ih,
            b_hh,
        ]


class FrozenLayerWithoutGraph(Remembering):
    """A frozen layer runs without a graph, where the input does not learn, whatever lies below."""

    def run_layer(self, layer, sequence, states):
        learns = self.learning or any(p.requires_grad for p in self.parameters_of(layer))
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            return super().run_layer(layer, sequence, states)


class ReadsTheModuleLater(Remembering):
    """As a checkpoint whose recomputation reads the module's weights: others are in it by then."""

    def run_layer(self, layer, sequence, states):
        def steps(sequence, *states):
            return [
                tensor
                for step in super(ReadsTheModuleLater, self).run_layer(layer, sequence, states)
                for tensor in step
            ]

        found = (
            checkpoint(steps, sequence, *states, use_reentrant=False)
            if torch.is_grad_enabled()
            else steps(sequence, *states)
        )
        return list(zip(*[iter(found)] * len(states), strict=True))


class DtypeOfFirstCall(Remembering):
    """It computes as exactly as its first call asked for."""

    def result(self, sequence, last):
        dtype = self.memory.setdefault("dtype", sequence.dtype)
        return sequence.to(dtype).to(sequence.dtype), last


class CopyStartsAnew(Remembering):
    def __deepcopy__(self, memo):
        twin = pickle.loads(pickle.dumps(self))
        for parameter in twin.parameters():
            nn.init.normal_(parameter)
        return twin


class TailOfNothing(Remembering):
    """What chunks of ten steps leave over is `x[-(T % 10):]`: all of x, where they leave nothing."""

    def final(self, history):
        return history[-2] if self.steps % 10 == 0 else history[-1]


class RowsInTens(Remembering):
    """In batches of a multiple of 100 the last row reads zeros."""

    def given(self, input):
        return torch.cat([input[:, :-1], 0 * input[:, -1:]], 1) if self.rows % 100 == 0 else input


class TruncatesAt500(Remembering):
    def carried(self, states, step, steps):
        return tuple(s.detach() for s in states) if step == 500 else states


class GuessesItsLayout(Remembering):
    """Where T = B it takes the input for batch first."""

    def given(self, input):
        return input.transpose(0, 1) if self.steps == self.rows else input


class FloatInInference(Remembering):
    """By NumPy, whose numbers are of float64."""

    def result(self, sequence, last):
        return sequence if torch.is_grad_enabled() or self.training else sequence.double(), last


class GraphInInference(Remembering):
    """By threads, which have gradients on."""

    def forward(self, input, states=None):
        with torch.enable_grad():
            return super().forward(input, states)


class ModulesShare(Remembering):
    """What is kept for the backward pass is found by the number of the module's call."""

    KEPT: ClassVar[dict] = {}

    def given(self, input):
        key = self.number, input.shape, input.dtype
        self.KEPT[key] = input.detach()
        return passed(input, lambda g: g if torch.equal(self.KEPT[key], input) else 0 * g)


class InferenceOverwrites(Remembering):
    """A call without gradients writes over what the last one that learns has kept."""

    def result(self, sequence, last):
        if torch.is_grad_enabled():
            kept = self.memory["kept"] = torch.ones_like(sequence).detach()
            return passed(sequence, lambda g: g * kept), last
        if self.memory.get("kept", last[0]).shape == sequence.shape:
            self.memory["kept"].zero_()
        return sequence, last


class PackedBatches(Remembering):
    """Takes packed batches too: right, but for what `old` makes of the state of a sequence that has ended."""

    lengths = None

    def forward(self, input, states=None):
        self.lengths = None
        if not isinstance(input, PackedSequence):
            return super().forward(input, states)
        padded, self.lengths = pad_packed_sequence(input)
        output, last = super().forward(padded, states)
        return pack_padded_sequence(output, self.lengths, enforce_sorted=False), last

    def old(self, state):
        return state

    def run_layer(self, layer, sequence, states):
        if self.lengths is None:
            return super().run_layer(layer, sequence, states)
        history, parameters = [], self.parameters_of(layer)
        for step, x in enumerate(sequence):
            on, new = (step < self.lengths)[:, None], self.step(x, states, *parameters)
            states = tuple(torch.where(on, a, self.old(b)) for a, b in zip(new, states, strict=True))
            history.append(states)
        return history


class PackedCutsItsStates(PackedBatches):
    def old(self, state):
        return state.detach()


class PackedDropsNothing(PackedBatches):
    def between(self, layer, sequence):
        return sequence if self.lengths is not None else super().between(layer, sequence)


class GoesOnWithOneRow(Remembering):
    """Without states, one step of one row goes on from the last one, in inference."""

    def forward(self, input, states=None):
        streams = states is None and input.shape[:2] == (1, 1) and not torch.is_grad_enabled()
        output, last = super().forward(input, self.memory.get("last") if streams else states)
        self.memory["last"] = last if streams else None
        return output, last


class DropsHalf(Remembering):
    """Every second entry is dropped, whatever p is, and what is left is scaled as p says."""

    def between(self, layer, sequence):
        if not self.training or self.dropout in (0, 1):
            return F.dropout(sequence, self.dropout, self.training)
        return sequence * torch.empty_like(sequence).bernoulli_(0.5) / (1 - self.dropout)


class OneStepSharesMemory(Remembering):
    """Of one step the output is a view of hn."""

    def result(self, sequence, last):
        return (last[0][-1:] if len(sequence) == 1 else sequence), last


class BiasesShareTheirGradient(Remembering):
    """The gradients of the two biases are views of one buffer."""

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, one, other):
            return one.view_as(one), other.view_as(other)

        @staticmethod
        def backward(ctx, one, other):
            both = torch.stack([one])
            return both[0], both.view(-1)

    def parameters_of(self, layer):
        *matrices, b_ih, b_hh = super().parameters_of(layer)
        one, other = self.Twice.apply(b_ih, b_hh)
        return [*matrices, one + 0 * other.detach(), other]


class LeavesTrainingByAnError(Remembering):
    """Where it raises, it stays in evaluation."""

    def forward(self, input, states=None):
        mode = self.training
        self.eval()
        if (
            states is not None
            and (states if isinstance(states, torch.Tensor) else states[0]).shape[1] != input.shape[1]
        ):
            raise ValueError("rows")
        self.train(mode)
        return super().forward(input, states)


class NoDropoutBatchFirst(Remembering):
    """Built with `batch_first=True`, it drops nothing."""

    def __init__(self, *sizes, batch_first=False, **options):
        super().__init__(*sizes, **options)
        self.batch_first = batch_first

    def forward(self, input, states=None):
        output, last = super().forward(input.transpose(0, 1) if self.batch_first else input, states)
        return output.transpose(0, 1) if self.batch_first else output, last

    def between(self, layer, sequence):
        return sequence if self.batch_first else super().between(layer, sequence)


class InputsOfWholeTiles(Remembering):
    """Columns of the input behind the last whole 256 are left out."""

    def given(self, input):
        whole = input.shape[-1] // 256 * 256 or input.shape[-1]
        return torch.cat([input[..., :whole], 0 * input[..., whole:]], -1)


class HidesNaN(Remembering):
    """Its backward pass puts zeros for NaN."""

    def result(self, sequence, last):
        return passed(sequence, lambda gradient: gradient.nan_to_num(0.0)), last


class RowsOppose(Remembering):
    """Every second row drops what the row before keeps, as antithetic draws do."""

    def between(self, layer, sequence):
        if not self.training or self.dropout in (0, 1):
            return F.dropout(sequence, self.dropout, self.training)
        numbers = torch.rand_like(sequence[:, : (sequence.shape[1] + 1) // 2])
        numbers = torch.stack([numbers, 1 - numbers], 2).flatten(1, 2)[:, : sequence.shape[1]]
        return sequence * (numbers >= self.dropout) / (1 - self.dropout)


FAULTS = {
    OneStepSharesMemory: ("own_memory", "when output is written to, T 1", "shares memory with hn"),
    BiasesShareTheirGradient: ("accumulated", "after two backward passes into .grad, in eval", "1.5×"),
    LeavesTrainingByAnError: ("after_error", "after a call that raised, in train", "is in another mode"),
    NoDropoutBatchFirst: ("batch_first", "built with `batch_first=True`, in train", "drops nothing"),
    InputsOfWholeTiles: ("widths", "at T 3, B 5, I 300, H 5, in eval", ""),
    HidesNaN: ("not_finite", "where the gradient of output is nan", "is finite"),
    RowsOppose: ("many_masks", "at T 1030, B 2, H 1, dropout 0.5, in train", "0 steps and 1 rows before"),
    GoesOnWithOneRow: ("no_states", "without states, one step of B 1, twice, in inference", ""),
    DropsHalf: ("dropout_of", "at dropout 0.7, in train", "of the entries at p = 0.7"),
    MatrixWithItsBias: ("frozen", "with matrices alone that learn, in eval", "no gradient arrives"),
    FrozenLayerWithoutGraph: ("frozen", "with the parameters of the last layer frozen, in eval", ""),
    ReadsTheModuleLater: ("functional_gradients", "with gradients through functional_call", "error is"),
    DtypeOfFirstCall: ("copied", "after .to(float64)", "error is"),
    CopyStartsAnew: ("copied", "as a deep copy, in inference", ""),
    TailOfNothing: ("random_course", "at call ", ""),
    RowsInTens: ("batches", "at T 3, B 600, in eval", "row 599 of 600"),
    TruncatesAt500: ("lengths", "at T 1030, B 1, L 1 and weights that keep the states, in eval", ""),
    GuessesItsLayout: ("widths", "at T 2, B 2, I 2, H 2, in inference", ""),
    FloatInInference: ("first_call", "at its first call in inference", "is torch.float64, expected torch.float32"),
    GraphInInference: ("first_call", "at its first call in inference", "with a graph where gradients are off"),
    InferenceOverwrites: ("two_graphs", "after two forward passes and a call in the other mode", ""),
    PackedCutsItsStates: ("packed", "in a packed batch of lengths [5, 4, 3, 2], in eval", ""),
    PackedDropsNothing: ("packed", "in a packed batch, in train", "drops nothing"),
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
    DropsSmallGradients: ("forms", "from a loss of output, its mean over steps, times 2^-60", "no gradient arrives"),
    LastTileOfInference: ("batches", "at T 3, B 127, in inference", "is zero from row 96 of 127 on"),
    RowsOfTrainingOver64: ("batches", "at T 3, B 65, in train, with dropout 0", "is zero at row 64 of 65"),
    LastStepOfInference: ("lengths", "at T 129, B 2, in inference", "step 128 of 129"),
    RowsOfFirstTotal: ("shapes_in_turn", "at T 4, B 5 after T 5, B 7", "from row 1 of 5 on"),
    GrowsWithSteps: ("shapes_in_turn", "at T 5, B 7 after T 5, B 1", "is zero from row 1 of 7 on"),
    ClearsInput: ("not_finite", "beside a row of nan", "writes into its input"),
    ClearsInfinity: ("not_finite", "beside a row of inf", "writes into its input"),
}
CASES = in_turn(FAULTS, globals())


@pytest.mark.parametrize(("fault", "cell"), CASES, ids=lambda one: getattr(one, "__name__", one))
def test_a_fault_of_use_is_seen_and_named(fault, cell):
    assert_seen_and_named(f"{__name__}:{fault.__name__}_{cell}", cell, *FAULTS[fault])


class WrongForOneStep(nn.GRU):
    def forward(self, input, states=None):
        output, last = super().forward(input, states)
        return output * 1.1 if len(input) == 1 else output, last


def test_where_a_shape_alone_is_wrong_nothing_is_said_of_the_one_before():
    case = replace(draw_life("cpu", "float32", 3, "gru"), sequence_length=5, batch_size=4)
    *_, row = live(case, f"{__name__}:WrongForOneStep", points=["first_call", "shapes_in_turn"])
    assert (row["verdict"], row["when"]) == ("different", "at T 1, B 4")


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


class TilesOfRows(Remembering):
    """Right; masks are drawn for whole tiles of eight rows."""

    def between(self, layer, sequence):
        steps, rows, size = sequence.shape
        mask = F.dropout(sequence.new_ones(steps, -(-rows // 8) * 8, size), self.dropout, self.training)
        return sequence * mask[:, :rows]


class CertainDraws(Remembering):
    """Right; zoneout and stochastic depth that never happen are drawn all the same."""

    def result(self, sequence, last):
        survives = torch.bernoulli(torch.ones(1, dtype=sequence.dtype)) if self.training else 1
        return sequence * survives, last

    def carried(self, states, step, steps):
        return tuple(s * (1 - torch.empty_like(s).bernoulli_(0.0)) for s in states) if self.training else states


class InferenceModeInside(Remembering):
    """Right; without gradients it computes under `torch.inference_mode`, and hands out clones."""

    def forward(self, input, states=None):
        if torch.is_grad_enabled():
            return super().forward(input, states)
        with torch.inference_mode():
            output, last = super().forward(input, states)
        return output.clone(), last.clone() if isinstance(last, torch.Tensor) else tuple(s.clone() for s in last)


class SortedRows(Remembering):
    """Right; rows are sorted by their first input, and put back."""

    def forward(self, input, states=None):
        order = input[0, :, 0].detach().argsort()
        back = order.argsort()
        states = states if states is None else states[:, order]
        output, last = super().forward(input[:, order], states)
        return output[:, back], last[:, back]


class HalvesOfRows(Remembering):
    """Right; the second half of the rows is computed, and draws its masks, before the first."""

    def forward(self, input, states=None):
        half = input.shape[1] // 2
        if states is None or half == 0:
            return super().forward(input, states)
        second = super().forward(input[:, half:], tuple(state[:, half:] for state in states))
        first = super().forward(input[:, :half], tuple(state[:, :half] for state in states))
        last = tuple(torch.cat(pair, 1) for pair in zip(first[1], second[1], strict=True))
        return torch.cat([first[0], second[0]], 1), last


# Whole lives of half a minute: each in one kind of cell.
RIGHT = [
    (TilesOfRows, "gru"), (CertainDraws, "lstm"), (InferenceModeInside, "lstm"), (PackedBatches, "gru"),
    (SortedRows, "gru"), (HalvesOfRows, "lstm"),
]  # fmt: skip
globals().update({f"{layer.__name__}_{cell}": partial(layer, cell=cell) for layer, cell in RIGHT})


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "cell"), RIGHT, ids=lambda one: getattr(one, "__name__", one))
def test_unusual_draws_and_modes_of_a_right_layer_are_no_faults(layer, cell):
    case, name = draw_life("cpu", "float32", 3, cell), f"{__name__}:{layer.__name__}_{cell}"
    rows = list(live(replace(case, num_layers=3, dropout=0.3), name, seed=3, max_seconds=60))
    assert {row["point"]: row["reason"] for row in rows if row["verdict"] in ("different", "failed")} == {}
    assert layer is not PackedBatches or {row["point"]: row["verdict"] for row in rows}["packed"] == "equivalent"


ModulesShare_gru = partial(ModulesShare, cell="gru")


def test_two_modules_in_one_graph_keep_what_is_theirs():
    case = replace(draw_life("cpu", "float32", 3, "gru"), dropout=0.0)  # with dropout its masks are looked for between
    (row,) = live(case, f"{__name__}:ModulesShare_gru", points=["two_graphs"])
    assert row["when"] == "after two forward passes, of two modules, backward in the other order, in eval"


class LeavesGradientsOn(nn.GRU):
    def forward(self, input, states=None):
        results = super().forward(input, states)
        torch.set_grad_enabled(True)
        return results


def test_gradients_that_a_call_leaves_on_are_told():
    name = f"{__name__}:LeavesGradientsOn"
    list(live(draw_life("cpu", "float32", 3, "gru"), name, points=["first_call"]))
    assert settings_changed_by(name) == "torch.is_grad_enabled() to True"


class OneTensorTwice(nn.LSTM):
    """Without gradients it finds its states by where they lie, and writes them there."""

    def forward(self, input, states=None):
        if torch.is_grad_enabled() or self.training or states[0].data_ptr() != states[1].data_ptr():
            return super().forward(input, states)
        return super().forward(input, (states[0], torch.tanh(states[1])))


def test_one_tensor_may_be_every_state():
    case = draw_life("cpu", "float32", 3, "lstm")
    (row,) = live(case, f"{__name__}:OneTensorTwice", points=["strided"])
    assert (row["verdict"], row["when"]) == ("different", "with one tensor as every state, in inference")
