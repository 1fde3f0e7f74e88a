"""What the loop over `StackingGRUCell` could gain without being replaced: its step compiled, or all of it one graph."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, cuda, is_grad_enabled, nn
from torch.utils._python_dispatch import _len_torch_dispatch_stack

from rnn_parity.layers.stepwise import StackingGRUCellLoop


class CompiledLoop(StackingGRUCellLoop):
    """The loop with its step compiled by `torch.compile`: one compilation for every length."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__(input_size, hidden_size, num_layers, dropout)
        self.cell.compile()


class GraphedLoop(StackingGRUCellLoop):
    """The loop as a CUDA graph, recorded at the first call in each mode and shape, for forward and backward.

    Run as it is where its dropout masks are seen: what is replayed shows none. Raises `NotImplementedError` on a CPU,
    which has no such graphs.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__(input_size, hidden_size, num_layers, dropout)
        self._graphs: dict[tuple, Any] = {}

    def forward(
        self, input: Float[Tensor, "T B I"], h0: Float[Tensor, "L B H"]
    ) -> tuple[Float[Tensor, "T B H"], Float[Tensor, "L B H"]]:
        """As the loop; what comes out is copied, since the next call writes to the same place."""
        if not input.is_cuda:
            raise NotImplementedError("a CUDA graph is not supported on a CPU")
        if _len_torch_dispatch_stack():
            return super().forward(input, h0)
        output, hn = self._replay(input, h0)
        return output.clone(), hn.clone()

    def _replay(self, input: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        asked = input.requires_grad, h0.requires_grad
        key = self.training, is_grad_enabled(), input.shape, input.dtype, asked, *map(id, self.parameters())
        if key not in self._graphs:
            like = tuple(given.detach().clone().requires_grad_(given.requires_grad) for given in (input, h0))
            recorded = _Recorded(self.cell).train(self.training)
            self._graphs[key] = cuda.make_graphed_callables(recorded, like)
        return self._graphs[key](input, h0)


class _Recorded(nn.Module):
    """The loop once more, over the same cell: recording a module replaces its `forward`."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    forward = StackingGRUCellLoop.forward
