"""Checkpoints rewritten for another layer: `rnn-parity convert`.

The tensors of a stack keep their bits and get other keys; the moments of an optimizer stay with their parameters. The
new file is written beside its place, read again and proved: both layers load their tensors strictly and hold the same
bits, the moments are still those of the same parameters, and the check of the project passes with these weights.
"""

from __future__ import annotations

import functools
import operator
import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rnn_parity.cells.base import load_cell
from rnn_parity.checkpoints import SAFETENSORS, read_checkpoint, write_checkpoint
from rnn_parity.compare.case import compare_task
from rnn_parity.compare.reference import References
from rnn_parity.experiment.errors import InputError, in_one_line
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import PASSING, Dtype, worst
from rnn_parity.layers.parameters import canonical_shapes
from rnn_parity.layers.running import numerics
from rnn_parity.layers.stimulus import draw_stimulus
from rnn_parity.tables import atomic_path
from rnn_parity.workloads.layer import LayerTask

FUSED, CELLS, ONE_LAYER_EACH = FIRST_KEYS = ("weight_ih_l0", "0.weight_ih", "0.weight_ih_l0")
"""The forms of a stack, each named by the first of its keys: one fused layer, a list of cells, a list of fused ones."""

LISTS = {"gru": "grus", "lstm": "lstms"}
"""Kind of cell to the name of the list of cells in this project's own layer."""

TARGETS = {f"stacking_{kind}{end}": (kind, form) for kind in LISTS for end, form in (("_cell", CELLS), ("", FUSED))}
"""What can be converted to: implementation to its kind of cell and its form."""

