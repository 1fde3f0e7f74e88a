"""What a probe works with: an implementation at a tiny size, a run that leaves nothing behind, and its result."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from rnn_parity.cells.base import Cell, load_cell
from rnn_parity.experiment.errors import COLOURS
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.parameters import copy_weights, gradient_sources
from rnn_parity.layers.running import LostStates, call_layer, generators_kept, numerics, seed_generators
from rnn_parity.layers.stimulus import Stimulus, build_sized, draw_stimulus

EXACT = 1e-10
"""How far, relative in the 2-norm, float64 results of the same mathematics may be apart: about 10⁶ roundoffs."""

COARSE = 2.0**-4
"""The same for float16 and bfloat16, sixteen roundoffs of bfloat16: results of different order, not of other gates."""

_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[\w.+-]+/)+")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")


class Support(StrEnum):
    """The outcome of a probe."""

    WORKS = "works"
    """The layer does it; for a `rejects_…` capability, it raises an error."""
    REFUSES = "refuses"
    """The layer raises an error."""
    WRONG = "wrong"
    """The layer gives a wrong result."""
    NOT_PROBED = "not probed"
    """This machine lacks something that the probe needs."""


class Wrong(Exception):
    """The layer gave a wrong result. The message describes it."""


class NotProbed(Exception):
    """The probe cannot be made here. The message names the missing thing."""


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe; a probe that returns says that the capability works.

    Attributes:
        outcome: see `Support`. detail: one line, empty where there is nothing to add.
        numbers: named results to compare with the baseline's. tolerance: see `disagreement`.
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
    def cell(self) -> type[Cell]:
        """The kind of cell that it shall be."""
        return load_cell(self.case.cell)

    @property
    def runs(self) -> bool:
        """Whether the layer can be built and run forward at this size."""
        try:
            with isolated(self.case):
                self.forward(self.load(), *self.arguments())
        except Exception:  # what cannot be built at all, a probe will tell
            return False
        return True

    @property
    def stimulus(self) -> Stimulus:
        """The weights, arguments and cotangents that every implementation is given, drawn anew on the device."""
        return draw_stimulus(self.case, seed=0).map(lambda tensor: tensor.to(self.case.device))

    def construct(self, **keywords: Any) -> nn.Module:
        """Build the module with weights of its own, its factory called with `keywords` besides the usual ones."""
        return build_sized(self.case, self.name, **keywords).to(self.case.device)

    def load(self, **keywords: Any) -> nn.Module:
        """Build the module, in training mode, with the stimulus' weights."""
        module = self.construct(**keywords)
        copy_weights(self.stimulus.weights, module)
        return module

    def arguments(self, change: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> tuple[Tensor, ...]:
        """Input (T, B, I) and states (L, B, H), all as `change` makes them, asking for gradients."""
        stimulus = self.stimulus
        return tuple(change(tensor).requires_grad_() for tensor in (stimulus.input, *stimulus.states))

    def run(
        self,
        module: nn.Module | None = None,
        call: Callable[[Tensor, Any], Any] | None = None,
        arguments: Iterable[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Output, last states, and the gradient of all that asks for one.

        Every run has the same dropout. `call` runs the module, by default a new one, in a way of its own; `arguments`
        replace the stimulus'.
        """
        module = self.load() if module is None else module
        given = self.arguments() if arguments is None else tuple(arguments)
        if self.case.dropout:
            seed_generators(0)
        # `call or module` would ask a compiled module for its length.
        outputs = self.forward(module if call is None else call, *given)
        sources = {name: tensor for name, tensor in self.sources(module, *given).items() if tensor.requires_grad}
        return outputs | self.gradients(outputs, sources)

    def gradients(
        self, outputs: Mapping[str, Tensor], sources: Mapping[str, Tensor], **options: Any
    ) -> dict[str, Tensor]:
        """Gradients of Σ⟨C_q, q⟩ over output and last states, as `grad_…`; where nothing flows back, of zero."""
        values = tuple(outputs.values())
        cotangents = [c.to(value.dtype) for c, value in zip(self.stimulus.cotangents, values, strict=True)]
        gradients = torch.autograd.grad(values, list(sources.values()), cotangents, materialize_grads=True, **options)
        return {f"grad_{name}": gradient for name, gradient in zip(sources, gradients, strict=True)}

    def forward(self, call: Callable[[Tensor, Any], Any], input: Tensor, *states: Tensor) -> dict[str, Tensor]:
        """Call it; return `output` (…, H) and the last states by name. Raises `Wrong` for other shapes."""
        try:
            result = call_layer(call, input, states)
        except LostStates as error:
            raise Wrong(str(error)) from error
        shapes = [(*input.shape[:-1], states[0].shape[-1]), *(tuple(state.shape) for state in states)]
        outputs = dict(zip(self.cell.outputs(), result, strict=True))
        for (name, value), shape in zip(outputs.items(), shapes, strict=True):
            if value.shape != shape:
                raise Wrong(f"gives {name} {tuple(value.shape)}, expected {shape}")
        return outputs

    def sources(self, module: nn.Module, input: Tensor, *states: Tensor) -> dict[str, Tensor]:
        """All that a gradient can be taken of, by name."""
        return dict(zip(self.cell.inputs(), (input, *states), strict=True)) | gradient_sources(module)


@dataclass(frozen=True)
class Capability:
    """Something a layer may be able to do: its title for people, and the function that tries it.

    Attributes:
        loads: what takes a second to load, `compiler` or `exporter`; empty for nothing of the kind.
    """

    title: str
    probe: Callable[[Subject], ProbeResult]
    loads: str = ""


def capability(title: str, loads: str = "") -> Callable[[Callable[[Subject], ProbeResult]], Capability]:
    """Make a `Capability` of a probe; the function's name is the capability's."""
    return partial(Capability, title, loads=loads)


def expect_same(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], reference: str, tolerance: float = EXACT
) -> ProbeResult:
    """Return the numbers as a result; raise `Wrong` where they are not the `reference`'s. Only dtypes may differ."""
    expected = {name: expected[name].to(value.dtype) for name, value in actual.items()}
    if difference := disagreement(actual, expected, reference, tolerance):
        raise Wrong(difference)
    return ProbeResult(numbers=actual, tolerance=tolerance)


def disagreement(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], reference: str, tolerance: float = EXACT
) -> str:
    """Say which result is not the `reference`'s; empty if none.

    Dtypes and shapes must be the same, and the relative difference in the 2-norm at most `tolerance`. NaNs in the same
    places are equal.
    """
    for name, value in actual.items():
        like = expected[name]
        gives, wanted = (f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for t in (value, like))
        if gives != wanted:
            return f"{name} is {gives}, that of {reference} {wanted}"
        value, like = value.detach().double(), like.detach().double()
        apart = ~torch.isclose(value, like, rtol=0, atol=0, equal_nan=True)
        error = (value - like)[apart].norm() / like.nan_to_num(0.0, 0.0, 0.0).norm()
        if apart.any() and not error <= tolerance:
            return f"{name} differs from that of {reference} by {error.item():.1e}"
    return ""


@contextmanager
def isolated(case: Case) -> Iterator[None]:
    """Run under seed 0 with the case's threads, in silence; leave generators and settings as they were."""
    with (
        ExitStack() as stack,
        generators_kept(case.device),
        numerics(case.threads, case.tf32),
        warnings.catch_warnings(),
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
        mock.patch.dict(os.environ),  # put back as it was: the compiler writes to it
    ):
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable()
        warnings.simplefilter("ignore")
        seed_generators(0)
        yield


def one_line(error: BaseException) -> str:
    """`RuntimeError: the first line of the message`, without folders and addresses, which differ from run to run."""
    lines = [line.strip() for line in COLOURS.sub("", str(error)).splitlines() if line.strip()]
    text = ": ".join([type(error).__name__, *lines[:1]])
    return _ADDRESS.sub("0x…", _FOLDERS.sub("", text))
