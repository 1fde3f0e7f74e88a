"""A recurrent stack inside a checkpoint: where it is, what its tensors are called there, and in the other layout."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rnn_parity.experiment.dtypes import DTYPES
from rnn_parity.experiment.errors import InputError
from rnn_parity.layers.parameters import KINDS, canonical_shapes, parse_name

KEYS = {"stacking_gru_cell": "grus.{layer}.{kind}", "stacking_gru": "{kind}_l{layer}"}
"""Implementation to the key of a parameter in its state_dict."""

OTHER = {"stacking_gru": "stacking_gru_cell", "stacking_gru_cell": "stacking_gru"}


@dataclass(frozen=True)
class Stack:
    """One stack in a checkpoint.

    Attributes:
        place: the keys that lead to its state_dict; none where the file holds that alone. prefix: what its keys there
            begin with, as `decoder.rnn`. keys: canonical name, as `weight_ih_l0`, to key, in the order of the file.
        state: the state_dict.
    """

    place: tuple[str, ...]
    prefix: str
    keys: Mapping[str, str]
    state: Mapping[str, Any]

    @property
    def name(self) -> str:
        """`m0:decoder.rnn`."""
        return f"{'.'.join(self.place)}:{self.prefix}".strip(":") or "the whole file"

    @property
    def weights(self) -> dict[str, Tensor]:
        """The tensors under canonical names."""
        return {name: self.state[key] for name, key in self.keys.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """`input_size`, `hidden_size` and `num_layers`."""
        first = self.weights["weight_ih_l0"].shape[1], self.weights["weight_hh_l0"].shape[1]
        return dict(zip(("input_size", "hidden_size", "num_layers"), (*first, len(self.keys) // 4), strict=True))


def find_stack(content: Any, layout: str, prefix: str | None) -> Stack:
    """The one stack of a layout, under a prefix if that is given; `InputError` for none, several, or a broken one."""
    every = [stack for place, state in _state_dicts(content) for stack in _stacks(place, state, layout)]
    found = [stack for stack in every if stack.name == prefix]
    found = found or [stack for stack in every if prefix in (None, stack.prefix)]
    whole = [stack for stack in found if not _fault(stack, layout)]
    if len(whole) == 1:
        return whole[0]
    if len(whole) > 1:
        names = ", ".join(stack.name for stack in whole)
        raise InputError(f"several stacks fit: {names}; expected one of them as --prefix")
    if found:
        raise InputError(f"{found[0].name}: {_fault(found[0], layout)}")
    wanted = f"{prefix}." * bool(prefix) + KEYS[layout].format(layer=0, kind="weight_ih")
    others = f"; there are stacks under {', '.join(stack.name for stack in every)}" if every else ""
    raise InputError(f"no {layout} in it, expected a key {wanted}{others}")


def renamed(stack: Stack, to: str, prefix: str) -> dict[str, str]:
    """Old key to new key in the layout `to`; `InputError` where a new key is taken."""
    names = {}
    for canonical, key in stack.keys.items():
        kind, _, layer = canonical.rpartition("_l")
        names[key] = f"{prefix}." * bool(prefix) + KEYS[to].format(layer=layer, kind=kind)
    taken = [new for new in names.values() if new in stack.state and new not in names]
    if taken:
        raise InputError(f"{stack.name}: {taken[0]} is there already, beside the stack it would come from")
    return names


def with_names(content: Any, stack: Stack, names: Mapping[str, str], prefix: str) -> Any:
    """The checkpoint with other keys, in the same places: nothing else is touched, tensors are shared, not copied."""
    state = type(stack.state)((names.get(key, key), value) for key, value in stack.state.items())
    metadata = getattr(stack.state, "_metadata", None)  # of every module, by name; `load_state_dict` reads it
    if metadata is not None:
        state._metadata = _renamed_modules(metadata, stack, names, prefix)
    return _replaced(content, stack.place, state)


def _state_dicts(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    if not isinstance(content, dict):
        return
    if any(isinstance(value, Tensor) for value in content.values()):
        yield place, content
    for key, value in content.items():
        if isinstance(key, str):
            yield from _state_dicts(value, (*place, key))


def _stacks(place: tuple[str, ...], state: Mapping, layout: str) -> Iterator[Stack]:
    """Every stack of a layout in a state_dict, whole or not."""
    by_prefix: dict[str, dict[str, str]] = {}
    for key in state:
        parsed = parse_name(key) if isinstance(key, str) else None
        if parsed and parsed.layout == layout:
            by_prefix.setdefault(parsed.prefix, {})[parsed.canonical] = key
    for prefix, keys in by_prefix.items():
        yield Stack(place, prefix, keys, state)


def _fault(stack: Stack, layout: str) -> str:
    """Why these keys are no stack that can be converted; empty where they are."""
    beginning = f"{stack.prefix}." * bool(stack.prefix)
    known = set(stack.keys.values())
    unknown = [key for key in stack.state if str(key).startswith(beginning) and key not in known]
    if unknown:
        return f"the key {unknown[0]} has no counterpart"
    layers = 1 + max(int(name.rpartition("_l")[2]) for name in stack.keys)
    for layer, kind in itertools.product(range(layers), KINDS):
        if f"{kind}_l{layer}" not in stack.keys:
            return f"it lacks {beginning}{KEYS[layout].format(layer=layer, kind=kind)}"
    odd = [key for name, key in stack.keys.items() if not _is_plain(stack.weights[name])]
    if odd:
        return f"{odd[0]} is no plain tensor of floating-point numbers"
    dtypes = {str(tensor.dtype) for tensor in stack.weights.values()}
    if len(dtypes) > 1:
        return f"its tensors have several dtypes, {', '.join(sorted(dtypes))}; expected one"
    if not dtypes & {f"torch.{dtype}" for dtype in DTYPES}:
        return f"its tensors are {dtypes.pop()}, expected one of {', '.join(DTYPES)}"
    if any(tensor.dim() != 1 + name.startswith("weight") for name, tensor in stack.weights.items()):
        return "its tensors have other dimensions than a GRU's"
    for name, shape in canonical_shapes(**stack.sizes).items():
        if stack.weights[name].shape != shape:
            return f"{stack.keys[name]} is {tuple(stack.weights[name].shape)}, expected {shape}"
    return ""


def _is_plain(tensor: Any) -> bool:
    """Strided numbers that are really in the file: a tensor of stride 0 may claim any size."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or not tensor.is_floating_point():
        return False
    return tensor.numel() > 0 and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _renamed_modules(metadata: Mapping, stack: Stack, names: Mapping[str, str], prefix: str) -> Any:
    """The modules' metadata, the stack's own replaced by those that hold its new keys."""
    old = {stack.prefix, *_owners(names, stack.prefix)}
    version = metadata.get(stack.prefix, {"version": 1})
    result = type(metadata)()
    for module, entry in metadata.items():
        if module == stack.prefix:
            result |= {owner: dict(version) for owner in dict.fromkeys([prefix, *_owners(names.values(), prefix)])}
        elif module not in old:
            result[module] = entry
    return result


def _owners(keys: Any, prefix: str) -> list[str]:
    """The modules below `prefix` on the way to these keys, each before what it holds."""
    owners: dict[str, None] = {}
    for key in keys:
        parts = key.removeprefix(f"{prefix}.").split(".")[:-1]
        for end in range(1, len(parts) + 1):
            owners[".".join([*([prefix] if prefix else []), *parts[:end]])] = None
    return list(owners)


def _replaced(content: Any, place: tuple[str, ...], state: Any) -> Any:
    if not place:
        return state
    changed = copy.copy(content)
    changed[place[0]] = _replaced(content[place[0]], place[1:], state)
    return changed
