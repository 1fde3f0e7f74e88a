"""What one call of a layer gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rnn_parity.cells.base import Cell
from rnn_parity.layers.running import call_layer


@dataclass(frozen=True)
class Results:
    """What a call gave: its quantities, on the CPU, and the dropout masks (G, T, B, H) that it drew.

    `hides_masks`: it dropped entries, and nobody knows which. `offence`: what the call did that no call may do.
    """

    values: dict[str, Tensor]
    masks: Tensor | None = None
    hides_masks: bool = False
    offence: str = ""


def results_of(
    cell: type[Cell], call: Callable[[Tensor, Any], Any], input: Tensor, *states: Tensor
) -> dict[str, Tensor]:
    """Output and last states of a call, by name."""
    return dict(zip(cell.outputs(), call_layer(call, input, states), strict=True))
