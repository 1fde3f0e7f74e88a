"""Why a layer cannot be compared as it is, in one line: the call, what came back, where the layer is, what would do."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from rnn_parity.experiment.errors import in_one_line
from rnn_parity.layers.signatures import call_by_its_names

LONGEST_ERROR = 200

_OF_ARGUMENTS = re.compile(r"\bsizes?\b|shape|dim|\dD\b|unpack|expected", re.IGNORECASE)


def explain_result(
    layer: nn.Module, states: Sequence[str], input: Tensor, given: Sequence[Any], result: Any, like: Tensor
) -> str:
    """Called with input (…, I) and `given`, its result is not an output (…, H) and a state as `like` (L, B, H) each."""
    output, state, after = (*input.shape[:-1], like.shape[-1]), tuple(like.shape), _states(states, "n")
    called = f"input {describe(input)}"
    called += f" and {_states(states, '0')} {describe(given[0] if len(given) == 1 else tuple(given))}" if given else ""
    body = f"…; return output, {after}"
    shapes, parts = {str(output): "output", str(state): after}, _parts(result)
    named = [shapes.get(describe(value), "_") for value in parts.values()]
    if len(states) == 1 and named.count("output") == named.count(after) == 1:
        places = dict(zip(named, parts, strict=True))
        call = call_by_its_names(layer, _argument(states))
        body = f"found = {call}; return found{places['output']}, found{places[after]}"
    expected = f"output {output} and {after} {_each(states, like)}"
    return f"called with {called} it gives {describe(result)}, expected {expected}; {_wrapper(layer, states, body)}"


def explain_signature(layer: nn.Module, states: Sequence[str]) -> str:
    """It takes other arguments than an input and states."""
    signature, before = inspect.signature(layer.forward), _states(states, "0")
    body = f"return {call_by_its_names(layer, _argument(states))}"
    return f"its forward takes {signature}, expected (input, {before}); {_wrapper(layer, states, body)}"


def explain_error(
    layer: nn.Module, states: Sequence[str], input: Tensor, given: Sequence[Tensor], error: Exception
) -> str:
    """It raises however it is called, first this error. Empty where that says nothing of its arguments: it crashes."""
    text = in_one_line(error)[:LONGEST_ERROR]
    if not isinstance(error, TypeError | AttributeError | IndexError | AssertionError) and not _OF_ARGUMENTS.search(
        text
    ):
        return ""
    called = f"input {describe(input)} and {_states(states, '0')} {_each(states, given[0])}"
    call = call_by_its_names(layer, _argument(states))
    body = "return super().forward(…)" if call == f"super().forward(input, {_argument(states)})" else f"return {call}"
    return f"called with {called}, or in any other way, it raises {text}; {_wrapper(layer, states, body)}"


def describe(value: Any) -> str:
    """A value by its shape, as `(2, 7, 16)`, or by the shapes within it."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, tuple | list):
        within = ", ".join(map(describe, value))
        return f"[{within}]" if isinstance(value, list) else f"({within})"
    if isinstance(value, dict) or dataclasses.is_dataclass(value):
        parts = value if isinstance(value, dict) else vars(value)
        return f"a {type(value).__name__} of {', '.join(f'{key} {describe(found)}' for key, found in parts.items())}"
    return "None" if value is None else f"a {type(value).__name__}"


def _parts(value: Any) -> dict[str, Any]:
    """What a result is made of, by how one reads it: `[0]`, `['hn']` or `.hn`."""
    if isinstance(value, dict):
        return {f"[{key!r}]": part for key, part in value.items()}
    if dataclasses.is_dataclass(value):
        return {f".{key}": part for key, part in vars(value).items()}
    return {f"[{at}]": part for at, part in enumerate(value)} if isinstance(value, tuple | list) else {}


def _wrapper(layer: nn.Module, states: Sequence[str], body: str) -> str:
    """Where the class is, and the three lines that would make it fit."""
    cls = type(getattr(layer, "_orig_mod", layer))
    try:
        place = f" ({inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]})"
    except (OSError, TypeError):  # typed into a shell, or not of Python
        place = ""
    lines = f"class Mine({cls.__name__}):", f"def forward(self, input, {_argument(states)}):", body
    return f"{cls.__name__}{place} fits with three lines: {' / '.join(lines)}"


def _states(states: Sequence[str], when: str) -> str:
    """`h0`, or `(h0, c0)`."""
    named = ", ".join(f"{state}{when}" for state in states)
    return named if len(states) == 1 else f"({named})"


def _argument(states: Sequence[str]) -> str:
    return f"{states[0]}0" if len(states) == 1 else "states"


def _each(states: Sequence[str], like: Tensor) -> str:
    return f"{describe(like)}{' each' * (len(states) > 1)}"
