"""The clocks: wall time on a CPU, wall time and device time on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter  # by name: a layer that replaces the module's changes no clock of ours
from typing import Any

import torch

from rnn_parity.timing.conditions import sm_clock_mhz


class WallClock:
    """Times calls on the CPU."""

    warm_up_s = 0.0
    """The least work before the first sample."""

    def resolution_s(self) -> float:
        """The smallest step that the clock shows."""
        steps = []
        for _ in range(100):
            start = now = perf_counter()
            while now == start:
                now = perf_counter()
            steps.append(now - start)
        return min(steps)

    def sm_mhz(self) -> int | None:
        """The clock of the GPU now; None where there is none, or it is not known."""
        return None

    def time(self, run: Callable[[], Any]) -> tuple[float, float | None, Any]:
        """Wall seconds and device seconds of one run, and what it returned, to be freed after the clock has stopped."""
        start = perf_counter()
        result = run()
        return perf_counter() - start, None, result


class CudaClock(WallClock):
    """Times calls on a GPU: wall time with the device synchronised, and the time between two events on its stream.

    The first event passes at once, since the stream is idle: the time between events counts every gap between kernels,
    and is no busy time. The step-wise loop is bound by launches, so that events alone would flatter it. The L2 cache is
    flushed before each run.
    """

    warm_up_s = 0.3  # an idle GPU has lowered its clock

    def __init__(self) -> None:
        l2_bytes = torch.cuda.get_device_properties(0).L2_cache_size
        self._flush = torch.empty(2 * l2_bytes, dtype=torch.int8, device="cuda")
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._says_clock = sm_clock_mhz() is not None

    def sm_mhz(self) -> int | None:
        """Asked of NVML."""
        return sm_clock_mhz() if self._says_clock else None

    def time(self, run: Callable[[], Any]) -> tuple[float, float | None, Any]:
        """As on the CPU, with the seconds between events beside them."""
        self._flush.zero_()
        torch.cuda.synchronize()
        self._start.record()
        start = perf_counter()
        result = run()
        self._end.record()
        torch.cuda.synchronize()
        seconds = perf_counter() - start
        return seconds, self._start.elapsed_time(self._end) * 1e-3, result
