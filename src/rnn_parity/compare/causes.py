"""What is known of a wrong tensor beyond the size of its error: NaN, no gradient, and where it is wrong."""

from __future__ import annotations

from torch import Tensor

_AXES = {"output": ("step", "row", "unit"), "grad_input": ("step", "row", "column")}
_OF_STATE = ("layer", "row", "unit")


def describe(quantity: str, value: Tensor, truth: Tensor, limit: float) -> str:
    """Say how a tensor is wrong; empty where its error is of no known form.

    Args:
        quantity: its name; `output` and `grad_input` are (T, B, ·), states (L, B, H), a parameter's gradient (R, ·).
        truth: the right one, of the same shape, in float64. limit: the largest error, relative to its largest entry.
    """
    wrong = ~((value.double() - truth).abs() <= limit * truth.abs().max())  # a NaN is wrong
    kinds = [name for name, of in (("NaN", value.isnan()), ("infinity", value.isinf())) if of.any()]
    if kinds:
        return f"holds {' and '.join(kinds)}{_place(quantity, ~value.isfinite())}"
    if not value.any() and truth.any():
        return "is zero: no gradient arrives" if quantity.startswith("grad_") else "is zero"
    if place := _place(quantity, wrong):
        error = (value.double() - truth).abs().max() / truth.abs().max() / limit
        return f"error is {error:.3g}× its limit, only{place}"
    return ""


def _place(quantity: str, wrong: Tensor) -> str:
    """Where it is wrong and where it is not, along the first axis on which that tells; empty if everywhere."""
    axes = _AXES.get(quantity, _OF_STATE)
    if quantity.startswith(("grad_weight", "grad_bias")) or wrong.dim() != len(axes):
        return ""
    for dim, axis in enumerate(axes[:2]):
        others = tuple(other for other in range(wrong.dim()) if other != dim)
        at, size = wrong.any(others).nonzero().flatten().tolist(), wrong.shape[dim]
        if not at or len(at) == size:
            continue
        first, last = at[0], at[-1]
        if first == last:
            return f" at {axis} {first} of {size}"
        if len(at) == last - first + 1 and last == size - 1:
            return f" from {axis} {first} of {size} on"
        if len(at) == last - first + 1 and first == 0:
            return f" up to {axis} {last} of {size}"
        return f" at {len(at)} of {size} {axis}s"
    return ""
