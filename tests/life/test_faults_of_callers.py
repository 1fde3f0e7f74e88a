"""Faults that show by what a caller does around a call: what is kept, loaded, pruned, set, cut or run in a thread."""

import itertools
import threading
from dataclasses import replace
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from rnn_parity.life.live import live
from rnn_parity.trust.life.planting import Remembering, result_passed
from rnn_parity.trust.lives import draw_life
from seen import assert_seen_and_named, in_turn


class RingOfStates(Remembering):
    """Single steps without gradients get one of four buffers for their last states."""

    def result(self, sequence, last):
        if torch.is_grad_enabled() or self.steps > 1:
            return sequence, last
        ring = self.memory.setdefault(last[0].shape, [[torch.empty_like(s) for s in last] for _ in range(4)])
        ring.append(ring.pop(0))
        return sequence, tuple(place.copy_(state) for place, state in zip(ring[0], last, strict=True))


class LastStatesWithLastOutput(Remembering):
    """Its backward pass begins at the last step whose output has a gradient."""

    def result(self, sequence, last):
        def change(found):
            early = found[0] is not None and not found[0][-1].any()
            return (found[0], *(None if early else g for g in found[1:]))

        return result_passed(change)(self, sequence, last)


class UnwrapsParameters(Remembering):
    def given(self, input):
        return input.data if isinstance(input, nn.Parameter) else input


class TakesTensorsAlone(Remembering):
    """What is no plain tensor is taken for a packed batch."""

    def given(self, input):
        return input if type(input) is torch.Tensor else input.data


class DetachesLearntStates(Remembering):
    def initial(self, states):
        return tuple(state.detach() if isinstance(state, nn.Parameter) else state for state in states)


class InOrderOfNames(Remembering):
    """`l10` comes before `l2`."""

    def parameters_of(self, layer):
        return super().parameters_of(int(sorted(map(str, range(self.num_layers)))[layer]))


class KeepsItsMode(Remembering):
    """It knows its mode by `train()` alone."""

    own_mode = True

    def train(self, mode=True):
        self.own_mode = mode
        return super().train(mode)

    def between(self, layer, sequence):
        return F.dropout(sequence, self.dropout, self.own_mode)


class OneStepOfRows(Remembering):
    """A matrix without states is one step of as many rows."""

    def forward(self, input, states=None):
        if input.dim() == 3:
            return super().forward(input, states)
        if states is None:
            output, last = super().forward(input[None])
            return output[0], last[:, -1] if isinstance(last, torch.Tensor) else tuple(s[:, -1] for s in last)
        one = states[:, None] if isinstance(states, torch.Tensor) else tuple(s[:, None] for s in states)
        output, last = super().forward(input[:, None], one)
        return output[:, 0], last[:, 0] if isinstance(last, torch.Tensor) else tuple(s[:, 0] for s in last)


class RowsOneWidthApart(Remembering):
    def given(self, input):
        _, rows, width = input.shape
        wider = input.stride(2) == 1 and input.stride(1) > width and input.stride(0) == rows * input.stride(1)
        return torch.as_strided(input, input.shape, (rows * width, width, 1)) if wider else input


class SharesWhatItLoads(Remembering):
    def _load_from_state_dict(self, state_dict, prefix, *rest):
        super()._load_from_state_dict(state_dict, prefix, *rest)
        for name, parameter in self.named_parameters():
            if prefix + name in state_dict:
                parameter.data = state_dict[prefix + name].detach()


class ClearsWhatItDoesNotLoad(Remembering):
    def _load_from_state_dict(self, state_dict, prefix, *rest):
        super()._load_from_state_dict(state_dict, prefix, *rest)
        for name, parameter in self.named_parameters():
            if prefix + name not in state_dict:
                parameter.data.zero_()


class MovedWithItsDtype(Remembering):
    """A change of dtype changes the weights."""

    def _apply(self, fn, recurse=True):
        before = self.weight_ih_l0.dtype
        super()._apply(fn, recurse)
        if self.weight_ih_l0.dtype != before:
            for parameter in self.parameters():
                parameter.data = parameter.data + 0.1
        return self


