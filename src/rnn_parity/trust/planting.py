"""Planting a fault: a class that replaces some steps of `WrittenOut`, put where its import path finds it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rnn_parity.cells.base import Arithmetic
from rnn_parity.trust.right import Parameters, States, WrittenOut

FAULTS: dict[str, type[WrittenOut]] = {}
"""Every planted fault by its import path: a class with its `kind`, and the fault in words as its docstring."""


def plant(
    module: str,
    kind: str,
    name: str,
    words: str,
    cells: Sequence[str] = (),
    *,
    into: dict[str, type[WrittenOut]] = FAULTS,
    base: type[WrittenOut] = WrittenOut,
    **steps: Any,
) -> None:
    """Add a fault to a module.

    Args:
        module: its name, `__name__` where it is called. kind: one of `FAULT_KINDS`, or of `LIFE_FAULT_KINDS`.
        name: of the class. words: the fault in plain words.
        cells: the kinds of cells that can have it; all where none is named.
        into: the registry of its sort. base: the class that it changes.
        steps: the attributes of `WrittenOut` that it replaces.
    """
    of_class = {"__module__": module, "__doc__": f"{words}.", "kind": kind, "cells": tuple(cells)}
    fault = into[f"{module}:{name}"] = type(name, (base,), {**of_class, **steps})
    setattr(sys.modules[module], name, fault)


def to_bfloat16(x: Tensor) -> Tensor:
    """Round to bfloat16 and back."""
    return x.bfloat16().to(x.dtype)


def given_state(index: int, change: Callable[..., Tensor]) -> Callable[..., States]:
    """The states before the first step, or between two (`change` is then told step and steps too), with one changed."""
    return lambda layer, states, *when: _with(states, index, change(states[index], *when))


def last_state(index: int, change: Callable[[Tensor], Tensor]) -> Callable[..., tuple[Tensor, States]]:
    """The result with one of the last states changed."""
    return lambda layer, sequence, last: (sequence, _with(last, index, change(last[index])))


def _with(states: States, index: int, state: Tensor) -> States:
    return *states[:index], state, *states[index + 1 :]


def coarse(**functions: Callable[..., Tensor]) -> Arithmetic:
    """The exact arithmetic with another `product`, `sigmoid` or `tanh`."""

    def and_rest(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        return lambda x: (function(x), 1 - function(x))

    changed = {name: function if name == "product" else and_rest(function) for name, function in functions.items()}
    return type("Coarse", (Arithmetic,), {name: staticmethod(function) for name, function in changed.items()})()


def in_order(*order: int) -> Callable[..., Parameters]:
    """Parameters whose gates stand in another order."""

    def parameters(layer: WrittenOut, k: int) -> Parameters:
        gates = len(layer.equations.gates)
        return [torch.cat([p.chunk(gates)[gate] for gate in order]) for p in WrittenOut.parameters_of(layer, k)]

    return parameters


def with_rows(**changes: Callable[[dict[str, Tensor]], Tensor]) -> Callable[..., Parameters]:
    """Parameters in which the rows of some gates follow from those of all gates, by the names of gates."""

    def parameters(layer: WrittenOut, k: int) -> Parameters:
        changed = []
        for parameter in WrittenOut.parameters_of(layer, k):
            rows = dict(zip(layer.equations.gates, parameter.chunk(len(layer.equations.gates)), strict=True))
            changed.append(torch.cat(list((rows | {gate: change(rows) for gate, change in changes.items()}).values())))
        return changed

    return parameters
