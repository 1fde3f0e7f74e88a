"""Which devices can be used. Nothing heavy is imported: where there may be a GPU, another process tries it."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rnn_parity.experiment.errors import InputError

DEVICES = ("auto", "cpu", "cuda")
"""What a device is asked for by."""

VARIABLE = "RNN_PARITY_CUDA"
"""The environment variable in which a process hands what it found to all that it starts: a GPU is tried once a run."""

_SECONDS = 300


@dataclass(frozen=True)
class Cuda:
    """The first number of a GPU's compute capability; None where there is none that torch can use, and why."""

    major: int | None = None
    why: str | None = None


def find_cuda() -> Cuda:
    """The GPU of this machine, tried by `rnn_parity.layers.preflight` in a process of its own, once."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = json.dumps(asdict(_try_cuda()))
    return Cuda(**json.loads(os.environ[VARIABLE]))


def resolve_devices(wanted: list[str], cuda: Cuda | None = None) -> list[str]:
    """The devices that `auto` or several names mean on this machine; `InputError` for one that it has not."""
    if unknown := set(wanted) - set(DEVICES):
        raise InputError(f"device: holds {min(unknown)!r}, expected auto, cpu or cuda")
    if wanted == ["cpu"]:
        return wanted
    if wanted != ["auto"] and "auto" in wanted:
        raise InputError("device: holds 'auto' beside others, expected auto alone")
    found = cuda or find_cuda()
    if wanted == ["auto"]:
        wanted = ["cpu" if found.major is None else "cuda"]
    elif found.major is None:
        raise InputError(f"device: holds 'cuda', but {found.why}; expected auto or cpu")
    if "cuda" in wanted and (override := os.environ.get("NVIDIA_TF32_OVERRIDE")):
        raise InputError(f"NVIDIA_TF32_OVERRIDE: holds {override!r}, which overrules every switch; expected none")
    return wanted


def _try_cuda() -> Cuda:
    if not torch_is_built_with_cuda():
        return Cuda(why="this torch is built without CUDA")
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Cuda(why="this machine has no CUDA driver; in a container: docker run --gpus all, apptainer exec --nv")
    sources = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "rnn_parity.layers.preflight"]
    environment = os.environ | {"PYTHONPATH": sources}
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return Cuda(why=f"the GPU does not answer within {_SECONDS} s")
    try:
        return Cuda(**json.loads(tried.stdout))
    except (ValueError, TypeError):
        said = (tried.stderr.strip() or "no message").splitlines()[-1]
        return Cuda(why=f"the process that tries the GPU ended with exit code {tried.returncode}: {said}")


def torch_is_built_with_cuda() -> bool:
    """Whether the installed torch has CUDA kernels: `torch/version.py` says so without importing torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    return re.search(r"^cuda\b[^=]*=\s*['\"]", version, re.MULTILINE) is not None
