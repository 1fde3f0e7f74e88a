"""What else the machine did while the clock ran: other processes, and what held the clock of the GPU down."""

from __future__ import annotations

import os
import time
from typing import Any

import psutil
import torch

_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")
_CLOCK_LIMITS = {
    0x002: "application clocks",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "power brake",
    0x100: "display clock",
}
"""nvmlClocksEventReason* of the NVML API reference, without the one that says that the GPU is idle."""


class Watch:
    """Watches from its making to `met`."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.started_at = time.time()
        self._all_s, self._own_s, self._start = _all_busy_s(), _own_busy_s(), time.monotonic()

    def met(self) -> dict[str, Any]:
        """Columns of the timing table.

        `other_busy_cores`: how many cores all other processes kept busy on average, None where the system does not
        say; `clock_limits`: on a GPU, what holds its clock down at the end, while it is still warm.
        """
        wall_s = time.monotonic() - self._start
        columns = {"other_busy_cores": None, "started_at": self.started_at, "ended_at": time.time()}
        if self._all_s is not None and (all_s := _all_busy_s()) is not None and wall_s > 0:
            others_s = all_s - self._all_s - (_own_busy_s() - self._own_s)
            columns["other_busy_cores"] = max(0.0, others_s / wall_s)
        return columns | ({"clock_limits": clock_limits()} if self._device == "cuda" else {})


def clock_limits() -> str | None:
    """What holds the clock of the GPU down, in words; None where that cannot be had."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
        read = getattr(pynvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
        limits = (read or pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)(device)  # its older name
    except (pynvml.NVMLError, AttributeError):  # no driver, a GPU that does not say, or a torch that does not say which
        return None
    return ", ".join(name for bit, name in _CLOCK_LIMITS.items() if limits & bit)


def _own_busy_s() -> float:
    own = os.times()
    return own.user + own.system


def _all_busy_s() -> float | None:
    """Seconds that all cores together were busy since the system started; None where the system does not say."""
    try:
        times = psutil.cpu_times()
    except OSError:
        return None
    return sum(getattr(times, name, 0.0) for name in _BUSY)
