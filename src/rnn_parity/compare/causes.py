"""What is known of a wrong tensor beyond the size of its error. A cause is tried on the numbers before it is said."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from torch import Tensor

from rnn_parity.compare.reference import Reference

_AXES = {"output": ("step", "row"), "grad_input": ("step", "row")}
_OF_STATE, _OF_PARAMETER = re.compile("[a-z]n|grad_[a-z]0"), re.compile(r"grad_(weight|bias)_[ih]h_l\d+")

BETTER = 10.0
"""How many times smaller an error must become by a cause, or by the numbers of a planted fault."""

CHANCE = 1e-6
"""With so many numbers of such precision that they match by chance less often than this, a match is no chance."""


def describe(quantity: str, value: Tensor, reference: Reference, limit: float, gates: Sequence[str] = ()) -> str:
    """Say how a tensor is wrong, as what follows `output …`; empty where its error is of no known form.

    Args:
        quantity: its name; `output` and `grad_input` are (T, B, ·), states (L, B, H), a parameter's gradient (R, ·).
        reference: what is right, of this quantity and of others. limit: the largest error, relative to its largest
            entry. gates: the names of the blocks of rows of every parameter.
    """
    truth, value = reference.values[quantity], value.double()
    for other, tensor in reference.values.items():
        if other != quantity and tensor.shape == truth.shape and _is(value, tensor, truth, limit):
            return f"is what {other} should be"
    if form := _rearranged(quantity, value, truth, limit):
        return form
    blocks = len(gates) if _OF_PARAMETER.fullmatch(quantity) else 0
    axes: Sequence[str] = _AXES.get(quantity, ("layer", "row") if _OF_STATE.fullmatch(quantity) else ())
    if blocks and len(truth) % blocks == 0:
        axes, shape = ("gate",), (blocks, -1, *truth.shape[1:])
        value, truth = value.reshape(shape), truth.reshape(shape)
    wrong = ~((value - truth).abs() <= limit * truth.abs().max())  # a NaN is wrong
    if not value.isfinite().all():
        kinds = [name for name, of in (("NaN", value.isnan()), ("infinity", value.isinf())) if of.any()]
        return f"holds {' and '.join(kinds)}{_place(~value.isfinite(), axes, gates)[1]}"
    for dim, axis in enumerate(axes):
        if form := _permuted(value, truth, _slices(wrong, dim).nonzero().flatten(), dim, axis, gates, limit):
            return form
    if (zero := _all_zero(value, wrong, axes)).any():
        why = ": no gradient arrives" if quantity.startswith("grad_") else ""
        return f"is zero{_place(zero, axes, gates)[1]}{why}"
    here, place = _place(wrong, axes, gates)
    factor = float((value[here] * truth[here]).sum() / truth[here].square().sum())
    if _is(value[here], factor * truth[here], truth[here], limit):
        times = f"{round(factor, max(2, math.ceil(-math.log10(limit)))):.15g}× what it should be"
        return f"is {'right but for its sign' if abs(factor + 1) <= limit else times}{place}"
    if place:
        error = (value - truth).abs().max() / truth.abs().max() / limit
        return f"is wrong only{place}, by {error:.3g}× its limit"
    return ""


def _slices(of: Tensor, dim: int) -> Tensor:
    """Which slices along an axis hold any."""
    return of.transpose(0, dim).flatten(1).any(1)


def _all_zero(value: Tensor, wrong: Tensor, axes: Sequence[str]) -> Tensor:
    """The entries that are zero in whole slices where they should not be, along the first axis that has such."""
    for dim in range(len(axes)):
        zero = _slices(wrong, dim) & ~_slices(value != 0, dim)
        if zero.any():
            return zero.view(-1, *(1,) * (value.dim() - dim - 1)).expand_as(value)
    return (wrong & ~value.any()).expand_as(value)


def _is(value: Tensor, guess: Tensor, truth: Tensor, limit: float) -> bool:
    """Whether a guess explains a value: within the limit, far better than the truth does, and not by chance."""
    if not guess.numel() or not math.log(CHANCE) >= (guess.numel() - 1) * math.log(min(limit, 1.0)):
        return False
    error = (value - guess).abs().max()
    return bool(error <= limit * guess.abs().max() and BETTER * error <= (value - truth).abs().max())


def _rearranged(quantity: str, value: Tensor, truth: Tensor, limit: float) -> str:
    """Two axes exchanged, or all one step late or early; of the tensor as it is."""
    if truth.dim() < 2 or not (quantity in _AXES or _OF_STATE.fullmatch(quantity) or _OF_PARAMETER.fullmatch(quantity)):
        return ""
    exchanged = truth.transpose(0, 1)
    misread = truth.reshape(exchanged.shape).transpose(0, 1)
    if any(_is(value, guess, truth, limit) for guess in (exchanged.reshape(truth.shape), misread)):
        return "is transposed" if truth.dim() == 2 else "has its first two axes exchanged"
    if quantity in _AXES and len(truth) > 2:
        if _is(value[1:], truth[:-1], truth[1:], limit):
            return "is one step late"
        if _is(value[:-1], truth[1:], truth[:-1], limit):
            return "is one step early"
    return ""


def _permuted(value: Tensor, truth: Tensor, at: Tensor, dim: int, axis: str, gates: Sequence[str], limit: float) -> str:
    """Two of the wrong slices swapped, or all reversed or shifted by one; empty where it is none of these."""
    if len(at) < 2:
        return ""
    here, right = value.index_select(dim, at), truth.index_select(dim, at)
    if _is(here, right.flip(dim), right, limit):
        if len(at) > 2:
            return f"has its {axis}s in reverse order"
        names = [gates[i] if axis == "gate" else str(i) for i in at.tolist()]
        return f"has its {axis}s {' and '.join(names)} swapped"
    if any(_is(here, right.roll(shift, dim), right, limit) for shift in (1, -1)):
        return f"has its {axis}s shifted by one"
    return ""


def _place(wrong: Tensor, axes: Sequence[str], gates: Sequence[str]) -> tuple[tuple[slice | Tensor, ...], str]:
    """Where it is wrong, as an index and in words, along the first axis on which that tells; everywhere if on none."""
    for dim, axis in enumerate(axes):
        found, size = _slices(wrong, dim).nonzero().flatten(), wrong.shape[dim]
        if 0 < len(found) < size:
            at = found.tolist()
            in_words = " and ".join(gates[i] for i in at) if axis == "gate" else ""
            place = f" in the rows of {axis}{'s' * (len(at) > 1)} {in_words}" if in_words else _span(at, size, axis)
            return (*(slice(None) for _ in range(dim)), found), place
    return (slice(None),) * wrong.dim(), ""


def _span(at: list[int], size: int, axis: str) -> str:
    first, last = at[0], at[-1]
    if first == last:
        return f" at {axis} {first} of {size}"
    if len(at) == last - first + 1 and last == size - 1:
        return f" from {axis} {first} of {size} on"
    if len(at) == last - first + 1 and first == 0:
        return f" up to {axis} {last} of {size}"
    return f" at {len(at)} of {size} {axis}s"
