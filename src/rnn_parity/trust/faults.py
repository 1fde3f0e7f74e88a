"""Planted faults: layers that are wrong on purpose, which the check must not miss.

A planted fault replaces one step of `WrittenOut`. Its import path is `rnn_parity.trust.faults:NAME`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_parity.trust.right import WrittenOut

KINDS = ("equations", "dropout", "backward", "precision")
FAULTS: dict[str, type[WrittenOut]] = {}
"""Every planted fault by name: a class with its `kind`, and the fault in words as its docstring."""


def __getattr__(name: str) -> type[WrittenOut]:
    if name not in FAULTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return FAULTS[name]


def _plant(kind: str, name: str, words: str, **steps: Callable[..., Any]) -> None:
    """Add a fault: `steps` are the methods of `WrittenOut` that it replaces."""
    FAULTS[name] = type(name, (WrittenOut,), {"__module__": __name__, "__doc__": f"{words}.", "kind": kind, **steps})


def _drop(layer: WrittenOut, x: Tensor) -> Tensor:
    return F.dropout(x, layer.dropout, layer.training)


def _with_gates(*order: int) -> Callable[..., Tensor]:
    """A step whose gates stand in another order."""

    def cell(layer: WrittenOut, x: Tensor, h: Tensor, *parameters: Tensor) -> Tensor:
        reordered = (torch.cat([p.chunk(3)[gate] for gate in order]) for p in parameters)
        return WrittenOut.cell(layer, x, h, *reordered)

    return cell


def _reset_before_product(layer, x, h, w_ih, w_hh, b_ih, b_hh):
    x_r, x_z, x_n = (x @ w_ih.T + b_ih).chunk(3, -1)
    h_r, h_z, _ = (h @ w_hh.T + b_hh).chunk(3, -1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + (r * h) @ w_hh.chunk(3)[2].T + b_hh.chunk(3)[2])
    return layer.mixed(z, n, h)


def _bias_outside_reset(layer, x, h, w_ih, w_hh, b_ih, b_hh):
    b_r, b_z, b_n = b_hh.chunk(3)
    moved = torch.cat([torch.zeros_like(b_r), torch.zeros_like(b_z), b_n])
    return WrittenOut.cell(layer, x, h, w_ih, w_hh, b_ih + moved, torch.cat([b_r, b_z, torch.zeros_like(b_n)]))


def _bias_not_copied(layer, k):
    w_ih, w_hh, b_ih, b_hh = WrittenOut.parameters_of(layer, k)
    return [w_ih, w_hh, 0 * b_ih if k == 1 else b_ih, b_hh]


def _one_mask_for_all_layers(layer, k, sequence):
    if k == 0:
        layer.mask = _drop(layer, torch.ones_like(sequence))
    return sequence * layer.mask


def _remember_dropped(layer, k, sequence):
    layer.dropped = [*(layer.dropped if k else []), WrittenOut.between(layer, k, sequence)]
    return layer.dropped[-1]


def _states_after_dropout(layer, sequence, hn):
    dropped = layer.dropped if len(hn) > 1 else []
    return WrittenOut.result(layer, sequence, [*(after[-1] for after in dropped), hn[-1]])


def _hn_without_gradient(layer, sequence, hn):
    output, hn = WrittenOut.result(layer, sequence, hn)
    return output, hn.detach()


def _bias_gradient_copied(layer, k):
    w_ih, w_hh, b_ih, b_hh = WrittenOut.parameters_of(layer, k)
    return [w_ih, w_hh, b_ih + b_hh - b_hh.detach(), b_hh.detach()]


def _to_tf32(x: Tensor) -> Tensor:
    """Round to ten bits after the leading one; the gradient passes as it is."""
    with torch.no_grad():
        scale = torch.exp2(torch.floor(torch.log2(x.abs().clamp_min(1e-30))) - 10)
        rounding = torch.round(x / scale) * scale - x
    return x + rounding


def _to_bfloat16(x: Tensor) -> Tensor:
    return x.bfloat16().to(x.dtype)


def _scaled(activation: Callable[[Tensor], Tensor], off: float) -> Callable[..., Tensor]:
    return lambda layer, x: activation(x) * (1 - off)


# The equations.
_plant("equations", "ResetAndUpdateSwapped", "Reset and update gate swapped", cell=_with_gates(1, 0, 2))
_plant("equations", "UpdateAndNewSwapped", "Update gate and new state swapped", cell=_with_gates(0, 2, 1))
_plant(
    "equations", "UpdateInverted", "Update gate inverted",
    mixed=lambda layer, z, n, h: WrittenOut.mixed(layer, 1 - z, n, h),
)  # fmt: skip
_plant("equations", "ResetBeforeProduct", "Reset gate applied before the recurrent product", cell=_reset_before_product)
_plant("equations", "BiasOutsideReset", "b_hn outside the reset product", cell=_bias_outside_reset)
_plant("equations", "BiasNotCopied", "The second layer's bias_ih not copied", parameters_of=_bias_not_copied)
_plant(
    "equations", "LayersTied", "Weights of upper layers tied",
    parameters_of=lambda layer, k: WrittenOut.parameters_of(layer, min(k, 1)),
)  # fmt: skip

# States, batch and time.
_plant("equations", "StatesReversed", "h0 given to the layers in reverse order", initial=lambda layer, h0: h0.flip(0))
_plant("equations", "StateIgnored", "h0 ignored", initial=lambda layer, h0: 0 * h0)
_plant(
    "equations", "RowMixedUp", "Two batch rows of h0 mixed up",
    initial=lambda layer, h0: torch.cat([h0[:, 1:2], h0[:, :1], h0[:, 2:]], dim=1),
)  # fmt: skip
_plant(
    "equations", "FinalStatesReversed", "hn with its layers in reverse order",
    result=lambda layer, sequence, hn: WrittenOut.result(layer, sequence, hn[::-1]),
)  # fmt: skip
_plant("equations", "FinalStateEarly", "hn from one step before the last", final=lambda layer, states: states[-2])
_plant(
    "equations", "LastInputStale", "The last step reads the input before it",
    given=lambda layer, x: torch.cat([x[:-1], x[max(len(x) - 2, 0)][None]]),
)  # fmt: skip
_plant(
    "equations", "BatchAndTimeTransposed", "Batch and time transposed",
    given=lambda layer, x: x.reshape(x.shape[1], x.shape[0], -1).transpose(0, 1),
    result=lambda layer, x, hn: WrittenOut.result(layer, x.transpose(0, 1).reshape(x.shape), hn),
)  # fmt: skip

# Dropout.
_plant(
    "dropout", "DropoutAfterLast", "Dropout after the last layer too",
    result=lambda layer, sequence, hn: WrittenOut.result(layer, _drop(layer, sequence), hn),
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
    carried=lambda layer, h, step, steps: _drop(layer, h) if step else h,
    between=lambda layer, k, sequence: sequence,
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
_plant("backward", "StateDetached", "No gradient to h0", initial=lambda layer, h0: h0.detach())
_plant(
    "backward", "GradientTruncated", "Gradient cut in the middle of the sequence",
    carried=lambda layer, h, step, steps: h.detach() if step == steps // 2 else h,
)  # fmt: skip
_plant("backward", "FinalStateWithoutGradient", "No gradient through hn", result=_hn_without_gradient)
_plant("backward", "BiasGradientCopied", "bias_hh given bias_ih's gradient", parameters_of=_bias_gradient_copied)

# Precision: right equations, too coarsely. Faults only where there is more than half precision to lose.
_plant(
    "precision", "StateInBfloat16", "State in bfloat16",
    carried=lambda layer, h, step, steps: _to_bfloat16(h),
)  # fmt: skip
_plant(
    "precision", "ProductsInBfloat16", "Matrix products in bfloat16",
    product=lambda layer, x, weight: (x.bfloat16() @ weight.bfloat16().T).to(x.dtype),
)  # fmt: skip
_plant(
    "precision", "ProductsInTF32", "Matrix products in TF32",
    product=lambda layer, x, weight: _to_tf32(x) @ _to_tf32(weight).T,
)  # fmt: skip
_plant(
    "precision", "WeightsInBfloat16", "Weights rounded to bfloat16",
    parameters_of=lambda layer, k: [_to_bfloat16(p) for p in WrittenOut.parameters_of(layer, k)],
)  # fmt: skip
_plant("precision", "TanhOff1e4", "tanh off by 1e-4", tanh=_scaled(torch.tanh, 1e-4))
_plant("precision", "TanhOff1e5", "tanh off by 1e-5", tanh=_scaled(torch.tanh, 1e-5))
_plant("precision", "SigmoidOff1e4", "sigmoid off by 1e-4", sigmoid=_scaled(torch.sigmoid, 1e-4))
_plant("precision", "SigmoidOff1e5", "sigmoid off by 1e-5", sigmoid=_scaled(torch.sigmoid, 1e-5))


class DropoutTooOften(WrittenOut):
    """Dropout by a fifth too often. Not among `FAULTS`: with masks imposed it differs in its scale alone."""

    def between(self, layer: int, sequence: Tensor) -> Tensor:
        """Drop with 1.2·p."""
        return F.dropout(sequence, min(1.2 * self.dropout, 1.0), self.training)
