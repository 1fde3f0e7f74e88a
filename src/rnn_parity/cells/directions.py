"""A stack whose layers read in both directions, forward and backward: the judge of `bidirectional=True`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from rnn_parity.cells.base import PARAMETERS, Arithmetic, Cell
from rnn_parity.cells.stack import EXACT, Forward, run_forward

DIRECTIONS = ("", "_reverse")
"""What the names of a direction's parameters end in."""


def run_both_directions(
    cell: type[Cell],
    input: Float[Tensor, "*K T B I"],
    states: tuple[Float[Tensor, "*K S B H"], ...],
    weights: Mapping[str, Tensor],
    cotangents: tuple[Tensor, ...],
    arithmetic: Arithmetic = EXACT,
) -> dict[str, Tensor]:
    """Run `run_stack`'s equations in layers of two directions, without dropout, as `torch.nn.GRU` documents them.

    Args:
        input: the sequence. states: S = 2·L of them, of every layer the forward direction's, then the other's.
        weights: under PyTorch's names; every layer but the first reads 2·H numbers.
        cotangents: of output (*K, T, B, 2·H) and of every last state (*K, S, B, H).

    Returns:
        what `run_stack` returns, with the outputs of both directions side by side.
    """
    sequence: Tensor = input
    passes: list[Forward] = []
    for layer in range(states[0].shape[-3] // 2):
        for place, direction in enumerate(DIRECTIONS):
            of_one = {f"{name}_l0": weights[f"{name}_l{layer}{direction}"] for name in PARAMETERS}
            first = _of(states, len(passes))
            passes.append(run_forward(cell, _as_read(sequence, place), first, of_one, arithmetic=arithmetic))
        sequence = torch.cat([_as_read(one.output, place) for place, one in enumerate(passes[-2:])], -1)
    of_sequence, *of_states = cotangents
    found, parts = {"output": sequence}, []
    for layer in reversed(range(len(passes) // 2)):
        of_read = []
        for place, half in reversed(list(enumerate(of_sequence.chunk(2, -1)))):
            at = 2 * layer + place
            parts.append(passes[at].backward(_as_read(half, place), *_of(of_states, at)))
            of_read.append(_as_read(parts[-1]["grad_input"], place))
            names = {f"grad_{name}_l0": f"grad_{name}_l{layer}{DIRECTIONS[place]}" for name in PARAMETERS}
            found |= {name: parts[-1][of_one] for of_one, name in names.items()}
        of_sequence = of_read[0] + of_read[1]
    of_all = [*cell.outputs()[1:], *(f"grad_{name}" for name in cell.inputs()[1:])]
    found |= {name: torch.cat([part[name] for part in reversed(parts)], -3) for name in of_all}
    return found | {"grad_input": of_sequence}


def _of(states, place: int) -> tuple[Tensor, ...]:
    """The states of one direction of one layer, as those of a stack of one."""
    return tuple(state[..., [place], :, :] for state in states)


def _as_read(sequence: Tensor, place: int) -> Tensor:
    """A sequence in the order in which a direction reads it, or back in that of time."""
    return sequence.flip(-3) if place else sequence
