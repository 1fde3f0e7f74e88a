"""How code under test is run: threads and numeric settings, a light dispatch mode, and the verdict of an error."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.settings import REDUCED, Settings, set_tf32

_MOST_COMPILATIONS = 200
_UNSUPPORTED = (
    "not implemented",
    "unsupported",
    "can only be called in training mode",
    "not support",
    "status_not_supported",
    "status_arch_mismatch",
)
_OUT_OF_MEMORY = ("can't allocate memory", "error: out of memory", "status_alloc_failed", "size calculation overflowed")
_LOST = (
    "an illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "misaligned address",
    "an illegal instruction",
    "uncorrectable ecc",
    "launch timed out",
)
"""After these CUDA refuses every further call of the process."""
_GPU = ("cuda", "cudnn", "cublas", "nvidia")
_MACHINE = (
    "no kernel image",
    "busy or unavailable",
    "no cuda-capable device",
    "nvidia driver",
    "driver version",
    "torch not compiled with cuda",
    "status_not_initialized",
    "status_execution_failed",
    "status_internal_error",
    "cannot open shared object",
)


class DeviceLost(BaseException):
    """The GPU answers this process no more, so that nothing which runs in it can be judged from now on.

    No `Exception`: it is no layer's result, and passes by all that take one.
    """


class LostStates(TypeError):
    """A layer gave back something else than an output and its last states."""


def pack_states(states: Sequence[Any]) -> Any:
    """One state alone, several as a tuple, as PyTorch's layers take and give them."""
    return states[0] if len(states) == 1 else tuple(states)


def unpack_states(states: Any) -> tuple[Any, ...]:
    """The states that a layer takes or gives, one alone or several."""
    return (states,) if isinstance(states, Tensor) else tuple(states)


