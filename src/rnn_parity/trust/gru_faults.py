"""Planted faults that only a GRU can have."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from rnn_parity.cells.base import Cell
from rnn_parity.cells.gru import GRU
from rnn_parity.cells.gru_reset_before import GRUResetBefore
from rnn_parity.trust.planting import in_order, plant, with_rows
from rnn_parity.trust.right import Parameters, States, WrittenOut

_plant = partial(plant, __name__, "equations")
_BOTH = ("gru", "gru_reset_before")


def _as(cell: type[Cell]):
    """A step of another kind with the same parameters."""

    def step(layer: WrittenOut, x: Tensor, states: States, w_ih, w_hh, b_ih, b_hh) -> States:
        from_input = layer.arithmetic.product(x, w_ih) + b_ih
        return cell.forward(from_input, states, w_hh, b_hh, layer.arithmetic)[0]

    return step


def _bias_outside_reset(layer: WrittenOut, k: int) -> Parameters:
    w_ih, w_hh, b_ih, b_hh = WrittenOut.parameters_of(layer, k)
    b_r, b_z, b_n = b_hh.chunk(3)
    nothing = torch.zeros_like(b_n)
    return [w_ih, w_hh, b_ih + torch.cat([nothing, nothing, b_n]), torch.cat([b_r, b_z, nothing])]


def _bias_gradient_copied(layer: WrittenOut, k: int) -> Parameters:
    w_ih, w_hh, b_ih, b_hh = WrittenOut.parameters_of(layer, k)
    return [w_ih, w_hh, b_ih + b_hh - b_hh.detach(), b_hh.detach()]


_plant("ResetAndUpdateSwapped", "Reset and update gate swapped", _BOTH, parameters_of=in_order(1, 0, 2))
_plant("UpdateAndNewSwapped", "Update gate and new state swapped", _BOTH, parameters_of=in_order(0, 2, 1))
_plant("UpdateInverted", "Update gate inverted", _BOTH, parameters_of=with_rows(z=lambda rows: -rows["z"]))
_plant("ResetBeforeProduct", "Reset gate applied before the recurrent product", ("gru",), step=_as(GRUResetBefore))
_plant("ResetAfterProduct", "Reset gate applied after the recurrent product", ("gru_reset_before",), step=_as(GRU))
_plant("BiasOutsideReset", "b_hn outside the reset product", ("gru",), parameters_of=_bias_outside_reset)
plant(
    __name__, "backward", "BiasGradientCopied", "bias_hh given bias_ih's gradient", ("gru",),
    parameters_of=_bias_gradient_copied,
)  # fmt: skip
