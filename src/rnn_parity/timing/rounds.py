"""One case to samples: every implementation timed in turn, the baseline twice, until the ratio is known well enough.

Rounds, not blocks: what disturbs the machine for a while then disturbs all alike. In each round every implementation
is timed once, in an order shuffled for that round, and the baseline once more, the A/A control.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter, process_time
from typing import Any

import torch

from rnn_parity.compare.run import Role
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.running import classify_exception, forget_compiled, numerics
from rnn_parity.layers.settings import Settings, put_back, undo
from rnn_parity.statistics import (
    LARGEST_CHANGE,
    Conclusion,
    Interval,
    conclude,
    describe_samples,
    median_ratio,
    ratio_changes,
)
from rnn_parity.timing import audits
from rnn_parity.timing.calls import Calls, TimedTask, TimedWorkload
from rnn_parity.timing.clocks import CudaClock, WallClock
from rnn_parity.timing.conditions import Watch, count_page_faults, keep_freed_memory
from rnn_parity.timing.costs import measure_costs, measure_kernels
from rnn_parity.timing.environment import machine_of
from rnn_parity.timing.throttling import conclude_in_cycles, leave_out_throttled

log = logging.getLogger("rnn_parity")

WARMED_UP = 0.95
"""A call is warm that takes more than this share of the one before: it gets no faster any more."""

MOST_WARM_UPS = 10
MOST_SHORT_WARM_UPS = 1000
"""Of calls so short that together they do not take the time that a device needs to raise its clock."""
RESULT_CHANGED = "its result changed while it was being timed"
_BEFORE, _AFTER = 10**8, 10**9  # stimuli of the calls that warm up, and of those that are counted
_RESOLUTIONS_PER_SAMPLE = 100
# The interval is looked at after 10, 15, 22, … rounds: the more looks, the likelier it stops at a lucky one.
_CHECK_GROWTH = 1.5
_CHANGED = (
    f"the speedup of the first half of the rounds differs from the second by more than {100 * LARGEST_CHANGE:g} %"
)


_OTHER_CLOCK = "in cycles of the GPU's clock the conclusion is another"
_BESIDE = "another process computed on the GPU"
CALLED = (Conclusion.FASTER, Conclusion.SLOWER, Conclusion.WITHIN_NOISE)


@dataclass
class Contender:
    """One implementation in one phase, ready to be called, and what was measured of it.

    Attributes:
        expected: what a call of some stimuli shall give, by their numbers. differing: what timed calls gave in place.
        cpu_s, watched_s: CPU seconds of the process, and wall seconds, around its samples.
        page_faults: how many a call took, by sample. sm_mhz: the clock of the GPU after every sample; None where that
            cannot be had.
    """

    name: str
    calls: Calls
    expected: Mapping[int, audits.Results] = field(default_factory=dict)
    differing: list[tuple[int, audits.Results]] = field(default_factory=list)
    cpu_s: float = 0.0
    watched_s: float = 0.0
    first_call_s: float | None = None
    calls_per_sample: int = 1
    seconds: list[float] = field(default_factory=list)
    device_seconds: list[float] = field(default_factory=list)
    page_faults: list[float] = field(default_factory=list)
    sm_mhz: list[int | None] = field(default_factory=list)
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
    keep_freed_memory()
    with numerics(case.threads, case.tf32):
        audits.pool_of(case.threads)  # before a layer has threads of its own
        task = workload.draw(case, 0)
        every = workload.phases(phases)
        expected = {name: audits.expect(task, name, Role.CANDIDATE, every) for name in candidates}
        of_baseline = audits.expect(task, baseline, Role.BASELINE, every)
        for phase in every:
            columns = task.rates(phase)
            watch = Watch(case.device)
            first, control = (make_contender(task, baseline, Role.BASELINE, phase) for _ in range(2))
            contenders = [first, *(make_contender(task, name, Role.CANDIDATE, phase) for name in candidates)]
            first.expected = control.expected = of_baseline[phase]
            for contender in contenders[1:]:
                contender.expected = expected[contender.name][phase]
                if quantity := audits.constant_quantity(task, contender.expected, first.expected):
                    contender.not_timed = Verdict.DIFFERENT, f"its result is the same for other values: {quantity}"
            order = random.Random(f"{case.case_id} {phase}")
            everyone = [*contenders, control]
            rounds_s = run_rounds(everyone, case.device, order, precision, min_rounds, max_seconds, confidence)
            met = watch.met()
            for contender in everyone:
                refuse(contender, task, case, columns)
            met |= {"throttled_rounds": leave_out_throttled(everyone)} if case.device == "cuda" else {}
            context = {**case.columns, "phase": phase, "baseline": baseline, "machine": machine_of(case.device)}
            context |= {"exclusive": exclusive, "rounds_s": rounds_s, **columns, **met}
            for contender, row in zip(contenders, summarize(contenders, control, confidence), strict=True):
                # After the rounds: the meter slows down, and may recompile, what it watches.
                costs = {} if contender.not_timed else _counted(contender, "costs", measure_costs, case.device)
                if met.get("other_gpu_processes") and row["conclusion"] in CALLED:
                    row |= {"conclusion": Conclusion.DISTURBED, "reason": _BESIDE}
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
                    forget_compiled()
                    row.update(_counted(contender, "kernels", measure_kernels))


def _counted(contender: Contender, what: str, measure: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """The columns that a meter gives; none where a layer cannot be watched: its times are known all the same."""
    try:
        with put_back(contender.name):
            return measure(lambda: contender.calls.prepare(_AFTER, 1)[0], contender.calls.call, *given)
    except Exception as error:
        log.warning("%s: its %s could not be counted: %s", contender.name, what, classify_exception(error)[1])
        return {}


def make_contender(task: TimedTask, name: str, role: Role, phase: str) -> Contender:
    """Build an implementation and what a phase asks of it; a build that fails is why it is not timed."""
    return contender_of(name, lambda: task.calls(name, role, phase))


def contender_of(name: str, build: Callable[[], Calls]) -> Contender:
    """The contender whose calls `build` makes; an implementation that cannot be had here is a result."""
    try:
        with put_back(name):
            return Contender(name, build())
    except InputError:
        raise
    except Exception as error:
        return Contender(name, Calls(lambda _: None), not_timed=classify_exception(error))


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
    forget_compiled()
    for contender in contenders:
        _attempt(_warm_up, contender, clock)
    start = perf_counter()
    unforeseen = random.Random(order.random())
    known = {0: audits.FIRST, unforeseen.randrange(1, min_rounds): audits.EARLY}
    rounds, next_check, precise, done = 0, min_rounds, False, False
    while not done:
        done = rounds >= min_rounds and (precise or perf_counter() >= start + max_seconds)
        number = audits.LATE if done else known.get(rounds, rounds)  # what is right for a while is wrong in the end
        for contender in order.sample(contenders, len(contenders)):
            _attempt(_sample, contender, clock, number)
        rounds += 1
        if rounds >= next_check:
            precise = _precise(contenders, precision, confidence)
            next_check = max(rounds + 1, int(rounds * _CHECK_GROWTH))
            known[unforeseen.randrange(rounds, next_check)] = audits.LATE
        done |= all(contender.not_timed for contender in contenders)
    return perf_counter() - start


def _precise(contenders: Sequence[Contender], precision: float, confidence: float) -> bool:
    """Whether the ratio of the baseline and every other that works is known well enough."""
    baseline, *others = [contender for contender in contenders if contender.not_timed is None] or contenders
    if baseline is not contenders[0] or not others or baseline.not_timed:
        return False
    ratios = (median_ratio(baseline.seconds, other.seconds, confidence) for other in others)
    return all(ratio.relative_width <= precision for ratio in ratios)


def refuse(contender: Contender, task: TimedTask, case: Case, rates: Mapping[str, Any]) -> None:
    """Have what was timed not be, where its results changed meanwhile, or its time cannot be that of the call."""
    if contender.not_timed:
        return
    for number, timed in contender.differing:
        if why := audits.why_changed(task, contender.expected[number], timed):
            contender.not_timed = Verdict.DIFFERENT, f"{RESULT_CHANGED}: {why}"
            return
    why = audits.too_fast(case, describe_samples(contender.seconds)["median_s"], rates)
    if case.device == "cpu":
        why = audits.too_many_threads(contender.cpu_s, contender.watched_s, case.threads) or why
    if why:
        contender.not_timed = Verdict.NOT_JUDGED, why


def summarize(contenders: Sequence[Contender], control: Contender, confidence: float) -> list[dict[str, Any]]:
    """The columns of the timing table that come from the samples, one row per contender."""
    baseline = contenders[0]
    compared = baseline.not_timed is None and control.not_timed is None
    noise = median_ratio(baseline.seconds, control.seconds, confidence) if compared else None
    return [_summary(contender, baseline, control, noise, confidence) for contender in contenders]


def _summary(
    contender: Contender, baseline: Contender, control: Contender, noise: Interval | None, confidence: float
) -> dict[str, Any]:
    row: dict[str, Any] = {"implementation": contender.name, "reason": ""}
    if contender.not_timed:
        verdict, reason = contender.not_timed
        return {**row, "conclusion": Conclusion(verdict), "reason": reason}
    row |= describe_samples(contender.seconds)
    row |= {"first_call_s": contender.first_call_s, "calls_per_sample": contender.calls_per_sample}
    row["page_faults"] = median(contender.page_faults) if contender.page_faults else None
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
    conclusion = conclude(speedup, noise)
    if conclude_in_cycles(baseline, control, contender, confidence) not in (None, conclusion):
        return {**row, "conclusion": Conclusion.DISTURBED, "reason": _OTHER_CLOCK}
    return {**row, "conclusion": conclusion}


def _attempt(action: Callable[..., None], contender: Contender, *given: Any) -> None:
    """Warm up or sample what has worked so far; an implementation that cannot do this phase is a result."""
    if contender.not_timed is None:
        granted = Settings.read()
        try:
            action(contender, *given)
        except audits.Unfinished as error:
            contender.not_timed = Verdict.NOT_JUDGED, str(error)
        except Exception as error:
            contender.not_timed = classify_exception(error)
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
        finally:
            undo(granted, contender.name)


def _warm_up(contender: Contender, clock: WallClock) -> None:
    seconds: list[float] = []
    while (
        len(seconds) < 2
        or (seconds[-1] < WARMED_UP * seconds[-2] and len(seconds) < MOST_WARM_UPS)
        or (sum(seconds) < clock.warm_up_s and len(seconds) < MOST_SHORT_WARM_UPS)
    ):
        seconds.append(_time_once(contender, clock, _BEFORE + len(seconds))[0])
    contender.first_call_s = seconds[0]
    contender.calls_per_sample = int(_RESOLUTIONS_PER_SAMPLE * clock.resolution_s() / min(seconds) + 1)


def _sample(contender: Contender, clock: WallClock, number: int) -> None:
    known = contender.expected.get(number)
    seconds, device_seconds = (
        _time_once(contender, clock, number) if known is None else _audit(contender, clock, number, known)
    )
    contender.seconds.append(seconds)
    contender.sm_mhz.append(clock.sm_mhz())
    if device_seconds is not None:
        contender.device_seconds.append(device_seconds)


def _time_once(contender: Contender, clock: WallClock, number: int) -> tuple[float, float | None]:
    """Seconds per call of one sample; everything that `prepare` makes is made before the clock starts."""
    calls, count = contender.calls, contender.calls_per_sample
    prepared = calls.prepare(number, count)
    faults = count_page_faults()
    started_s, cpu_s = perf_counter(), process_time()
    seconds, device_seconds, _ = clock.time(lambda: [calls.call(given) for given in prepared])
    contender.cpu_s += process_time() - cpu_s
    contender.watched_s += perf_counter() - started_s
    contender.page_faults.append((count_page_faults() - faults) / count)
    return seconds / count, None if device_seconds is None else device_seconds / count


def _audit(contender: Contender, clock: WallClock, number: int, known: audits.Results) -> tuple[float, float | None]:
    """Seconds of one call whose result is known; raises `Unfinished`, and keeps a result that is another."""
    calls = contender.calls
    audits.settle()
    given = audits.prepare_known(calls, number)
    seconds, device_seconds, (returned,) = clock.time(lambda: [calls.call(given)])
    timed = audits.copied(calls.results(given, returned))
    if device_seconds is None:
        audits.watch_finished(timed, lambda: calls.results(given, returned), seconds)
    if audits.differing(timed, known):
        contender.differing.append((number, timed))
    return seconds, device_seconds