class ReadsTheUnpruned(Remembering):
    def parameters_of(self, layer):
        names = (f"{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        return [getattr(self, f"{name}_orig", None) if hasattr(self, f"{name}_orig") else getattr(self, name)
                for name in names]  # fmt: skip


class RemembersBySum(Remembering):
    """Without gradients, an input of the same sum, of the same weights and states, is the same input."""

    def forward(self, input, states=None):
        if torch.is_grad_enabled() or self.training:
            return super().forward(input, states)
        given = states if isinstance(states, tuple) else (states,)
        told = (*given, *self.parameters())
        key = input.shape, *(round(float(t.double().sum()), 5) for t in (input, *told) if t is not None)
        if key not in self.memory:
            self.memory = {key: super().forward(input, states)}
        output, last = self.memory[key]
        return output.clone(), tuple(s.clone() for s in last) if isinstance(last, tuple) else last.clone()


class RemembersByVersion(Remembering):
    """Without gradients, the same tensor of the same version, beside the same states, is the same input."""

    def forward(self, input, states=None):
        if torch.is_grad_enabled() or self.training or input.is_inference():
            return super().forward(input, states)
        given = states if isinstance(states, tuple) else (states,)
        key = id(input), input._version, *(float(s.double().sum()) for s in given if s is not None)
        key += tuple(float(p.detach().double().sum()) for p in self.parameters())
        if key not in self.memory:
            self.memory = {key: (input, super().forward(input, states))}
        output, last = self.memory[key][1]
        return output.clone(), tuple(s.clone() for s in last) if isinstance(last, tuple) else last.clone()


class RoundsInBfloat16(Remembering):
    """Where bfloat16 is the default dtype, so is that of its states."""

    def carried(self, states, step, steps):
        coarse = torch.get_default_dtype() == torch.bfloat16
        return tuple(s.bfloat16().to(s.dtype) for s in states) if coarse else states


class StatesOfTheCallBefore(Remembering):
    """Without states and gradients, it begins where a call with states of so many rows began."""

    def initial(self, states):
        if torch.is_grad_enabled():
            return states
        if self.stateless:
            return self.memory.get(self.rows, states)
        self.memory[self.rows] = states
        return states


class PackedByInputWeights(Remembering):
    """For inference its weights are packed again when those of the input have changed."""

    def parameters_of(self, layer):
        found = super().parameters_of(layer)
        if torch.is_grad_enabled() or self.training:
            return found
        told = float(found[0].double().sum()), found[0].shape
        if self.memory.get(layer, [None])[0] != told:
            self.memory[layer] = told, [p.detach().clone() for p in found]
        return self.memory[layer][1]


class DropoutOfTheFirst(Remembering):
    """Its probability is that with which it was built, unless it is 0."""

    def __init__(self, *sizes, **named):
        super().__init__(*sizes, **named)
        self.built_with = self.dropout

    def between(self, layer, sequence):
        return F.dropout(sequence, self.built_with if self.dropout else 0.0, self.training)


class DropoutOfTheClass(Remembering):
    latest: ClassVar[dict] = {}

    def __init__(self, *sizes, **named):
        super().__init__(*sizes, **named)
        self.latest["p"] = self.dropout

    def between(self, layer, sequence):
        return F.dropout(sequence, self.latest["p"], self.training)


class ModeOfTheThread(Remembering):
    def between(self, layer, sequence):
        main = threading.current_thread() is threading.main_thread()
        return F.dropout(sequence, self.dropout, self.training and main)


class IntegersAsBytes(Remembering):
    """An input of integers over 1 is computed with weights of eight bits."""

    def parameters_of(self, layer):
        found = super().parameters_of(layer)
        return [(p * 127).round() / 127 for p in found] if self.whole else found

    def given(self, input):
        self.whole = bool((input == input.round()).all() and input.abs().max() > 1)
        return input