_UNFIT = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What is raised on the way through values that are not those of a stack, or of an optimizer."""


class NotProven(Exception):
    """The written file does not hold the same stack. The message names the difference."""


@dataclass(frozen=True)
class Stack:
    """One recurrent stack in a checkpoint.

    Attributes:
        form: one of `FIRST_KEYS`. path: the keys that lead to the state_dict, none where the file is one.
        prefix, list: the beginning of the stack's keys, as `decoder.rnn` and `layers`; one fused layer has no list.
        state: the whole state_dict.
    """

    form: str
    path: tuple[Any, ...]
    prefix: str
    list: str
    state: dict[Any, Any]

    @property
    def place(self) -> str:
        """Prefix and list with a dot at the end, as `decoder.rnn.layers.`; empty where there are none."""
        return "".join(f"{part}." for part in (self.prefix, self.list) if part)

    @property
    def name(self) -> str:
        """Path and place, as `m0:decoder.rnn.layers`."""
        return f"{'.'.join(map(str, self.path))}:{self.place}".strip(":.") or "the top level"

    @property
    def own(self) -> dict[str, Any]:
        """Every entry below the place, by what follows it, in the order of the file."""
        items = ((str(key), value) for key, value in self.state.items())
        return {key.removeprefix(self.place): value for key, value in items if key.startswith(self.place)}

    @property
    def sizes(self) -> dict[str, Any]:
        """`cell`, its kind, with `input_size`, `hidden_size` and `num_layers`, from the shapes of the weights."""
        own = self.own
        (_, width), (rows, size) = (tuple(own[key].shape) for key in (self.form, self.form.replace("ih", "hh")))
        kinds = [kind for kind in LISTS if len(load_cell(kind).gates) * size == rows]
        if not kinds:
            raise ValueError(f"weight_hh has {rows} rows for {size} columns; a GRU has 3 × as many, an LSTM 4 ×")
        num_layers = sum("weight_ih" in key for key in own)
        return {"cell": kinds[0], "input_size": width, "hidden_size": size, "num_layers": num_layers}

    def load(self) -> dict[str, Tensor]:
        """Load every entry below the place into PyTorch's layer strictly; return its tensors by the names of nn.GRU.

        Raises `InputError` where the layer does not take them, or they have no dtype in which layers are compared.
        """
        own = self.own
        if backward := next((key for key in own if key.endswith("_reverse")), ""):
            raise InputError(f"{self.name}: has two directions, expected one: {backward}")
        try:
            if unfit := next((key for key, tensor in own.items() if not _has_values(tensor)), ""):
                raise TypeError(f"{unfit} is sparse or without values, expected a dense tensor")
            dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in own.values()}
            if len(dtypes) > 1 or not dtypes <= set(Dtype):
                raise TypeError(f"it holds {', '.join(sorted(dtypes))}, expected one of {', '.join(Dtype)}")
            (layer := _layer(self.form, **self.sizes)).load_state_dict(own, assign=True)
        except _UNFIT as error:
            reason = textwrap.shorten(in_one_line(error), 200, placeholder=" …")
            raise InputError(f"{self.name}: cannot be loaded ({reason})") from error
        return dict(zip(canonical_shapes(**self.sizes), layer.state_dict().values(), strict=True))


def convert_checkpoint(
    source: Path,
    target: Path,
    to: str,
    *,
    stack: str | None = None,
    to_list: str | None = None,
    new_prefix: str | None = None,
    optimizer: str | None = None,
) -> list[str]:
    """Write the checkpoint `source` as `target`, with one recurrent stack turned into the layer `to`.

    Args:
        to: one of `TARGETS`. stack: how the beginning of the old keys ends, as `rnn_cells` or `m0:decoder.rnn`; not
            needed where only one stack fits. to_list: name of the new list; None is this project's name for a list of
            cells, and one fused layer, which becomes a list of one-layer ones where this names it.
        new_prefix: of the new keys, up to the list; None keeps the prefix. optimizer: key of the optimizer that must be
            followed; None follows every optimizer that fits the model.

    Returns a line each on the keys that were renamed, every optimizer in the file, and the verdict of the check.

    Raises `InputError` where a file or an argument cannot be used, `NotProven` where the written file does not hold the
    same stack. Nothing is written in either case.
    """
    if to not in TARGETS:
        raise InputError(f"--to: holds {to!r}, expected one of {', '.join(TARGETS)}")
    if os.path.lexists(target):
        raise InputError(f"{target}: exists already; expected a new file")
    if (source.suffix == SAFETENSORS) != (target.suffix == SAFETENSORS):
        raise InputError(f"{target}: has another format than {source.name}, expected the same of .pt or .safetensors")
    stack, to_list, new_prefix = (place and place.rstrip(".") for place in (stack, to_list, new_prefix))
    kind, form = TARGETS[to]
    to_list = to_list or (LISTS[kind] if form == CELLS else "")
    form = ONE_LAYER_EACH if to_list and form == FUSED else form
    content, metadata = read_checkpoint(source)
    try:
        old = find_stack(content, kind, form, to_list, stack)
        new = replace(old, form=form, prefix=old.prefix if new_prefix is None else new_prefix, list=to_list)
        names = new_keys(old, new)
        kept = optimizer_moments(content, old, optimizer)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    weights, followed = old.load(), {key: tensors for key, tensors in kept.items() if tensors is not None}
    rename(content, old, names, followed)
    with atomic_path(target) as temporary:
        write_checkpoint(temporary, content, metadata)
        written, _ = read_checkpoint(temporary)
        new = replace(new, state=functools.reduce(operator.getitem, old.path, written))
        _prove_same(weights, new.load(), "of the stack")
        for key, tensors in followed.items():
            _prove_same(tensors, moments(written[key], new), f"in {key}")
        checked = _check(new)
    before, after = next(iter(names.items()))
    lines = [f"{len(names)} keys renamed: {before} → {after}, …; everything else is copied as it is"]
    return [*lines, *(f"{key}: {_told(tensors)}" for key, tensors in kept.items()), checked]


def find_stack(content: Any, kind: str, form: str, to_list: str, wanted: str | None) -> Stack:
    """Find the one stack of a kind of cell that has not the keys asked for already.

    Raises `InputError` where there is none, or several, or one that is not whole.
    """
    every = list(_stacks(content))
    named = [stack for stack in every if stack.name == wanted] or [stack for stack in every if _is_meant(stack, wanted)]
    whole, problems = [], []
    for stack in sorted(named, key=lambda stack: (stack.form, stack.list) == (form, to_list)):
        try:
            stack.load()
            if (found := stack.sizes["cell"]) != kind:
                words, other = (load_cell(each).words for each in (found, kind))
                fitting = " or ".join(name for name, (own, _) in TARGETS.items() if own == found)
                raise InputError(f"{stack.name}: this is {words}, not {other}; expected --to {fitting}")
            if (stack.form, stack.list) == (form, to_list):
                raise InputError(f"{stack.name}: already has the target layer's keys")
            whole.append(stack)
        except InputError as problem:
            problems.append(problem)
    if len(whole) == 1:
        return whole[0]
    if whole:
        raise InputError(f"several stacks fit: {', '.join(stack.name for stack in whole)}; expected one as --from")
    if problems:
        raise problems[0]
    where = f" under {wanted}" if wanted else ""
    raise InputError(f"no stack in it{where}, expected a key that ends in {' or '.join(FIRST_KEYS)}{_places(every)}")


def new_keys(old: Stack, new: Stack) -> dict[str, str]:
    """Map old key to new key, parameter by parameter; `InputError` where other keys are there already."""
    pairs = zip(*(_layer(stack.form, **old.sizes).state_dict() for stack in (old, new)), strict=True)
    names = {old.place + before: new.place + after for before, after in pairs}
    if there := [str(key) for key in old.state if str(key).startswith(new.place) and key not in names]:
        raise InputError(f"{new.name}: {there[0]} exists already, expected another --new-prefix")
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
    try:
        # A tensor with several keys, as a shared embedding, is one parameter, under its first key.
        first = {(value.data_ptr(), value.shape): key for key, value in reversed(tensors.items())}
        groups = optimizer["param_groups"]
        names = [name for group in groups for name in group.get("param_names") or []]
        keys = names or [key for key in tensors if key in first.values()]
        numbers = [number for group in groups for number in group["params"]]
        kept = {key: optimizer["state"].get(number, {}) for key, number in zip(keys, numbers, strict=True)}
        if len(kept) < len(keys) or list(stack.own) != list(_layer(stack.form, **stack.sizes).state_dict()):
            return None
        held = ((value, tensors[key]) for key in kept.keys() & tensors.keys() for value in kept[key].values())
        # A moment has its parameter's shape, a count of steps has none.
        if any(getattr(value, "shape", ()) not in ((), parameter.shape) for value, parameter in held):
            return None
        own = {name: kept[stack.place + key] for name, key in zip(stack.load(), stack.own, strict=True)}
        every = ((f"{kind} of {name}", value) for name in own for kind, value in own[name].items())
        found = {name: torch.as_tensor(value) for name, value in every if value is not None}
        return found if all(map(_has_values, found.values())) else None
    except _UNFIT:  # other parameters, or no state of torch.optim
        return None


def optimizer_moments(content: Any, stack: Stack, wanted: str | None) -> dict[str, dict[str, Tensor] | None]:
    """Map the key of each optimizer to the moments that are followed, None where it is left as it is.

    Raises `InputError` where the wanted optimizer cannot be followed; None follows every one that fits.
    """
    every = content.items() if stack.path else ()
    known = {k: v for k, v in every if isinstance(v, dict) and {"state", "param_groups"} <= v.keys()}
    if wanted is not None and wanted not in known:
        expected = " or ".join(known) or "none, since the file has no optimizer"
        raise InputError(f"--optimizer: holds {wanted!r}, expected {expected}")
    kept = {key: moments(value, stack) if wanted in (None, key) else None for key, value in known.items()}
    if wanted is not None and kept[wanted] is None:
        raise InputError(
            f"--optimizer: {wanted} has not the parameters of the model that holds {stack.name}, or it has buffers"
        )
    return kept


def _stacks(content: Any, path: tuple[Any, ...] = ()) -> Iterator[Stack]:
    """Yield every place in nested state_dicts that has the first key of a form."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _stacks(value, (*path, key))
            for form in FIRST_KEYS:
                if f".{key}".endswith(f".{form}"):
                    prefix, _, name = key.removesuffix(form).rstrip(".").rpartition(".")
                    if form == FUSED:
                        prefix, name = f"{prefix}.{name}".strip("."), ""
                    yield Stack(form, path, prefix, name, content)


