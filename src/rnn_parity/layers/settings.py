"""Settings of the process that a layer may change for everyone: read, told in words, and put back.

PyTorch has two generations of switches for the precision of float32. The older getters raise where the two disagree,
and the newer ones show what a place inherits in place of what it holds; here both are read and written without either.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import isfunction
from typing import Any, cast

import torch
from torch import _C, _VF, nn

PRECISIONS = {
    "torch.backends.fp32_precision": ("generic", "all"),
    "torch.backends.cudnn.fp32_precision": ("cuda", "all"),
    "torch.backends.mkldnn.fp32_precision": ("mkldnn", "all"),
    "torch.backends.cuda.matmul.fp32_precision": ("cuda", "matmul"),
    "torch.backends.cudnn.conv.fp32_precision": ("cuda", "conv"),
    "torch.backends.cudnn.rnn.fp32_precision": ("cuda", "rnn"),
    "torch.backends.mkldnn.matmul.fp32_precision": ("mkldnn", "matmul"),
    "torch.backends.mkldnn.conv.fp32_precision": ("mkldnn", "conv"),
    "torch.backends.mkldnn.rnn.fp32_precision": ("mkldnn", "rnn"),
}
"""The newer switches, as backend and operation; those that others inherit from come first."""

_CUDNN, _MATMUL = "torch.backends.cudnn.allow_tf32", "torch.get_float32_matmul_precision()"
_WRITES = {
    _CUDNN: ("torch.backends.cudnn.conv.fp32_precision", "torch.backends.cudnn.rnn.fp32_precision"),
    _MATMUL: ("torch.backends.cuda.matmul.fp32_precision", "torch.backends.mkldnn.matmul.fp32_precision"),
}
"""The older switches, each with the newer ones that it writes too."""

_OF_TENSORS = ("bernoulli", "chunk", "matmul", "mm", "sigmoid", "split", "tanh")

REDUCED = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
"""Whether cuBLAS may add up products of halves in halves, as PyTorch allows it by default."""

REPLACEABLE: dict[str, tuple[Any, Sequence[str]]] = {
    "torch": (torch, ("gru", "gru_cell", "lstm", "lstm_cell", *_OF_TENSORS)),
    "torch._VF": (_VF, ("gru", "gru_cell", "lstm", "lstm_cell")),
    "torch.Tensor": (torch.Tensor, ("__add__", "__matmul__", "__mul__", "__sub__", "unbind", *_OF_TENSORS)),
    "torch.nn.functional": (nn.functional, ("dropout", "linear", "sigmoid", "tanh")),
    "torch.nn.Module": (nn.Module, ("__call__", "__getattr__", "_call_impl", "_wrapped_call_impl")),
} | {
    f"torch.nn.{kind.__name__}": (kind, [name for name, value in vars(kind).items() if isfunction(value)])
    for kind in (nn.GRU, nn.GRUCell, nn.LSTM, nn.LSTMCell, nn.RNNBase, nn.RNNCellBase, nn.Dropout, nn.Linear)
}
"""The functions that recurrent layers run on. A layer that replaces one for itself replaces it for all others too."""

_DENORMAL = 1e-310


def _flushes_denormals() -> bool:
    """Whether numbers next to zero are zero, which no function of PyTorch tells."""
    return _DENORMAL * 1.0 == 0


OTHERS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch.get_num_threads()": (torch.get_num_threads, torch.set_num_threads),
    "torch.get_default_dtype()": (torch.get_default_dtype, torch.set_default_dtype),
    "torch.get_default_device()": (
        torch.get_default_device,
        # None is the CPU too, without a mode that watches every call.
        lambda device: torch.set_default_device(None if device.type == "cpu" else device),
    ),
    "torch.is_grad_enabled()": (torch.is_grad_enabled, _C._set_grad_enabled),
    "torch.is_anomaly_enabled()": (
        torch.is_anomaly_enabled,
        lambda on: torch.set_anomaly_enabled(on, torch.is_anomaly_check_nan_enabled()),
    ),
    "torch.are_deterministic_algorithms_enabled()": (
        torch.are_deterministic_algorithms_enabled,
        lambda on: torch.use_deterministic_algorithms(
            on, warn_only=torch.is_deterministic_algorithms_warn_only_enabled()
        ),
    ),
    "torch.is_deterministic_algorithms_warn_only_enabled()": (
        torch.is_deterministic_algorithms_warn_only_enabled,
        lambda on: torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled(), warn_only=on),
    ),
    "torch.set_flush_denormal()": (_flushes_denormals, torch.set_flush_denormal),
    "gc.isenabled()": (gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    "torch.backends.cudnn.enabled": (_C._get_cudnn_enabled, _C._set_cudnn_enabled),
    "torch.backends.cudnn.benchmark": (_C._get_cudnn_benchmark, _C._set_cudnn_benchmark),
    "torch.backends.cudnn.deterministic": (_C._get_cudnn_deterministic, _C._set_cudnn_deterministic),
    "torch.backends.mkldnn.enabled": (_C._get_mkldnn_enabled, _C._set_mkldnn_enabled),
} | {
    f"torch.backends.cuda.matmul.{name}": (
        partial(getattr, torch.backends.cuda.matmul, name),
        cast("Callable[[Any], Any]", partial(setattr, torch.backends.cuda.matmul, name)),
    )
    for name in REDUCED
}
OTHERS |= {
    f"{place}.{name}": (partial(getattr, owner, name), partial(setattr, owner, name))
    for place, (owner, names) in REPLACEABLE.items()
    for name in names
    if hasattr(owner, name)
}
OTHERS |= {
    f"torch.{what}('{device}')": (partial(read, device), partial(write, device))
    for device in ("cpu", "cuda")
    for what, read, write in (
        ("is_autocast_enabled", torch.is_autocast_enabled, torch.set_autocast_enabled),
        ("get_autocast_dtype", torch.get_autocast_dtype, torch.set_autocast_dtype),
    )
} | {
    f"time.{name}": (partial(getattr, time, name), partial(setattr, time, name))
    for name in ("time", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time", "thread_time")
}
"""Every other setting, and the clocks: how it is read, and how it is written."""


@dataclass(frozen=True)
class Settings:
    """The value of every setting, under the name by which a reader finds it in PyTorch's documentation."""

    values: Mapping[str, Any]

    @classmethod
    def read(cls) -> Settings:
        """Read them all, in some microseconds."""
        return cls(_read_precisions() | {name: read() for name, (read, _) in OTHERS.items()})

    def restore(self) -> None:
        """Make all of them what they were; what has not changed is not touched."""
        now = Settings.read()
        changed = [name for name, value in self.values.items() if now.values[name] != value]
        if not set(changed) <= OTHERS.keys():
            _write_precisions(self.values)
        for name in changed:
            if name in OTHERS:
                OTHERS[name][1](self.values[name])

    def changed_since(self, before: Settings) -> dict[str, Any]:
        """Name and present value of each that has changed; of two generations of one switch, the one that was used."""
        changed = {name: value for name, value in self.values.items() if value != before.values[name]}
        implied = {newer for older, both in _WRITES.items() if older in changed for newer in both}
        return {name: value for name, value in changed.items() if name not in implied}


