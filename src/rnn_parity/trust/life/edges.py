"""Planted faults of states, inputs and weights at the edge of what they may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding

from rnn_parity.trust.life.planting import Remembering, as_if_contiguous, in_states, passed, planting, replaced
from rnn_parity.trust.planting import coarse, given_state
from rnn_parity.trust.right import Parameters, States, WrittenOut

_plant = planting(__name__, "edges")


def _first_step(leaves_out: Callable[[Any, States], bool]):
    """`bias_hh` is left out of the first step where the states say so."""

    def run_layer(layer: Any, k: int, sequence: Tensor, states: States) -> list[States]:
        w_ih, w_hh, b_ih, b_hh = layer.parameters_of(k)
        history, without = [], leaves_out(layer, states)
        for step, x in enumerate(sequence.unbind()):
            bias = 0 * b_hh if without and step == 0 else b_hh
            states = layer.step(x, states, w_ih, w_hh, b_ih, bias)
            history.append(states)
        return history

    return run_layer


def _zero_step_is_padding(layer: Any, k: int, sequence: Tensor, states: States) -> list[States]:
    history, parameters = [], layer.parameters_of(k)
    for x in sequence.unbind():
        states = layer.step(x, states, *parameters) if k or x.detach().any() else states
        history.append(states)
    return history


def _zero_row_is_padding(layer: Any, k: int, sequence: Tensor, states: States) -> list[States]:
    history, there = [], (sequence.detach() != 0).any(-1).any(0)[:, None]
    for x in sequence.unbind():
        new = layer.step(x, states, *layer.parameters_of(k))
        states = tuple(torch.where(there, *pair) for pair in zip(new, states, strict=True)) if k == 0 else new
        history.append(states)
    return history


def _no_bias_where_zero(layer: Any, k: int) -> Parameters:
    w_ih, w_hh, b_ih, b_hh = WrittenOut.parameters_of(layer, k)
    return [w_ih, w_hh, b_ih, b_hh if b_ih.detach().any() else 0 * b_hh]


def _one_without_other(layer: Any, states: States) -> States:
    return states if all(state.detach().any() for state in states) else tuple(0 * state for state in states)


def _classes_looked_up(layer: Any, k: int, sequence: Tensor, states: States) -> list[States]:
    """Columns of `weight_ih` in place of a product, where the input is one-hot."""
    ones = sequence.detach()
    if k or not bool(((ones == 0) | (ones == 1)).all() & (ones.sum(-1) == 1).all()):
        return WrittenOut.run_layer(layer, k, sequence, states)
    history, (w_ih, w_hh, b_ih, b_hh) = [], layer.parameters_of(k)
    for x in (embedding(ones.argmax(-1), w_ih.T) + b_ih).unbind():
        states, _ = layer.equations.forward(x, states, w_hh, b_hh, layer.arithmetic)
        history.append(states)
    return history


def _rows_by_first_step(layer: Any, x: Tensor) -> Tensor:
    _, same = torch.unique(x.detach()[0], dim=0, return_inverse=True)
    first = torch.stack([(same == row).nonzero()[0, 0] for row in same])
    return x if torch.is_grad_enabled() else x[:, first]


def _zeros_learn_nothing(layer: Any, k: int) -> Parameters:
    def there_alone(weight: Tensor) -> Tensor:
        there = weight.detach() != 0
        return passed(weight, lambda gradient: gradient * there)

    *weights, b_ih, b_hh = WrittenOut.parameters_of(layer, k)
    return [*map(there_alone, weights), b_ih, b_hh]


def _on_grid(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    width = torch.finfo(sequence.dtype).eps / 4
    return replaced(sequence, (sequence.detach() / width).round() * width), last


def _short_rows(layer: Any, k: int) -> Parameters:
    w_ih, w_hh, *biases = WrittenOut.parameters_of(layer, k)
    return [w_ih, w_hh * (3 / w_hh.detach().norm(dim=1, keepdim=True).clamp(min=3)), *biases]


def _beyond(limit: float, function: Callable[[Tensor], Tensor]):
    return lambda x: torch.where(x.abs() > limit, torch.zeros_like(x), function(x))


_plant(
    "FirstBiasWithoutStates", "Without states the first step leaves out bias_hh", "no_states",
    run_layer=_first_step(lambda layer, states: layer.stateless),
)  # fmt: skip
_plant(
    "FirstBiasOfZeroStates", "From states of zero the first step leaves out bias_hh", "zero_states",
    run_layer=_first_step(lambda layer, states: not any(state.detach().any() for state in states)),
)  # fmt: skip
_plant(
    "FirstBiasOfZeroRow", "Where the states of one row are zero, the first step leaves out bias_hh", "zero_states",
    run_layer=_first_step(lambda layer, states: not all(states[0].detach().any(-1))),
)  # fmt: skip
_plant(
    "OneStateWithoutOther", "Where h0 or c0 is zero, the other is ignored", "zero_states", ("lstm",),
    initial=_one_without_other,
)  # fmt: skip
_plant("ZeroStepIsPadding", "A step whose inputs are all zero is taken for padding", "zero_inputs",
       run_layer=_zero_step_is_padding)  # fmt: skip
_plant("ZeroRowIsPadding", "A row whose inputs are all zero is taken for padding", "zero_inputs",
       run_layer=_zero_row_is_padding)  # fmt: skip
_plant("ClassesLookedUp", "One-hot inputs are looked up, and get no gradient", "telling_inputs",
       run_layer=_classes_looked_up)  # fmt: skip
_plant("MinusOneIsPadding", "A step whose inputs are all -1 is read as zeros", "telling_inputs",
       given=lambda layer, x: x * ~(x.detach() == -1).all(-1, keepdim=True))  # fmt: skip
_plant("RowsByFirstStep", "Rows that begin alike are computed once, without gradients",
       ("telling_inputs", "zero_inputs"), given=_rows_by_first_step)  # fmt: skip
_plant("ZerosLearnNothing", "Entries of matrices that are zero get no gradient", "zero_weights",
       parameters_of=_zeros_learn_nothing)  # fmt: skip
_plant("RowsOfWeightsCut", "Rows of weight_hh are scaled back to a norm of 3", ("hooked", "large"),
       parameters_of=_short_rows)  # fmt: skip
_plant("NoBiasWhereZero", "Where bias_ih is zero, bias_hh is left out too", "zero_biases",
       parameters_of=_no_bias_where_zero)  # fmt: skip
_plant("SumOfZeroIsPadding", "A row whose inputs add up to zero is taken for padding", "zero_inputs",
       given=lambda layer, x: torch.where((x.detach().sum(-1) == 0).all(0)[:, None], 0 * x, x))  # fmt: skip
_plant("NotFiniteSpreads", "Every row is NaN where one is not finite", "not_finite",
       given=lambda layer, x: x + 0 * x.detach().sum())  # fmt: skip
_plant("InputsClipped", "Inputs are clipped at ±20", "large", given=lambda layer, x: x.clamp(-20, 20))
_plant("InputsOfFixedRange", "Inputs are cut at ±1,000, as a fixed range holds them", "large",
       given=lambda layer, x: x.clamp(-1000, 1000))  # fmt: skip
_plant("StatesClipped", "h0 is clipped at ±2", "large", initial=given_state(0, lambda h: h.clamp(-2, 2)))
_plant(
    "CellClippedAtFifty", "c is clipped at ±50", "large", ("lstm",),
    carried=given_state(1, lambda c, step, steps: c.clamp(-50, 50)),
)  # fmt: skip
_plant("TanhOfTable", "tanh is read from a table that ends at ±12, and is 0 beyond", "large",
       arithmetic=coarse(tanh=_beyond(12.0, torch.tanh)))  # fmt: skip
_plant("ResultsOnGrid", "Its output lies on a grid as fine as numbers next to one", "weak", result=_on_grid)
_plant("InputReadAsContiguous", "The input is read as if it were contiguous", "strided",
       given=lambda layer, x: replaced(x, as_if_contiguous(x.detach())))  # fmt: skip
_plant("StatesReadAsContiguous", "States are read as if they were contiguous", "strided",
       initial=in_states(lambda layer, state: replaced(state, as_if_contiguous(state.detach()))))  # fmt: skip
_plant("InputOffsetIgnored", "The input is read from where its storage begins", ("pieces", "strided"),
       given=lambda layer, x: replaced(x, as_if_contiguous(x.detach(), at_offset=not x.is_contiguous())))  # fmt: skip


class _ListIgnored(Remembering):
    """Knows states by their type, a tuple."""

    def forward(self, input: Any, states: Any = None) -> Any:
        return super().forward(input, None if isinstance(states, list) else states)


_plant("ListIgnored", "States in a list are taken for none", "strided", ("lstm",), base=_ListIgnored)


class _NameSwallowed(Remembering):
    """Takes any argument by name."""

    def forward(self, input: Any, states: Any = None, **_: Any) -> Any:
        return super().forward(input, states)


_plant("NameSwallowed", "States by the name hx are taken for none", "strided", base=_NameSwallowed)
