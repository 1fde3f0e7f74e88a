"""Checkpoints rewritten for the other layer: `rnn-parity convert`.

The tensors of a stack keep their bits and get other keys; the moments of an optimizer stay with their parameters. The
new file is written beside its place, read again and proved: both layers load their tensors strictly and hold the same
bits, the moments are still those of the same parameters, and the check of the project passes with these weights.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import operator
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from rnn_parity.compare.case import compare_task
from rnn_parity.compare.reference import References
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Dtype, Verdict, worst
from rnn_parity.layers.parameters import canonical_parameters
from rnn_parity.layers.registry import build
from rnn_parity.layers.running import numerics
from rnn_parity.layers.stimulus import draw_stimulus
from rnn_parity.tables import atomic_path
from rnn_parity.workloads.layer import LayerTask

FIRST_KEYS = {"stacking_gru_cell": "grus.0.weight_ih", "stacking_gru": "weight_ih_l0"}
"""Implementation to the key of its first parameter, by which a stack is found in a file."""

OTHER = dict(zip(FIRST_KEYS, reversed(FIRST_KEYS), strict=True))

_SAFETENSORS = ".safetensors"


class NotProven(Exception):
    """The written file does not hold the same stack. The message names the difference."""


@dataclass(frozen=True)
class Stack:
    """One recurrent stack in a checkpoint.

    Attributes:
        layout: the implementation that has these keys. path: the keys that lead to the state_dict, none where the file
            is one. prefix: the beginning of the stack's keys, as `decoder.rnn`. state: the whole state_dict.
    """

    layout: str
    path: tuple[str, ...]
    prefix: str
    state: dict[str, Any]

    @property
    def name(self) -> str:
        """Path and prefix, as `m0:decoder.rnn`."""
        return f"{'.'.join(self.path)}:{self.prefix}".strip(":") or "the whole file"

    @property
    def own(self) -> dict[str, Any]:
        """Every entry below the prefix, by what follows it, in the order of the file."""
        dotted = _dotted(self.prefix)
        return {
            str(key).removeprefix(dotted): value for key, value in self.state.items() if str(key).startswith(dotted)
        }

    @property
    def sizes(self) -> dict[str, Any]:
        """`input_size`, `hidden_size` and `num_layers`."""
        first, own = FIRST_KEYS[self.layout], self.own
        input_size, hidden_size = (own[key].shape[1] for key in (first, first.replace("ih", "hh")))
        num_layers = sum("weight_ih" in key for key in own)
        return {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}

    def load(self) -> dict[str, Tensor]:
        """Load every entry below the prefix into the layer strictly; return its parameters by nn.GRU's names.

        Raises `InputError` where the layer does not take them, or they have no dtype in which layers are compared.
        """
        own = self.own
        try:
            dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in own.values()}
            if len(dtypes) > 1 or not dtypes <= set(Dtype):
                raise TypeError(f"it holds {', '.join(sorted(dtypes))}, expected one of {', '.join(Dtype)}")
            layer = _layer(self.layout, self.sizes).to(getattr(torch, dtypes.pop()))
            layer.load_state_dict(own)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{self.name}: cannot be loaded into {self.layout} ({_one_line(error)})") from error
        return {name: parameter.detach() for name, parameter in canonical_parameters(layer).items()}


def convert_checkpoint(
    source: Path,
    target: Path,
    to: str,
    prefix: str | None = None,
    new_prefix: str | None = None,
    optimizer: str | None = None,
) -> list[str]:
    """Write the checkpoint `source` as `target`, with one recurrent stack turned into the layout `to`.

    Args:
        prefix: of the stack's keys, as `decoder.rnn` or `m0:decoder.rnn`; not needed where only one stack fits.
        new_prefix: of its new keys; None keeps the prefix. optimizer: key of the optimizer that must be followed; None
            follows every optimizer that fits the model.

    Returns:
        A line each on the keys that were renamed, every optimizer in the file, and the verdict of the check.

    Raises:
        InputError: a file or an argument cannot be used. NotProven: the written file does not hold the same stack.
        Nothing is written in either case.
    """
    if to not in OTHER:
        raise InputError(f"--to: holds {to!r}, expected one of {', '.join(FIRST_KEYS)}")
    if os.path.lexists(target):
        raise InputError(f"{target}: is there already; expected a new file")
    if (source.suffix == _SAFETENSORS) != (target.suffix == _SAFETENSORS):
        raise InputError(f"{target}: has another format than {source.name}, expected the same of .pt or .safetensors")
    content, metadata = read_checkpoint(source)
    try:
        old = find_stack(content, OTHER[to], prefix)
        prefix = old.prefix if new_prefix is None else new_prefix
        names = new_keys(old, to, prefix)
        kept = optimizer_moments(content, old, optimizer)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    weights, followed = old.load(), {key: tensors for key, tensors in kept.items() if tensors is not None}
    rename(content, old, names, followed)
    with atomic_path(target) as temporary:
        _write(temporary, content, metadata)
        written, _ = read_checkpoint(temporary)
        new = Stack(to, old.path, prefix, functools.reduce(operator.getitem, old.path, written))
        _prove_same(weights, new.load(), "of the stack")
        for key, tensors in followed.items():
            _prove_same(tensors, moments(written[key], new), f"in {key}")
        checked = _check(new, OTHER[to])
    before, after = next(iter(names.items()))
    lines = [f"{len(names)} keys renamed: {before} → {after}, …; everything else is copied as it is"]
    for key in kept:
        lines.append(f"{key}: {'its moments stay with their parameters' if key in followed else 'left as it is'}")
    return [*lines, checked]


def read_checkpoint(path: Path) -> tuple[Any, dict[str, str] | None]:
    """Read tensors and plain values, and the metadata of a safetensors file; no pickle is executed.

    Raises `InputError` with the reader's reason where the file cannot be read or holds anything else.
    """
    try:
        if path.suffix != _SAFETENSORS:
            return torch.load(path, map_location="cpu", weights_only=True), None
        with safe_open(path, "pt") as file:
            names = file.keys()  # safe_open is no mapping: it cannot be iterated itself
            return {name: file.get_tensor(name) for name in names}, file.metadata()
    except Exception as error:  # damaged bytes make the readers raise anything: IndexError, struct.error, …
        refused = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds {refused[1]}" if refused else _one_line(error)
        raise InputError(f"{path}: cannot be read ({reason}); expected tensors and plain values only") from error


def find_stack(content: Any, layout: str, prefix: str | None) -> Stack:
    """Find the one stack that the layer `layout` loads; `InputError` for none, several, or one that does not load."""
    every = list(_stacks(content, layout))
    whole, problems = [], []
    for stack in every:
        if prefix in (None, stack.prefix, stack.name):
            try:
                stack.load()
                whole.append(stack)
            except InputError as problem:
                problems.append(problem)
    if len(whole) == 1:
        return whole[0]
    if whole:
        raise InputError(f"several stacks fit: {', '.join(stack.name for stack in whole)}; expected one as --prefix")
    if problems:
        raise problems[0]
    others = f"; there are stacks under {', '.join(stack.name for stack in every)}" if every else ""
    raise InputError(f"no {layout} in it, expected a key {_dotted(prefix or '')}{FIRST_KEYS[layout]}{others}")


def new_keys(stack: Stack, to: str, prefix: str) -> dict[str, str]:
    """Map old key to key in the layout `to`, parameter by parameter; `InputError` where a new key is taken."""
    pairs = zip(*(_layer(layout, stack.sizes).state_dict() for layout in (stack.layout, to)), strict=True)
    names = {_dotted(stack.prefix) + old: _dotted(prefix) + new for old, new in pairs}
    taken = [new for new in names.values() if new in stack.state and new not in names]
    if taken:
        raise InputError(f"{stack.name}: {taken[0]} is there already, beside the stack it would come from")
    return names


def rename(content: Any, stack: Stack, names: Mapping[str, str], optimizers: Iterable[str]) -> None:
    """Give the stack's keys their new names, in its state_dict and in the `param_names` of these optimizers."""
    items = [(names.get(key, key), value) for key, value in stack.state.items()]
    stack.state.clear()
    stack.state.update(items)
    for key in optimizers:
        for group in content[key]["param_groups"]:
            if "param_names" in group:
                group["param_names"] = [names.get(name, name) for name in group["param_names"]]