def call_layer(module: Callable[..., Any], input: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Call a layer as PyTorch's: one state alone, several as a tuple. Returns output and the last states.

    Raises `LostStates` where it does not give back an output and as many states as it is given.
    """
    result = module(input, pack_states(states))
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise LostStates(f"gives a {type(result).__name__}, expected {_expected(states)}")
    output, last = result
    after = (last,) if isinstance(last, Tensor) else tuple(last)
    if len(after) != len(states) or not all(isinstance(value, Tensor) for value in (output, *after)):
        raise LostStates(f"gives {len(after)} last states, expected {_expected(states)}")
    return output, *after


def _expected(states: Sequence[Tensor]) -> str:
    return "two tensors" if len(states) == 1 else f"a tensor and a tuple of {len(states)}"


class SpoiledGradient(Exception):
    """A backward pass wrote into the gradient that it was handed, which others may read."""


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal in shape, dtype and values; NaNs in the same places are."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one, other) or torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def generators_kept(device: str) -> AbstractContextManager:
    """A `with` after which torch's generators are as they were."""
    return torch.random.fork_rng([torch.cuda.current_device()] if device == "cuda" else [])


def seed_generators(seed: int) -> None:
    """Seed as `torch.manual_seed` does, without the up to a millisecond in which it notes the seed for unused GPUs."""
    (torch if torch.cuda.is_initialized() else torch.default_generator).manual_seed(seed)


def compiler_is_loaded() -> bool:
    """Whether a layer has imported `torch.compile`'s own parts, which take more than a second to import."""
    return "torch._dynamo" in sys.modules


def compiled_as_often_as_needed() -> AbstractContextManager:
    """A `with` in which `torch.compile` recompiles for every module, mode and shape.

    At its own limit it would go on uncompiled, and then draw other masks.
    """
    if not compiler_is_loaded():
        return nullcontext()
    return torch._dynamo.config.patch(recompile_limit=_MOST_COMPILATIONS)


def forget_compiled() -> None:
    """Let what `torch.compile` made for others not count against what comes: past its limit it compiles no more."""
    if compiler_is_loaded():
        torch.compiler.reset()


class LightDispatchMode(TorchDispatchMode):
    """A `TorchDispatchMode` that does not import the compiler, which takes more than a second of every process.

    Where a layer has imported it, it is kept from compiling the mode's own code, for seconds and with warnings. Inside
    the `with` nothing compiled runs: what the compiler meets under a mode it would leave uncompiled ever after.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __enter__(self) -> Self:
        """Enter the mode."""
        compiler = compiler_is_loaded()
        own = type(self).__torch_dispatch__
        if compiler and not hasattr(own, "_torchdynamo_disable"):
            type(self).__torch_dispatch__ = torch.compiler.disable(own)  # type: ignore[method-assign]  # the same method, wrapped
        vars(self).setdefault("_stances", []).append(torch.compiler.set_stance("force_eager") if compiler else None)
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        """Leave the mode."""
        super().__exit__(*raised)
        stance = vars(self)["_stances"].pop()
        if stance is not None:
            stance.__exit__(*raised)
        else:  # a layer may have imported the compiler inside
            forget_compiled()


@contextmanager
def numerics(threads: int, tf32: bool) -> Iterator[None]:
    """Run with `threads` CPU threads, TF32 on or off in *every* place that has a switch, and no autotuning.

    Sums of half precision are as PyTorch has them by default, for all that is compared and timed.

    cuDNN's switch is on by default and cuBLAS' is off, so that by default a fused layer would be compared in TF32
    with a loop in float32. In the end every setting is put back, also what a layer has changed.
    """
    before = Settings.read()
    torch.set_num_threads(threads)
    set_tf32(tf32)
    torch.backends.cudnn.benchmark = False
    for name in REDUCED:
        setattr(torch.backends.cuda.matmul, name, True)
    try:
        yield
    finally:
        before.restore()


def classify_exception(error: Exception) -> tuple[Verdict, str]:
    """The verdict and reason of an implementation's error.

    `unsupported` where its message says so, `not judged` where the machine is at fault, else `failed`. Raises
    `DeviceLost` where the GPU answers no more.
    """
    text = " ".join(str(error).split())[:300] or type(error).__name__
    lower = text.lower()
    if isinstance(error, SpoiledGradient):
        return Verdict.DIFFERENT, text
    if is_out_of_memory(error):
        return Verdict.NOT_JUDGED, f"out of memory: {text}"
    if device_is_lost(error):
        raise DeviceLost(f"the device is lost: {text}") from error
    if refused_by_system(error):
        return Verdict.NOT_JUDGED, f"the machine: {text}"
    if isinstance(error, ModuleNotFoundError):
        return Verdict.NOT_JUDGED, f"a library is missing: {text}"
    if isinstance(error, NotImplementedError) or any(phrase in lower for phrase in _UNSUPPORTED):
        return Verdict.UNSUPPORTED, text
    if _of_gpu(error) and any(phrase in lower for phrase in _MACHINE):
        return Verdict.NOT_JUDGED, f"the machine: {text}"
    return Verdict.FAILED, f"{type(error).__name__}: {text}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no room for a tensor."""
    lower = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(phrase in lower for phrase in _OUT_OF_MEMORY)


_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
}


def refused_by_system(error: BaseException | None) -> bool:
    """Whether the system took no file or gave no room, here or where the error came from: no fault of a layer."""
    if error is None:
        return False
    told = {int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))}  # by a process of the compiler
    own = {error.errno} if isinstance(error, OSError) else set()
    return bool(_REFUSED & (told | own)) or refused_by_system(error.__cause__ or error.__context__)


def device_is_lost(error: Exception) -> bool:
    """Whether the GPU answers no more after an error of its own; one that nobody has used is not asked."""
    if not _of_gpu(error) or isinstance(error, torch.OutOfMemoryError):
        return False
    if any(phrase in str(error).lower() for phrase in _LOST):
        return True
    try:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _of_gpu(error: Exception) -> bool:
    return isinstance(error, torch.AcceleratorError) or any(name in str(error).lower() for name in _GPU)
