"""Planting a fault of the life: a layer that is right at a first call, and wrong at a later or an unusual one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rnn_parity.layers.running import pack_states
from rnn_parity.trust.planting import plant
from rnn_parity.trust.right import States, WrittenOut

ANYWHERE = "anywhere"
"""The point of a fault that any point may show, as one that shows now and then."""

LIFE_FAULTS: dict[str, Any] = {}
"""Every planted fault of the life by its import path: a class with its `kind`, its `points`, and its docstring."""

PROCESS: dict[Any, Any] = {}
"""What faults keep for the whole process; cleared before each is tried."""


class Remembering(WrittenOut):
    """The parent of these faults: right, from states of zero where it is given none, and it knows its calls.

    Attributes:
        points: those that may name the fault. memory: what a fault keeps in a module. number, trained: of calls, and
            of training calls, this one included. steps, rows: T and B. stateless: whether no state was given.
        learning: whether the input asks for a gradient.
    """

    points: tuple[str, ...] = ()

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, dropout: float, *, cell: str = "gru"
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, dropout, cell=cell)
        self.memory: dict[Any, Any] = {}
        self.number = self.trained = 0

    def forward(self, input: Tensor, states: Any = None) -> Any:
        self.number, self.trained = self.number + 1, self.trained + self.training
        (self.steps, self.rows, _), self.stateless = input.shape, states is None
        self.learning = input.requires_grad
        if states is None:
            _, width = self.get_parameter("weight_hh_l0").shape
            of_one = input.new_zeros(self.num_layers, self.rows, width)
            states = pack_states([of_one] * len(self.equations.states))
        return super().forward(input, states)


def planting(module: str, kind: str) -> Callable[..., None]:
    """A function `(name, words, points, cells=(), **steps)` that plants faults of a kind in a module, as `plant`."""

    def plant_one(name: str, words: str, points: str | Sequence[str], cells: Sequence[str] = (), **steps: Any) -> None:
        of_fault = {"points": (points,) if isinstance(points, str) else tuple(points)}
        plant(module, kind, name, words, cells, into=LIFE_FAULTS, **{"base": Remembering, **of_fault, **steps})

    return plant_one


def passed(tensor: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The tensor as it is; its gradient is changed."""
    seen = tensor.view_as(tensor)
    if seen.requires_grad:
        seen.register_hook(change)
    return seen


class _Together(torch.autograd.Function):
    @staticmethod
    def forward(ctx, change, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.change = change
        ctx.set_materialize_grads(False)
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx, *gradients: Tensor | None):
        return None, *ctx.change(gradients)


def result_passed(change: Callable[[Sequence[Tensor | None]], Sequence[Tensor | None]]):
    """The result as it is; the gradients of output and last states are changed together, None where there is none."""

    def result(layer: WrittenOut, sequence: Tensor, last: States) -> tuple[Tensor, States]:
        output, *after = _Together.apply(change, sequence, *last)
        return output, tuple(after)

    return result


class _Replaced(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient, None


def replaced(tensor: Tensor, value: Tensor) -> Tensor:
    """Another value, whose gradient goes to the tensor; the tensor itself where that has another shape or dtype."""
    return _Replaced.apply(tensor, value) if (value.shape, value.dtype) == (tensor.shape, tensor.dtype) else tensor


def as_if_contiguous(tensor: Tensor, at_offset: bool = True) -> Tensor:
    """The tensor's memory read row after row, whatever its strides; zeros where it ends."""
    start = tensor.storage_offset() if at_offset else 0
    base = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(tensor.untyped_storage())[start:]
    flat = tensor.new_zeros(tensor.numel())
    flat[: len(base)] = base[: tensor.numel()]
    return flat.view(tensor.shape)


def in_states(change: Callable[[Any, Tensor], Tensor]) -> Callable[[WrittenOut, States], States]:
    """The states before the first step, each changed."""
    return lambda layer, states: tuple(change(layer, state) for state in states)
