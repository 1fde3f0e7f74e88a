"""Where the time of one case's equivalence check goes: 3 seeds, 3 regimes, T 50, B 32, H 64, L 3, on one core."""

from __future__ import annotations

import cProfile
import pstats
import time
from collections.abc import Iterator

from benchmarks.result import Result
from rnn_parity.compare.case import compare_case
from rnn_parity.experiment.grid import Case
from rnn_parity.workloads.layer import Layer

CASE = Case("bench", "cpu", "float32", False, 64, 64, 3, 50, 32, 0.2, 1)
REGIMES = ["eval", "train_matched_masks", "train_same_seed"]
PARTS = {
    "draw_stimulus": "weights, inputs, cotangents",
    "run_implementation": "baseline and candidate, forward and backward",
    "run_oracle": "oracle, exact and moved by roundings",
    "compare_quantity": "errors, default tolerances, verdict",
}
REPEATS = 5


def run() -> float:
    """Check the case once; the seconds it took."""
    start = time.perf_counter()
    list(compare_case(Layer(), CASE, "stacking_gru_cell", ["stacking_gru"], [0, 1, 2], REGIMES))
    return time.perf_counter() - start


def measure() -> Iterator[Result]:
    """The time of a run, the best of some, and each part's share of one more that is profiled."""
    run()
    yield Result("one case", min(run() for _ in range(REPEATS)), "s", note=f"the best of {REPEATS}")
    with cProfile.Profile() as profile:
        run()
    seconds = {name: row[3] for (_, _, name), row in pstats.Stats(profile).stats.items() if name in PARTS}
    for name, words in PARTS.items():
        yield Result(words, 100 * seconds[name] / sum(seconds.values()), "%")
