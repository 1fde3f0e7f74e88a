"""Wrong layers, one planted fault each: what the check must not miss.

A mutant overrides the one step of `WrittenOut` that it gets wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_parity.trust.right import WrittenOut

# The equations.


class ResetAndUpdateSwapped(WrittenOut):
    """Reset and update gate swapped."""

    def cell(self, x, h, w_ih, w_hh, b_ih, b_hh):
        return super().cell(x, h, *(_reordered(p, 1, 0, 2) for p in (w_ih, w_hh, b_ih, b_hh)))


class UpdateAndNewSwapped(WrittenOut):
    """Update gate and new state swapped."""

    def cell(self, x, h, w_ih, w_hh, b_ih, b_hh):
        return super().cell(x, h, *(_reordered(p, 0, 2, 1) for p in (w_ih, w_hh, b_ih, b_hh)))


class UpdateInverted(WrittenOut):
    """Update gate inverted."""

    def mixed(self, z, n, h):
        return super().mixed(1 - z, n, h)


class ResetBeforeProduct(WrittenOut):
    """Reset gate applied before the recurrent product."""

    def cell(self, x, h, w_ih, w_hh, b_ih, b_hh):
        x_r, x_z, x_n = (x @ w_ih.T + b_ih).chunk(3, -1)
        h_r, h_z, _ = (h @ w_hh.T + b_hh).chunk(3, -1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + (r * h) @ w_hh.chunk(3)[2].T + b_hh.chunk(3)[2])
        return self.mixed(z, n, h)


class BiasOutsideReset(WrittenOut):
    """b_hn outside the reset product."""

    def cell(self, x, h, w_ih, w_hh, b_ih, b_hh):
        b_r, b_z, b_n = b_hh.chunk(3)
        moved = torch.cat([torch.zeros_like(b_r), torch.zeros_like(b_z), b_n])
        return super().cell(x, h, w_ih, w_hh, b_ih + moved, torch.cat([b_r, b_z, torch.zeros_like(b_n)]))


class BiasNotCopied(WrittenOut):
    """The second layer's bias_ih not copied."""

    def parameters_of(self, layer):
        w_ih, w_hh, b_ih, b_hh = super().parameters_of(layer)
        return [w_ih, w_hh, 0 * b_ih if layer == 1 else b_ih, b_hh]


class LayersTied(WrittenOut):
    """Weights of upper layers tied."""

    def parameters_of(self, layer):
        return super().parameters_of(min(layer, 1))


# States, batch and time.


class StatesReversed(WrittenOut):
    """h0 given to the layers in reverse order."""

    def initial(self, h0):
        return h0.flip(0)


class StateIgnored(WrittenOut):
    """h0 ignored."""

    def initial(self, h0):
        return 0 * h0


class RowMixedUp(WrittenOut):
    """Two batch rows of h0 mixed up."""

    def initial(self, h0):
        return torch.cat([h0[:, 1:2], h0[:, :1], h0[:, 2:]], dim=1)


class FinalStatesReversed(WrittenOut):
    """hn with its layers in reverse order."""

    def result(self, sequence, hn):
        return super().result(sequence, hn[::-1])


class FinalStateEarly(WrittenOut):
    """hn from one step before the last."""

    def final(self, states):
        return states[-2]


class LastInputStale(WrittenOut):
    """The last step reads the input before it."""

    def given(self, input):
        return torch.cat([input[:-1], input[max(len(input) - 2, 0)][None]])


class BatchAndTimeTransposed(WrittenOut):
    """Batch and time transposed."""

    def given(self, input):
        return input.reshape(input.shape[1], input.shape[0], -1).transpose(0, 1)

    def result(self, sequence, hn):
        return super().result(sequence.transpose(0, 1).reshape(sequence.shape), hn)


# Dropout.


class DropoutAfterLast(WrittenOut):
    """Dropout after the last layer too."""

    def result(self, sequence, hn):
        return super().result(F.dropout(sequence, self.dropout, self.training), hn)


class NoDropout(WrittenOut):
    """No dropout between the layers."""

    def between(self, layer, sequence):
        return sequence


class DropoutNotRescaled(WrittenOut):
    """Dropout without 1/(1 − p)."""

    def between(self, layer, sequence):
        return super().between(layer, sequence) * (1 - self.dropout if self.training else 1)


class OneMaskForAllSteps(WrittenOut):
    """One mask for all steps."""

    def between(self, layer, sequence):
        return sequence * F.dropout(torch.ones_like(sequence[0]), self.dropout, self.training)


class OneMaskForAllLayers(WrittenOut):
    """One mask for all layers."""

    def between(self, layer, sequence):
        if layer == 0:
            self.mask = F.dropout(torch.ones_like(sequence), self.dropout, self.training)
        return sequence * self.mask


class RecurrentDropout(WrittenOut):
    """Recurrent dropout, none between layers."""

    def carried(self, h, step, steps):
        return F.dropout(h, self.dropout, self.training) if step else h

    def between(self, layer, sequence):
        return sequence


