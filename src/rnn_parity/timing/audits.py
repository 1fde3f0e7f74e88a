"""Checks of timed calls: whether their results are what the layer gave before, and finished, and whether their times
took more threads than were granted, or are shorter than this machine can be.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnn_parity.compare.criterion import worst_ratio
from rnn_parity.compare.reference import relative_errors
from rnn_parity.compare.run import Role
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import forget_compiled, same, seed_generators
from rnn_parity.layers.settings import put_back
from rnn_parity.timing.calls import Calls, TimedTask, copy_of
from rnn_parity.timing.peaks import measure_copy, measure_peaks
from rnn_parity.timing.roofline import floor_s

Results = Mapping[str, Tensor]

KNOWN = FIRST, EARLY, LATE = -1, -2, -3
"""Stimuli whose results are known beforehand: of the first timed call, of one of the first, and of later ones."""

_SEED = 0
_SHORTEST_LOOK_S, _LONGEST_LOOK_S, _LONGEST_SETTLING_S = 2e-3, 50e-3, 1.0
_QUIET_LOOKS = 4  # between two of which a thread that wants a core, or the interpreter, may get neither
_BUSY = 0.2  # of the time of a look; others may want the cores too
_MARGIN_OF_THREADS, _GRANTED_CPU_S = 1.1, 2e-3
_MARGIN_OF_FLOOR = 1.5
_SLOW_COPY_BYTES_PER_S = 5e9  # no machine copies so slowly that a floor need be measured above it

# Beginning with `backward`, one forward and one backward pass serve three phases.
_KNOWN_FROM = {"forward": "backward", "step": "backward"}


class Unfinished(Exception):
    """A call whose work went on after the clock had stopped."""


def expect(task: TimedTask, name: str, role: Role, phases: Sequence[str]) -> dict[str, dict[int, Results]]:
    """By phase and stimulus, what an implementation gives that is built apart, on tensors of its own.

    To be called before anything is timed. A phase that it cannot do has none: its timing will tell why.
    """
    found: dict[str, dict[int, Results]] = {}
    for phase in phases:
        for source in (_KNOWN_FROM.get(phase, phase), phase):
            if source not in found:
                found[source] = _results(task, name, role, source)
            if found[source]:
                break
        found.setdefault(phase, found[source])
    return found


def _results(task: TimedTask, name: str, role: Role, phase: str) -> dict[int, Results]:
    known = {}
    forget_compiled()
    with put_back(name):
        try:
            calls = task.calls(name, role, phase)
            if task.case.draws_dropout and phase != "inference":
                calls.call(prepare_known(calls, FIRST))  # what is compiled or recorded at a first call may draw
            for number in KNOWN:
                given = prepare_known(calls, number)
                known[number] = copied(calls.results(given, calls.call(given)))
        except InputError:
            raise
        except Exception:
            return {}
    return known


def prepare_known(calls: Calls, number: int) -> Any:
    """What a call of a known stimulus is given; dropout draws the same masks each time."""
    seed_generators(_SEED)
    return calls.prepare(number, 1)[0]


def copied(results: Results) -> Results:
    """Copies on the CPU."""
    return {quantity: copy_of(value).cpu() for quantity, value in results.items()}


def watch_finished(kept: Results, read: Callable[[], Results], call_s: float) -> None:
    """Watch for as long as a call took; raises `Unfinished` where it was not when the clock stopped."""
    working = _others_compute(min(max(call_s, _SHORTEST_LOOK_S), _LONGEST_LOOK_S))
    if differing(read(), kept):
        raise Unfinished("its result still changed after the clock had stopped")
    if working:
        raise Unfinished("a thread of its own was still working after the clock had stopped")


def settle() -> None:
    """Let the threads that another layer has left working come to an end, so that nobody is blamed for them."""
    until, quiet_looks = time.monotonic() + _LONGEST_SETTLING_S, 0
    while quiet_looks < _QUIET_LOOKS and time.monotonic() < until:
        quiet_looks = 0 if _others_compute(_SHORTEST_LOOK_S) else quiet_looks + 1


def _others_compute(look_s: float) -> bool:
    """Whether a thread, neither this one nor one of torch, computes meanwhile, or waits for a core all the while."""
    before, waited = _seconds_by_thread(), _runnable()
    time.sleep(look_s)
    after, waits = _seconds_by_thread(), _runnable()
    own = {threading.get_native_id(), *pool_of(torch.get_num_threads())}
    return any(
        after[thread] - before.get(thread, 0.0) > _BUSY * look_s or thread in waited & waits
        for thread in after.keys() - own
    )


@cache
def pool_of(threads: int) -> frozenset[int]:
    """The threads in which torch itself computes; they go on turning for a while behind every product."""
    if threads == 1:
        return frozenset()
    product = torch.rand(512, 512)
    product @ product
    before = _seconds_by_thread()
    product @ product
    return frozenset(thread for thread, seconds in _seconds_by_thread().items() if seconds > before.get(thread, 0.0))


def _seconds_by_thread() -> dict[int, float]:
    """CPU seconds of every thread of this process."""
    seconds = {}
    for thread in _threads():
        with suppress(OSError):  # it has ended
            seconds[thread] = time.clock_gettime((~thread << 3) | 6)  # the kernel's name of a thread's own clock
    return seconds


def _runnable() -> set[int]:
    """The threads of this process that have a core, or would use one."""
    runnable = set()
    for thread in _threads():
        with suppress(OSError):
            if Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[0] == "R":
                runnable.add(thread)
    return runnable


def _threads() -> list[int]:
    return [int(entry.name) for entry in Path("/proc/self/task").iterdir()]


def differing(results: Results, known: Results) -> list[str]:
    """The quantities that are not bit for bit what is known of them."""
    return [quantity for quantity, value in results.items() if not same(copy_of(value).cpu(), known[quantity])]


def why_changed(task: TimedTask, known: Results, timed: Results) -> str:
    """How far a timed call is from what the layer gave before, where that is more than rounding; else empty."""
    for quantity in differing(timed, known):
        if timed[quantity].shape != known[quantity].shape:
            return f"{quantity} is of another shape"
        distance = relative_errors(timed[quantity], known[quantity].double())
        if max(distance) <= task.least_limit(quantity):
            continue
        limits = task.limits(quantity)
        ratio = worst_ratio(distance, limits) if limits else 0.0
        if ratio > 1:
            return f"{quantity} is {ratio:.3g}× its limit away from what it was for the same values"
    return ""


def constant_quantity(task: TimedTask, results: Mapping[int, Results], others: Mapping[int, Results]) -> str:
    """The quantity that has the same bits for two stimuli for which another layer's differ by far; empty for none.

    What is kept for the whole process, as by a cache of the class, is kept for the module apart too: it agrees with
    itself, and not with what it was given.
    """
    for a, b in itertools.combinations([number for number in results if number in others], 2):
        for quantity in (quantity for quantity in results[a] if quantity in others[a]):
            value, other = results[a][quantity], {quantity: others[a][quantity]}
            # Zeros are a gradient that is none: the comparison tells of that.
            if same(value, results[b][quantity]) and value.any() and why_changed(task, others[b], other):
                return quantity
    return ""


def too_many_threads(cpu_s: float, wall_s: float, threads: int) -> str:
    """Why a time is refused that more threads gave than were granted; empty where none did."""
    if cpu_s <= _MARGIN_OF_THREADS * threads * wall_s + _GRANTED_CPU_S:
        return ""
    granted = "1 was" if threads == 1 else f"{threads} were"
    return f"it computed on {cpu_s / wall_s:.1f} threads where {granted} granted"


def too_fast(case: Case, median_s: float, rates: Mapping[str, Any]) -> str:
    """Why a time is refused that no layer reaches here; empty where one may. Peaks are measured where it is near."""
    if not rates:
        return ""
    flops, moved, step_rate = (rates[name] for name in ("flops", "least_bytes", "step_gemm_flops_per_s"))
    if median_s > max(flops / step_rate, moved / _SLOW_COPY_BYTES_PER_S):
        return ""
    gemm = max(step_rate, _peak(case.device, case.dtype, case.tf32, case.threads))
    # As many bytes as the call moves: they may fit into a cache, which is faster than the memory.
    least_s = float(floor_s(flops, moved, gemm, measure_copy(moved // 2, case.device)))
    if median_s >= least_s / _MARGIN_OF_FLOOR:
        return ""
    return (
        f"faster than this machine can compute it: {median_s:.2g} s, and its operations and bytes take {least_s:.2g} s"
    )


@cache
def _peak(device: str, dtype: str, tf32: bool, threads: int) -> float:
    return measure_peaks(device, dtype, tf32, threads)["gemm_flops_per_s"]
