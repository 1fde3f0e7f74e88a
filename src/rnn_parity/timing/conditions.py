"""What else the machine did while the clock ran: load, other processes, and the state of the GPU."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path
from typing import Any

import torch

_STAT = Path("/proc/stat")
_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, and what the hypervisor stole: man 5 proc_stat
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
    """Watches from its making to `report`."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.started_at = time.time()
        self._load = os.getloadavg()[0]
        self._switches, self._all_s, self._own_s, self._start = (
            _switches(),
            _all_busy_s(),
            _own_busy_s(),
            time.monotonic(),
        )

    def report(self) -> dict[str, Any]:
        """Columns of the timing table.

        `load_average` as it was at the start; `context_switches`, those that were forced on this process;
        `other_busy_cores`, how many cores all other processes kept busy on average, None where the system does not
        say; on a GPU what `gpu_state` says at the end, while it is still warm.
        """
        wall_s = time.monotonic() - self._start
        columns = {
            "load_average": self._load,
            "context_switches": _switches() - self._switches,
            "other_busy_cores": None,
            "started_at": self.started_at,
            "ended_at": time.time(),
        }
        if self._all_s is not None and (all_s := _all_busy_s()) is not None and wall_s > 0:
            others_s = all_s - self._all_s - (_own_busy_s() - self._own_s)
            columns["other_busy_cores"] = max(0.0, others_s / wall_s)
        return columns | (gpu_state() if self._device == "cuda" else {})


def gpu_state() -> dict[str, Any]:
    """Clock of the multiprocessors, temperature, and what holds the clock down; without what cannot be had here."""
    try:
        import pynvml
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
    except (pynvml.NVMLError, AttributeError):  # no driver, or a torch that does not say which GPU it uses
        return {}
    reads = {
        "sm_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_SM),
        "temperature_c": lambda: pynvml.nvmlDeviceGetTemperature(device, pynvml.NVML_TEMPERATURE_GPU),
        "clock_limits": lambda: _clock_limits(pynvml, device),
    }
    state = {}
    for column, read in reads.items():
        with contextlib.suppress(pynvml.NVMLError, AttributeError):  # a driver, a library or a GPU that does not say
            state[column] = read()
    return state


def _clock_limits(pynvml: Any, device: Any) -> str:
    read = getattr(pynvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    limits = (read or pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)(device)  # its older name
    return ", ".join(name for bit, name in _CLOCK_LIMITS.items() if limits & bit)


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _own_busy_s() -> float:
    own = os.times()
    return own.user + own.system


def _all_busy_s() -> float | None:
    """Seconds that all cores together were busy since the system started."""
    try:
        ticks = _STAT.read_text().partition("\n")[0].split()[1:]
        return sum(int(ticks[place]) for place in _BUSY) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
