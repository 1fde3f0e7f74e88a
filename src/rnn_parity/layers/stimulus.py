"""The weights, inputs and cotangents that every implementation of a case gets, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rnn_parity.cells.base import load_cell
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.parameters import canonical_shapes, copy_weights
from rnn_parity.layers.registry import build

WEIGHT_SCALE = 2.0
"""Weights are uniform within ±2/√H, twice `nn.GRU`'s own: its gates stay near the linear region, where faults hide."""


@dataclass(frozen=True)
class Stimulus:
    """The weights, inputs and cotangents of one seed, in the case's dtype, on the CPU.

    Attributes:
        input: (T, B, I). states: one (L, B, H) per state of the kind of cell, not zero.
        weights: under PyTorch's names, biases not zero.
        cotangents: of output (T, B, H) and of every last state (L, B, H), so that all send gradients back.
    """

    input: Tensor
    states: tuple[Tensor, ...]
    weights: Mapping[str, Tensor]
    cotangents: tuple[Tensor, ...]

    def map(self, change: Callable[[Tensor], Tensor]) -> Stimulus:
        """The stimulus with `change` applied to every tensor."""
        weights = {name: change(weight) for name, weight in self.weights.items()}
        input, *states = map(change, (self.input, *self.states))
        return Stimulus(input, tuple(states), weights, tuple(map(change, self.cotangents)))


def draw_stimulus(
    case: Case, seed: int, weight_scale: float = WEIGHT_SCALE, input_scale: float = 1.0, state_scale: float = 1.0
) -> Stimulus:
    """Draw weights, input, states and cotangents on the CPU in float64, then round to the case's dtype.

    Args:
        weight_scale: weights are uniform within ± this / √H. input_scale: standard deviation of the input.
        state_scale: a state is uniform within ± this times its bound; one without a bound has it as standard deviation.
    """
    generator = torch.Generator().manual_seed(seed)
    dtype = getattr(torch, case.dtype)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)

    def uniform(bound: float, *shape: int) -> Tensor:
        return ((2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * bound).to(dtype)

    cell = load_cell(case.cell)
    size = (case.num_layers, case.batch_size, case.hidden_size)

    def state(bound: float | None) -> Tensor:
        return normal(*size, scale=state_scale) if bound is None else uniform(state_scale * bound, *size)

    shapes = canonical_shapes(case.input_size, case.hidden_size, case.num_layers, case.cell)
    bound = weight_scale / case.hidden_size**0.5
    of_output = case.sequence_length, case.batch_size, case.hidden_size
    return Stimulus(
        weights={name: uniform(bound, *shape) for name, shape in shapes.items()},
        input=normal(case.sequence_length, case.batch_size, case.input_size, scale=input_scale),
        states=tuple(state(cell.bounds[name]) for name in cell.states),
        cotangents=(normal(*of_output), *(normal(*size) for _ in cell.states)),
    )


def build_loaded(case: Case, name: str, stimulus: Stimulus, **options: Any) -> nn.Module:
    """Build an implementation at the case's size, in its dtype, on its device, with the stimulus' weights.

    `options` as those of `build_sized`.
    """
    module = build_sized(case, name, **options).to(case.device)
    copy_weights(stimulus.weights, module)
    return module


def build_sized(case: Case, name: str, **options: Any) -> nn.Module:
    """Build an implementation at the case's size, in its dtype, with weights of its own.

    `options` as those of `build`.
    """
    return build(name, **case.sizes, dropout=case.dropout, cell=case.cell, **options).to(getattr(torch, case.dtype))
