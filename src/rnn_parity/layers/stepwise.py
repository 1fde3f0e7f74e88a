"""t2vec's decoder cell, a stack of `nn.GRUCell`, and the loop that runs it over a sequence."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class StackingGRUCell(nn.Module):
    """A stack of GRU cells that takes one step, with dropout between the layers and not after the last.

    Args:
        input_size: I, the width of the input.
        hidden_size: H, the width of every layer's state.
        num_layers: L.
        dropout: probability of zeroing an entry between two layers, in training.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.dropout = dropout
        widths = [input_size] + [hidden_size] * (num_layers - 1)
        self.grus = nn.ModuleList(nn.GRUCell(width, hidden_size) for width in widths)

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


class StackingGRUCellLoop(nn.Module):
    """`StackingGRUCell` over a whole sequence, one step after the other."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.cell = StackingGRUCell(input_size, hidden_size, num_layers, dropout)

    def forward(
        self, input: Float[Tensor, "T B I"], h0: Float[Tensor, "L B H"]
    ) -> tuple[Float[Tensor, "T B H"], Float[Tensor, "L B H"]]:
        """The last layer's state after each step, and every layer's state after the last."""
        output, h = [], h0
        # unbind, not input[t]: the backward of an index fills a (T, B, I) of zeros for every step.
        for step in input.unbind():
            step_output, h = self.cell(step, h)
            output.append(step_output)
        return torch.stack(output), h
