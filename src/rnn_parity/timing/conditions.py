"""What else the machine did while the clock ran: pages of memory, other processes, what held the GPU's clock down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
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

_LARGEST_ADAPTED_BYTES = 31 << 20
"""A block of up to 32 MiB moves the thresholds of glibc when it is freed: `M_MMAP_THRESHOLD` in mallopt(3)."""


def keep_freed_memory() -> None:
    """Have glibc keep freed memory, as in any program that has freed a large tensor before.

    It then keeps up to twice the size of the block that is freed here. Until then it may return to the system what a
    call frees, and request it again in the next call, which can be a third of a call's time. Whether it does depends on
    what else is in the memory of the process.
    """
    torch.empty(_LARGEST_ADAPTED_BYTES, dtype=torch.uint8)


def count_page_faults() -> int:
    """How many pages of memory this process has been given by the system, which fills each with zeros first."""
    return getrusage(RUSAGE_SELF).ru_minflt


class Watch:
    """Watches from its making to `met`."""

    def __init__(self, device: str) -> None:
        self._device, self._started_at = device, time.time()
        self._others_s, self._start = _others_busy_s(), time.monotonic()
        self._beside = other_processes() if device == "cuda" else None

    def met(self) -> dict[str, Any]:
        """Columns of the timing table.

        `other_busy_cores`: how many cores all other processes kept busy on average. On a GPU `clock_limits`, what
        holds its clock down at the end, while it is still warm, and `other_gpu_processes`, how many computed on it.
        """
        cores = (_others_busy_s() - self._others_s) / (time.monotonic() - self._start)
        columns: dict[str, Any] = {"other_busy_cores": max(0.0, cores)}
        columns |= {"started_at": self._started_at, "ended_at": time.time()}
        if self._device == "cuda":
            columns |= {"clock_limits": clock_limits(), "other_gpu_processes": self._other_processes()}
        return columns

    def _other_processes(self) -> int | None:
        counts = [count for count in (self._beside, other_processes()) if count is not None]
        return max(counts, default=None)


def clock_limits() -> str | None:
    """What holds the clock of the GPU down, in words; None where that cannot be had."""
    limits = _ask_nvml(lambda nvml, gpu, _: nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu))
    return None if limits is None else ", ".join(name for bit, name in _CLOCK_LIMITS.items() if limits & bit)


def sm_clock_mhz() -> int | None:
    """The clock of the GPU's multiprocessors now; None where that cannot be had."""
    return _ask_nvml(lambda nvml, gpu, _: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM))


def other_processes() -> int | None:
    """How many processes compute on the GPU, or on this slice of it, beside this one; None where that cannot be had.

    Counted, and not told apart by their numbers, which are others within a container. One of them is this one.
    """
    running = _ask_nvml(lambda nvml, _, part: nvml.nvmlDeviceGetComputeRunningProcesses(part))
    return None if running is None else max(0, len(running) - 1)


def _ask_nvml(question: Callable[[Any, Any, Any], Any]) -> Any:
    """What NVML says of the GPU; None without the library, without a driver, or where it does not say."""
    try:
        return question(*_nvml())
    except Exception:  # whatever it raises, it is no fault of what is timed
        return None


@cache
def _nvml() -> tuple[Any, Any, Any]:
    """The library, its handle of the GPU, and that of the slice of it that this process has, by default all of it."""
    import pynvml

    pynvml.nvmlInit()
    uuid = torch.cuda.get_device_properties(0).uuid
    try:
        gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError:  # of a GPU that is divided (MIG), the clock is that of the whole
        part = pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")
        return pynvml, pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(part), part
    return pynvml, gpu, gpu


def _others_busy_s() -> float:
    """Seconds that all cores together were busy with other processes since the system started."""
    fields, own = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split(), os.times()
    ticks = sum(map(int, fields[_BUSY])) - sum(map(int, fields[_IDLE]))
    return ticks / os.sysconf("SC_CLK_TCK") - own.user - own.system
