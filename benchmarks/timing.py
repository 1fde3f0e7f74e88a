"""Speedups and medians that can be trusted: against torch's own timer, and a layer against itself."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np
from torch.utils.benchmark import Timer

from benchmarks.result import Result
from rnn_parity.compare.run import Role
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import numerics
from rnn_parity.statistics import median_ratio
from rnn_parity.timing.rounds import Contender, make_contender, run_rounds, time_case
from rnn_parity.workloads.layer import Layer

SIZES = [(1, 7, 10, 3), (10, 7, 10, 3), (1, 128, 256, 1), (8, 32, 64, 1), (32, 32, 64, 1),
         (64, 8, 64, 2), (32, 1, 64, 2), (32, 32, 128, 2), (16, 64, 256, 1), (50, 32, 64, 3)]  # fmt: skip
"""T, B, H and L of ten cases; I = H."""

PHASES = ["inference", "step"]
SETTINGS = {"precision": 0.005, "min_rounds": 10, "max_seconds": 0.5, "confidence": 0.95, "exclusive": True}
ROUNDS = 7
ITSELF = "rnn_parity.layers.stepwise:StackingGRUCellLoop"


def case_of(size: tuple[int, int, int, int]) -> Case:
    """A case of the default dtype with dropout."""
    length, batch, hidden, layers = size
    return Case("bench", "cpu", "float32", False, hidden, hidden, layers, length, batch, 0.2, 1)


def measure() -> Iterator[Result]:
    """Compare both timers on ten cases, then time the baseline as its own candidate."""
    worst = 0.0
    for case in map(case_of, SIZES):
        for phase in PHASES:
            ratio = _ours_over_torchs(case, phase)
            worst = max(worst, abs(math.log(ratio.estimate)))
            name = f"T {case.sequence_length} B {case.batch_size} H {case.hidden_size} L {case.num_layers} {phase}"
            note = f"95 % interval {ratio.low:.3f} to {ratio.high:.3f}"
            yield Result(f"median over blocked_autorange's, {name}", ratio.estimate, "×", 1.03, 0.97, note)
    yield Result("largest disagreement with blocked_autorange", 100 * (math.exp(worst) - 1), "%", at_most=3)
    yield from _against_itself()


def _ours_over_torchs(case: Case, phase: str):
    """The ratio of the medians of both timers, taken in turn, with the same threads and settings."""
    ours, torchs = [], []
    with numerics(case.threads, case.tf32):
        made = make_contender(Layer().draw(case, 0), "stacking_gru", Role.CANDIDATE, phase)

        def whole(_=None):
            return made.call(made.prepare())  # torch's timer has no place for what need not be timed

        timer = Timer("whole()", globals={"whole": whole}, num_threads=case.threads)
        for round in range(ROUNDS):
            for which in ("ours", "torchs") if round % 2 else ("torchs", "ours"):
                if which == "torchs":
                    torchs.append(timer.blocked_autorange(min_run_time=0.4).median)
                else:
                    pair = [Contender(name, lambda: None, whole) for name in ("ours", "control")]
                    run_rounds(pair, case.device, random.Random(round), 1e-9, 10, 0.4, 0.95)
                    ours.append(float(np.median(pair[0].seconds)))
    return median_ratio(ours, torchs, 0.95)


def _against_itself() -> Iterator[Result]:
    """An A/A sweep: the share of rows that claim a difference where there is none."""
    rows = []
    for size in SIZES * 2:
        found = time_case(Layer(), case_of(size), "stacking_gru_cell", [ITSELF], phases=PHASES, **SETTINGS)
        rows += [row for row in found if row["implementation"] == ITSELF]
    claims = [row["conclusion"] for row in rows if row["conclusion"] in ("faster", "slower")]
    largest = max(abs(np.log([row["speedup"] for row in rows])))
    note = f"{len(claims)} of {len(rows)}; the largest speedup {np.exp(largest):.3f}"
    yield Result("a layer against itself called faster or slower", 100 * len(claims) / len(rows), "%", 5, note=note)
    disturbed = sum(row["conclusion"] == "disturbed" for row in rows)
    yield Result("… called disturbed", 100 * disturbed / len(rows), "%", note=f"{disturbed} of {len(rows)}")