def moments(optimizer: Mapping[str, Any], stack: Stack) -> dict[str, Tensor] | None:
    """The stack's tensors in an optimizer, as `exp_avg of weight_ih_l0`; None for another model's optimizer.

    `torch.optim` numbers the parameters in the order of `model.parameters()`, which for a stack is the same in both
    layouts. An optimizer that was given names may hold other models' parameters as well.
    """
    tensors = {key: value for key, value in stack.state.items() if isinstance(value, Tensor)}
    # A tensor with several keys, as a shared embedding, is one parameter, under its first key.
    first = {(value.data_ptr(), value.shape): key for key, value in reversed(tensors.items())}
    try:
        groups = optimizer["param_groups"]
        names = [name for group in groups for name in group.get("param_names") or []]
        keys = names or [key for key in tensors if key in first.values()]
        numbers = [number for group in groups for number in group["params"]]
        kept = {key: optimizer["state"].get(number, {}) for key, number in zip(keys, numbers, strict=True)}
        if len(kept) < len(keys) or list(stack.own) != list(_layer(stack.layout, stack.sizes).state_dict()):
            return None
        held = ((value, tensors[key]) for key in kept.keys() & tensors.keys() for value in kept[key].values())
        # A moment has its parameter's shape, a count of steps has none.
        if any(getattr(value, "shape", ()) not in ((), parameter.shape) for value, parameter in held):
            return None
        own = {name: kept[_dotted(stack.prefix) + key] for name, key in zip(stack.load(), stack.own, strict=True)}
        return {f"{kind} of {name}": torch.as_tensor(value) for name in own for kind, value in own[name].items()}
    except (AttributeError, LookupError, TypeError, ValueError):  # other parameters, or no state of torch.optim
        return None


