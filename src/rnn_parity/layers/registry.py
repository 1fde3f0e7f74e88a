"""What is compared: the registry of implementations, by name. Imports no torch until one is built.

Every implementation is a module factory called as
`factory(input_size=…, hidden_size=…, num_layers=…, dropout=…)`, whose module maps `input (T, B, I)` and
`h0 (L, B, H)` to `output (T, B, H)` and `hn (L, B, H)`. A registered name and a path of the user's own,
`package.module:Class`, mean the same thing: an import path. What has no path, as a class in a test, is `named`.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import itertools
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rnn_parity.experiment.errors import InputError

if TYPE_CHECKING:
    import torch

REGISTRY: dict[str, str | Callable[..., Any]] = {
    "stacking_gru_cell": "rnn_parity.layers.stepwise:StackingGRUCellLoop",
    "stacking_gru": "rnn_parity.layers.fused:StackingGRU",
}
"""Registered name to import path. Add a line to compare a layer of your own under a short name. The factory itself
stands in place of its path while it is `named`."""

_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def check_name(name: str, key: str) -> None:
    """Raise `InputError`, naming the config's `key`, for what is neither registered nor an import path."""
    if name not in REGISTRY and not _IMPORT_PATH.fullmatch(name):
        close = difflib.get_close_matches(name, REGISTRY, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        known = ", ".join(REGISTRY)
        raise InputError(f"{key}: holds {name!r}, expected one of {known}, or package.module:Class{hint}")


def load_factory(name: str):
    """The factory behind a name; raise `InputError` when it cannot be imported."""
    check_name(name, key="implementation")
    found = REGISTRY.get(name, name)
    if callable(found):
        return found
    module_name, _, attributes = found.partition(":")
    try:
        factory = importlib.import_module(module_name)
        for attribute in attributes.split("."):
            factory = getattr(factory, attribute)
    except Exception as error:  # whatever the user's module raises while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{name}: cannot be imported ({reason}); expected package.module:Class") from error
    return factory


@contextmanager
def named(implementation: str | Callable[..., Any], key: str) -> Iterator[str]:
    """The name of an implementation: its own, or for a factory one that it has while the block runs.

    Raises `InputError`, naming the argument `key`, for what can be no name.
    """
    if isinstance(implementation, str):
        check_name(implementation, key)
        yield implementation
        return
    label = _label(implementation)
    name = next(name for name in itertools.chain([label], _numbered(label)) if name not in REGISTRY)
    REGISTRY[name] = implementation
    try:
        yield name
    finally:
        del REGISTRY[name]


def build(name: str, *, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> torch.nn.Module:
    """Build an implementation in float32 on the CPU; `InputError` if its factory refuses these arguments."""
    factory = load_factory(name)
    arguments = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers, "dropout": dropout}
    try:
        with warnings.catch_warnings():
            # nn.GRU warns that dropout does nothing with one layer; here that is part of what is compared.
            warnings.filterwarnings("ignore", "dropout option adds dropout", UserWarning)
            return factory(**arguments)
    except TypeError as error:
        raise InputError(f"{name}: cannot be called with {', '.join(arguments)} ({error})") from error


def _label(factory: Callable[..., Any]) -> str:
    """`Layer` for a class, wherever it is defined, and for a `functools.partial` of it."""
    factory = factory.func if isinstance(factory, functools.partial) else factory
    return getattr(factory, "__qualname__", type(factory).__name__).rpartition("<locals>.")[2]


def _numbered(label: str) -> Iterator[str]:
    return (f"{label}-{number}" for number in itertools.count(2))
