"""What a `no` answered, and what comes of asking it: the deciding row, what was drawn, what both layers gave."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rnn_parity.cells.base import load_cell
from rnn_parity.compare.case import compare_task
from rnn_parity.compare.reference import References
from rnn_parity.compare.run import Role, RunResult
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import FAILING, Regime
from rnn_parity.layers.containment import Ended
from rnn_parity.layers.parameters import canonical_shapes
from rnn_parity.layers.running import numerics
from rnn_parity.layers.settings import put_back
from rnn_parity.layers.stimulus import Stimulus
from rnn_parity.life.course import Life
from rnn_parity.life.live import POINTS, life_case, live
from rnn_parity.steps import DISTRIBUTION_DRAWS, Steps, lived_together
from rnn_parity.workloads.layer import Layer, LayerTask

TIMED = "timed"
_KEPT = ("quantity", "verdict", "reason", "ratio", "when")


@dataclass(frozen=True)
class Question:
    """What a `no` answered: one seed in one regime, one point of a life, or, where its result changed, one timing."""

    baseline: str
    candidate: str
    case: Case
    seed: int = 0
    regime: str = ""
    point: str = ""
    phase: str = ""


@dataclass
class Evidence:
    """What came of a question: its deciding row, and tensors by name, as `stimulus/input` or `candidate/output`."""

    row: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def fails(self) -> bool:
        """Whether it speaks against the candidate."""
        return self.row.get("verdict") in FAILING


@dataclass
class _Watched(LayerTask):
    """A task that keeps the last run of each role."""

    runs: dict[Role, RunResult] = field(default_factory=dict)

    def split(self, baseline: str, candidates: Any) -> list[Any]:
        """Itself: it is split already."""
        return [(self, candidates)]

    def run(self, implementation: str, role: Role, regime: str, masks: Tensor | None) -> RunResult:
        """Run a layer, and keep what it gave."""
        self.runs[role] = super().run(implementation, role, regime, masks)
        return self.runs[role]


def question_of(baseline: str, candidate: str, case: Case, deciding: Mapping[str, Any]) -> Question:
    """The question that the deciding row of an answer belongs to, of its comparison or of its life."""
    if "point" not in deciding:
        seen = dataclasses.replace(case, dropout=float(deciding["dropout"]))
        return Question(baseline, candidate, seen, int(deciding["seed"]), str(deciding["regime"]))
    if deciding["point"] == TIMED:
        return Question(baseline, candidate, case, phase=str(deciding["phase"]))
    return Question(baseline, candidate, case, point=str(deciding["point"]))


def ask(question: Question, steps: Steps, given: Mapping[str, Tensor] | None = None) -> Evidence:
    """Ask a question in a process of its own. `given` has the stimulus, where it is not drawn from the seed."""
    evidence = Evidence()
    if question.phase:
        rows = steps.time(question.case, question.baseline, question.candidate, 0.5)
        (row,) = (r for r in rows if r["phase"] == question.phase and r["implementation"] == question.candidate)
        evidence.row = {"verdict": row["conclusion"], "quantity": "", "reason": row["reason"]}
        return evidence
    work = _live if question.point else _compare
    for found in steps.start(lambda: work(question, given), question.baseline, question.candidate):
        if isinstance(found, Ended):
            if question.regime:
                found = steps.blame(found, question.case, question.baseline, question.seed, question.regime)
            evidence.row = {"quantity": "", "verdict": str(found.verdict), "reason": found.reason}
        elif isinstance(found, Evidence):
            evidence = Evidence(found.row, evidence.tensors | found.tensors)
    return evidence


def _compare(question: Question, given: Mapping[str, Tensor] | None) -> Iterator[Evidence]:
    case, baseline, candidate = question.case, question.baseline, question.candidate
    with numerics(case.threads, case.tf32):
        ((drawn, _),) = Layer().draw(case, question.seed).split(baseline, [candidate])
        stimulus = drawn.stimulus if given is None else stimulus_of(case, given)
        task = _Watched(References(case, stimulus, question.seed))
        yield Evidence(tensors=tensors_of(case, stimulus))
        in_training = question.regime != Regime.TRAIN_DISTRIBUTION
        if in_training:  # first by itself: the candidate may end the process
            of_baseline = task.run(baseline, Role.BASELINE, question.regime, task.draw_masks())
            yield Evidence(tensors=_results(Role.BASELINE, of_baseline))
        rows = list(compare_task(task, baseline, [candidate], [question.regime], DISTRIBUTION_DRAWS))
        results = {role: task.runs[role] for role in task.runs if in_training}
        tensors = {name: tensor for role, run in results.items() for name, tensor in _results(role, run).items()}
        yield Evidence(_decisive(rows), tensors)


def _live(question: Question, _: Any) -> Iterator[Evidence]:
    """The life up to its point, among those that share a process; the tensors are those of its last call."""
    (together,) = (points for points in lived_together() if question.point in points)
    until, candidate = together[: together.index(question.point) + 1], question.candidate
    with put_back(candidate):
        case = life_case(question.case, candidate)
        life = Life(candidate, case, seed=question.seed)
        deep = POINTS[question.point].deep
        row = list(live(case, candidate, deep, points=until, life=life))[-1]
    yield Evidence(_kept(row), {f"candidate/{name}": value for name, value in life.last.values.items()})


def _decisive(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The failing row with the largest error of the forward pass, or else of the gradients, or else of all."""

    def key(row: Mapping[str, Any]) -> tuple[bool, bool, float]:
        fails = row["verdict"] in FAILING
        return fails, fails and not row["quantity"].startswith("grad_"), row.get("ratio") or 0.0

    return _kept(max(rows, key=key))


