"""What was measured on: the machine, the versions, and the rates that this machine really reaches."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from rnn_parity.timing.peaks import measure_peaks

MACHINE_VARIABLE = "RNN_PARITY_MACHINE"
"""The environment variable that names the kind of machine, where what it has does not tell it from another kind."""

COMMIT_VARIABLE = "RNN_PARITY_COMMIT"
"""The environment variable that names the commit of sources that were copied."""

_PACKAGES = ("rnn-parity", "torch", "numpy", "snakemake", "mlflow")


def describe_environment(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Versions, commit, processor, GPU, and the measured peaks, each with the kind of machine that it is of.

    Args:
        settings: the arguments of `measure_peaks` for every kind of case that is measured.
    """
    return {
        **{name.replace("-", "_"): _version(name) for name in _PACKAGES},
        "commit": commit(),
        "python": platform.python_version(),
        "platform": " ".join(
            [platform.system(), platform.release().partition("-")[0], platform.machine(), *platform.libc_ver()]
        ),
        "cpu": {"model": _cpu_model(), "cores": os.cpu_count(), "memory_gib": _memory_gib()},
        "gpu": _gpu() if any(setting["device"] == "cuda" for setting in settings) else None,
        "machine_variable": os.environ.get(MACHINE_VARIABLE),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "peaks": [
            {"machine": machine_of(setting["device"]), **setting, **measure_peaks(**setting)} for setting in settings
        ],
    }


def commit() -> str | None:
    """The commit of these sources, with `-dirty` after it where tracked files were changed.

    Where they were copied, without their history or over another one, `RNN_PARITY_COMMIT` says it.
    """
    described = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return os.environ.get(COMMIT_VARIABLE) or _first_line(*described)


def machine_of(device: str) -> str:
    """The kind of machine, in words: the same on two machines that are alike. On a GPU it names that too.

    `RNN_PARITY_MACHINE`, where it is set, is taken in place of that.
    """
    if named := os.environ.get(MACHINE_VARIABLE):
        return named
    gpu = [torch.cuda.get_device_properties(0).name] if device == "cuda" else []
    return ", ".join([_cpu_model(), f"{os.cpu_count()} cores", f"{_memory_gib()} GiB", *gpu])


def _version(package: str) -> str | None:
    """The version of a package; None where it is not installed, as what only shows is not where one only measures."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_line(*command: str) -> str | None:
    """The first line that a command prints in the folder of this file; None where it is missing or fails."""
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.partition("\n")[0].strip()


def _cpu_model() -> str:
    """The name that an x86 processor has; of others the architecture."""
    named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return named[1] if named else platform.machine()


def _memory_gib() -> int:
    """The memory that is built in: the kernel keeps a share of it for itself, in each version another one."""
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    step = 2 ** max(0, math.floor(math.log2(gib)) - 2)  # memory comes in quarters of a power of two
    return math.ceil(gib / step) * step


def _gpu() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "capability": [properties.major, properties.minor],
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "driver": _first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
