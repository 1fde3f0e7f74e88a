"""Parameters between layouts, by name and shape. The canonical names are PyTorch's: `weight_ih_l0`, `bias_hh_l2`, …"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rnn_parity.cells.base import PARAMETERS, load_cell

_FUSED = re.compile(rf"(?:(?P<prefix>.*)\.)?(?P<kind>{'|'.join(PARAMETERS)})_l(?P<layer>0|[1-9]\d*)")
_CELLS = re.compile(
    rf"(?:(?P<prefix>.*)\.)?(?P<list>grus|lstms)\.(?P<layer>0|[1-9]\d*)\.(?P<kind>{'|'.join(PARAMETERS)})"
)


@dataclass(frozen=True)
class ParsedName:
    """A parameter's name in parts: `layout` is the implementation that calls it so, `canonical` nn.GRU's name."""

    prefix: str
    canonical: str
    layout: str


def parse_name(name: str) -> ParsedName | None:
    """Parse a name of a state_dict; None where it is no parameter of a stack."""
    for layout, pattern in (("stacking_gru", _FUSED), ("stacking_gru_cell", _CELLS)):
        if match := pattern.fullmatch(name):
            return ParsedName(match["prefix"] or "", f"{match['kind']}_l{match['layer']}", layout)
    return None


class WeightError(ValueError):
    """Parameters that have no counterpart, or one of another shape. The message lists them."""


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
    """The module's parameters under `nn.GRU`'s names.

    A module may map them itself with a method `canonical_parameters()`; otherwise its names must be `nn.GRU`'s or
    `grus.{k}.*`, after one prefix common to all. Raises `WeightError` listing the names that are neither.
    """
    if hasattr(module, "canonical_parameters"):
        return _checked_own_mapping(module)
    canonical: dict[str, Tensor] = {}
    unmatched, prefixes = [], set()
    for name, parameter in module.named_parameters():
        parsed = parse_name(name)
        if parsed is None or parsed.canonical in canonical:
            unmatched.append(name)
        else:
            canonical[parsed.canonical] = parameter
            prefixes.add(parsed.prefix)
    if unmatched or len(prefixes) > 1:
        names = unmatched or [name for name, _ in module.named_parameters()]
        raise WeightError(
            f"{type(module).__name__}: no counterpart in nn.GRU for {', '.join(names)}; "
            "expected nn.GRU's names, grus.{k}.*, lstms.{k}.*, or a method canonical_parameters()"
        )
    return canonical


def copy_weights(weights: Mapping[str, Tensor], module: nn.Module) -> None:
    """Copy canonical `weights` into `module`; `WeightError` if a parameter is left over on either side."""
    parameters = canonical_parameters(module)
    name = type(module).__name__
    missing, extra = weights.keys() - parameters.keys(), parameters.keys() - weights.keys()
    if missing or extra:
        problems = {"it lacks": missing, "nothing is given for": extra}
        raise WeightError(f"{name}: {_list(problems)}")
    wrong = [key for key in weights if weights[key].shape != parameters[key].shape]
    if wrong:
        shapes = ", ".join(f"{key} is {tuple(parameters[key].shape)}, not {tuple(weights[key].shape)}" for key in wrong)
        raise WeightError(f"{name}: {shapes}")
    with torch.no_grad():
        for key, value in weights.items():
            parameters[key].copy_(value)


def _checked_own_mapping(module: Any) -> dict[str, Tensor]:
    canonical = dict(module.canonical_parameters())
    named = {id(parameter): name for name, parameter in module.named_parameters()}
    strangers = [key for key, value in canonical.items() if id(value) not in named]
    left_over = sorted(named[i] for i in named.keys() - {id(value) for value in canonical.values()})
    if strangers or left_over or len({id(value) for value in canonical.values()}) < len(canonical):
        problems = {"not parameters of the module:": strangers, "left out:": left_over}
        raise WeightError(
            f"{type(module).__name__}.canonical_parameters() must name every parameter once: "
            + (_list(problems) or "one parameter has two names")
        )
    return canonical


def _list(problems: Mapping[str, Collection[str]]) -> str:
    """The problems that have names, each followed by its names."""
    return "; ".join(f"{problem} {', '.join(sorted(names))}" for problem, names in problems.items() if names)
