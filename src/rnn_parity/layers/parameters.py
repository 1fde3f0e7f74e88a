"""Parameters between layouts, by name and shape. The canonical names are PyTorch's: `weight_ih_l0`, `bias_hh_l2`, …"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rnn_parity.cells.base import PARAMETERS, load_cell

_ANY = re.compile(rf"(?:(?P<owner>.*)\.)?(?P<kind>{'|'.join(PARAMETERS)}|bias)(?:_l(?P<layer>0|[1-9]\d*))?")
_NUMBER = re.compile(r"\d+")
_OF_OTHER_LAYERS = {
    "_reverse": "it is bidirectional, and only one direction can be compared: build it without bidirectional=True",
    "weight_hr_l": "it projects its state (proj_size), which no kind of cell here does",
}
"""What parameters say of a layer that is none of those judged, by a part of their names."""


class WeightError(ValueError):
    """Parameters that have no counterpart, or one of another shape. The message lists them."""


class UnknownNames(WeightError):
    """The names of its parameters fit no layer of PyTorch, of whatever kind."""


def canonical_shapes(
    input_size: int, hidden_size: int, num_layers: int, cell: str = "gru"
) -> dict[str, tuple[int, ...]]:
    """Every parameter of a stack with its shape, gates in the order of the kind of cell."""
    return {
        f"{name}_l{layer}": shape
        for layer in range(num_layers)
        for name, shape in load_cell(cell).shapes(hidden_size if layer else input_size, hidden_size).items()
    }


def canonical_parameters(module: nn.Module) -> dict[str, Tensor]:
    """The module's parameters under `nn.GRU`'s names; one bias that stands for both has both names.

    A module may map them itself with a method `canonical_parameters()`. Otherwise they are called as `nn.GRU` calls
    its own, or as cells or layers of one layer call theirs, in a list or numbered, after one prefix common to all.
    Raises `WeightError` listing the names that are neither.
    """
    module = unwrapped(module)
    if hasattr(module, "canonical_parameters"):
        return _with_both_biases(_checked_own_mapping(module))
    parsed = {name: _ANY.fullmatch(name) for name, _ in module.named_parameters()}
    recurrent = {match["owner"] for match in parsed.values() if match and match["kind"] == "weight_hh"}
    parsed = {name: match if match and match["owner"] in recurrent else None for name, match in parsed.items()}
    owners = sorted({match["owner"] or "" for match in parsed.values() if match}, key=_numbers)
    alike = len({_NUMBER.sub("#", owner) for owner in owners}) <= 1
    canonical: dict[str, Tensor] = {}
    unmatched = []
    for name, parameter in module.named_parameters():
        match, key = parsed[name], ""
        if match:
            layer = int(match["layer"] or 0) + (owners.index(match["owner"]) if alike and len(owners) > 1 else 0)
            key = f"{'bias_ih' if match['kind'] == 'bias' else match['kind']}_l{layer}"
        if match is None or key in canonical:
            unmatched.append(name)
        else:
            canonical[key] = parameter
    if unmatched or not alike:
        whole = alike and {"weight_ih_l0", "weight_hh_l0"} <= canonical.keys()
        names = unmatched if whole else list(parsed)
        for part, words in _OF_OTHER_LAYERS.items():
            if any(part in name for name in names):
                raise UnknownNames(f"{type(module).__name__}: {words}: {_some(names)}")
        if whole:
            alone = "compare the layer alone, without a head, an embedding or a learned initial state"
            besides = f"has parameters besides those of its layers: {_some(names)}"
            raise UnknownNames(f"{type(module).__name__}: {besides}; {alone}")
        raise UnknownNames(
            f"{type(module).__name__}: no counterpart in PyTorch's layers for {_some(names)}; "
            "expected their names, {k}.weight_ih in any list, or a method canonical_parameters(), or "
            "load_canonical(weights) with canonical_gradients()"
        )
    return _with_both_biases(canonical)


def copy_weights(weights: Mapping[str, Tensor], module: nn.Module) -> None:
    """Copy canonical `weights` into `module`; `WeightError` if a parameter is left over on either side."""
    layer: Any = unwrapped(module)
    if loads_by_itself(layer):
        if not hasattr(layer, "canonical_gradients"):
            raise WeightError(
                f"{type(layer).__name__} has load_canonical() without canonical_gradients(), expected both"
            )
        like = next(layer.parameters())
        try:
            with torch.no_grad():
                layer.load_canonical({key: value.to(like, copy=True) for key, value in weights.items()})
        except Exception as error:
            raise WeightError(
                f"{type(layer).__name__}.load_canonical() raises {type(error).__name__}: {error}"
            ) from error
        return
    parameters = canonical_parameters(module)
    name = type(layer).__name__
    missing, extra = weights.keys() - parameters.keys(), parameters.keys() - weights.keys()
    if missing or extra:
        problems = {"it lacks": missing, "unknown names:": extra}
        if {key for key in weights if key.startswith("bias_")} == missing and not extra:
            raise WeightError(f"{name}: it has no biases, and every kind of cell has them; build it with bias=True")
        raise WeightError(f"{name}: {_list(problems)}")
    wrong = [key for key in weights if weights[key].shape != parameters[key].shape]
    if wrong:
        shapes = ", ".join(f"{key} is {tuple(parameters[key].shape)}, not {tuple(weights[key].shape)}" for key in wrong)
        raise WeightError(f"{name}: {shapes}")
    sums: dict[Tensor, Tensor] = {}
    for key, value in weights.items():  # one bias for both is given their sum
        sums[parameters[key]] = sums[parameters[key]] + value if parameters[key] in sums else value
    with torch.no_grad():
        for parameter, value in sums.items():
            parameter.copy_(value)


def gradient_sources(module: nn.Module) -> dict[str, Tensor]:
    """What gradients are taken of: the canonical parameters, or those of its own where a layer names gradients."""
    layer = unwrapped(module)
    return dict(layer.named_parameters()) if loads_by_itself(layer) else canonical_parameters(layer)


def canonical_gradients(module: nn.Module, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The gradients of `gradient_sources` under PyTorch's names; one that needs a gradient not given is left out."""
    layer: Any = unwrapped(module)
    if not loads_by_itself(layer):
        return gradients
    parameters = dict(layer.named_parameters())
    frozen = parameters.keys() - gradients.keys()
    found = _named_gradients(layer, {name: gradients.get(name, torch.zeros_like(p)) for name, p in parameters.items()})
    if not frozen:
        return found
    spreading = {name: torch.full_like(p, torch.nan if name in frozen else 0.0) for name, p in parameters.items()}
    unknown = _named_gradients(layer, spreading)
    return {name: gradient for name, gradient in found.items() if name in unknown and not unknown[name].isnan().any()}