def set_tf32(tf32: bool) -> None:
    """Switch TF32 on or off, for products and for cuDNN, as the older switches do, so that both generations agree."""
    for place in PRECISIONS.values():
        _C._set_fp32_precision_setter(*place, "none")
    _C._set_cudnn_allow_tf32(tf32)
    _C._set_float32_matmul_precision("high" if tf32 else "highest")


_CHANGED: dict[str, dict[str, Any]] = {}
"""What each layer, or the module it is imported from, was seen to change."""


@contextmanager
def put_back(name: str) -> Iterator[None]:
    """Run what belongs to the layer, or the module, `name`: what it changes is put back and remembered."""
    before = Settings.read()
    try:
        yield
    finally:
        undo(before, name)


def undo(before: Settings, name: str) -> None:
    """Put back what has changed since, by the layer or the module `name`, and remember it."""
    if changed := Settings.read().changed_since(before):
        before.restore()
        _CHANGED.setdefault(name, {}).update(changed)


def note(name: str, setting: str, value: Any) -> None:
    """Remember that the layer `name` changed a setting that a block around its call puts back."""
    _CHANGED.setdefault(name, {})[setting] = value


def settings_changed_by(name: str) -> str:
    """`a to 1, b to 'x'`: the settings that a layer was seen to change when it was imported, built or called."""
    changed = _CHANGED.get(name.partition(":")[0], {}) | _CHANGED.get(name, {})
    words = {setting: getattr(value, "__qualname__", repr(value)) for setting, value in changed.items()}
    return ", ".join(f"{setting} to {value}" for setting, value in words.items())


def forget(name: str) -> None:
    """Nothing is told of the layer `name` any more: it is another's now."""
    _CHANGED.pop(name, None)


def _read_precisions() -> dict[str, Any]:
    """What every place holds by itself: those that it inherits from, or must agree with, are taken down meanwhile."""
    get, put, held = _C._get_fp32_precision_getter, _C._set_fp32_precision_setter, {}
    try:
        for name, place in PRECISIONS.items():
            held[name] = get(*place)
            if place[1] in ("all", "matmul"):
                put(*place, "none")
        return held | {_CUDNN: _read_cudnn(), _MATMUL: _C._get_float32_matmul_precision()}
    finally:
        for name, value in held.items():
            put(*PRECISIONS[name], value)


def _read_cudnn() -> bool:
    try:
        return _C._get_cudnn_allow_tf32()
    except RuntimeError:  # it disagrees with the newer ones, or they with each other
        for name in _WRITES[_CUDNN]:
            _C._set_fp32_precision_setter(*PRECISIONS[name], "tf32")
    try:
        return _C._get_cudnn_allow_tf32()
    except RuntimeError:
        return False


def _write_precisions(values: Mapping[str, Any]) -> None:
    _C._set_cudnn_allow_tf32(values[_CUDNN])  # the older ones first: they write the newer ones
    _C._set_float32_matmul_precision(values[_MATMUL])
    for name, place in PRECISIONS.items():
        _C._set_fp32_precision_setter(*place, values[name])


@contextmanager
def switched(read: Callable[[], Any], write: Callable[[Any], Any], value: Any) -> Iterator[None]:
    """A `with` in which a setting has another value."""
    own = read()
    write(value)
    try:
        yield
    finally:
        write(own)
