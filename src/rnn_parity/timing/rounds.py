"""One case to samples: every implementation timed in turn, the baseline twice, until the ratio is known well enough.

Rounds, not blocks: what disturbs the machine for a while then disturbs all alike. In each round every implementation
is timed once, in an order shuffled for that round, and the baseline once more, the A/A control.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.running import classify_exception, numerics
from rnn_parity.layers.stimulus import Stimulus, build_loaded, draw_stimulus
from rnn_parity.statistics import Conclusion, Interval, conclude, describe_samples, median_ratio, ratio_changes
from rnn_parity.timing.clocks import CudaClock, WallClock
from rnn_parity.timing.conditions import Watch
from rnn_parity.timing.costs import Costs, kernel_launches, measure_costs
from rnn_parity.timing.peaks import measure_gemm
from rnn_parity.timing.roofline import least_bytes, matmul_flops, sequential_flops

WARMED_UP = 0.95
"""A call is warm that takes more than this share of the one before: it gets no faster any more."""

MOST_WARM_UPS = 10
_RESOLUTIONS_PER_SAMPLE = 100
# The interval is looked at after 10, 15, 22, … rounds: the more looks, the likelier it stops at a lucky one.
_CHECK_GROWTH = 1.5


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
    costs: Costs | None = None
    fault: tuple[Verdict, str] | None = None


def time_case(
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
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Time every phase of a case.

    Args:
        exclusive: whether the workflow keeps its other jobs away meanwhile; recorded beside every row.

    Returns:
        the rows of the timing table and those of the samples table. An implementation that cannot do a phase gives a
        row with the reason; only one that cannot be built raises, `InputError`.
    """
    rows, samples = [], []
    with numerics(case.threads, case.tf32):
        stimulus = _stimulus(case)
        step_rate = measure_gemm(case.batch_size, case.hidden_size, 3 * case.hidden_size, case.device, case.dtype)
        for phase in phases:
            watch = Watch(case.device)
            contenders = [make_contender(case, name, phase, stimulus) for name in [baseline, *candidates]]
            control = make_contender(case, baseline, phase, stimulus)
            order = random.Random(f"{case.case_id} {phase}")
            everyone = [*contenders, control]
            rounds_s = run_rounds(everyone, case.device, order, precision, min_rounds, max_seconds, confidence)
            met = watch.report()
            for contender in contenders:
                count_costs(contender, case.device)
            context = {**case.columns, "phase": phase}
            measured = {
                "baseline": baseline,
                "exclusive": exclusive,
                "rounds_s": rounds_s,
                "flops": matmul_flops(case, phase),
                "sequential_flops": sequential_flops(case, phase),
                "least_bytes": least_bytes(case, phase),
                "step_gemm_flops_per_s": step_rate,
                **met,
            }
            rows += [{**context, **measured, **row} for row in summarize(contenders, control, confidence)]
            samples += [{**context, **row} for row in sample_rows(everyone)]
    return rows, samples


def _bench(case: Case) -> Callable[[dict[str, Any]], Contender]:
    stimulus = _stimulus(case)
    return lambda row: make_contender(case, row["implementation"], row["phase"], stimulus)


def _stimulus(case: Case) -> Stimulus:
    return draw_stimulus(case, seed=0).map(lambda tensor: tensor.to(case.device))


def count_kernels(
    cases: Sequence[Case],
    rows: Sequence[dict[str, Any]],
    bench: Callable[[Case], Callable[[dict[str, Any]], Contender]] = _bench,
) -> None:
    """Fill in the `kernel_launches` of what was timed on a GPU, from contenders that are built anew.

    Only after the last sample of the process: the profiler stays attached to it and slows its every launch.

    Args:
        bench: from a case to what builds the contender of one of its rows; by default that of a layer alone.
    """
    for case in cases:
        if case.device == "cuda":
            with numerics(case.threads, case.tf32):
                contender_of = bench(case)
                for row in rows:
                    if row["case_id"] == case.case_id and "median_s" in row:
                        row["kernel_launches"] = _kernel_launches(contender_of(row))


def _kernel_launches(contender: Contender) -> int | None:
    """Of a warm call; None where they cannot be counted."""
    _forget_compiled()
    try:
        _warm_up(contender, CudaClock())
        return kernel_launches(contender.prepare, contender.call)
    except Exception as error:  # its times are known all the same
        _log_uncounted("kernels", contender, error)
        return None


def make_contender(case: Case, name: str, phase: str, stimulus: Stimulus) -> Contender:
    """Build an implementation and what a phase asks of it; a build that fails is the contender's fault."""
    try:
        module = build_loaded(case, name, stimulus)
        contender = Contender(name, *_phase_calls(phase, module, stimulus))
    except InputError:
        raise
    except Exception as error:  # an implementation that cannot be had here is a result
        return Contender(name, lambda: None, lambda _: None, fault=classify_exception(error))
    return contender


