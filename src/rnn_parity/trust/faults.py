"""Planted faults of any kind of cell: layers that are wrong on purpose, which the check must not miss.

Their import paths are `rnn_parity.trust.faults:NAME`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_parity.trust.planting import coarse, given_state, last_state, plant, to_bfloat16
from rnn_parity.trust.right import Parameters, WrittenOut

_plant = partial(plant, __name__)


def _drop(layer: WrittenOut, x: Tensor) -> Tensor:
    return F.dropout(x, layer.dropout, layer.training)


def _bias_not_copied(layer: WrittenOut, k: int) -> Parameters:
    w_ih, w_hh, b_ih, b_hh = WrittenOut.parameters_of(layer, k)
    return [w_ih, w_hh, 0 * b_ih if k == 1 else b_ih, b_hh]


def _second_bias_ignored(layer: WrittenOut, k: int) -> Parameters:
    *others, b_hh = WrittenOut.parameters_of(layer, k)
    return [*others, 0 * b_hh]


def _second_bias_detached(layer: WrittenOut, k: int) -> Parameters:
    *others, b_hh = WrittenOut.parameters_of(layer, k)
    return [*others, b_hh.detach()]


def _rows_mixed_up(state: Tensor) -> Tensor:
    return torch.cat([state[:, 1:2], state[:, :1], state[:, 2:]], dim=1)


def _one_mask_for_all_layers(layer, k, sequence):
    if k == 0:
        layer.mask = _drop(layer, torch.ones_like(sequence))
    return sequence * layer.mask


def _dropped_is_carried(upto_last: int):
    """Steps of every layer, or of all but the last, that go on from what is dropped."""

    def run_layer(layer, k, sequence, states):
        if k == layer.num_layers - upto_last:
            return WrittenOut.run_layer(layer, k, sequence, states)
        history, parameters = [], layer.parameters_of(k)
        for x in sequence.unbind():
            h, *others = layer.step(x, states, *parameters)
            states = (_drop(layer, h), *others)
            history.append(states)
        return history

    return run_layer


def _remember_dropped(layer, k, sequence):
    layer.dropped = [*(layer.dropped if k else []), WrittenOut.between(layer, k, sequence)]
    return layer.dropped[-1]


def _states_after_dropout(layer, sequence, last):
    h, *others = last
    dropped = layer.dropped if len(h) > 1 else []
    return sequence, (torch.stack([*(after[-1] for after in dropped), h[-1]]), *others)


def _to_tf32(x: Tensor) -> Tensor:
    """Round to ten bits after the leading one; the gradient passes as it is."""
    with torch.no_grad():
        scale = torch.exp2(torch.floor(torch.log2(x.abs().clamp_min(1e-30))) - 10)
        rounding = torch.round(x / scale) * scale - x
    return x + rounding


def _off(function: Callable[[Tensor], Tensor], share: float) -> Callable[[Tensor], Tensor]:
    return lambda x: function(x) * (1 - share)


# Parameters.
_plant("equations", "BiasNotCopied", "The second layer's bias_ih not copied", parameters_of=_bias_not_copied)
_plant("equations", "SecondBiasIgnored", "bias_hh ignored", parameters_of=_second_bias_ignored)
_plant(
    "equations", "LayersTied", "Weights of upper layers tied",
    parameters_of=lambda layer, k: WrittenOut.parameters_of(layer, min(k, 1)),
)  # fmt: skip

# States, batch and time.
_plant(
    "equations", "StatesReversed", "h0 given to the layers in reverse order",
    initial=given_state(0, lambda h: h.flip(0)),
)  # fmt: skip
_plant("equations", "StateIgnored", "h0 ignored", initial=given_state(0, lambda h: 0 * h))
_plant("equations", "RowMixedUp", "Two batch rows of h0 mixed up", initial=given_state(0, _rows_mixed_up))
_plant(
    "equations", "FinalStatesReversed", "hn with its layers in reverse order",
    result=last_state(0, lambda h: h.flip(0)),
)  # fmt: skip
_plant(
    "equations", "FinalStateEarly", "hn from one step before the last",
    final=lambda layer, history: (history[-2][0], *history[-1][1:]),
)  # fmt: skip
_plant(
    "equations", "LastInputStale", "The last step reads the input before it",
    given=lambda layer, x: torch.cat([x[:-1], x[max(len(x) - 2, 0)][None]]),
)  # fmt: skip
_plant(
    "equations", "BatchAndTimeTransposed", "Batch and time transposed",
    given=lambda layer, x: x.reshape(x.shape[1], x.shape[0], -1).transpose(0, 1),
    result=lambda layer, x, last: (x.transpose(0, 1).reshape(x.shape), last),
)  # fmt: skip

# Dropout.
_plant(
    "dropout", "DropoutAfterLast", "Dropout after the last layer too",
    result=lambda layer, sequence, last: (_drop(layer, sequence), last),
)  # fmt: skip
_plant("dropout", "NoDropout", "No dropout between the layers", between=lambda layer, k, sequence: sequence)
_plant(
    "dropout", "DropoutNotRescaled", "Dropout without 1/(1 − p)",
    between=lambda layer, k, x: WrittenOut.between(layer, k, x) * (1 - layer.dropout if layer.training else 1),
)  # fmt: skip
_plant(
    "dropout", "OneMaskForAllSteps", "One mask for all steps",
    between=lambda layer, k, x: x * _drop(layer, torch.ones_like(x[0])),
)  # fmt: skip
_plant("dropout", "OneMaskForAllLayers", "One mask for all layers", between=_one_mask_for_all_layers)
_plant(
    "dropout", "RecurrentDropout", "Recurrent dropout, none between layers",
    carried=lambda layer, states, step, steps: (_drop(layer, states[0]) if step else states[0], *states[1:]),
    between=lambda layer, k, sequence: sequence,
)  # fmt: skip
_plant(
    "dropout", "DroppedIsCarried", "What is dropped is also the state of the next step",
    run_layer=_dropped_is_carried(1), between=lambda layer, k, sequence: sequence,
)  # fmt: skip
_plant(
    "dropout", "DroppedIsCarriedInAll", "What is dropped is also the state of the next step, in the last layer too",
    run_layer=_dropped_is_carried(0), between=lambda layer, k, sequence: sequence,
)  # fmt: skip
_plant(
    "dropout", "FinalStateAfterDropout", "hn taken after dropout",
    between=_remember_dropped, result=_states_after_dropout,
)  # fmt: skip
_plant(
    "dropout", "MaskMissingInBackward", "The mask applied forward only",
    between=lambda layer, k, x: x + (WrittenOut.between(layer, k, x) - x).detach(),
)  # fmt: skip
_plant(
    "dropout", "EvalAndTrainSwapped", "Eval and train mode swapped",
    between=lambda layer, k, x: F.dropout(x, layer.dropout, not layer.training),
)  # fmt: skip

# The backward pass alone: these are right in every forward test.
_plant("backward", "StateDetached", "No gradient to h0", initial=given_state(0, torch.detach))
_plant(
    "backward", "GradientTruncated", "Gradient cut in the middle of the sequence",
    carried=lambda layer, states, step, steps: (
        tuple(state.detach() for state in states) if step == steps // 2 else states
    ),
)  # fmt: skip
_plant("backward", "FinalStateWithoutGradient", "No gradient through hn", result=last_state(0, torch.detach))
_plant("backward", "SecondBiasWithoutGradient", "No gradient to bias_hh", parameters_of=_second_bias_detached)

# Precision: right equations, too coarsely. Faults only where there is more than half precision to lose.
_plant(
    "precision", "StateInBfloat16", "State in bfloat16",
    carried=given_state(0, lambda h, step, steps: to_bfloat16(h)),
)  # fmt: skip
_plant(
    "precision", "ProductsInBfloat16", "Matrix products in bfloat16",
    arithmetic=coarse(product=lambda x, weight: (x.bfloat16() @ weight.bfloat16().mT).to(x.dtype)),
)  # fmt: skip
_plant(
    "precision", "ProductsInTF32", "Matrix products in TF32",
    arithmetic=coarse(product=lambda x, weight: _to_tf32(x) @ _to_tf32(weight).mT),
)  # fmt: skip
_plant(
    "precision", "WeightsInBfloat16", "Weights rounded to bfloat16",
    parameters_of=lambda layer, k: [to_bfloat16(p) for p in WrittenOut.parameters_of(layer, k)],
)  # fmt: skip
_plant("precision", "TanhOff1e4", "tanh off by 1e-4", arithmetic=coarse(tanh=_off(torch.tanh, 1e-4)))
_plant("precision", "TanhOff1e5", "tanh off by 1e-5", arithmetic=coarse(tanh=_off(torch.tanh, 1e-5)))
_plant("precision", "SigmoidOff1e4", "sigmoid off by 1e-4", arithmetic=coarse(sigmoid=_off(torch.sigmoid, 1e-4)))
_plant("precision", "SigmoidOff1e5", "sigmoid off by 1e-5", arithmetic=coarse(sigmoid=_off(torch.sigmoid, 1e-5)))


class DropoutTooOften(WrittenOut):
    """Dropout by a fifth too often. Not planted: with masks imposed it differs in its scale alone."""

    def between(self, layer: int, sequence: Tensor) -> Tensor:
        """Drop with 1.2·p."""
        return F.dropout(sequence, min(1.2 * self.dropout, 1.0), self.training)