def _is_meant(stack: Stack, wanted: str | None) -> bool:
    """Whether the stack's name ends with these words; without any, whether it is no part of a list."""
    if wanted is None:
        numbered = stack.form == FUSED and stack.prefix.rpartition(".")[2].isdecimal()
        return not numbered or f"{stack.place}weight_ih_l1" in stack.state
    return f".{stack.name}".replace(":", ".").endswith("." + wanted.replace(":", "."))


def _places(stacks: Sequence[Stack]) -> str:
    """Where the stacks are, as the end of a message."""
    under = [stack.name for stack in stacks if stack.path or stack.place]
    places = ["at the top level"] * (len(under) < len(stacks)) + [f"under {', '.join(under)}"] * bool(under)
    return f"; {'the stack is' if len(stacks) == 1 else 'there are stacks'} {' and '.join(places)}" if stacks else ""


def _has_values(tensor: Tensor) -> bool:
    """Whether each of its values is in memory: those of a sparse tensor, or one on the device `meta`, are not."""
    return tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_nested


def _told(moments: Mapping[str, Tensor] | None) -> str:
    """What became of an optimizer, by its moments."""
    if moments is None:
        return "left as it is"
    return "its moments stay with their parameters" if moments else "it has no moments"


def _layer(form: str, cell: str, input_size: int, hidden_size: int, num_layers: int) -> nn.Module:
    """PyTorch's layer in one form of a stack, without values. Parameters are in the order of nn.GRU."""
    make = getattr(nn, cell.upper() + ("Cell" if form == CELLS else ""))
    with torch.device("meta"):
        if form == FUSED:
            return make(input_size, hidden_size, num_layers)
        return nn.ModuleList(make(hidden_size if layer else input_size, hidden_size) for layer in range(num_layers))