def _named_gradients(layer: Any, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for name, parameter in layer.named_parameters():
        parameter.grad = gradients[name]
    try:
        found = _mapping(layer, "canonical_gradients", "gradients by name")
        return {name: gradient for name, gradient in found.items() if gradient is not None}
    finally:
        layer.zero_grad(set_to_none=True)


def unwrapped(module: nn.Module) -> nn.Module:
    """The user's layer."""
    return getattr(module, "adapted_layer", module)


def loads_by_itself(module: nn.Module) -> bool:
    """Whether a layer has a method `load_canonical`: its weights cannot be read back under PyTorch's names."""
    return hasattr(unwrapped(module), "load_canonical")


def _with_both_biases(canonical: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same, with one bias under both names where a layer has one."""
    for key in [key for key in canonical if key.startswith("bias_")]:
        canonical.setdefault(key.replace("_ih", "_hh") if "_ih" in key else key.replace("_hh", "_ih"), canonical[key])
    return canonical


def _numbers(owner: str) -> list[int]:
    return [int(number) for number in _NUMBER.findall(owner)]


def _mapping(layer: Any, method: str, expected: str) -> dict[str, Tensor]:
    found = getattr(layer, method)()
    if not isinstance(found, Mapping):
        raise WeightError(f"{type(layer).__name__}.{method}() gives {found!r:.40}, expected {expected}")
    return dict(found)


def _checked_own_mapping(module: Any) -> dict[str, Tensor]:
    canonical = _mapping(module, "canonical_parameters", "its parameters by PyTorch's names")
    named = {id(parameter): name for name, parameter in module.named_parameters()}
    strangers = [key for key, value in canonical.items() if id(value) not in named]
    left_over = sorted(named[i] for i in named.keys() - {id(value) for value in canonical.values()})
    if strangers or left_over or len({id(value) for value in canonical.values()}) < len(canonical):
        problems = {"not parameters of the module:": strangers, "left out:": left_over}
        raise WeightError(
            f"{type(module).__name__}.canonical_parameters() must name every parameter once: "
            + (_list(problems) or "one parameter has two names")
            + "; for weights that are not parameters, use load_canonical(weights) with canonical_gradients()"
        )
    return canonical


def _list(problems: Mapping[str, Collection[str]]) -> str:
    """The problems that have names, each followed by its names."""
    return "; ".join(f"{problem} {_some(sorted(names))}" for problem, names in problems.items() if names)


def _some(names: list[str]) -> str:
    """The names, or the first of many: what to do about them is said behind."""
    return ", ".join(names if len(names) < 14 else [*names[:6], f"{len(names) - 6} more"])
