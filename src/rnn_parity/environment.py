"""What was measured on: the machine, the versions, and the rates that this machine really reaches."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from rnn_parity import __version__
from rnn_parity.execution import numerics

_PACKAGES = ("torch", "numpy", "snakemake", "mlflow")
_GEMM_SIZE = {"cpu": 1024, "cuda": 8192}
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**31}
_REPEATS = 5
_ENOUGH_SECONDS = 0.5  # float16 products are emulated on some processors and take seconds each


def describe_environment(devices: Sequence[str], dtypes: Sequence[str], threads: int) -> dict[str, Any]:
    """Versions, commit, processor, GPU, numeric flags, and the measured peaks per device and dtype."""
    return {
        "rnn_parity": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "platform": " ".join(
            [platform.system(), platform.release().partition("-")[0], platform.machine(), *platform.libc_ver()]
        ),
        "cpu": {"model": _cpu_model(), "cores": torch.multiprocessing.cpu_count(), "threads": threads},
        "gpu": _gpu() if "cuda" in devices else None,
        "flags": {
            "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        },
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "peaks": [measure_peaks(device, dtype, threads) for device in devices for dtype in dtypes],
    }


def measure_peaks(device: str, dtype: str, threads: int) -> dict[str, Any]:
    """The best rate of some square matrix products (FLOP/s) and of some copies (bytes read and written per second)."""
    with numerics(threads, tf32=False):
        kind = getattr(torch, dtype)
        size = _GEMM_SIZE[device]
        a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
        source = torch.zeros(_COPY_BYTES[device] // a.element_size(), dtype=kind, device=device)
        target = torch.empty_like(source)
        gemm_s = _best_s(lambda: a @ b, device)
        copy_s = _best_s(lambda: target.copy_(source), device)
    return {
        "device": device,
        "dtype": dtype,
        "threads": threads,
        "gemm_flops_per_s": 2 * size**3 / gemm_s,
        "copy_bytes_per_s": 2 * source.numel() * source.element_size() / copy_s,
    }


def _best_s(run, device: str) -> float:
    seconds = []
    while len(seconds) < _REPEATS and sum(seconds) < _ENOUGH_SECONDS:
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout, with `-dirty` after it where tracked files were changed."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        folder = Path(__file__).parent
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpu() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = None
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "driver": driver,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
