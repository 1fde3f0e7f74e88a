"""What else the machine did while the clock ran: other processes, and what held the clock of the GPU down."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

_BUSY = slice(1, 9)  # user, nice, system, then idle and iowait, which are not busy, irq, softirq and steal
_IDLE = slice(4, 6)
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
        self._device, self._started_at = device, time.time()
        self._others_s, self._start = _others_busy_s(), time.monotonic()

    def met(self) -> dict[str, Any]:
        """Columns of the timing table.

        `other_busy_cores`: how many cores all other processes kept busy on average; `clock_limits`: on a GPU, what
        holds its clock down at the end, while it is still warm.
        """
        cores = (_others_busy_s() - self._others_s) / (time.monotonic() - self._start)
        columns = {"other_busy_cores": max(0.0, cores), "started_at": self._started_at, "ended_at": time.time()}
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
        limits = pynvml.nvmlDeviceGetCurrentClocksEventReasons(device)
    except (pynvml.NVMLError, AttributeError):  # no driver, a GPU that does not say, or a library from before 2023
        return None
    return ", ".join(name for bit, name in _CLOCK_LIMITS.items() if limits & bit)


def _others_busy_s() -> float:
    """Seconds that all cores together were busy with other processes since the system started."""
    fields, own = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split(), os.times()
    ticks = sum(map(int, fields[_BUSY])) - sum(map(int, fields[_IDLE]))
    return ticks / os.sysconf("SC_CLK_TCK") - own.user - own.system
