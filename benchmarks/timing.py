"""Medians that can be trusted: against torch's own timer."""

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
from rnn_parity.timing.calls import Calls
from rnn_parity.timing.rounds import Contender, make_contender, run_rounds
from rnn_parity.workloads.layer import Layer

SIZES = [(1, 7, 10, 3), (10, 7, 10, 3), (1, 128, 256, 1), (8, 32, 64, 1), (32, 32, 64, 1),
         (64, 8, 64, 2), (32, 1, 64, 2), (32, 32, 128, 2), (16, 64, 256, 1), (50, 32, 64, 3)]  # fmt: skip
"""T, B, H and L of ten cases; I = H."""

PHASES = ["inference", "step"]
ROUNDS = 7


def case_of(size: tuple[int, int, int, int]) -> Case:
    """A case of the default dtype with dropout."""
    length, batch, hidden, layers = size
    return Case("bench", "cpu", "float32", False, hidden, hidden, layers, length, batch, 0.2, 1)


def measure() -> Iterator[Result]:
    """Compare both timers on ten cases."""
    worst = 0.0
    for case in map(case_of, SIZES):
        for phase in PHASES:
            ratio = _ours_over_torchs(case, phase)
            worst = max(worst, abs(math.log(ratio.estimate)))
            name = f"T {case.sequence_length} B {case.batch_size} H {case.hidden_size} L {case.num_layers} {phase}"
            note = f"95 % interval {ratio.low:.3f} to {ratio.high:.3f}"
            yield Result(f"median over blocked_autorange's, {name}", ratio.estimate, "×", 1.03, 0.97, note)
    yield Result("largest disagreement with blocked_autorange", 100 * (math.exp(worst) - 1), "%", at_most=3)


def _ours_over_torchs(case: Case, phase: str):
    """The ratio of the medians of both timers, taken in turn, with the same threads and settings."""
    ours, torchs = [], []
    with numerics(case.threads, case.tf32):
        made = make_contender(Layer().draw(case, 0), "stacking_gru", Role.CANDIDATE, phase)

        def whole(_=None):
            return made.calls.call(made.calls.prepare(0, 1)[0])  # torch's timer has no place for what need not be timed

        timer = Timer("whole()", globals={"whole": whole}, num_threads=case.threads)
        for round in range(ROUNDS):
            for which in ("ours", "torchs") if round % 2 else ("torchs", "ours"):
                if which == "torchs":
                    torchs.append(timer.blocked_autorange(min_run_time=0.4).median)
                else:
                    pair = [Contender(name, Calls(whole)) for name in ("ours", "control")]
                    run_rounds(pair, case.device, random.Random(round), 1e-9, 10, 0.4, 0.95)
                    ours.append(float(np.median(pair[0].seconds)))
    return median_ratio(ours, torchs, 0.95)
