"""Checkpoints rewritten for the other layer: `rnn-parity convert`.

The tensors of a stack keep their bits and get other keys; the moments of an optimizer stay with their parameters. The
new file is written beside its place, read again and proved: both layers load their tensors strictly and hold the same
bits, the moments are still those of the same parameters, and the check of the project passes with these weights.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from rnn_parity.compare.case import compare_task
from rnn_parity.compare.reference import References
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Dtype, Verdict, worst
from rnn_parity.layers.parameters import canonical_parameters, canonical_shapes, parse_name
from rnn_parity.layers.registry import build
from rnn_parity.layers.running import numerics
from rnn_parity.layers.stimulus import draw_stimulus
from rnn_parity.tables import atomic_path
from rnn_parity.workloads.layer import LayerTask

KEYS = {"stacking_gru_cell": "grus.{layer}.{kind}", "stacking_gru": "{kind}_l{layer}"}
"""Implementation to the key of a parameter in its state_dict."""

OTHER = {"stacking_gru": "stacking_gru_cell", "stacking_gru_cell": "stacking_gru"}

_SAFETENSORS = ".safetensors"


class NotProven(Exception):
    """The written file does not hold the same stack. The message names the difference."""


@dataclass(frozen=True)
class Stack:
    """One recurrent stack in a checkpoint.

    Attributes:
        layout: the implementation that has these keys. path: the keys that lead to the state_dict, none where the file
            is one. prefix: the common beginning of the stack's keys, as `decoder.rnn`. state: the whole state_dict.
        keys: canonical name, as `weight_ih_l0`, to key, in the order of the file.
    """

    layout: str
    path: tuple[str, ...]
    prefix: str
    state: dict[str, Any]
    keys: Mapping[str, str]

    @property
    def name(self) -> str:
        """Path and prefix, as `m0:decoder.rnn`."""
        return f"{'.'.join(self.path)}:{self.prefix}".strip(":") or "the whole file"

    @property
    def sizes(self) -> dict[str, int]:
        """`input_size`, `hidden_size` and `num_layers`."""
        of_input, of_state = (self.state[self.keys[f"weight_{kind}_l0"]] for kind in ("ih", "hh"))
        return {
            "input_size": of_input.shape[1],
            "hidden_size": of_state.shape[1],
            "num_layers": math.ceil(len(self.keys) / 4),
        }

    def load(self) -> dict[str, Tensor]:
        """Load every key below the prefix into the layer strictly; return the layer's parameters by canonical name.

        Raises `InputError` where the layer does not take them, or they have no dtype in which layers are compared.
        """
        beginning = f"{self.prefix}." if self.prefix else ""
        own = {str(key).removeprefix(beginning): v for key, v in self.state.items() if str(key).startswith(beginning)}
        try:
            dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in own.values()}
            if len(dtypes) > 1 or not dtypes <= set(Dtype):
                raise TypeError(f"it holds {', '.join(sorted(dtypes))}, expected one of {', '.join(Dtype)}")
            module = build(self.layout, **self.sizes, dropout=0.0).to(getattr(torch, dtypes.pop()))
            (inner,) = module.children()  # a model holds the stack of cells, or nn.GRU, without the wrapper
            inner.load_state_dict(own)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{self.name}: cannot be loaded into {self.layout} ({_one_line(error)})") from error
        return {name: parameter.detach() for name, parameter in canonical_parameters(module).items()}


@dataclass(frozen=True)
class Conversion:
    """A proved conversion.

    Attributes:
        names: old key to new key. optimizers: key of each optimizer in the file to whether it was followed.
        rows: the check, a row per regime × quantity.
    """

    names: Mapping[str, str]
    optimizers: Mapping[str, bool]
    rows: list[dict[str, Any]]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the check."""
        return worst(row["verdict"] for row in self.rows)

    def describe(self) -> list[str]:
        """Say which keys were renamed, which optimizers were followed, and the verdict, a line each."""
        old, new = next(iter(self.names.items()))
        lines = [f"{len(self.names)} keys renamed: {old} → {new}, …; everything else is copied as it is"]
        for key, followed in self.optimizers.items():
            lines.append(f"{key}: {'its moments stay with their parameters' if followed else 'left as it is'}")
        ratio = max((row["ratio"] for row in self.rows if "ratio" in row), default=0)
        return [*lines, f"checked: {self.verdict}, largest error / limit {ratio:.2g}"]