class FinalStateAfterDropout(WrittenOut):
    """hn taken after dropout."""

    def forward(self, input, h0):
        self.dropped = []
        return super().forward(input, h0)

    def between(self, layer, sequence):
        self.dropped.append(super().between(layer, sequence))
        return self.dropped[-1]

    def result(self, sequence, hn):
        return super().result(sequence, [*(after[-1] for after in self.dropped), hn[-1]])


class MaskMissingInBackward(WrittenOut):
    """The mask applied forward only."""

    def between(self, layer, sequence):
        return sequence + (super().between(layer, sequence) - sequence).detach()


class EvalAndTrainSwapped(WrittenOut):
    """Eval and train mode swapped."""

    def between(self, layer, sequence):
        return F.dropout(sequence, self.dropout, not self.training)


class DropoutTooOften(WrittenOut):
    """Dropout by a fifth too often."""

    def between(self, layer, sequence):
        return F.dropout(sequence, min(1.2 * self.dropout, 1.0), self.training)


# The backward pass alone: these are right in every forward test.


class StateDetached(WrittenOut):
    """No gradient to h0."""

    def initial(self, h0):
        return h0.detach()


class GradientTruncated(WrittenOut):
    """Gradient cut in the middle of the sequence."""

    def carried(self, h, step, steps):
        return h.detach() if step == steps // 2 else h


class FinalStateWithoutGradient(WrittenOut):
    """No gradient through hn."""

    def result(self, sequence, hn):
        output, hn = super().result(sequence, hn)
        return output, hn.detach()


class BiasGradientCopied(WrittenOut):
    """bias_hh given bias_ih's gradient."""

    def parameters_of(self, layer):
        w_ih, w_hh, b_ih, b_hh = super().parameters_of(layer)
        return [w_ih, w_hh, b_ih + b_hh - b_hh.detach(), b_hh.detach()]


# Precision: right equations, too coarsely.


class StateInBfloat16(WrittenOut):
    """State in bfloat16."""

    def carried(self, h, step, steps):
        return h.bfloat16().to(h.dtype)


class ProductsInBfloat16(WrittenOut):
    """Matrix products in bfloat16."""

    def product(self, x, weight):
        return (x.bfloat16() @ weight.bfloat16().T).to(x.dtype)


class ProductsInTF32(WrittenOut):
    """Matrix products in TF32."""

    def product(self, x, weight):
        return _to_tf32(x) @ _to_tf32(weight).T


class WeightsInBfloat16(WrittenOut):
    """Weights rounded to bfloat16."""

    def parameters_of(self, layer):
        return [parameter.bfloat16().to(parameter.dtype) for parameter in super().parameters_of(layer)]


class TanhOff1e4(WrittenOut):
    """tanh off by 1e-4."""

    def tanh(self, x):
        return torch.tanh(x) * (1 - 1e-4)


class TanhOff1e5(WrittenOut):
    """tanh off by 1e-5."""

    def tanh(self, x):
        return torch.tanh(x) * (1 - 1e-5)


class SigmoidOff1e4(WrittenOut):
    """sigmoid off by 1e-4."""

    def sigmoid(self, x):
        return torch.sigmoid(x) * (1 - 1e-4)


class SigmoidOff1e5(WrittenOut):
    """sigmoid off by 1e-5."""

    def sigmoid(self, x):
        return torch.sigmoid(x) * (1 - 1e-5)


def _reordered(parameter: Tensor, *order: int) -> Tensor:
    parts = parameter.chunk(3)
    return torch.cat([parts[index] for index in order])


def _to_tf32(x: Tensor) -> Tensor:
    """Round to ten bits after the leading one; the gradient passes as it is."""
    with torch.no_grad():
        scale = torch.exp2(torch.floor(torch.log2(x.abs().clamp_min(1e-30))) - 10)
        rounding = torch.round(x / scale) * scale - x
    return x + rounding


MUTANTS = {
    "equations": (
        ResetAndUpdateSwapped, UpdateAndNewSwapped, UpdateInverted, ResetBeforeProduct, BiasOutsideReset,
        BiasNotCopied, LayersTied, StatesReversed, StateIgnored, RowMixedUp, FinalStatesReversed, FinalStateEarly,
        LastInputStale, BatchAndTimeTransposed,
    ),
    "dropout": (
        DropoutAfterLast, NoDropout, DropoutNotRescaled, OneMaskForAllSteps, OneMaskForAllLayers, RecurrentDropout,
        FinalStateAfterDropout, MaskMissingInBackward, EvalAndTrainSwapped,
    ),
    "backward": (StateDetached, GradientTruncated, FinalStateWithoutGradient, BiasGradientCopied),
    "precision": (
        StateInBfloat16, ProductsInBfloat16, ProductsInTF32, WeightsInBfloat16, TanhOff1e4, TanhOff1e5, SigmoidOff1e4,
        SigmoidOff1e5,
    ),
}  # fmt: skip
"""Every mutant by what it gets wrong. Those of precision are faults where there is more than half precision to
lose. `DropoutTooOften` is not among them: with masks imposed it differs in its scale alone."""
