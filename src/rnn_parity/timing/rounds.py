"""One case to samples: every implementation timed in turn, the baseline twice, until the ratio is known well enough.

Rounds, not blocks: what disturbs the machine for a while then disturbs all alike. In each round every implementation
is timed once, in an order shuffled for that round, and the baseline once more, the A/A control.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from rnn_parity.compare.run import Role
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.running import classify_exception, numerics
from rnn_parity.statistics import (
    LARGEST_CHANGE,
    Conclusion,
    Interval,
    conclude,
    describe_samples,
    median_ratio,
    ratio_changes,
)
from rnn_parity.timing.calls import Calls, TimedTask, TimedWorkload
from rnn_parity.timing.clocks import CudaClock, WallClock
from rnn_parity.timing.conditions import Watch
from rnn_parity.timing.costs import measure_costs, measure_kernels

log = logging.getLogger("rnn_parity")

WARMED_UP = 0.95
"""A call is warm that takes more than this share of the one before: it gets no faster any more."""

MOST_WARM_UPS = 10
_RESOLUTIONS_PER_SAMPLE = 100
# The interval is looked at after 10, 15, 22, … rounds: the more looks, the likelier it stops at a lucky one.
_CHECK_GROWTH = 1.5
_CHANGED = (
    f"the speedup of the first half of the rounds differs from the second by more than {100 * LARGEST_CHANGE:g} %"
)


@dataclass
class Contender:
    """One implementation in one phase, ready to be called, and what was measured of it."""

    name: str
    prepare: Callable[[], Any]
    call: Callable[[Any], Any]
    first_call_s: float | None = None
    calls_per_sample: int = 1
    seconds: list[float] = field(default_factory=list)
    device_seconds: list[float] = field(default_factory=list)
    not_timed: tuple[Verdict, str] | None = None


def time_case(
    workload: TimedWorkload,
    case: Case,
    baseline: str,
    candidates: Sequence[str],
    *,
    phases: Sequence[str],
    precision: float,
    min_rounds: int,
    max_seconds: float,
    confidence: float,
    exclusive: bool,
) -> list[dict[str, Any]]:
    """Time every phase of a case; the rows of the timing table.

    An implementation that cannot do a phase gives a row with the reason; only one that cannot be built raises,
    `InputError`. `exclusive`, whether the workflow keeps its other jobs away meanwhile, is recorded beside every row.
    """
    rows = []
    with numerics(case.threads, case.tf32):
        task = workload.draw(case, 0)
        for phase in workload.phases(phases):
            columns = task.rates(phase)
            watch = Watch(case.device)
            first, control = (make_contender(task, baseline, Role.BASELINE, phase) for _ in range(2))
            contenders = [first, *(make_contender(task, name, Role.CANDIDATE, phase) for name in candidates)]
            order = random.Random(f"{case.case_id} {phase}")
            everyone = [*contenders, control]
            rounds_s = run_rounds(everyone, case.device, order, precision, min_rounds, max_seconds, confidence)
            met = watch.met()
            context = {**case.columns, "phase": phase, "baseline": baseline, "exclusive": exclusive}
            context |= {"rounds_s": rounds_s, **columns, **met}
            for contender, row in zip(contenders, summarize(contenders, control, confidence), strict=True):
                # After the rounds: the meter slows down, and may recompile, what it watches.
                costs = {} if contender.not_timed else _counted(contender, "costs", measure_costs, case.device)
                rows.append({**context, **row, **costs})
    return rows


def count_kernels(workload: TimedWorkload, cases: Iterable[Case], rows: Sequence[dict[str, Any]]) -> None:
    """Fill in the `kernel_launches` of what was timed on a GPU, from contenders that are built anew.

    Only after the last sample of the process: the profiler stays attached to it and slows its every launch.
    """
    for case in cases:
        timed = [row for row in rows if row["case_id"] == case.case_id and "median_s" in row]
        if case.device == "cuda" and timed:
            with numerics(case.threads, case.tf32):
                task = workload.draw(case, 0)
                for row in timed:
                    role = Role.BASELINE if row["implementation"] == row["baseline"] else Role.CANDIDATE
                    contender = make_contender(task, row["implementation"], role, row["phase"])
                    _forget_compiled()
                    row.update(_counted(contender, "kernels", measure_kernels))


def _counted(contender: Contender, what: str, measure: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """The columns that a meter gives; none where a layer cannot be watched: its times are known all the same."""
    try:
        return measure(contender.prepare, contender.call, *given)
    except Exception as error:
        log.warning("%s: its %s could not be counted: %s", contender.name, what, classify_exception(error)[1])
        return {}


def make_contender(task: TimedTask, name: str, role: Role, phase: str) -> Contender:
    """Build an implementation and what a phase asks of it; a build that fails is why it is not timed."""
    return contender_of(name, lambda: task.calls(name, role, phase))


def contender_of(name: str, build: Callable[[], Calls]) -> Contender:
    """The contender whose calls `build` makes; an implementation that cannot be had here is a result."""
    try:
        return Contender(name, *build())
    except InputError:
        raise
    except Exception as error:
        return Contender(name, lambda: None, lambda _: None, not_timed=classify_exception(error))


def run_rounds(
    contenders: Sequence[Contender],
    device: str,
    order: random.Random,
    precision: float,
    min_rounds: int,
    max_seconds: float,
    confidence: float,
) -> float:
    """Fill in the contenders' samples; the seconds that the rounds took.

    The first contender is the baseline, the last its control.
    """
    clock = CudaClock() if device == "cuda" else WallClock()
    _forget_compiled()
    for contender in contenders:
        _attempt(_warm_up, contender, clock)
    start = time.perf_counter()
    rounds, next_check = 0, min_rounds
    while rounds < min_rounds or time.perf_counter() < start + max_seconds:
        for contender in order.sample(contenders, len(contenders)):
            _attempt(_sample, contender, clock)
        rounds += 1
        working = [contender for contender in contenders if contender.not_timed is None]
        if not working:
            break
        if rounds >= next_check and working[0] is contenders[0] and working[1:]:
            next_check = int(rounds * _CHECK_GROWTH)
            ratios = [median_ratio(working[0].seconds, other.seconds, confidence) for other in working[1:]]
            if all(ratio.relative_width <= precision for ratio in ratios):
                break
    return time.perf_counter() - start


def _forget_compiled() -> None:
    """Let what `torch.compile` made for other shapes not weigh on these: each phase compiles its own, untimed."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def summarize(contenders: Sequence[Contender], control: Contender, confidence: float) -> list[dict[str, Any]]:
    """The columns of the timing table that come from the samples, one row per contender."""
    baseline = contenders[0]
    compared = baseline.not_timed is None and control.not_timed is None
    noise = median_ratio(baseline.seconds, control.seconds, confidence) if compared else None
    return [_summary(contender, baseline, noise, confidence) for contender in contenders]


