"""One case to rows: does each candidate compute what the baseline computes, forward and backward?

For every seed a workload draws one task, rounded to the case's dtype and given to all. In every regime the baseline and
each candidate run forward and backward, and every quantity is held against the float64 reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from rnn_parity.cells.base import load_cell
from rnn_parity.compare import causes, criterion
from rnn_parity.compare.reference import Reference, relative_errors
from rnn_parity.compare.run import WITHOUT_GRADIENTS, Role, RunResult
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import PASSING, Verdict, because_of_baseline, coarsest_roundoff
from rnn_parity.layers.running import numerics

DEFAULT_NUM_DRAWS = 10_000
"""Dropout draws of `train_distribution`, unless it is told another number."""

_TOLERANCES = {
    torch.float64: (1e-7, 1e-7),
    torch.float32: (1.3e-6, 1e-5),
    torch.bfloat16: (1.6e-2, 1e-5),
    torch.float16: (1e-3, 1e-5),
}
"""The relative and the absolute tolerance of `torch.testing.assert_close`, from its documentation."""


@runtime_checkable
class ComparedTask(Protocol):
    """What one seed gives to every implementation of a case, and what is compared of it.

    Dropout masks are one tensor of zeros and ones, in a shape of the workload's own.
    """

    @property
    def case(self) -> Case:
        """The case."""

    @property
    def seed(self) -> int:
        """The seed that everything is drawn from."""

    def quantities(self) -> list[str]:
        """Every compared tensor, in the order of the rows."""

    def split(self, baseline: str, candidates: Sequence[str]) -> list[tuple[Any, Sequence[str]]]:
        """The tasks in which the candidates are compared: itself, where all take what it gives."""

    def draw_masks(self) -> Tensor | None:
        """The dropout masks of `train_matched_masks`; None where no dropout is drawn."""

    def run(self, implementation: str, role: Role, regime: str, masks: Tensor | None) -> RunResult:
        """Run one implementation forward and backward; whatever it raises is a missing quantity."""

    def reference(self, masks: Tensor | None) -> Reference:
        """The float64 reference under some masks, computed once for each."""

    def otherwise(self, masks: Tensor) -> Iterator[tuple[str, Reference]]:
        """Yield what a layer may compute in place of the equations, in words, and the reference of that."""

    def terms(self, quantity: str) -> int:
        """How many terms the longest sum on the way to a quantity has, in the case's own precision."""

    def compare_distributions(
        self, baseline: str, candidates: Sequence[str], num_draws: int
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of `train_distribution`; none where no dropout is drawn."""


@runtime_checkable
class ComparedWorkload(Protocol):
    """Draws the tasks of a case."""

    def draw(self, case: Case, seed: int) -> ComparedTask:
        """Draw what one seed gives to every implementation."""


def compare_case(
    workload: ComparedWorkload,
    case: Case,
    baseline: str,
    candidates: Sequence[str],
    seeds: Sequence[int],
    regimes: Sequence[str],
    num_draws: int = DEFAULT_NUM_DRAWS,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `compare_task` for every seed."""
    with numerics(case.threads, case.tf32):
        for seed in seeds:
            yield from compare_task(workload.draw(case, seed), baseline, candidates, regimes, num_draws)


def compare_task(
    task: ComparedTask,
    baseline: str,
    candidates: Sequence[str],
    regimes: Sequence[str],
    num_draws: int = DEFAULT_NUM_DRAWS,
) -> Iterator[dict[str, Any]]:
    """Yield one row per regime × candidate × quantity; what an implementation raises is a row, never raised.

    `num_draws` are those of `train_distribution`. That regime has rows without being asked for where
    `train_matched_masks` meets a layer that takes none of our masks: masks that were recovered, not imposed, say
    nothing of their law, and one mask for all steps would pass.
    """
    for own_task, names in task.split(baseline, candidates):
        yield from _compare_in(own_task, baseline, names, regimes, num_draws)


def _compare_in(
    task: ComparedTask, baseline: str, candidates: Sequence[str], regimes: Sequence[str], num_draws: int
) -> Iterator[dict[str, Any]]:
    needs_distribution = set(candidates) if "train_distribution" in regimes else set()
    columns = {**task.case.columns, "baseline": baseline, "seed": task.seed}
    for regime in regimes:
        if regime != "train_distribution":
            for name, ours, theirs in _run_pairs(task, baseline, candidates, regime):
                context = {**columns, "implementation": name, "regime": regime}
                yield from ({**context, **row} for row in _compare_pair(task, regime, ours, theirs))
                if regime == "train_matched_masks" and (ours.own_masks or theirs.own_masks):
                    needs_distribution.add(name)
    if needs_distribution:
        chosen = [name for name in candidates if name in needs_distribution]
        for row in task.compare_distributions(baseline, chosen, num_draws):
            yield {**columns, "regime": "train_distribution", **row}


def _run_pairs(
    task: ComparedTask, baseline: str, candidates: Sequence[str], regime: str
) -> Iterator[tuple[str, RunResult, RunResult]]:
    """Yield every candidate with the baseline's run and its own, under the same masks wherever that can be had."""
    matched = regime == "train_matched_masks"
    masks = task.draw_masks() if matched else None
    of_baseline = task.run(baseline, Role.BASELINE, regime, masks)
    if matched and of_baseline.masks is not None:
        masks = of_baseline.masks  # its own, where it takes none of ours
    for name in candidates:
        ours, theirs = of_baseline, task.run(name, Role.CANDIDATE, regime, masks)
        if matched and not _same_masks(ours, theirs):
            ours = task.run(baseline, Role.BASELINE, regime, theirs.masks)
        yield name, ours, theirs


def _same_masks(ours: RunResult, theirs: RunResult) -> bool:
    if ours.masks is None or theirs.masks is None:
        return True  # a run without masks failed, or drops nothing
    return torch.equal(ours.masks, theirs.masks)


def _compare_pair(task: ComparedTask, regime: str, ours: RunResult, theirs: RunResult) -> Iterator[dict[str, Any]]:
    """Judge every quantity of a candidate's run beside the baseline's."""
    matched = regime == "train_matched_masks"
    agreement, why = _mask_agreement(ours, theirs)
    wrong = theirs.wrong_draws or (ours.wrong_draws and f"the baseline: {ours.wrong_draws}")
    baseline_reference = reference = None
    if ours.values.keys() & theirs.values.keys():
        baseline_reference = task.reference(ours.masks)
        # With the same seed the question is whether the candidate does what the baseline does, masks included.
        reference = task.reference(theirs.masks) if matched else baseline_reference
    for quantity in task.quantities():
        floor = criterion.floor_of_sums(task.terms(quantity), task.case)
        row = compare_quantity(task.case, quantity, ours, baseline_reference, theirs, reference, floor)
        if row["verdict"] == Verdict.DIFFERENT and why and not matched:
            row["reason"] = why if agreement < 1 else f"{row['reason']}; {why}"
        elif row["verdict"] == Verdict.DIFFERENT and "ratio" in row:
            reason = _known_cause(task, row, theirs) or row["reason"]
            row["reason"] = f"{wrong}: {reason}" if wrong else reason
        yield {**row, "mask_agreement": agreement}


def _known_cause(task: ComparedTask, row: dict[str, Any], theirs: RunResult) -> str:
    """What else than the equations a candidate's quantity agrees with, in words; empty for nothing known."""
    quantity, limits = row["quantity"], (row["limit_2"], row["limit_inf"])
    for words, other in task.otherwise(theirs.masks) if theirs.masks is not None else ():
        if criterion.worst_ratio(relative_errors(theirs.values[quantity], other.values[quantity]), limits) <= 1:
            return f"it {words}"
    return ""


def _mask_agreement(baseline: RunResult, candidate: RunResult) -> tuple[float, str]:
    """The share of mask entries both applied alike, and what they drew where that was not the same; NaN if unknown."""
    seen = ["out of sight" if run.recorder is None else run.recorder.describe() for run in (baseline, candidate)]
    drew = f"the baseline drew {seen[0]}, the candidate {seen[1]}"
    if baseline.masks is None or candidate.masks is None:
        return float("nan"), f"dropout masks: {drew}" if baseline.recorder or candidate.recorder else ""
    agreement = (baseline.masks == candidate.masks).double().mean().item()
    percent = 100 * (1 - agreement)
    return agreement, f"{percent:.0f} % of the dropout masks' entries differ: {drew}" if agreement < 1 else ""


def compare_quantity(
    case: Case,
    quantity: str,
    of_baseline: RunResult,
    baseline_reference: Reference | None,
    of_candidate: RunResult,
    reference: Reference | None,
    floor: float,
    explain: bool = True,
) -> dict[str, Any]:
    """Judge one quantity of a candidate: the columns of a row that are its own.

    Where the references are two, since each layer has masks of its own, nothing is said of their difference. They may
    be None where the quantity is missing. `floor` is the least error that is granted. `explain`: whether the reason
    names the cause of a difference, which takes longer to find than the difference.
    """
    row: dict[str, Any] = {"quantity": quantity}
    missing = of_candidate.missing.get(quantity)
    if missing is None and quantity in of_baseline.missing:
        missing = because_of_baseline(*of_baseline.missing[quantity])
    if missing is not None:
        verdict, reason = missing
        return {**row, "verdict": verdict, "reason": reason}
    assert reference is not None, quantity
    assert baseline_reference is not None, quantity
    ours, theirs = of_baseline.values[quantity], of_candidate.values[quantity]
    comparable = reference is baseline_reference
    u = coarsest_roundoff(case.device, case.dtype, case.tf32)
    pairs = {
        "error": relative_errors(theirs, reference.values[quantity]),
        "baseline_error": relative_errors(ours, baseline_reference.values[quantity]),
        "sensitivity": reference.sensitivities[quantity],
    }
    pairs["limit"] = criterion.limits(pairs["sensitivity"], floor)
    identical = comparable and torch.equal(ours, theirs)
    verdict, reason, ratio = criterion.judge(*pairs.values(), u=u, bit_identical=identical)
    when = ""
    if verdict in PASSING and quantity in of_candidate.inference:
        inferred = of_candidate.inference[quantity]
        alone = pairs | {"error": relative_errors(inferred, reference.values[quantity])}
        worse = criterion.judge(*alone.values(), u=u, bit_identical=False)
        if worse[0] == Verdict.DIFFERENT:
            (verdict, reason, ratio), theirs, identical = worse, inferred, False
            pairs, when = alone, f"{WITHOUT_GRADIENTS}, "
    if explain and verdict == Verdict.DIFFERENT:
        who, value, right = f"{when}it", theirs, reference
        if criterion.worst_ratio(pairs["baseline_error"], pairs["limit"]) > 1:
            who, value, right = "the baseline itself", ours, baseline_reference
        cause = causes.describe(quantity, value, right, pairs["limit"][1], load_cell(case.cell).gates)
        reason = f"{who} {cause}" if cause else f"{when}{reason}"
    row |= {"verdict": verdict, "reason": reason, "ratio": ratio, "bit_identical": identical}
    row |= {f"{name}_{norm}": pair[i] for name, pair in pairs.items() for i, norm in enumerate(("2", "inf"))}
    if comparable:
        row |= {"max_abs_diff": (ours.double() - theirs.double()).abs().max().item()}
        row |= {
            "allclose_default": torch.allclose(theirs, ours),
            "assert_close_default": assert_close_holds(theirs, ours),
        }
    return row


def assert_close_holds(actual: Tensor, expected: Tensor) -> bool:
    """Whether `torch.testing.assert_close` passes two tensors of one dtype. To say no takes it many times as long."""
    return torch.allclose(actual, expected, *_TOLERANCES[actual.dtype])