def _check(stack: Stack) -> str:
    """Say what the check finds with a stack's weights; `NotProven` where it does not show that the layers agree."""
    weights, sizes = stack.load(), stack.sizes
    axes: dict[str, Any] = {"sequence_length": 12, "batch_size": 4, "threads": 1, "dropout": 0.2, **sizes}
    dtype = str(weights["weight_ih_l0"].dtype).removeprefix("torch.")
    case = Case("convert", device="cpu", dtype=dtype, tf32=False, **axes)
    stimulus = replace(draw_stimulus(case, seed=0), weights=weights)
    regimes = ("eval", "train_matched_masks") if case.draws_dropout else ("eval",)
    with numerics(threads=1, tf32=False):
        task = LayerTask(References(case, stimulus, seed=0))
        rows = list(compare_task(task, f"stacking_{case.cell}_cell", [f"stacking_{case.cell}"], regimes))
    for row in rows:
        if row["verdict"] not in PASSING:
            raise NotProven(f"{row['regime']}, {row['quantity']}: {row['verdict']}, {row['reason']}")
    ratio = max((row["ratio"] for row in rows if "ratio" in row), default=0)
    return f"checked: {worst(row['verdict'] for row in rows)}, largest error / limit {ratio:.2g}"


def _prove_same(old: Mapping[str, Tensor] | None, new: Mapping[str, Tensor] | None, where: str) -> None:
    if old is None or new is None or old.keys() != new.keys():
        raise NotProven(f"the tensors {where} are not the same ones")
    for name, tensor in old.items():
        bits = [each.contiguous().view(-1).view(torch.uint8) for each in (tensor, new[name])]
        if tensor.dtype != new[name].dtype or not torch.equal(*bits):
            raise NotProven(f"{name} {where} has changed")
