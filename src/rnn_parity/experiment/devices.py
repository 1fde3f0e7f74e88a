"""Which devices can be used, asked of the driver and of torch's version file, so that nothing heavy is imported."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path

_COMPUTE_CAPABILITY_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR in cuda.h


def torch_is_built_with_cuda() -> bool:
    """Whether the installed torch has CUDA kernels: `torch/version.py` says so without importing torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    return re.search(r"^cuda\b[^=]*=\s*['\"]", version, re.MULTILINE) is not None


def cuda_compute_capability_major() -> int | None:
    """Major compute capability of the first visible CUDA device; None where torch or the driver has none."""
    if not torch_is_built_with_cuda():
        return None
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major = ctypes.c_int(), ctypes.c_int()
    calls = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(device), 0),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device),
    )
    return major.value if all(call() == 0 for call in calls) else None
