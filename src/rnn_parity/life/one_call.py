"""One call of a module: what it is given, and what it gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rnn_parity.cells.base import Cell, load_cell
from rnn_parity.compare.reference import References
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import call_layer
from rnn_parity.layers.stimulus import Stimulus

View = Callable[[Tensor], Tensor]

MANY_S = 1.0
"""The seconds that calls in great number may take."""


def _whole(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Given:
    """A stimulus with its references, and the loss that a module's results are put into.

    Attributes:
        views: what the loss reads of each result, by quantity: it is Σ⟨C, view(q)⟩; others do not enter.
        cotangents: these C, in the dtype of the case.
    """

    references: References
    views: Mapping[str, View]
    cotangents: Mapping[str, Tensor]

    @classmethod
    def of(cls, case: Case, stimulus: Stimulus, seed: int) -> Given:
        """A stimulus whose cotangents are those of the loss."""
        names = load_cell(case.cell).outputs()
        cotangents = dict(zip(names, stimulus.cotangents, strict=True))
        return cls(References(case, stimulus, seed), dict.fromkeys(names, _whole), cotangents)

    @property
    def case(self) -> Case:
        """The sizes."""
        return self.references.case

    @property
    def stimulus(self) -> Stimulus:
        """Weights, input, states, and the cotangents of whole results."""
        return self.references.stimulus

    def tensors(self) -> list[Tensor]:
        """Input and states on the device, copies that a layer may spoil."""
        return [tensor.to(self.case.device, copy=True) for tensor in (self.stimulus.input, *self.stimulus.states)]

    def change(self, change: Callable[[Stimulus], Stimulus]) -> Given:
        """The same with another stimulus; the loss is of whole results."""
        return Given.of(self.case, change(self.stimulus), self.references.seed)

    def with_weights(self, weights: Mapping[str, Tensor]) -> Given:
        """The same with other weights."""
        return self.change(lambda stimulus: replace(stimulus, weights=weights))

    def with_loss(self, **views: View) -> Given:
        """The same with a loss of some results, each as its view shows it. A scalar counts once."""
        generator, dtype = torch.Generator().manual_seed(self.references.seed), getattr(torch, self.case.dtype)
        cotangents: dict[str, Tensor] = {}
        dense: list[Tensor] = []
        for name, whole in zip(load_cell(self.case.cell).outputs(), self.stimulus.cotangents, strict=True):
            leaf = torch.zeros_like(whole, dtype=torch.float64, requires_grad=True)
            if name in views:
                shown = views[name](leaf)
                drawn = torch.randn(shown.shape, generator=generator, dtype=torch.float64)
                cotangents[name] = (drawn if shown.dim() else torch.ones_like(drawn)).to(dtype)
                dense += torch.autograd.grad(shown, leaf, cotangents[name].double())
            else:
                dense.append(torch.zeros_like(leaf))
        stimulus = replace(self.stimulus, cotangents=tuple(tensor.detach() for tensor in dense))
        return Given(References(self.case, stimulus, self.references.seed), views, cotangents)

    def weighed(self, values: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The pairs (view(q), C) of the loss."""
        return [(view(values[name]), self.cotangents[name].to(values[name])) for name, view in self.views.items()]


def many(times: int) -> Iterator[int]:
    """So many turns, or as many as take `MANY_S` where a layer is slow."""
    started = time.monotonic()
    for turn in range(times):
        yield turn
        if time.monotonic() - started > MANY_S:
            return


def generator_states(device: str) -> list[Tensor]:
    """The states of torch's global generators."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if device == "cuda" else [])]


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