def _kept(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _KEPT if row.get(name) not in (None, "")}


def tensors_of(case: Case, stimulus: Stimulus) -> dict[str, Tensor]:
    """The tensors of a stimulus by name."""
    cell = load_cell(case.cell)
    given = dict(zip(cell.inputs(), (stimulus.input, *stimulus.states), strict=True)) | dict(stimulus.weights)
    named = {f"stimulus/{name}": tensor for name, tensor in given.items()}
    return named | {f"cotangent/{q}": c for q, c in zip(cell.outputs(), stimulus.cotangents, strict=True)}


def shapes_of(case: Case) -> dict[str, tuple[int, ...]]:
    """The shape of each of these tensors by name."""
    cell, of_state = load_cell(case.cell), (case.num_layers, case.batch_size, case.hidden_size)
    given: dict[str, tuple[int, ...]] = {"input": (case.sequence_length, case.batch_size, case.input_size)}
    given |= dict.fromkeys(cell.inputs()[1:], of_state)
    given |= canonical_shapes(case.input_size, case.hidden_size, case.num_layers, case.cell)
    cotangents: dict[str, tuple[int, ...]] = {"output": (case.sequence_length, case.batch_size, case.hidden_size)}
    cotangents |= dict.fromkeys(cell.outputs()[1:], of_state)
    return {f"stimulus/{n}": s for n, s in given.items()} | {f"cotangent/{n}": s for n, s in cotangents.items()}


def stimulus_of(case: Case, tensors: Mapping[str, Tensor]) -> Stimulus:
    """The stimulus of such tensors; raises `KeyError` where one is missing."""
    cell = load_cell(case.cell)
    given = {name.removeprefix("stimulus/"): t for name, t in tensors.items() if name.startswith("stimulus/")}
    input, *states = (given.pop(name) for name in cell.inputs())
    # In the order in which they were drawn: the oracle is moved in it, weight by weight.
    names = canonical_shapes(case.input_size, case.hidden_size, case.num_layers, case.cell)
    weights = {name: given[name] for name in names}
    return Stimulus(input, tuple(states), weights, tuple(tensors[f"cotangent/{q}"] for q in cell.outputs()))


def _results(role: Role, run: RunResult) -> dict[str, Tensor]:
    masks = {} if run.masks is None else {f"{role}/masks": run.masks.to(torch.uint8)}
    inference = {f"{role}/inference/{name}": value for name, value in run.inference.items()}
    return {f"{role}/{name}": value for name, value in run.values.items()} | inference | masks
