"""A bundle asked again, here: is it still so, and where is it not bit for bit what it was?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnn_parity.bundles.files import read_bundle
from rnn_parity.bundles.questions import Evidence, Question, ask, tensors_of
from rnn_parity.compare.reference import relative_errors
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.names import check_name
from rnn_parity.experiment.vocabulary import PASSING, Verdict
from rnn_parity.layers.containment import Ended
from rnn_parity.steps import Steps
from rnn_parity.workloads.layer import Layer

_NOT_OF_RESULTS = ("measured_at", "peaks", "snakemake", "mlflow")


@dataclass(frozen=True)
class Replayed:
    """What came of a bundle then and now.

    Attributes:
        asked: the question of the bundle. question: the same of the layers as they are called here.
        moved: by tensor, how far it is from what it was; empty where all are bit for bit the same.
        redrawn: the same for the stimulus, drawn anew from its seed; the replay itself takes the one in the bundle.
        unlike: what differs of versions and machine.
    """

    asked: Question
    question: Question
    then: Evidence
    now: Evidence
    moved: Mapping[str, str]
    redrawn: Mapping[str, str]
    unlike: list[str]

    @property
    def holds(self) -> bool:
        """Whether the candidate passes now."""
        return self.now.row.get("verdict") in PASSING

    def explain(self) -> str:
        """What is so now, first; then what moved."""
        said = {True: "yes", False: "no" if self.now.fails else "not shown"}[self.holds]
        alike = not self.moved and self.now.row == self.then.row
        lines = [f"{said}: {_words(self.question, self.now)}{', as it was' if alike else ''}"]
        if not alike:
            lines.append(f"  it was: {_words(self.asked, self.then)}")
        for role in ("baseline", "candidate"):
            of_role = [name for name in self.then.tensors if name.startswith(f"{role}/")]
            moved = {name.partition("/")[2]: self.moved[name] for name in of_role if name in self.moved}
            if of_role:
                same = f"bit for bit what it gave, {len(of_role)} tensors"
                lines.append(f"  the {role} gives " + (_moved(moved, len(of_role)) if moved else same))
        if self.redrawn:
            lines.append("  the seed draws another stimulus here; that of the bundle was taken")
        return "\n".join([*lines, *(f"  {line}" for line in self.unlike)])


def replay(folder: Path, time_limit: float, baseline: str | None = None, candidate: str | None = None) -> Replayed:
    """Ask the question of a bundle again; `baseline` and `candidate` are other names for the layers that it names.

    Raises `InputError` for what is no bundle, and for layers that cannot be had here or that a check refuses.
    """
    bundle = read_bundle(folder)
    asked = bundle.question
    question = dataclasses.replace(asked, baseline=baseline or asked.baseline, candidate=candidate or asked.candidate)
    for key, name in {"baseline": question.baseline, "candidate": question.candidate}.items():
        check_name(name, key)
        if name.startswith("__main__:"):
            reason = "is of a script or a notebook, which no other process can import"
            raise InputError(f"{key}: {name} {reason}; expected its place in a module, by --{key}")
    then, redrawn = bundle.evidence, {}

    def draw() -> Iterator[dict[str, Tensor]]:
        ((task, _),) = Layer().draw(question.case, question.seed).split(question.baseline, [question.candidate])
        yield tensors_of(question.case, task.stimulus)

    with Steps(True, time_limit) as steps:
        steps.look(question.baseline, question.candidate, question.case.cell, lambda *_: question.case)
        now = ask(question, steps, then.tensors if question.regime else None)
        here = steps.environment(question.case.device)
        drawn = next(steps.start(draw)) if question.regime else {}
    if not isinstance(drawn, Ended):
        redrawn = find_moved({name: then.tensors[name] for name in drawn}, drawn)
    there = bundle.environment
    unlike = [
        f"{key}: {there[key]} there, {here.get(key)} here"
        for key in there
        if key not in _NOT_OF_RESULTS and there[key] != here.get(key)
    ]
    return Replayed(asked, question, then, now, find_moved(then.tensors, now.tensors), redrawn, unlike)


def find_moved(then: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> dict[str, str]:
    """By name, how far each tensor of `then` is from that of `now`, where it is not bit for bit the same."""
    found = {}
    for name, old in then.items():
        new = now.get(name)
        if new is None:
            found[name] = "is not there any more"
        elif new.shape != old.shape or new.dtype != old.dtype:
            found[name] = f"is {tuple(new.shape)} {new.dtype}, it was {tuple(old.shape)} {old.dtype}"
        elif not torch.equal(_bits(old), _bits(new)):
            found[name] = f"moved by {relative_errors(new, old.double())[0]:.1e}"
    return found


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _words(question: Question, evidence: Evidence) -> str:
    row: Mapping[str, Any] = evidence.row
    where = question.regime or question.phase or row.get("when") or f"at {question.point!r}"
    what = " ".join(filter(None, (question.candidate, row.get("quantity", ""))))
    place = where if where.startswith(("at", "after", "in ")) else f"in {where}"
    verdict = row.get("verdict", "not there")
    does = "failed" if verdict == Verdict.FAILED else f"is {verdict}"
    return f"{what} {place} " + ": ".join(filter(None, (does, row.get("reason", ""))))


def _moved(moved: Mapping[str, str], of: int, most: int = 4) -> str:
    told = [f"{name} {words}" for name, words in moved.items()][:most]
    more = f", and {len(moved) - most} more" if len(moved) > most else ""
    return f"other bits in {len(moved)} of {of} tensors: {', '.join(told)}{more}"