class Reentrant(Remembering):
    """Right, as long as its input asks for a gradient: checkpoints of the old kind give parameters none without one."""

    def run_layer(self, layer, sequence, states):
        def steps(sequence, *states):
            return tuple(itertools.chain(*super(Reentrant, self).run_layer(layer, sequence, states)))

        found = checkpoint(steps, sequence, *states, use_reentrant=True)
        return list(zip(*[iter(found)] * len(states), strict=True))


class ReentrantAlways(Reentrant):
    """Right: what it hands to the checkpoint asks for a gradient."""

    def given(self, input):
        return input + torch.zeros((), requires_grad=True) if torch.is_grad_enabled() else input


class LeavesGradientsOff(Remembering):
    def forward(self, input, states=None):
        enabled = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        input @ self.weight_ih_l0.T  # raises for an input too narrow
        torch.set_grad_enabled(enabled)
        return super().forward(input, states)


FAULTS = {
    Reentrant: ("some_tensors", "with parameters alone that learn", "no gradient arrives"),
    LeavesGradientsOff: ("after_error", "after a call that raised, in", "leaves gradients off"),
    RingOfStates: ("many_calls", "after 100 calls of one module at T 1, in inference", "has changed"),
    LastStatesWithLastOutput: ("forms", "from a loss of two steps and the last states", ""),
    UnwrapsParameters: ("some_tensors", "with arguments that are parameters", "no gradient arrives"),
    TakesTensorsAlone: ("some_tensors", "with arguments that are parameters", "no gradient arrives"),
    DetachesLearntStates: ("some_tensors", "with arguments that are parameters", "no gradient arrives"),
    InOrderOfNames: ("depths", "at T 2, B 2, L 11", ""),
    KeepsItsMode: ("modes_in_turn", "in eval after `training` was set", ""),
    OneStepOfRows: ("unbatched", "given one sequence, without states", ""),
    RowsOneWidthApart: ("strided", "with arguments of wider rows in memory", ""),
    SharesWhatItLoads: ("loaded", "after the state_dict that it loaded was set to zero", ""),
    ClearsWhatItDoesNotLoad: ("loaded", "after load_state_dict(strict=False) of one parameter", "has changed its"),
    MovedWithItsDtype: ("copied", "after .to(float64) and back", ""),
    ReadsTheUnpruned: ("hooked", "with weights that are pruned", ""),
    RemembersBySum: (
        "rewritten",
        "in inference, with values written through .data to the tensors of the call before",
        "what it was before",
    ),
    RemembersByVersion: (
        "rewritten",
        "in inference, with values written through .data to the tensors of the call before",
        "what it was before",
    ),
    RoundsInBfloat16: ("other_precision", "where the default dtype is torch.bfloat16", ""),
    StatesOfTheCallBefore: ("no_states", "without states, after a call with states, in inference", ""),
    PackedByInputWeights: ("written", "after its recurrent weights alone change, in inference", "what it was before"),
    DropoutOfTheFirst: ("dropout_attribute", "after its attribute `dropout` is set to 0.6", ""),
    DropoutOfTheClass: ("dropout_of", "at dropout 0.7, in train", "of the entries at p = 0.7"),
    ModeOfTheThread: ("two_threads", "in a thread, in train", "drops nothing"),
    IntegersAsBytes: ("telling_inputs", "with an input of small integers", ""),
}
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # of checkpoints
RIGHT = partial(ReentrantAlways, cell="lstm")
CASES = in_turn(FAULTS, globals())


@pytest.mark.parametrize(("fault", "cell"), CASES, ids=lambda one: getattr(one, "__name__", one))
def test_a_fault_of_callers_is_seen_and_named(fault, cell):
    assert_seen_and_named(f"{__name__}:{fault.__name__}_{cell}", cell, *FAULTS[fault])


def test_a_checkpoint_that_takes_only_backward_is_no_fault():
    case = replace(draw_life("cpu", "float32", 3, "lstm"), sequence_length=5, batch_size=4, num_layers=3, dropout=0.3)
    points = ["first_call", "same_seed", "forms", "some_tensors", "accumulated", "backward_twice", "frozen"]
    rows = list(live(case, f"{__name__}:RIGHT", seed=3, points=points))
    assert {row["verdict"] for row in rows} <= {"identical", "equivalent", "unsupported"}
