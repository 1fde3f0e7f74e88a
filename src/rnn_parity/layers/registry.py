"""Implementations by name, and how one is built.

Every implementation is a module factory called as
`factory(input_size=…, hidden_size=…, num_layers=…, dropout=…)`, whose module maps `input (T, B, I)` and the states
before it to `output (T, B, H)` and the states after it: `h0` to `hn`, each (L, B, H), or a tuple of several, as
`(h0, c0)` to `(hn, cn)` for an LSTM. A factory with a parameter `cell` is told the kind of cell too.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import nn

from rnn_parity.experiment.errors import InputError, did_you_mean, in_one_line
from rnn_parity.experiment.names import REGISTRY, check_name
from rnn_parity.layers.adapters import Adapter, find_adapter
from rnn_parity.layers.settings import forget, put_back

_ADAPTERS: dict[tuple[int, str], tuple[Callable[..., Any], Adapter]] = {}
"""By a factory, which is kept so that no other has its id, and a kind of cell."""


class NoParameter(NotImplementedError):
    """A factory has no parameter for what a case asks of it."""


def load_factory(name: str):
    """Import the factory behind a name; `InputError` where it cannot be imported."""
    check_name(name, key="implementation")
    found = REGISTRY.get(name, name)
    if callable(found):
        return found
    module_name, _, attributes = found.partition(":")
    factory: Any = sys.modules.get(module_name)
    try:
        if factory is None:
            with put_back(module_name):
                factory = importlib.import_module(module_name)
        for attribute in attributes.split("."):
            factory = getattr(factory, attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's module may raise anything while it is imported
        near = did_you_mean(attributes, dir(factory)) if factory else ""
        expected = f"expected package.module:Class{near}"
        raise InputError(f"{name}: cannot be imported ({in_one_line(error)}); {expected}") from error
    _refuse_what_builds_none(factory, name)
    return factory


@contextmanager
def named(implementation: str | Callable[..., Any], key: str) -> Iterator[str]:
    """Yield the name of an implementation; a factory gets one that is registered while the block runs.

    Raises `InputError`, naming the argument `key`, for a string that is neither registered nor an import path, and for
    a layer in place of what builds one.
    """
    if isinstance(implementation, str):
        check_name(implementation, key)
        yield implementation
        return
    _refuse_what_builds_none(implementation, key)
    label = _label(implementation)
    name = next(name for name in itertools.chain([label], _numbered(label)) if name not in REGISTRY)
    REGISTRY[name] = implementation
    try:
        yield name
    finally:
        del REGISTRY[name]
        forget(name)


def build(
    name: str,
    *,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    dropout: float,
    cell: str = "gru",
    **options: Any,
) -> nn.Module:
    """Build an implementation in float32 on the CPU, called as PyTorch's; `InputError` if its factory refuses this.

    `options` are given to the factory too, as `bias=False`; then what it raises is raised. A layer that is called with
    (B, T, I) anyway takes that with `batch_first` too.
    """
    sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
    try:
        layer = construct(name, cell, **sizes, dropout=dropout, **options)
    except TypeError as error:
        if options or not re.search(r"\bargument", str(error)):  # its own code raised it
            raise
        arguments = ", ".join([*sizes, "dropout"])
        wrapper = f"def make({arguments}): return {_label(load_factory(name))}(…)"
        reason = f"cannot be called with {arguments} ({error}); write a function that can: {wrapper}"
        raise InputError(f"{name}: {reason}") from error
    how = adapter_of(name, cell)
    if "batch_first" in options and how.input == "batch_first":
        how = replace(how, input="sequence")
    return how.fit(layer, **sizes)


def construct(name: str, cell: str, **arguments: Any) -> nn.Module:
    """Build an implementation as it is. What its factory has no parameter for is left out where it says nothing.

    Raises `NoParameter` for several layers, or dropout between them, of a factory that knows of none.
    """
    factory, num_layers = load_factory(name), arguments["num_layers"]
    parameters, takes_any = _parameters(factory)
    for unknown, nothing in (("num_layers", 1), ("dropout", 0.0)):
        if takes_any or unknown in parameters:
            continue
        if arguments[unknown] == nothing or (unknown == "dropout" and num_layers == 1):
            arguments = {key: value for key, value in arguments.items() if key != unknown}
        elif "hidden_size" in parameters:
            option = unknown.replace("_", "-")
            raise NoParameter(f"{name}: has no parameter {unknown}; works only with --{option} {nothing:g}")
    arguments |= {"cell": cell} if "cell" in parameters else {}
    with warnings.catch_warnings(), put_back(name):
        # nn.GRU warns that dropout does nothing with one layer; cases with one layer compare just that.
        warnings.filterwarnings("ignore", "dropout option adds dropout", UserWarning)
        layer = factory(**arguments)
    if not isinstance(layer, nn.Module):
        raise InputError(f"{name}: gives {type(layer).__name__} {layer!r:.40}, expected a torch.nn.Module")
    return layer


def adapter_of(name: str, cell: str) -> Adapter:
    """How a layer of a kind is called, found when it is first asked for."""
    factory = load_factory(name)
    key = id(factory), cell
    if key not in _ADAPTERS:
        with put_back(name):
            _ADAPTERS[key] = factory, find_adapter(functools.partial(construct, name, cell), cell)
    return _ADAPTERS[key][1]


def _refuse_what_builds_none(factory: Any, who: str) -> None:
    if isinstance(factory, nn.Module):
        what = f"a {type(factory).__name__} already built"
        raise InputError(
            f"{who}: holds {what}, expected something that builds one, such as its class or a functools.partial"
        )
    if not callable(factory):
        raise InputError(
            f"{who}: holds {factory!r:.40}, expected package.module:Class, a class, or a function that builds a layer"
        )


def _parameters(factory: Callable[..., Any]) -> tuple[Collection[str], bool]:
    """The names of a factory's parameters, and whether it takes any other; one that cannot be asked does."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return (), True
    return parameters, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _label(factory: Callable[..., Any]) -> str:
    """The qualified name of a class, as `Layer`, without the function that defines it; also for a `partial` of it."""
    factory = factory.func if isinstance(factory, functools.partial) else factory
    return getattr(factory, "__qualname__", type(factory).__name__).rpartition("<locals>.")[2]


def _numbered(label: str) -> Iterator[str]:
    return (f"{label}-{number}" for number in itertools.count(2))
