"""What a layer can be called with, by the names of its arguments."""

from __future__ import annotations

import inspect
import re

from torch import nn

_STATES = re.compile(r"(^|_)(h|hx|hc)_?\d?(_|$)|hidden|state|carry|carries", re.IGNORECASE)
"""How people call the argument for the states."""


def takes(layer: nn.Module, arguments: int) -> bool:
    """Whether so many arguments can be given to a layer."""
    try:
        inspect.signature(layer.forward).bind(*[None] * arguments)
    except TypeError:
        return False
    except ValueError:  # no signature to read
        return True
    return True


def places_of_states(layer: nn.Module) -> list[str]:
    """The keywords by which a layer may be given its states, by their names; `""` is its second argument."""
    others = _parameters(layer)[1:]
    named = [p for p in others if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and _STATES.search(p.name)]
    by_name = [p.name for p in named]
    if not others or others[0].kind == inspect.Parameter.KEYWORD_ONLY:
        return by_name or [""]
    return ["", *by_name[1:]] if others[0] in named else [*by_name, ""]


def second_argument(layer: nn.Module) -> str:
    """The name of the second argument, where it is not that of states; else an empty one."""
    return next((p.name for p in _parameters(layer)[1:2] if not _STATES.search(p.name)), "")


def call_by_its_names(layer: nn.Module, states: str) -> str:
    """`super().forward(…)` by a layer's own names; what it cannot do without, and nobody here knows, is `…`."""
    parameters = _parameters(layer)
    given: list[str] = []
    input, by_name = "input", False
    for p in parameters:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        if _STATES.search(p.name):
            value = states
        elif input:
            value, input = input, ""
        elif p.default is p.empty:
            value = "…"
        else:
            continue
        by_name |= p.kind == p.KEYWORD_ONLY or value == "…" or len(given) < parameters.index(p)
        given.append(f"{p.name}={value}" if by_name else value)
    return f"super().forward({', '.join(given) or '…'})"


def _parameters(layer: nn.Module) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(layer.forward).parameters.values())
    except (TypeError, ValueError):
        return []
