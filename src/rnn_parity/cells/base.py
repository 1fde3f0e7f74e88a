"""What a kind of cell defines: gates, states, and the equations of one step, forward and backward."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.names import CELLS, check_name
from rnn_parity.experiment.workloads import load_object

Grouped = Sequence[tuple[Sequence[Tensor], Tensor]]
"""(gradients of the recurrent sums of some gates, the tensor that their weights multiplied), all gates in order."""

Rounding = Callable[..., Tensor]
"""`rounding(x)` rounds a kept value; `rounding(x, function=True)` a result of σ or tanh; `rounding(x, terms=n)` what is
multiplied with a weight and summed, n products at a time."""

PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""The parameters of one layer of any kind, in PyTorch's order."""


@dataclass(frozen=True)
class Arithmetic:
    """How a step computes: exactly, or with every value rounded that a layer keeps for its backward pass.

    Attributes:
        rounding: applied to every gate, state and product; None for the exact equations. With rounding, slopes are
            computed from the rounded values, as in a layer that keeps its values in a dtype of finite precision.
    """

    rounding: Rounding | None = None

    def kept(self, x: Tensor) -> Tensor:
        """Return a value as a layer keeps it."""
        return x if self.rounding is None else self.rounding(x)

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply rows (…, B, I) by a weight (…, R, I). With rounding, each sum errs as one of I terms does."""
        return (x if self.rounding is None else self.rounding(x, terms=x.shape[-1])) @ weight.mT

    def sigmoid(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return σ(x) and 1 − σ(x). Without rounding, the latter is σ(−x), which is accurate near 0."""
        if self.rounding is None:
            return torch.sigmoid(x), torch.sigmoid(-x)
        y = self.rounding(torch.sigmoid(x), function=True)
        return y, 1 - y

    def tanh(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return tanh x and its slope: 1 / cosh² x, or 1 − tanh² x of the rounded value."""
        if self.rounding is None:
            return torch.tanh(x), torch.cosh(x) ** -2
        y = self.rounding(torch.tanh(x), function=True)
        return y, 1 - y * y


class Cell:
    """A kind of cell. A subclass defines everything about the kind; all else is derived from it.

    Attributes:
        words: the kind in words, such as `an LSTM`.
        gates: the blocks of rows of every weight, in the order in which they are stacked.
        states: the tensors carried from step to step, one lower-case letter each. The layer above reads the first.
        bounds: for each state the size that it never exceeds, if it starts within it; None for no bound.
        closed: gate to a bias. With these biases, and no recurrent weights in the other gates, a step forgets its
            states: the new state depends on the input alone. They are used to recover dropout masks.
    """

    words: ClassVar[str]
    gates: ClassVar[tuple[str, ...]]
    states: ClassVar[tuple[str, ...]] = ("h",)
    bounds: ClassVar[Mapping[str, float | None]] = {"h": 1.0}
    closed: ClassVar[Mapping[str, float]]

    @staticmethod
    def forward(
        x: Tensor, states: tuple[Tensor, ...], w_hh: Tensor, b_hh: Tensor, arithmetic: Arithmetic
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Take one step.

        Args:
            x: W_ih x_t + b_ih, (…, B, R) with R rows, H for every gate. states: each (…, B, H).
            w_hh: (…, R, H). b_hh: (…, 1, R).

        Returns:
            the new states, and what `backward` needs.
        """
        raise NotImplementedError

    @staticmethod
    def backward(
        saved: tuple[Tensor, ...], gradients: tuple[Tensor, ...], w_hh: Tensor
    ) -> tuple[Sequence[Tensor], tuple[Tensor, ...], Grouped]:
        """Take one step back, from the gradients of the new states.

        Returns:
            the gradients of the rows of `x`, one (…, B, H) per gate; the gradients of the states before; and, for the
            gradient of `w_hh`, the gates grouped by the tensor that they multiplied.
        """
        raise NotImplementedError

    @classmethod
    def shapes(cls, width: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """The parameters of one layer that reads `width` numbers."""
        rows = len(cls.gates) * hidden_size
        return {"weight_ih": (rows, width), "weight_hh": (rows, hidden_size), "bias_ih": (rows,), "bias_hh": (rows,)}

    @classmethod
    def inputs(cls) -> list[str]:
        """The tensors that a layer is given: `input`, and each state before the sequence, as `h0`."""
        return ["input", *(f"{state}0" for state in cls.states)]

    @classmethod
    def outputs(cls) -> list[str]:
        """The tensors that a layer gives back: `output`, and each state after the sequence, as `hn`."""
        return ["output", *(f"{state}n" for state in cls.states)]

    @classmethod
    def quantities(cls, num_layers: int) -> list[str]:
        """Every compared tensor of a stack: what it gives back, then the gradients."""
        parameters = [f"{name}_l{layer}" for layer in range(num_layers) for name in PARAMETERS]
        return [*cls.outputs(), *(f"grad_{name}" for name in (*cls.inputs(), *parameters))]


@functools.cache
def load_cell(name: str) -> type[Cell]:
    """Import the kind behind a name of the config: a known one, or an import path `package.module:Class`.

    Raises `InputError` for a name that is neither, and for a path to anything but a kind of cell.
    """
    check_name(name, "cell", CELLS)
    try:
        kind = load_object(CELLS.get(name, name))
    except Exception as error:  # a kind of the user's own may raise anything while it is imported
        raise InputError(f"cell: {name} cannot be imported ({type(error).__name__}: {error})") from error
    if not (isinstance(kind, type) and issubclass(kind, Cell)):
        raise InputError(f"cell: {name} is not a kind of cell, expected a subclass of {Cell.__module__}.Cell")
    return kind
