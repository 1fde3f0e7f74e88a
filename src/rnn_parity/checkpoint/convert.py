"""From one checkpoint file to another: read, rename, write beside the place, read again, prove, and only then keep."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnn_parity.checkpoint.files import SAFETENSORS, Checkpoint, read_checkpoint, write_checkpoint
from rnn_parity.checkpoint.optimizers import describe, optimizers_of, with_parameter_names
from rnn_parity.checkpoint.proof import NotProven, Place, prove_equivalent, prove_same
from rnn_parity.checkpoint.stacks import KEYS, OTHER, Stack, find_stack, renamed, with_names
from rnn_parity.compare.criterion import Verdict, worst
from rnn_parity.experiment.errors import InputError
from rnn_parity.findings.verdicts import FAULTS
from rnn_parity.layers.running import numerics
from rnn_parity.tables import atomic_path


@dataclass(frozen=True)
class Conversion:
    """What was done, and what it was proved with.

    Attributes:
        stack, names: the stack that was found, and its old keys with their new ones. to: the layout it has now.
        optimizers: the key of each optimizer, and what became of it. rows: the check, a row per quantity.
    """

    stack: Stack
    names: dict[str, str]
    to: str
    optimizers: Mapping[str, str]
    rows: list[dict[str, Any]]

    @property
    def verdict(self) -> Verdict:
        """The worst of the check."""
        return worst(row["verdict"] for row in self.rows)

    def describe(self) -> list[str]:
        """What a person wants to read of it, line by line."""
        sizes, first = self.stack.sizes, next(iter(self.names.items()))
        dtype = str(self.stack.weights["weight_ih_l0"].dtype).removeprefix("torch.")
        lines = [
            f"{self.stack.name}: {OTHER[self.to]} → {self.to}, I {sizes['input_size']}, H {sizes['hidden_size']}, "
            f"L {sizes['num_layers']}, {dtype}",
            f"{len(self.names)} keys renamed: {first[0]} → {first[1]}, …; everything else is the same bit for bit",
        ]
        lines += [f"{name}: {became}" for name, became in self.optimizers.items()]
        for regime in dict.fromkeys(row["regime"] for row in self.rows):
            of_regime = [row for row in self.rows if row["regime"] == regime]
            verdict = worst(row["verdict"] for row in of_regime)
            decides = max((row for row in of_regime if row["verdict"] == verdict), key=lambda row: row.get("ratio", 0))
            ratio = (
                f", largest error / limit {decides['ratio']:.2g} ({decides['quantity']})" if "ratio" in decides else ""
            )
            why = f": {decides['reason']}" if decides["reason"] else ""
            lines.append(f"{regime}: {verdict}{ratio}{why}")
        return lines


def convert_checkpoint(
    source: Path,
    target: Path,
    to: str,
    prefix: str | None = None,
    new_prefix: str | None = None,
    optimizer: str | None = None,
) -> Conversion:
    """Write the checkpoint `source` as `target`, one recurrent stack in it turned into the layout `to`.

    Args:
        prefix: of the stack's keys, as `decoder.rnn` or `m0:decoder.rnn`; not needed where only one fits.
        new_prefix: of its new keys; the same where it is None. optimizer: the key of the optimizer whose moments must
            be the model's; where it is None, those that fit are followed and others left as they are.

    Raises:
        InputError: where a file or an argument cannot be used. NotProven: where what was written does not hold.
        Nothing is written then.
    """
    if to not in KEYS:
        raise InputError(f"--to: holds {to!r}, expected one of {', '.join(KEYS)}")
    if os.path.lexists(target):
        raise InputError(f"{target}: is there already; expected a new file")
    if (source.suffix == SAFETENSORS) != (target.suffix == SAFETENSORS):
        raise InputError(f"{target}: has another format than {source.name}, expected the same of .pt or .safetensors")
    checkpoint = read_checkpoint(source)
    try:
        stack = find_stack(checkpoint.content, OTHER[to], prefix)
        new_prefix = stack.prefix if new_prefix is None else new_prefix
        names = renamed(stack, to, new_prefix)
        faults = optimizers_of(checkpoint.content, stack, optimizer)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    followed = [name for name, fault in faults.items() if not fault]
    content = with_names(checkpoint.content, stack, names, new_prefix)
    for name in followed:
        content[name] = with_parameter_names(content[name], names)
    with atomic_path(target) as temporary:
        write_checkpoint(temporary, Checkpoint(content, checkpoint.notes))
        rows = _prove(checkpoint, read_checkpoint(temporary), stack, names, new_prefix, to, followed)
    became = {name: describe(checkpoint.content[name], stack, fault) for name, fault in faults.items()}
    return Conversion(stack, names, to, became, rows)


def _prove(
    before: Checkpoint,
    after: Checkpoint,
    stack: Stack,
    names: dict[str, str],
    prefix: str,
    to: str,
    followed: Sequence[str],
) -> list[dict[str, Any]]:
    """The check's rows; `NotProven` where the file that was written is not the one that was read, renamed."""

    def names_at(place: Place) -> Mapping[str, str]:
        of_optimizer = place[:1] in [(name,) for name in followed] and place[-1] == "param_names"
        return names if place == stack.place or of_optimizer else {}

    prove_same(before.content, after.content, names_at)
    if before.notes != after.notes:
        raise NotProven("the notes of the file are not what they were")
    written = find_stack(after.content, to, ":".join(filter(None, [".".join(stack.place), prefix])) or None)
    with numerics(threads=1, tf32=False):
        rows = list(prove_equivalent(stack, written, (OTHER[to], to)))
    wrong = [row for row in rows if row["verdict"] in FAULTS]
    if wrong:
        raise NotProven(f"{wrong[0]['regime']}, {wrong[0]['quantity']}: {wrong[0]['verdict']}, {wrong[0]['reason']}")
    return rows
