"""What was measured on: the machine, the versions, and the rates that this machine really reaches."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from rnn_parity.timing.peaks import measure_peaks

_PACKAGES = ("torch", "numpy", "snakemake", "mlflow")


def describe_environment(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Versions, commit, processor, GPU, numeric flags, and the measured peaks.

    Args:
        settings: the arguments of `measure_peaks` for every kind of case that is measured.
    """
    return {
        "rnn_parity": _version("rnn-parity"),
        "commit": _commit(),
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "platform": " ".join(
            [platform.system(), platform.release().partition("-")[0], platform.machine(), *platform.libc_ver()]
        ),
        "cpu": {
            "model": _cpu_model(),
            "cores": torch.multiprocessing.cpu_count(),
            "threads": max(setting["threads"] for setting in settings),
        },
        "gpu": _gpu() if any(setting["device"] == "cuda" for setting in settings) else None,
        "flags": {
            "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        },
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "peaks": [measure_peaks(**setting) for setting in settings],
    }


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
