"""The self-test: random cases, or the cases of a job, to rows of findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

from rnn_parity.compare.reference import References
from rnn_parity.dropout.order import assume_order
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.stimulus import WEIGHT_SCALE
from rnn_parity.trust.examine import PARENT, examine, fault_title, faults_of
from rnn_parity.trust.faults import DropoutTooOften
from rnn_parity.trust.right import right_layers
from rnn_parity.trust.sample import draw_sample

CASES_PER_FAULT = 4
"""Every random case tries all right layers and one planted fault in so many, in turn."""

PART = 20
"""Cases that a process of `examine_in_parallel` takes at a time."""


def examine_samples(device: str, dtype: str, seeds: Iterable[int], cell: str = "gru") -> Iterator[dict[str, Any]]:
    """Yield the findings of one random case per seed. The baseline is a right layer drawn with it."""
    right, faults = right_layers(cell), faults_for(cell, dtype)
    for sample in (draw_sample(device, dtype, seed, cell) for seed in seeds):
        turn = sample.seed % CASES_PER_FAULT
        layers = [*(name for name in right if name != sample.baseline), *faults[turn::CASES_PER_FAULT]]
        scales = {"weight_scale": sample.weight_scale, "input_scale": sample.input_scale}
        references = References(sample.case, sample.stimulus(), sample.seed)
        _let_draw_as_their_parent(sample.case, layers)
        for row in examine(references, sample.baseline, layers):
            yield {**row, **scales, "state_scale": sample.state_scale}


def examine_own_case(references: References, baseline: str) -> Iterator[dict[str, Any]]:
    """Yield what every planted fault comes to in a case of an experiment, given what its layers are given."""
    case, scales = references.case, {"weight_scale": WEIGHT_SCALE, "input_scale": 1.0, "state_scale": 1.0}
    names = faults_for(case.cell, case.dtype)
    _let_draw_as_their_parent(case, names)
    for row in examine(references, baseline, names):
        yield {**row, **scales}


def _let_draw_as_their_parent(case: Case, names: Iterable[str]) -> None:
    """Assume that faults outside dropout draw masks in their parent's order: finding it for each would take longest."""
    known = faults_of(case.cell)
    if case.draws_dropout and case.dropout < 1:
        for name in names:
            if name in known and known[name].kind != "dropout":
                assume_order(case, name, PARENT)


def distribution_power(device: str, draws: int, trials: int) -> Iterator[dict[str, Any]]:
    """Yield how often `train_distribution` finds each fault of dropout over so many draws, and accuses a right layer.

    One size and p = 0.1, float32; every trial has weights, inputs and masks of its own.
    """
    from rnn_parity.dropout.distribution import detection_power

    case = Case("power", device, "float32", False, 7, 16, 3, 12, 1, 0.1, 1)
    too_often = f"{DropoutTooOften.__module__}:{DropoutTooOften.__name__}"
    faults = {"torch.nn:GRU": "", too_often: fault_title(DropoutTooOften)}
    # Forward alone, in training: a fault of the backward pass has the right law.
    of_dropout = {name: fault_title(fault) for name, fault in faults_of(case.cell).items() if fault.kind == "dropout"}
    faults |= {name: words for name, words in of_dropout.items() if "forward" not in words}
    for row in detection_power(case, "stacking_gru_cell", list(faults), draws, trials, seed=0):
        name = row.pop("implementation")
        yield {"device": device, "implementation": name, "fault": faults[name], **row}


def faults_for(cell: str, dtype: str) -> list[str]:
    """The names of a kind's faults that are faults in a dtype: what lacks precision lacks none in half precision."""
    fine = dtype in ("float32", "float64")
    return [name for name, fault in faults_of(cell).items() if fine or fault.kind != "precision"]


def examine_in_parallel(
    device: str, dtypes: Sequence[str], cases: int, jobs: int, cell: str = "gru"
) -> tuple[int, Iterator[list[dict[str, Any]]]]:
    """The findings of `cases` random cases per dtype: how many parts, and the parts as `jobs` processes finish them."""
    parts = [range(start, min(start + PART, cases)) for start in range(0, cases, PART)]
    return in_parallel(_part, [(device, dtype, part, cell) for dtype in dtypes for part in parts], jobs)


def in_parallel(
    examine: Callable[..., list[dict[str, Any]]], tasks: Sequence[tuple], jobs: int
) -> tuple[int, Iterator[list[dict[str, Any]]]]:
    """How many tasks there are, and the rows of each, as `jobs` processes finish them."""

    def finished() -> Iterator[list[dict[str, Any]]]:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            for part in as_completed([pool.submit(examine, *task) for task in tasks]):
                yield part.result()

    return len(tasks), finished()


def _part(device: str, dtype: str, seeds: range, cell: str) -> list[dict[str, Any]]:
    return list(examine_samples(device, dtype, seeds, cell))
