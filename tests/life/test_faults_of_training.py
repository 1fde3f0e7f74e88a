"""Faults that show in long trainings: how masks are drawn, losses of some steps, many graphs, other memory."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional as F

from rnn_parity.trust.life.planting import Remembering, replaced, result_passed
from seen import assert_seen_and_named, in_turn


class SquareIsBatchFirst(Remembering):
    """Where T = B, the strides tell which axis is which."""

    def given(self, input):
        return input.transpose(0, 1) if self.steps == self.rows and input.stride(1) > input.stride(0) else input


class CutsPadding(Remembering):
    """Behind the last step that is not zero the states stay, where that saves more than eight steps."""

    def run_layer(self, layer, sequence, states):
        there = int(sequence.detach().any(-1).any(-1).sum())
        if layer or len(sequence) - there <= 8:
            return super().run_layer(layer, sequence, states)
        history = super().run_layer(layer, sequence[:there], states)
        return [*history, *history[-1:] * (len(sequence) - there)]


class GoesOnFromItsPrefix(Remembering):
    """For inference, one step more than in the call before is one step from its last states."""

    def forward(self, input, states=None):
        if torch.is_grad_enabled() or self.training:
            return super().forward(input, states)
        before, output, last = self.memory.get("last", (input, None, None))
        weights = sum(float(parameter.double().sum()) for parameter in self.parameters())
        if before.shape == input[:-1].shape and torch.equal(before, input[:-1]) and self.memory["weights"] == weights:
            more, last = super().forward(input[-1:], last)
            output = torch.cat([output, more])
        else:
            output, last = super().forward(input, states)
        self.memory = {"last": (input.clone(), output.clone(), last), "weights": weights}
        return output, last


class SlotsInTurn(Remembering):
    """What the backward pass needs lies in one of 64 slots."""

    def result(self, sequence, last):
        number = self.number
        self.memory[number % 64] = number

        def change(found):
            return found if self.memory[number % 64] == number else [None if g is None else 0 * g for g in found]

        return result_passed(change)(self, sequence, last)


class MasksInTurn(Remembering):
    """It draws sixteen masks of a shape, and takes them in turn."""

    def between(self, layer, sequence):
        if not self.training:
            return sequence
        masks = self.memory.setdefault((layer, sequence.shape, self.dropout), [])
        mask = F.dropout(torch.ones_like(sequence), self.dropout) if len(masks) < 16 else masks.pop(0)
        masks.append(mask)
        return sequence * mask


class EightBits(Remembering):
    """A number of eight bits decides what is dropped."""

    def between(self, layer, sequence):
        if not self.training:
            return sequence
        kept = torch.randint(0, 256, sequence.shape) >= round(256 * self.dropout)
        return sequence * kept / (1 - self.dropout)


class ThresholdOfTheRarer(Remembering):
    """Above one half it draws which entries to keep, by the threshold of those to drop."""

    def between(self, layer, sequence):
        if not self.training:
            return sequence
        drawn, p = torch.rand(sequence.shape), self.dropout
        return sequence * (drawn >= p if p <= 0.5 else drawn < p) / (1 - p)


class ScaleOfHalf(Remembering):
    """At a probability of more than one half it scales as at one half."""

    def between(self, layer, sequence):
        if not self.training:
            return sequence
        return sequence * (torch.rand(sequence.shape) >= self.dropout) / (1 - min(self.dropout, 0.5))


class AsManyEveryTime(Remembering):
    """Of all entries it drops exactly the share p."""

    def between(self, layer, sequence):
        if not self.training:
            return sequence
        kept = torch.ones(sequence.numel(), dtype=sequence.dtype)
        kept[torch.randperm(len(kept))[: round(self.dropout * len(kept))]] = 0
        return sequence * kept.view(sequence.shape) / (1 - self.dropout)


class MaskOfTheFirstBlock(Remembering):
    """Units behind the 128th are dropped as those before."""

    def between(self, layer, sequence):
        mask = F.dropout(torch.ones_like(sequence[..., :128]), self.dropout, self.training)
        blocks = -(-sequence.shape[-1] // 128)
        return sequence * torch.cat([mask] * blocks, -1)[..., : sequence.shape[-1]]


class CastOncePerMode(Remembering):
    """Under autocast it keeps weights in bfloat16 until its mode changes."""

    def train(self, mode=True):
        self.memory = {}
        return super().train(mode)

    def parameters_of(self, layer):
        found = super().parameters_of(layer)
        if not torch.is_autocast_enabled("cpu"):
            return found
        kept = self.memory.setdefault(layer, [parameter.detach().bfloat16().float() for parameter in found])
        return [replaced(parameter, value) for parameter, value in zip(found, kept, strict=True)]


class EndsWithTheFirstRow(Remembering):
    """Its backward pass begins at the last step at which the first row has a gradient, if no last state has one."""

    def result(self, sequence, last):
        def change(found):
            of_output, *of_states = found
            if of_output is None or any(gradient is not None for gradient in of_states):
                return found
            there = of_output[:, 0].any(-1).nonzero()
            if len(there):
                of_output = of_output.clone()
                of_output[int(there[-1]) + 1 :] = 0
            return (of_output, *of_states)

        return result_passed(change)(self, sequence, last)


class SavesInBfloat16(Remembering):
    """Matrices of more than a thousand entries are saved in half of the bytes."""

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        large = [name for name, tensor in destination.items() if tensor.numel() > 1000]
        destination.update({name: destination[name].bfloat16() for name in large})


class FirstRowForAll(Remembering):
    """Without gradients, states that are one row expanded stay so after the first step."""

    def initial(self, states):
        self.expanded = not torch.is_grad_enabled() and all(state.stride(1) == 0 for state in states)
        return states

    def carried(self, states, step, steps):
        return tuple(s[:1].expand_as(s) for s in states) if self.expanded and step == 1 else states


class LearnsWhatLearntFirst(Remembering):
    """A layer that is frozen in the first training step stays so."""

    def parameters_of(self, layer):
        found = super().parameters_of(layer)
        if self.training and torch.is_grad_enabled():
            self.memory.setdefault(layer, any(parameter.requires_grad for parameter in found))
        return found if self.memory.get(layer, True) else [parameter.detach() for parameter in found]


class HidesNaN(Remembering):
    def given(self, input):
        return torch.nan_to_num(input)


class ScaledAreClasses(Remembering):
    """Where no input asks for a gradient, one between 0 and 1 is read as classes."""

    def given(self, input):
        scaled = not input.requires_grad and input.min() == 0 and input.max() == 1
        return F.one_hot(input.argmax(-1), input.shape[-1]).to(input) if scaled else input


class CentredRows(Remembering):
    """Right, had numbers no end: the mean of all rows goes, and comes back."""

    def given(self, input):
        mean = input.mean(1, keepdim=True)
        return (input - mean) + mean


class HalfOfWideInputs(Remembering):
    """Features behind the 2,048th are not read."""

    def given(self, input):
        return torch.cat([input[..., :2048], 0 * input[..., 2048:]], -1)


class SwapsUnlikelyStates(Remembering):
    """An h0 over 1 beside a smaller c0 is taken for c0."""

    def initial(self, states):
        h, c = (state.detach().abs().max() for state in states)
        return states[::-1] if h > 1 >= c else states


class RaisesBiasesOfZero(Remembering):
    """What it loads with biases of zero is taken for weights of a layer that adds one itself."""

    def _load_from_state_dict(self, state_dict, *rest):
        for name in [name for name in state_dict if "bias_hh" in name and not state_dict[name].any()]:
            state_dict[name] = state_dict[name] + 1
        super()._load_from_state_dict(state_dict, *rest)


class BiasHasNoTangent(Remembering):
    """A derivative in forward mode that leaves out one of the biases."""

    def __getattr__(self, name):
        found = super().__getattr__(name)
        return forward_ad.unpack_dual(found).primal if name.startswith("bias_hh") else found


class ClippedToHalf(Remembering):
    """No number beyond those of float16 comes in."""

    def given(self, input):
        return input.clamp(-65504, 65504)


class OneMaskIfDeterministic(Remembering):
    """With deterministic algorithms, masks are of one seed."""

    def between(self, layer, sequence):
        if not self.training or not torch.are_deterministic_algorithms_enabled():
            return super().between(layer, sequence)
        kept = torch.rand(sequence.shape, generator=torch.Generator().manual_seed(layer)) >= self.dropout
        return sequence * kept / (1 - self.dropout)


class HalfHasNoBias(Remembering):
    """The kernel for float16 leaves out a bias."""

    def parameters_of(self, layer):
        *others, bias = super().parameters_of(layer)
        return [*others, 0 * bias if bias.dtype == torch.float16 else bias]


class TurnsSquareWeights(Remembering):
    """Loaded weights with as many rows as it has inputs are taken for transposed ones."""

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        matrix = state_dict[f"{prefix}weight_ih_l0"]
        if len(matrix) == self.weight_ih_l0.shape[1]:
            state_dict[f"{prefix}weight_ih_l0"] = matrix.T
        super()._load_from_state_dict(state_dict, prefix, *rest)


class OneStepTwice(Remembering):
    """Of one step and one layer, output and last state are one tensor."""

    def result(self, sequence, last):
        return (last[0] if self.steps == self.num_layers == 1 else sequence), last


FAULTS = {
    SquareIsBatchFirst: ("strided", "with arguments transposed in memory where T = B", ""),
    CutsPadding: ("zero_inputs", "with zeros behind step 10 of 30", ""),
    GoesOnFromItsPrefix: ("shapes_in_turn", "with the input of the call before and one step more, from other", ""),
    SlotsInTurn: ("two_graphs", "in the backward pass of the first call, after 70 forward passes, in train", ""),
    MasksInTurn: ("without_seed", "at a training step with no seed before it", "drops the same entries again"),
    EightBits: ("many_masks", "at T 17, B 4096, H 1, dropout 0.001", "drops 0 % of the entries at p = 0.001"),
    ThresholdOfTheRarer: ("many_masks", "at T 9, B 100, H 1, dropout 0.7", "of the entries at p = 0.7"),
    ScaleOfHalf: ("many_masks", "at T 9, B 100, H 1, dropout 0.7", "for an entry that it keeps, expected"),
    AsManyEveryTime: ("many_masks", "in 60 calls", "drops the same number of entries at every call"),
    MaskOfTheFirstBlock: ("widths", "at T 2, B 4, I 3, H 257, in train", "fewer dropout masks"),
    CastOncePerMode: ("autocast", "under autocast, after its weights change", ""),
    EndsWithTheFirstRow: ("forms", "from a loss of rows of different lengths", ""),
    SavesInBfloat16: ("loaded", "after load_state_dict at H 64", "other bits than it had"),
    LearnsWhatLearntFirst: (
        "frozen",
        "after its parameters were frozen from its first call on, in train",
        "no gradient",
    ),
    HidesNaN: ("not_finite", "beside a row of nan", "gives numbers as its output of a row of NaN"),
    ScaledAreClasses: ("telling_inputs", "with an input from 0 to 1, in inference", ""),
    CentredRows: ("large", "with one row of very large inputs", "is wrong only from row 1 of 4 on"),
    HalfOfWideInputs: ("widths", "at T 3, B 5, I 2050, H 2", ""),
    SwapsUnlikelyStates: ("large", "with a large h0 beside zeros", ""),
    RaisesBiasesOfZero: ("loaded", "after load_state_dict of biases of zero", "other bits than it had"),
    BiasHasNoTangent: ("forward_mode", "in forward mode by the weights", ""),
    ClippedToHalf: ("large", "with inputs times 2^20 and weights that undo it, in inference", ""),
    OneMaskIfDeterministic: ("threads", "with deterministic algorithms, in train", "or the same again"),
    HalfHasNoBias: ("other_precision", "in float16, in inference", ""),
    TurnsSquareWeights: ("loaded", "after load_state_dict at H 64", "gives weight_ih_l0 other bits"),
    OneStepTwice: ("own_memory", "when output is written to, T 1, L 1", "shares memory with hn"),
    FirstRowForAll: ("strided", "with one state expanded to all rows, in inference", ""),
}
CASES = in_turn(FAULTS, globals(), of_two_states=[SwapsUnlikelyStates])


@pytest.mark.parametrize(("fault", "cell"), CASES, ids=lambda one: getattr(one, "__name__", one))
def test_a_fault_of_training_is_seen_and_named(fault, cell):
    assert_seen_and_named(f"{__name__}:{fault.__name__}_{cell}", cell, *FAULTS[fault])
