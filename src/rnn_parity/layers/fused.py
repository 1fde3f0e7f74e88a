"""The fused `nn.GRU`, wrapped as in the article."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class StackingGRU(nn.Module):
    """`nn.GRU` with the constructor of `StackingGRUCell`.

    Args:
        input_size: I. hidden_size: H. num_layers: L.
        dropout: probability of zeroing an entry between two layers, in training. With one layer it acts nowhere.
        batch_first: whether input and output are (B, T, ·); the states stay (L, B, H).
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, dropout: float, *, batch_first: bool = False
    ) -> None:
        super().__init__()
        # nn.GRU warns about a dropout that cannot act; the loop over cells says nothing, so neither does this.
        active_dropout = dropout if num_layers > 1 else 0.0
        self.gru = nn.GRU(input_size, hidden_size, num_layers, dropout=active_dropout, batch_first=batch_first)

    def forward(
        self, input: Float[Tensor, "... I"], h0: Float[Tensor, "L B H"]
    ) -> tuple[Float[Tensor, "... H"], Float[Tensor, "L B H"]]:
        """The last layer's state after each step, and every layer's state after the last."""
        return self.gru(input, h0)
