"""What a probe is given, an implementation at a tiny size, and what it makes of it: numbers, a fault, or a reason."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rnn_parity.experiment.grid import Case
from rnn_parity.layers.parameters import canonical_parameters, copy_weights
from rnn_parity.layers.registry import build, load_factory
from rnn_parity.layers.stimulus import Stimulus, draw_stimulus

EXACT = 1e-10
"""How far, relative in the 2-norm, float64 results of the same mathematics may be apart: about 10⁶ roundoffs."""

COARSE = 2.0**-4
"""The same for float16 and bfloat16, sixteen roundoffs of bfloat16: results of different order, not of other gates."""


class Support(StrEnum):
    """What came of trying a capability."""

    WORKS = "works"
    """It does what is wanted; of a `rejects_…` capability, it raises an error."""
    REFUSES = "refuses"
    """It raises."""
    WRONG = "wrong"
    """It gives a result, which is not right."""
    NOT_PROBED = "not probed"
    """This machine lacks what the probe needs."""


class Wrong(Exception):
    """The layer gave a result that is not right. The message says what is wrong with it."""


class NotProbed(Exception):
    """The probe cannot be made here. The message says what is missing."""


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found; a probe that returns says that it works.

    Attributes:
        outcome: see `Support`. detail: one line, empty where there is nothing to add.
        numbers: named results to hold against the baseline's. tolerance: how far apart they may be.
    """

    outcome: Support = Support.WORKS
    detail: str = ""
    numbers: Mapping[str, Tensor] = field(default_factory=dict)
    tolerance: float = EXACT


@dataclass(frozen=True)
class Subject:
    """One implementation, to be built at the size and in the dtype of a case."""

    name: str
    case: Case

    def vary(self, **axes: Any) -> Subject:
        """The same implementation with some axes of its case replaced; the weights are drawn from the same seed."""
        return dataclasses.replace(self, case=dataclasses.replace(self.case, **axes))

    @property
    def stimulus(self) -> Stimulus:
        """The weights, arguments and cotangents that every implementation is given."""
        return draw_stimulus(self.case, seed=0)

    def construct(self, **keywords: Any) -> nn.Module:
        """Build the module with weights of its own, its factory called with `keywords` besides the usual ones."""
        case = self.case
        factory = load_factory(self.name) if keywords else partial(build, self.name)
        sizes = {"input_size": case.input_size, "hidden_size": case.hidden_size, "num_layers": case.num_layers}
        return factory(**sizes, dropout=case.dropout, **keywords).to(case.device, getattr(torch, case.dtype))

    def load(self, **keywords: Any) -> nn.Module:
        """Build the module, in training mode, with the stimulus' weights."""
        module = self.construct(**keywords)
        copy_weights(self.stimulus.weights, module)
        return module

    def arguments(self) -> tuple[Tensor, Tensor]:
        """Input (T, B, I) and h0 (L, B, H), on the device, asking for gradients."""
        given = self.stimulus
        return tuple(tensor.to(self.case.device).requires_grad_() for tensor in (given.input, given.h0))

    def cotangents(self) -> tuple[Tensor, Tensor]:
        """Of output (T, B, H) and of hn (L, B, H)."""
        return tuple(tensor.to(self.case.device) for tensor in self.stimulus.cotangents)

    def run(
        self,
        module: nn.Module,
        call: Callable[[Tensor, Tensor], Any] | None = None,
        arguments: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Output, hn, and the gradients of ⟨C_output, output⟩ + ⟨C_hn, hn⟩ for all that asks for one.

        `call` runs the module in a way of its own; `arguments` replace the stimulus'.
        """
        input, h0 = self.arguments() if arguments is None else arguments
        # `call or module` would ask a compiled module for its length.
        output, hn = forward(module if call is None else call, input, h0)
        sources = {"input": input, "h0": h0, **canonical_parameters(module)}
        sources = {name: tensor for name, tensor in sources.items() if tensor.requires_grad}
        cotangents = [c.to(value.dtype) for c, value in zip(self.cotangents(), (output, hn), strict=True)]
        gradients = gradients_of((output, hn), sources, cotangents)
        return {"output": output.detach(), "hn": hn.detach(), **gradients}


@dataclass(frozen=True)
class Capability:
    """Something a layer may be able to do: its title and description for people, and the function that tries it."""

    title: str
    description: str
    probe: Callable[[Subject], ProbeResult]


def capability(title: str) -> Callable[[Callable[[Subject], ProbeResult]], Capability]:
    """Make a `Capability` of a probe: the function's name is the capability's, its docstring the description."""
    return lambda probe: Capability(title, " ".join((probe.__doc__ or "").split()), probe)


def forward(call: Callable[[Tensor, Tensor], Any], input: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    """Output and hn; `Wrong` unless they are two tensors of the shapes that follow from the arguments'."""
    result = call(input, h0)
    pair = isinstance(result, tuple | list) and len(result) == 2
    if not pair or not all(isinstance(value, Tensor) for value in result):
        raise Wrong(f"gives a {type(result).__name__}, expected two tensors")
    for name, value, shape in zip(("output", "hn"), result, output_shapes(input, h0), strict=True):
        if value.shape != shape:
            raise Wrong(f"gives {name} {tuple(value.shape)}, expected {tuple(shape)}")
    return tuple(result)


def output_shapes(input: Tensor, h0: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of output and hn, whatever dimensions come first."""
    return (*input.shape[:-1], h0.shape[-1]), tuple(h0.shape)


def gradients_of(values, sources: Mapping[str, Tensor], cotangents, **options: Any) -> dict[str, Tensor]:
    """Gradients under `grad_…` names; where nothing flows back, a gradient of zero."""
    gradients = torch.autograd.grad(values, list(sources.values()), cotangents, materialize_grads=True, **options)
    return {f"grad_{name}": gradient for name, gradient in zip(sources, gradients, strict=True)}


def expect_same(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], reference: str, tolerance: float = EXACT
) -> None:
    """Raise `Wrong` where a result of a probe is not the `reference`'s; only their dtypes may differ."""
    expected = {name: expected[name].to(value.dtype) for name, value in actual.items()}
    if why := disagreement(actual, expected, reference, tolerance):
        raise Wrong(why)


def disagreement(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], reference: str, tolerance: float = EXACT
) -> str:
    """What is not as in the `reference`: a dtype, a shape, where NaNs are, a size beyond `tolerance`; empty if nothing.

    NaNs in the same places are equal.
    """
    for name, value in actual.items():
        like = expected[name]
        if (value.dtype, value.shape) != (like.dtype, like.shape):
            gives, wanted = (f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for t in (value, like))
            return f"{name} is {gives}, that of {reference} {wanted}"
        if not torch.equal(value.isnan(), like.isnan()):
            return f"{name} is NaN in other places than that of {reference}"
        if not (error := _relative_error(value, like)) <= tolerance:
            return f"{name} differs from that of {reference} by {error:.1e}"
    return ""


def _relative_error(value: Tensor, like: Tensor) -> float:
    same = (value == like) | value.isnan()
    difference = torch.where(same, 0.0, value.double() - like.double()).norm().item()
    size = like.double().nan_to_num(nan=0.0).norm().item()
    return 0.0 if difference == 0 else (difference / size if size else math.inf)
