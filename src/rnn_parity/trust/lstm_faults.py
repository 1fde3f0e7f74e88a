"""Planted faults that only an LSTM can have: of its gates, and of its second state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_parity.trust.planting import given_state, in_order, last_state, plant, to_bfloat16, with_rows
from rnn_parity.trust.right import Parameters, States, WrittenOut

_plant = partial(plant, __name__, cells=("lstm",))
_given_c, _last_c = partial(given_state, 1), partial(last_state, 1)

_EQUATIONS: dict[str, Callable[[SimpleNamespace], Tensor]] = {
    "i": lambda v: torch.sigmoid(v.x_i),
    "f": lambda v: torch.sigmoid(v.x_f),
    "g": lambda v: torch.tanh(v.x_g),
    "new_c": lambda v: v.f * v.c + v.i * v.g,
    "o": lambda v: torch.sigmoid(v.x_o),
    "new_h": lambda v: v.o * torch.tanh(v.new_c),
}
"""An LSTM's step, each value from those before it."""


def _step(**changed: Callable[[SimpleNamespace], Tensor]):
    """A step in which some equations are others."""

    def step(layer: WrittenOut, x: Tensor, states: States, w_ih, w_hh, b_ih, b_hh) -> States:
        h, c = states
        sums = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, -1)
        values = SimpleNamespace(c=c, **dict(zip(("x_i", "x_f", "x_g", "x_o"), sums, strict=True)))
        for name, equation in (_EQUATIONS | changed).items():
            setattr(values, name, equation(values))
        return values.new_h, values.new_c

    return step


def _forget_bias_added(layer: WrittenOut, k: int) -> Parameters:
    w_ih, w_hh, b_ih, b_hh = WrittenOut.parameters_of(layer, k)
    i, f, g, o = b_ih.chunk(4)
    return [w_ih, w_hh, torch.cat([i, f + 1, g, o]), b_hh]


# The equations.
_plant("equations", "GatesIGFO", "Gates in the order i, g, f, o", parameters_of=in_order(0, 2, 1, 3))
_plant("equations", "GatesIOFG", "Gates in the order i, o, f, g, as ONNX has them", parameters_of=in_order(0, 2, 3, 1))
_plant("equations", "InputAndForgetSwapped", "Input and forget gate swapped", parameters_of=in_order(1, 0, 2, 3))
_plant("equations", "NewAndOutputSwapped", "New value and output gate swapped", parameters_of=in_order(0, 1, 3, 2))
_plant("equations", "ForgetBiasAdded", "1 added to the forget gate's bias", parameters_of=_forget_bias_added)
_plant("equations", "GatesCoupled", "1 − f in place of i", parameters_of=with_rows(i=lambda rows: -rows["f"]))
_plant("equations", "InputGateMissing", "c' = f ∘ c + g, without i", step=_step(new_c=lambda v: v.f * v.c + v.g))
_plant("equations", "OuterTanhMissing", "h' = o ∘ c', without tanh", step=_step(new_h=lambda v: v.o * v.new_c))
_plant(
    "equations",
    "OutputOfOldCell",
    "h' = o ∘ tanh(c), of the c before",
    step=_step(new_h=lambda v: v.o * torch.tanh(v.c)),
)
_plant("equations", "NewThroughSigmoid", "σ in place of tanh for g", step=_step(g=lambda v: torch.sigmoid(v.x_g)))
_plant("equations", "HardSigmoid", "The hard sigmoid for i, f and o", step=_step(
    i=lambda v: F.hardsigmoid(v.x_i), f=lambda v: F.hardsigmoid(v.x_f), o=lambda v: F.hardsigmoid(v.x_o),
))  # fmt: skip
_plant("equations", "Peephole", "The output gate sees c'", step=_step(o=lambda v: torch.sigmoid(v.x_o + v.new_c)))
_plant("equations", "CellClipped", "c clipped at ±1", carried=_given_c(lambda c, step, steps: c.clamp(-1, 1)))

# The second state.
_plant("equations", "CellIgnored", "c0 ignored", initial=_given_c(torch.zeros_like))
_plant("equations", "CellsReversed", "c0 given to the layers in reverse order", initial=_given_c(lambda c: c.flip(0)))
_plant("equations", "CellRowsRolled", "The batch rows of c0 shifted by one", initial=_given_c(lambda c: c.roll(1, 1)))
_plant("equations", "StatesSwappedIn", "h0 and c0 swapped", initial=lambda layer, states: states[::-1])
_plant("equations", "StatesSwappedOut", "hn and cn swapped", result=lambda layer, x, last: (x, last[::-1]))
_plant("equations", "FinalCellsReversed", "cn with its layers in reverse order", result=_last_c(lambda c: c.flip(0)))
_plant(
    "equations", "FinalCellEarly", "cn from one step before the last",
    final=lambda layer, history: (history[-1][0], history[-2][1]),
)  # fmt: skip
_plant("dropout", "FinalCellDropped", "Dropout on cn", result=lambda layer, x, last: (
    x, (last[0], F.dropout(last[1], layer.dropout, layer.training)),
))  # fmt: skip

# The backward pass alone.
_plant("backward", "CellDetached", "No gradient to c0", initial=_given_c(torch.detach))
_plant("backward", "FinalCellWithoutGradient", "No gradient through cn", result=_last_c(torch.detach))
_plant(
    "backward", "CellGradientCut", "Gradient cut in c alone, in the middle of the sequence",
    carried=_given_c(lambda c, step, steps: c.detach() if step == steps // 2 else c),
)  # fmt: skip
_plant("backward", "ForgetGateDetached", "No gradient through f", step=_step(f=lambda v: torch.sigmoid(v.x_f).detach()))
_plant("backward", "OuterTanhDetached", "No gradient from h' to c'", step=_step(
    new_h=lambda v: v.o * torch.tanh(v.new_c).detach(),
))  # fmt: skip

# Precision.
_plant("precision", "CellInBfloat16", "c in bfloat16", carried=_given_c(lambda c, step, steps: to_bfloat16(c)))