def _summary(contender: Contender, baseline: Contender, noise: Interval | None, confidence: float) -> dict[str, Any]:
    row: dict[str, Any] = {"implementation": contender.name, "reason": ""}
    if contender.not_timed:
        verdict, reason = contender.not_timed
        return {**row, "conclusion": Conclusion(verdict), "reason": reason}
    row |= describe_samples(contender.seconds)
    row |= {"first_call_s": contender.first_call_s, "calls_per_sample": contender.calls_per_sample}
    if contender.device_seconds:
        row["device_median_s"] = describe_samples(contender.device_seconds)["median_s"]
    if noise is None:
        why = baseline.not_timed[1] if baseline.not_timed else "its control could not be timed"
        return {**row, "conclusion": Conclusion.NO_BASELINE, "reason": f"baseline: {why}"}
    row |= {"control_ratio": noise.estimate, "control_ci_low": noise.low, "control_ci_high": noise.high}
    own = contender is baseline
    speedup = Interval(1.0, 1.0, 1.0) if own else median_ratio(baseline.seconds, contender.seconds, confidence)
    row |= {"speedup": speedup.estimate, "speedup_ci_low": speedup.low, "speedup_ci_high": speedup.high}
    if own:
        return {**row, "conclusion": Conclusion.BASELINE}
    if ratio_changes(baseline.seconds, contender.seconds, confidence):
        return {**row, "conclusion": Conclusion.DISTURBED, "reason": _CHANGED}
    return {**row, "conclusion": conclude(speedup, noise)}


def _attempt(action: Callable[[Contender, WallClock], None], contender: Contender, clock: WallClock) -> None:
    """Warm up or sample what has worked so far; an implementation that cannot do this phase is a result."""
    if contender.not_timed is None:
        try:
            action(contender, clock)
        except Exception as error:
            contender.not_timed = classify_exception(error)
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()


def _warm_up(contender: Contender, clock: WallClock) -> None:
    contender.first_call_s, _ = clock.time(lambda: [contender.call(contender.prepare())])
    seconds = [contender.first_call_s]
    while len(seconds) < 2 or (seconds[-1] < WARMED_UP * seconds[-2] and len(seconds) < MOST_WARM_UPS):
        seconds.append(_time_once(contender, clock)[0])
    contender.calls_per_sample = int(_RESOLUTIONS_PER_SAMPLE * clock.resolution_s() / min(seconds) + 1)


def _sample(contender: Contender, clock: WallClock) -> None:
    seconds, device_seconds = _time_once(contender, clock)
    contender.seconds.append(seconds)
    if device_seconds is not None:
        contender.device_seconds.append(device_seconds)


def _time_once(contender: Contender, clock: WallClock) -> tuple[float, float | None]:
    """Seconds per call of one sample; everything that `prepare` makes is made before the clock starts."""
    prepared = [contender.prepare() for _ in range(contender.calls_per_sample)]
    seconds, device_seconds = clock.time(lambda: [contender.call(item) for item in prepared])
    calls = contender.calls_per_sample
    return seconds / calls, None if device_seconds is None else device_seconds / calls