def optimizer_moments(content: Any, stack: Stack, wanted: str | None) -> dict[str, dict[str, Tensor] | None]:
    """Map the key of each optimizer to the moments that are followed, None where it is left as it is.

    Raises `InputError` where the wanted optimizer cannot be followed; None follows every one that fits.
    """
    every = content.items() if stack.path else ()
    known = {k: v for k, v in every if isinstance(v, dict) and {"state", "param_groups"} <= v.keys()}
    if wanted is not None and wanted not in known:
        raise InputError(f"--optimizer: holds {wanted!r}, expected one of [{', '.join(known)}]")
    kept = {key: moments(value, stack) if wanted in (None, key) else None for key, value in known.items()}
    if wanted is not None and kept[wanted] is None:
        raise InputError(f"--optimizer: {wanted} has not the parameters of the model that holds {stack.name}")
    return kept


def _stacks(content: Any, layout: str, path: tuple[str, ...] = ()) -> Iterator[Stack]:
    """Yield every place in nested state_dicts that has the first key of a layout."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _stacks(value, layout, (*path, str(key)))
            if f".{key}".endswith(f".{FIRST_KEYS[layout]}"):
                yield Stack(layout, path, key.removesuffix(FIRST_KEYS[layout]).removesuffix("."), content)


def _layer(layout: str, sizes: Mapping[str, Any]) -> nn.Module:
    """What a checkpoint holds: nn.GRU, or the stack of cells, without the wrapper. Parameters in nn.GRU's order."""
    (inner,) = build(layout, **sizes, dropout=0.0).children()
    return inner


def _dotted(prefix: str) -> str:
    return f"{prefix}." if prefix else ""


def _write(path: Path, content: Any, metadata: dict[str, str] | None) -> None:
    if path.suffix == _SAFETENSORS:
        written = save(content, metadata)
    else:
        torch.save(content, memory := io.BytesIO())
        written = memory.getvalue()
    path.write_bytes(written)  # the libraries' own writers do not report the disk's error


def _check(stack: Stack, baseline: str) -> str:
    """Say what the check finds with a stack's weights; `NotProven` where the layers do not compute the same."""
    weights = stack.load()
    dtype = str(weights["weight_ih_l0"].dtype).removeprefix("torch.")
    axes: dict[str, Any] = {"sequence_length": 12, "batch_size": 4, "threads": 1, "dropout": 0.2}
    case = Case("convert", device="cpu", dtype=dtype, tf32=False, **stack.sizes, **axes)
    stimulus = dataclasses.replace(draw_stimulus(case, seed=0), weights=weights)
    regimes = ("eval", "train_matched_masks") if case.draws_dropout else ("eval",)
    with numerics(threads=1, tf32=False):
        rows = list(compare_task(LayerTask(References(case, stimulus, seed=0)), baseline, [stack.layout], regimes))
    for row in rows:
        if row["verdict"] in (Verdict.DIFFERENT, Verdict.FAILED):
            raise NotProven(f"{row['regime']}, {row['quantity']}: {row['verdict']}, {row['reason']}")
    ratio = max((row["ratio"] for row in rows if "ratio" in row), default=0)
    return f"checked: {worst(row['verdict'] for row in rows)}, largest error / limit {ratio:.2g}"


def _prove_same(old: Mapping[str, Tensor] | None, new: Mapping[str, Tensor] | None, where: str) -> None:
    if old is None or new is None or old.keys() != new.keys():
        raise NotProven(f"the tensors {where} are not the same ones")
    for name, tensor in old.items():
        if tensor.dtype != new[name].dtype or not torch.equal(_bytes(tensor), _bytes(new[name])):
            raise NotProven(f"{name} {where} has changed")


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
