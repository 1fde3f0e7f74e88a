"""An optimizer's state in a checkpoint: whose moments are whose.

`torch.optim` numbers the parameters in the order of `model.parameters()`, which for a stack is the same in both
layouts: layer by layer, weight_ih, weight_hh, bias_ih, bias_hh. So the moments may stay where they are, if they are
where this says; that is looked at, not assumed. Names of parameters, where a state holds them, change with the keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rnn_parity.checkpoint.stacks import Stack
from rnn_parity.experiment.errors import InputError
from rnn_parity.layers.parameters import canonical_shapes


def optimizers_of(content: Any, stack: Stack, name: str | None) -> dict[str, str]:
    """Key of an optimizer in the checkpoint to why it is left as it is; to nothing where it is this model's.

    Raises `InputError` where `name` is given and is none of this model's.
    """
    every = [key for key, value in content.items() if is_optimizer(value)] if isinstance(content, dict) else []
    faults = {key: misfit(content[key], stack) for key in every}
    if name is None:
        return faults
    if name not in every:
        known = f"one of {', '.join(map(str, every))}" if every else "a checkpoint that holds an optimizer"
        raise InputError(f"--optimizer: holds {name!r}, expected {known}")
    if faults[name]:
        raise InputError(f"{name}: {faults[name]}")
    return {key: fault or f"--optimizer is {name}" * (key != name) for key, fault in faults.items()}


def describe(optimizer: Mapping[str, Any], stack: Stack, fault: str) -> str:
    """What became of an optimizer, in words."""
    if fault:
        return f"left as it is: {fault}"
    kept = moments(optimizer, stack)
    held = sum(any(map(_is_moment, kept[key].values())) for key in stack.keys.values())
    every = len(stack.keys)
    which = f"these {every}" if held == every else f"{held} of these {every}"
    return f"the moments of {which} parameters stay theirs" if held else "it keeps no moments of these parameters"


def is_optimizer(value: Any) -> bool:
    """Whether this is the state_dict of a `torch.optim` optimizer."""
    return isinstance(value, dict) and {"state", "param_groups"} <= value.keys()


def moments(optimizer: Mapping[str, Any], stack: Stack) -> dict[str, dict[str, Any]]:
    """Key in the state_dict to what the optimizer keeps for that parameter."""
    keys = _names(optimizer) or _parameters(stack)
    return {key: optimizer["state"].get(number, {}) for key, number in zip(keys, _numbers(optimizer), strict=True)}


def misfit(optimizer: Mapping[str, Any], stack: Stack) -> str:
    """Why its moments cannot be those of the model with this stack; empty where they can."""
    try:
        if names := _names(optimizer):
            return _misfit_of_names(names, stack) or _misfit_of_shapes(optimizer, stack)
        fault = _misfit_of_order(optimizer, stack) or _misfit_of_shapes(optimizer, stack)
        groups = len(optimizer["param_groups"])
        if fault and groups > 1:
            return f"{fault}; its {groups} groups have no param_names to tell their parameters apart"
        return fault
    except (AttributeError, KeyError, TypeError, ValueError):
        return "it is no state of a torch.optim optimizer"


def _misfit_of_names(names: list[str], stack: Stack) -> str:
    """By name an optimizer may have other models' parameters as well."""
    counts = Counter(names)
    odd = [key for key in stack.keys.values() if counts[key] != 1]
    return f"it has {counts[odd[0]] or 'no'} parameters {odd[0]}, expected one" if odd else ""


def _misfit_of_order(optimizer: Mapping[str, Any], stack: Stack) -> str:
    if list(stack.keys) != list(canonical_shapes(**stack.sizes)):
        return f"the keys of {stack.name} are not in a model's order, so that its moments cannot be told apart"
    numbers, owners = _numbers(optimizer), _parameters(stack)
    if len(numbers) != len(owners):
        model = ".".join(stack.place) or "the model"
        return f"it has {len(numbers)} parameters, expected the {len(owners)} of {model}"
    return ""


def _misfit_of_shapes(optimizer: Mapping[str, Any], stack: Stack) -> str:
    known = {key: kept for key, kept in moments(optimizer, stack).items() if key in stack.state}
    for key, kept in known.items():
        for kind, value in kept.items():
            if _is_moment(value) and value.shape != stack.state[key].shape:
                return f"{kind} of {key} is {tuple(value.shape)}, expected {tuple(stack.state[key].shape)}"
    return ""


def with_parameter_names(optimizer: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    """The state with the parameters' names changed, where it has names; else the state as it is."""
    if not _names(optimizer):
        return optimizer
    groups = [
        {**group, "param_names": [names.get(name, name) for name in group["param_names"]]}
        for group in optimizer["param_groups"]
    ]
    return type(optimizer)({**optimizer, "param_groups": groups})


def _is_moment(value: Any) -> bool:
    """Whether this is kept for each number of a parameter; the count of steps is kept for all of them."""
    return isinstance(value, Tensor) and value.dim() > 0


def _numbers(optimizer: Mapping[str, Any]) -> list[Any]:
    return [number for group in optimizer["param_groups"] for number in group["params"]]


def _names(optimizer: Mapping[str, Any]) -> list[str]:
    """What `torch.optim` was given by name; empty where it was given parameters alone."""
    return [name for group in optimizer["param_groups"] for name in group.get("param_names") or []]


def _parameters(stack: Stack) -> list[str]:
    """The keys of the state_dict that are a model's parameters: of tensors with several names, the first."""
    seen: dict[Any, str] = {}
    for key, value in stack.state.items():
        if isinstance(value, Tensor):
            has_place = value.layout == torch.strided and value.numel()
            seen.setdefault((value.data_ptr(), value.shape, value.stride()) if has_place else key, key)
    return list(seen.values())
