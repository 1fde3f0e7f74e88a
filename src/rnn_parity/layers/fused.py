"""The fused layers of PyTorch, with the constructor of the loops over cells."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class StackingGRU(nn.Module):
    """`nn.GRU` with the constructor of `StackingGRUCell`, wrapped as in the article.

    Args:
        input_size: I. hidden_size: H. num_layers: L.
        dropout: probability of zeroing an entry between two layers, in training. With one layer it acts nowhere.
        batch_first: whether input and output are (B, T, ·); the states stay (L, B, H).
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, dropout: float, *, batch_first: bool = False
    ) -> None:
        super().__init__()
        self.gru = nn.GRU(
            input_size, hidden_size, num_layers, dropout=_active(dropout, num_layers), batch_first=batch_first
        )

    def forward(
        self, input: Float[Tensor, "... I"], h0: Float[Tensor, "L B H"]
    ) -> tuple[Float[Tensor, "... H"], Float[Tensor, "L B H"]]:
        """The last layer's state after each step, and every layer's state after the last."""
        return self.gru(input, h0)


class StackingLSTM(nn.Module):
    """`nn.LSTM`, wrapped likewise."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, dropout: float, *, batch_first: bool = False
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            input_size, hidden_size, num_layers, dropout=_active(dropout, num_layers), batch_first=batch_first
        )

    def forward(
        self, input: Float[Tensor, "... I"], states: tuple[Float[Tensor, "L B H"], Float[Tensor, "L B H"]]
    ) -> tuple[Float[Tensor, "... H"], tuple[Float[Tensor, "L B H"], Float[Tensor, "L B H"]]]:
        """The last layer's h after each step, and every layer's h and c after the last."""
        return self.lstm(input, states)


def _active(dropout: float, num_layers: int) -> float:
    """The dropout to ask for: PyTorch warns about one that cannot act, and a loop over cells says nothing."""
    return dropout if num_layers > 1 else 0.0
