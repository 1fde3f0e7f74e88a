"""An optimizer's state in a checkpoint: whose moments are whose.

`torch.optim` numbers the parameters in the order of `model.parameters()`, which for a stack is the same in both
layouts: layer by layer, weight_ih, weight_hh, bias_ih, bias_hh. So the moments may stay where they are, if they are
where this says; that is looked at, not assumed. Names of parameters, where a state holds them, change with the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rnn_parity.checkpoint.stacks import Stack
from rnn_parity.errors import InputError
from rnn_parity.weights import canonical_shapes


def optimizers_of(content: Any, stack: Stack, name: str | None) -> list[str]:
    """The keys under which the checkpoint holds this model's optimizers; `InputError` where `name` is none of them."""
    every = [key for key, value in content.items() if is_optimizer(value)] if isinstance(content, dict) else []
    if name is None:
        return [key for key in every if not misfit(content[key], stack)]
    if name not in every:
        known = f"one of {', '.join(map(str, every))}" if every else "a checkpoint that holds an optimizer"
        raise InputError(f"--optimizer: holds {name!r}, expected {known}")
    if fault := misfit(content[name], stack):
        raise InputError(f"{name}: {fault}")
    return [name]


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
        numbers, names = _numbers(optimizer), _names(optimizer)
        owners = names or _parameters(stack)
        if not names and list(stack.keys) != list(canonical_shapes(**stack.sizes)):
            return f"the keys of {stack.name} are not in a model's order, so that its moments cannot be told apart"
        if len(numbers) != len(owners):
            model = ".".join(stack.place) or "the model"
            return f"it has {len(numbers)} parameters, expected the {len(owners)} of {model}"
        if missing := set(stack.keys.values()) - set(owners):
            return f"it has no parameter {sorted(missing)[0]}"
        for key, kept in moments(optimizer, stack).items():
            for kind, value in kept.items():
                parameter = stack.state[key]
                if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                    return f"{kind} of {key} is {tuple(value.shape)}, expected {tuple(parameter.shape)}"
    except (AttributeError, KeyError, TypeError, ValueError):
        return "it is no state of a torch.optim optimizer"
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
            seen.setdefault((value.data_ptr(), value.shape, value.stride()) if value.numel() else key, key)
    return list(seen.values())
