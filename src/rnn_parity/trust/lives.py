"""Lives of right layers, which no point may accuse, and of the life's planted faults, which some point must name."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rnn_parity.compare.reference import References
from rnn_parity.compare.run import run_implementation
from rnn_parity.dropout.masks import draw_masks, mask_shape
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import FAILING
from rnn_parity.layers.running import numerics
from rnn_parity.layers.stimulus import draw_stimulus
from rnn_parity.life.judging import judge
from rnn_parity.life.live import live
from rnn_parity.trust.examine import fault_title, faults_of
from rnn_parity.trust.life.planting import ANYWHERE, LIFE_FAULTS, PROCESS
from rnn_parity.trust.right import right_layers
from rnn_parity.trust.run import in_parallel

MAX_SECONDS = 120.0
"""Of one life: here it must not end early."""


def draw_life(device: str, dtype: str, seed: int, cell: str = "gru", fault: bool = True) -> Case:
    """Draw the sizes of a life, and 1 or 2 threads.

    For a fault, which must show: T, B, I and H 3-8, all unlike, L 2-3, dropout .1, .3 or .5. For a right layer: each
    2-8, L 1-3, dropout 0, .001, .3 or .9.
    """
    rng = random.Random(seed)
    if fault:
        steps, rows, width, units = rng.sample(range(3, 9), 4)
        layers, dropout = rng.choice((2, 3)), rng.choice((0.1, 0.3, 0.5))
    else:
        steps, rows, width, units = (rng.randint(2, 8) for _ in range(4))
        layers, dropout = rng.choice((1, 2, 3)), rng.choice((0.0, 0.001, 0.3, 0.9))
    threads = rng.choice((1, 2))
    return Case("life", device, dtype, False, width, units, layers, steps, rows, dropout, threads, cell=cell)


def examine_life(device: str, dtype: str, seed: int, cell: str, name: str) -> dict[str, Any]:
    """The life of a right layer, whole, or of a planted fault, up to its first failing point: one row.

    Columns:
        kind: `correct`, or the fault's. fault: in words. first_call: whether an ordinary comparison of one fresh module
        sees it. point, when: where its life fails first, empty where it does not; named: whether that is a point that
        the fault asks for. alarms: the points that fail. calls, seconds: of the life.
    """
    fault = LIFE_FAULTS.get(name)
    case = draw_life(device, dtype, seed, cell, fault is not None)
    PROCESS.clear()
    first = seen_by_first_call(case, name, seed)
    PROCESS.clear()
    started = time.process_time()
    points = list(live(case, name, max_seconds=MAX_SECONDS, seed=seed, until_failure=fault is not None))
    failed = [point for point in points if point["verdict"] in FAILING]
    decisive: Mapping[str, Any] = failed[0] if failed else {}
    return {
        **case.columns,
        "seed": seed,
        "implementation": name,
        "kind": fault.kind if fault else "correct",
        "fault": fault_title(fault) if fault else "",
        "first_call": first,
        "point": decisive.get("point", ""),
        "when": decisive.get("when", ""),
        "named": bool(failed) and fault is not None and bool({ANYWHERE, decisive["point"]} & set(fault.points)),
        "alarms": len(failed),
        "calls": sum(point["calls"] for point in points),
        "seconds": time.process_time() - started,
    }


def examine_lives(
    device: str, dtypes: Sequence[str], lives: int, jobs: int, cell: str = "gru", spread: bool = False
) -> tuple[int, Iterator[list[dict[str, Any]]]]:
    """As `examine_in_parallel`, of `lives` lives of every right layer and every fault of a kind in every dtype.

    `spread`: a fault lives in one of the dtypes only, the next fault in the next.
    """
    right, faults = list(right_layers(cell)), list(faults_of(cell, LIFE_FAULTS))
    tasks = [
        (device, dtype, seed, cell, name)
        for seed in range(lives)
        for k, dtype in enumerate(dtypes)
        for name in [*right, *(faults[(k + seed) % len(dtypes) :: len(dtypes)] if spread else faults)]
    ]
    return in_parallel(_one, tasks, jobs)


def _one(*task: Any) -> list[dict[str, Any]]:
    return [examine_life(*task)]


def seen_by_first_call(case: Case, name: str, seed: int) -> bool:
    """Whether one call of a fresh module, in evaluation or under given masks, is over a limit of the equations."""
    references = References(case, draw_stimulus(case, seed), seed)
    masks = draw_masks(mask_shape(case), case.dropout, seed) if case.draws_dropout else None
    with numerics(case.threads, case.tf32):
        for regime, given in (("eval", None), ("train_matched_masks", masks)):
            outcome = run_implementation(case, name, references.stimulus, seed, regime, given)
            missing = any(verdict in FAILING for verdict, _ in outcome.missing.values())
            judged = outcome.values and judge(case, outcome.values, references.with_masks(outcome.masks))
            if missing or (judged and judged.fails):
                return True
    return False