def convert_checkpoint(
    source: Path,
    target: Path,
    to: str,
    prefix: str | None = None,
    new_prefix: str | None = None,
    optimizer: str | None = None,
) -> Conversion:
    """Write the checkpoint `source` as `target`, with one recurrent stack turned into the layout `to`.

    Args:
        prefix: of the stack's keys, as `decoder.rnn` or `m0:decoder.rnn`; not needed where only one stack fits.
        new_prefix: of its new keys; None keeps the prefix. optimizer: key of the optimizer that must be followed; None
            follows every optimizer that fits the model.

    Raises:
        InputError: a file or an argument cannot be used. NotProven: the written file does not hold the same stack.
        Nothing is written in either case.
    """
    if to not in KEYS:
        raise InputError(f"--to: holds {to!r}, expected one of {', '.join(KEYS)}")
    if os.path.lexists(target):
        raise InputError(f"{target}: is there already; expected a new file")
    if (source.suffix == _SAFETENSORS) != (target.suffix == _SAFETENSORS):
        raise InputError(f"{target}: has another format than {source.name}, expected the same of .pt or .safetensors")
    content, metadata = read_checkpoint(source)
    try:
        stack = find_stack(content, OTHER[to], prefix)
        names = new_keys(stack, to, stack.prefix if new_prefix is None else new_prefix)
        kept = optimizer_moments(content, stack, optimizer)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    weights, followed = stack.load(), {key: tensors for key, tensors in kept.items() if tensors is not None}
    rename(content, stack, names, followed)
    with atomic_path(target) as temporary:
        _write(temporary, content, metadata)
        written, _ = read_checkpoint(temporary)
        stacks = [found for found in _stacks(written, to) if found.path == stack.path]
        new = next(found for found in stacks if set(found.keys.values()) >= set(names.values()))
        _prove_same(weights, new.load(), "of the stack")
        for key, tensors in followed.items():
            _prove_same(tensors, moments(written[key], new), f"in {key}")
        rows = _check(new, OTHER[to])
    return Conversion(names, {key: key in followed for key in kept}, rows)


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
    found = [stack for stack in every if stack.name == prefix]
    found = found or [stack for stack in every if prefix in (None, stack.prefix)]
    whole, problems = [], []
    for stack in found:
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
    wanted = f"{prefix}." if prefix else ""
    raise InputError(f"no {layout} in it, expected a key {wanted}{_key(layout, 'weight_ih_l0')}{others}")


def new_keys(stack: Stack, to: str, prefix: str) -> dict[str, str]:
    """Map old key to key in the layout `to`; `InputError` where a new key is taken."""
    beginning = f"{prefix}." if prefix else ""
    names = {key: f"{beginning}{_key(to, canonical)}" for canonical, key in stack.keys.items()}
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
        numbers = dict(zip(keys, (number for group in groups for number in group["params"]), strict=True))
        if len(numbers) < len(keys) or list(stack.keys) != list(canonical_shapes(**stack.sizes)):
            return None
        kept = {key: optimizer["state"].get(number, {}) for key, number in numbers.items()}
        for key in kept.keys() & tensors.keys():  # a moment has its parameter's shape, a count of steps has none
            if any(getattr(value, "shape", ()) not in ((), tensors[key].shape) for value in kept[key].values()):
                return None
        named = ((name, kept[key]) for name, key in stack.keys.items())
        return {f"{kind} of {name}": torch.as_tensor(v) for name, held in named for kind, v in held.items()}
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
    if not isinstance(content, dict) or len(path) > 8:  # a mapping that holds itself has no end
        return
    by_prefix: dict[str, dict[str, str]] = {}
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, dict):
            yield from _stacks(value, layout, (*path, key))
        parsed = parse_name(key) if isinstance(key, str) else None
        if parsed and parsed.layout == layout:
            by_prefix.setdefault(parsed.prefix, {})[parsed.canonical] = key
    for prefix, keys in by_prefix.items():
        yield Stack(layout, path, prefix, content, keys)


def _key(layout: str, canonical: str) -> str:
    kind, _, layer = canonical.rpartition("_l")
    return KEYS[layout].format(layer=layer, kind=kind)


def _write(path: Path, content: Any, metadata: dict[str, str] | None) -> None:
    if path.suffix == _SAFETENSORS:
        written = save(content, metadata)
    else:
        torch.save(content, memory := io.BytesIO())
        written = memory.getvalue()
    path.write_bytes(written)  # the libraries' own writers do not report the disk's error


def _check(stack: Stack, baseline: str) -> list[dict[str, Any]]:
    """The rows of the check with a stack's weights; `NotProven` where the layers do not compute the same."""
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
    return rows


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
