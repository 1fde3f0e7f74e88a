"""Stacks of cells that take one step, t2vec's decoder cell the first, and the loop that runs one over a sequence."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rnn_parity.cells.base import PARAMETERS

States = Any
"""One tensor (L, B, H), or a tuple of one for each state."""


class StackingGRUCell(nn.Module):
    """A stack of GRU cells that takes one step, with dropout between the layers and not after the last.

    Args:
        input_size: I, the width of the input.
        hidden_size: H, the width of every layer's state.
        num_layers: L.
        dropout: probability of zeroing an entry between two layers, in training.
    """

    cell: ClassVar[type[nn.Module]] = nn.GRUCell

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.dropout = dropout
        widths = [input_size] + [hidden_size] * (num_layers - 1)
        self.grus = nn.ModuleList(self.cell(width, hidden_size) for width in widths)

    def forward(
        self, input: Float[Tensor, "B I"], h0: Float[Tensor, "L B H"]
    ) -> tuple[Float[Tensor, "B H"], Float[Tensor, "L B H"]]:
        """One step: the last layer's new state, and the new state of every layer."""
        hn = []
        output = input
        for layer, (gru, h) in enumerate(zip(self.grus, h0.unbind(), strict=True)):
            output = gru(output, h)
            hn.append(output)
            if layer < self.num_layers - 1:
                output = F.dropout(output, self.dropout, self.training)
        return output, torch.stack(hn)


class GRUResetBeforeCell(nn.Module):
    """A GRU cell whose reset gate acts on the state before the product, as in Keras with `reset_after=False`."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        like = nn.GRUCell(input_size, hidden_size)
        for name in PARAMETERS:
            self.register_parameter(name, getattr(like, name))

    def forward(self, input: Float[Tensor, "B I"], h: Float[Tensor, "B H"]) -> Float[Tensor, "B H"]:
        """The new state."""
        from_input = F.linear(input, self.weight_ih, self.bias_ih)
        w_gates, w_new = self.weight_hh.split([2 * h.shape[1], h.shape[1]])
        b_gates, b_new = self.bias_hh.split([2 * h.shape[1], h.shape[1]])
        x_r, x_z, x_n = from_input.chunk(3, 1)
        h_r, h_z = F.linear(h, w_gates, b_gates).chunk(2, 1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + F.linear(r * h, w_new, b_new))
        return n + z * (h - n)


class StackingGRUResetBeforeCell(StackingGRUCell):
    """`StackingGRUCell` with the reset gate before the product. PyTorch has no such cell."""

    cell = GRUResetBeforeCell


class StackingLSTMCell(nn.Module):
    """A stack of LSTM cells that takes one step, with dropout between the layers and not after the last.

    Args: those of `StackingGRUCell`.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.dropout = dropout
        widths = [input_size] + [hidden_size] * (num_layers - 1)
        self.lstms = nn.ModuleList(nn.LSTMCell(width, hidden_size) for width in widths)

    def forward(
        self, input: Float[Tensor, "B I"], states: tuple[Float[Tensor, "L B H"], Float[Tensor, "L B H"]]
    ) -> tuple[Float[Tensor, "B H"], tuple[Float[Tensor, "L B H"], Float[Tensor, "L B H"]]]:
        """One step: the last layer's new h, and the new h and c of every layer."""
        hn, cn = [], []
        output = input
        for layer, (lstm, h, c) in enumerate(zip(self.lstms, *states, strict=True)):
            output, new_c = lstm(output, (h, c))
            hn.append(output)
            cn.append(new_c)
            if layer < self.num_layers - 1:
                output = F.dropout(output, self.dropout, self.training)
        return output, (torch.stack(hn), torch.stack(cn))


class _Loop(nn.Module):
    """A stack of cells over a whole sequence, one step after the other."""

    stack: ClassVar[type[nn.Module]]

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.cell = self.stack(input_size, hidden_size, num_layers, dropout)

    def forward(self, input: Float[Tensor, "T B I"], states: States) -> tuple[Float[Tensor, "T B H"], States]:
        """The last layer's state after each step, and every layer's states after the last."""
        output = []
        # unbind, not input[t]: the backward of an index fills a (T, B, I) of zeros for every step.
        for step in input.unbind():
            step_output, states = self.cell(step, states)
            output.append(step_output)
        return torch.stack(output), states


class StackingGRUCellLoop(_Loop):
    """`StackingGRUCell` over a whole sequence."""

    stack = StackingGRUCell


class StackingGRUResetBeforeCellLoop(_Loop):
    """`StackingGRUResetBeforeCell` over a whole sequence."""

    stack = StackingGRUResetBeforeCell


class StackingLSTMCellLoop(_Loop):
    """`StackingLSTMCell` over a whole sequence."""

    stack = StackingLSTMCell