def _phase_calls(phase: str, module: nn.Module, stimulus: Stimulus) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """What is made before the clock starts, and what the clock sees."""
    module.train(phase != "inference")
    input, h0 = stimulus.input.clone(), stimulus.h0.clone()
    if phase == "inference":

        def infer(_):
            with torch.no_grad():
                return module(input, h0)

        return lambda: None, infer

    input.requires_grad_()
    h0.requires_grad_()

    def clear() -> None:
        module.zero_grad(set_to_none=True)
        input.grad = h0.grad = None

    def forward(_):
        return module(input, h0)

    def backward(outputs):
        torch.autograd.backward(outputs, stimulus.cotangents)

    def forward_untimed():
        clear()
        return module(input, h0)

    return {
        "forward": (clear, forward),
        "backward": (forward_untimed, backward),
        "step": (clear, lambda _: backward(module(input, h0))),
    }[phase]


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
        _guard(contender, lambda c=contender: _warm_up(c, clock))
    start = time.perf_counter()
    rounds, next_check = 0, min_rounds
    while rounds < min_rounds or time.perf_counter() < start + max_seconds:
        shuffled = list(contenders)
        order.shuffle(shuffled)
        for contender in shuffled:
            _guard(contender, lambda c=contender: _sample(c, clock))
        rounds += 1
        working = [contender for contender in contenders[1:] if contender.fault is None]
        if contenders[0].fault or not working:
            if all(contender.fault for contender in contenders):
                break
        elif rounds >= next_check:
            next_check = int(rounds * _CHECK_GROWTH)
            ratios = [median_ratio(contenders[0].seconds, c.seconds, confidence) for c in working]
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
    has_baseline = baseline.fault is None and control.fault is None
    noise = median_ratio(baseline.seconds, control.seconds, confidence) if has_baseline else None
    return [_summary(contender, baseline, noise, confidence) for contender in contenders]


def _summary(contender: Contender, baseline: Contender, noise: Interval | None, confidence: float) -> dict[str, Any]:
    row: dict[str, Any] = {"implementation": contender.name, "reason": ""}
    if contender.fault:
        verdict, reason = contender.fault
        return {**row, "conclusion": Conclusion(verdict), "reason": reason}
    row |= describe_samples(contender.seconds)
    row |= {"first_call_s": contender.first_call_s, "calls_per_sample": contender.calls_per_sample}
    row |= asdict(contender.costs) if contender.costs else {}
    if contender.device_seconds:
        row["device_median_s"] = describe_samples(contender.device_seconds)["median_s"]
    if noise is None:
        why = baseline.fault[1] if baseline.fault else "its control could not be timed"
        return {**row, "conclusion": Conclusion.NO_BASELINE, "reason": f"baseline: {why}"}
    row |= {"control_ratio": noise.estimate, "control_ci_low": noise.low, "control_ci_high": noise.high}
    own = contender is baseline
    speedup = Interval(1.0, 1.0, 1.0) if own else median_ratio(baseline.seconds, contender.seconds, confidence)
    row |= {"speedup": speedup.estimate, "speedup_ci_low": speedup.low, "speedup_ci_high": speedup.high}
    if own:
        return {**row, "conclusion": Conclusion.BASELINE}
    if ratio_changes(baseline.seconds, contender.seconds, confidence):
        return {**row, "conclusion": Conclusion.DISTURBED, "reason": "the speedup was another in half of the rounds"}
    return {**row, "conclusion": conclude(speedup, noise)}


def sample_rows(contenders: Sequence[Contender]) -> list[dict[str, Any]]:
    """The rows of the samples table; the last contender is the control."""
    rows = []
    for contender in contenders:
        device = contender.device_seconds or [None] * len(contender.seconds)
        for index, (seconds, device_seconds) in enumerate(zip(contender.seconds, device, strict=True)):
            sample = {"round": index, "seconds": seconds, "device_seconds": device_seconds}
            rows.append({"implementation": contender.name, "control": contender is contenders[-1], **sample})
    return rows


def _guard(contender: Contender, action: Callable[[], None]) -> None:
    if contender.fault is not None:
        return
    try:
        action()
    except Exception as error:  # an implementation that cannot do this phase is a result
        contender.fault = classify_exception(error)
        if isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()


def _warm_up(contender: Contender, clock: WallClock) -> None:
    contender.first_call_s, _ = clock.time(lambda: [contender.call(contender.prepare())])
    seconds = [contender.first_call_s]
    while len(seconds) < 2 or (seconds[-1] < WARMED_UP * seconds[-2] and len(seconds) < MOST_WARM_UPS):
        seconds.append(_time_once(contender, clock)[0])
    wanted = _RESOLUTIONS_PER_SAMPLE * clock.resolution_s()
    contender.calls_per_sample = max(1, int(wanted / min(seconds) + 1)) if min(seconds) < wanted else 1


def count_costs(contender: Contender, device: str) -> None:
    """Count what a call costs, after the rounds: the meters slow down, and may recompile, what they watch."""
    if contender.fault is None:
        try:
            contender.costs = measure_costs(contender.prepare, contender.call, device)
        except Exception as error:  # a layer that cannot be watched still has its times
            _log_uncounted("costs", contender, error)


def _log_uncounted(what: str, contender: Contender, error: Exception) -> None:
    from rnn_parity.commands.jobs import log  # with it comes what makes commands, for which a check has no use

    log(f"{contender.name}: its {what} could not be counted: {classify_exception(error)[1]}")


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
