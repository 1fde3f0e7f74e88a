"""The interface to a workload: what of it is timed, and the calls that each phase asks of a layer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rnn_parity.compare.run import Role
from rnn_parity.experiment.grid import Case

MOVED = 0.1
"""The largest share by which what a call is given differs from what was drawn."""


@dataclass(frozen=True)
class Calls:
    """What a phase asks of one implementation.

    Attributes:
        call: what the clock sees, given one of what was prepared.
        prepare: what the calls of one sample are given, made before the clock starts: from the number of a stimulus,
            and how many calls there are. No two numbers give the same values; one gives all implementations the same.
        results: outputs and gradients by quantity, from what a call was given and what it gave back.
    """

    call: Callable[[Any], Any]
    prepare: Callable[[int, int], Sequence[Any]] = lambda number, count: [None] * count
    results: Callable[[Any, Any], Mapping[str, Tensor]] = lambda prepared, returned: {}


class TimedTask(Protocol):
    """What every implementation of a case is timed with."""

    @property
    def case(self) -> Case:
        """The sizes."""

    def calls(self, implementation: str, role: Role, phase: str) -> Calls:
        """Build an implementation and what a phase asks of it; raises what keeps it from being timed."""

    def rates(self, phase: str) -> dict[str, Any]:
        """Columns of the timing table that follow from the case: operations, bytes, and the rate of one step."""

    def limits(self, quantity: str) -> tuple[float, float] | None:
        """How far a quantity may be off, in both norms; None where nothing can be judged."""

    def least_limit(self, quantity: str) -> float:
        """How far it may be off in any case: known at once."""


class TimedWorkload(Protocol):
    """Draws the task of a case, and says what is timed of it."""

    def draw(self, case: Case, seed: int) -> TimedTask:
        """Draw what one seed gives to every implementation."""

    def phases(self, asked: Sequence[str]) -> Sequence[str]:
        """The phases that are timed where these are asked for."""


class RewrittenTensors:
    """Tensors that are written anew in place: a cache that goes by their identity or address has what was."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.tensors = list(tensors)
        self.base = [tensor.detach().clone() for tensor in self.tensors]

    @torch.no_grad()
    def write(self, key: str) -> None:
        """Each becomes its first values times a factor of its own, which follows from the key."""
        factor = random.Random(key)
        if self.tensors:
            torch._foreach_copy_(self.tensors, self.base)
            torch._foreach_mul_(self.tensors, [factor.uniform(1 - MOVED, 1 + MOVED) for _ in self.tensors])


def phase_calls(
    phase: str,
    module: nn.Module,
    forward: Callable[..., Sequence[Tensor]],
    leaves: Mapping[str, Tensor],
    cotangents: Mapping[str, Tensor],
    gradients: Callable[[], Mapping[str, Tensor]],
    rewrite: Callable[[int], None] = lambda number: None,
) -> Calls:
    """The calls of a phase: `forward` gives outputs, whose gradients by the leaves and the parameters are taken.

    Every call is given other values; in training the parameters move between samples, as an optimizer moves them. In
    inference they stay, as in serving.

    Args:
        module: has the parameters, and is switched between training and evaluation. forward: takes the leaves.
        leaves: the inputs that get a gradient, by name. cotangents: of the first outputs, by the quantity.
        gradients: those of the parameters, by name, after a backward pass. rewrite: makes what else a call is given.
    """
    training = phase != "inference"
    module.train(training)
    slots = [RewrittenTensors(leaves.values())]
    weights = RewrittenTensors([p for p in module.parameters() if p.requires_grad] if training else [])
    count_outputs, weighed = len(cotangents), tuple(cotangents.values())

    def write(number: int, count: int) -> list[list[Tensor]]:
        while len(slots) < count:
            slots.append(RewrittenTensors(base.clone() for base in slots[0].base))
        module.zero_grad(set_to_none=True)
        weights.write(f"weights {number}")
        rewrite(number)
        for place, slot in enumerate(slots[:count]):
            slot.write(f"{number} {place}")
            for leaf in slot.tensors:
                leaf.requires_grad_(training)
                leaf.grad = None
        return [slot.tensors for slot in slots[:count]]

    def infer(given):
        with torch.no_grad():  # as a decorator it takes a microsecond more of each call
            return as_plain_tensors(forward(*given))

    def backward(outputs):
        torch.autograd.backward(outputs[:count_outputs], weighed)

    def outputs_of(_: Any, outputs: Sequence[Tensor]) -> dict[str, Tensor]:
        return dict(zip(cotangents, outputs, strict=False))

    def gradients_of(*_: Any) -> dict[str, Tensor]:
        found = dict(zip(leaves, (_gradient(leaf) for leaf in slots[0].tensors), strict=True)) | dict(gradients())
        return {f"grad_{name}": gradient for name, gradient in found.items()}

    return {
        "inference": Calls(infer, write, outputs_of),
        "forward": Calls(lambda given: as_plain_tensors(forward(*given)), write, outputs_of),
        "backward": Calls(
            backward,
            lambda number, count: [forward(*given) for given in write(number, count)],
            lambda outputs, _: outputs_of(None, outputs) | gradients_of(),
        ),
        "step": Calls(lambda given: backward(forward(*given)), write, gradients_of),
    }[phase]


def as_plain_tensors(outputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """The outputs as they are; those of a class of the layer's own read, since it may compute them when they are."""
    return outputs if all(type(output) is Tensor for output in outputs) else tuple(map(copy_of, outputs))


@torch.no_grad()
def copy_of(tensor: Tensor) -> Tensor:
    """A plain tensor with the values of any other."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).copy_(tensor)


def parameter_gradients(parameters: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The gradients of those that ask for one; no gradient is one of zero."""
    return {name: _gradient(parameter) for name, parameter in parameters if parameter.requires_grad}


def _gradient(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
