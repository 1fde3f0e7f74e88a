"""The weights, inputs and cotangents that every implementation of a case gets, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnn_parity.experiment.grid import Case
from rnn_parity.layers.parameters import canonical_shapes, copy_weights
from rnn_parity.layers.registry import build

WEIGHT_SCALE = 2.0
"""Weights are uniform within ±2/√H, twice `nn.GRU`'s own: its gates stay near the linear region, where faults hide."""


@dataclass(frozen=True)
class Stimulus:
    """The weights, inputs and cotangents of one seed, in the case's dtype, on the CPU.

    Attributes:
        input: (T, B, I). h0: (L, B, H), not zero. weights: under `nn.GRU`'s names, biases not zero.
        cotangents: of output (T, B, H) and of hn (L, B, H), so that both send gradients back.
    """

    input: Tensor
    h0: Tensor
    weights: Mapping[str, Tensor]
    cotangents: tuple[Tensor, Tensor]

    def map(self, change: Callable[[Tensor], Tensor]) -> Stimulus:
        """The stimulus with `change` applied to every tensor."""
        weights = {name: change(weight) for name, weight in self.weights.items()}
        of_output, of_hn = self.cotangents
        return Stimulus(change(self.input), change(self.h0), weights, (change(of_output), change(of_hn)))


def draw_stimulus(
    case: Case, seed: int, weight_scale: float = WEIGHT_SCALE, input_scale: float = 1.0, state_scale: float = 1.0
) -> Stimulus:
    """Draw weights, input, states and cotangents on the CPU in float64, then round to the case's dtype.

    Args:
        weight_scale: weights are uniform within ± this / √H. input_scale: standard deviation of the input.
        state_scale: h0 is uniform within ± this.
    """
    generator = torch.Generator().manual_seed(seed)
    dtype = getattr(torch, case.dtype)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)

    def uniform(bound: float, *shape: int) -> Tensor:
        return ((2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * bound).to(dtype)

    states = (case.num_layers, case.batch_size, case.hidden_size)
    shapes = canonical_shapes(case.input_size, case.hidden_size, case.num_layers)
    bound = weight_scale / case.hidden_size**0.5
    return Stimulus(
        weights={name: uniform(bound, *shape) for name, shape in shapes.items()},
        input=normal(case.sequence_length, case.batch_size, case.input_size, scale=input_scale),
        h0=uniform(state_scale, *states),
        cotangents=(normal(case.sequence_length, case.batch_size, case.hidden_size), normal(*states)),
    )


def build_loaded(case: Case, name: str, stimulus: Stimulus) -> nn.Module:
    """Build an implementation at the case's size, in its dtype, on its device, with the stimulus' weights."""
    module = build(
        name,
        input_size=case.input_size,
        hidden_size=case.hidden_size,
        num_layers=case.num_layers,
        dropout=case.dropout,
    ).to(case.device, getattr(torch, case.dtype))
    copy_weights(stimulus.weights, module)
    return module
