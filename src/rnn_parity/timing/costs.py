"""What a call takes of the machine beside time: memory, operators, kernels. The same in every run."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from rnn_parity.layers.running import LightDispatchMode

WARM_UPS = 3
"""A compiled layer compiles in its first call, and may record a CUDA graph in its second."""


_PATHS = {
    "_cudnn_rnn": "cuDNN",
    "miopen_rnn": "MIOpen",
    "mkldnn_rnn_layer": "oneDNN",
    "_thnn_fused_": "PyTorch's fused cells",
}
"""The operators of layers that are one call, by how their names begin."""

_REQUESTED = "requested_bytes.all"
"""What was asked of PyTorch's allocator; what it hands out is rounded up. Another allocator may not count it."""

_COPIED = "not part of single contiguous chunk"
"""PyTorch's words for weights that cuDNN copies together at every call, as those of `nn.GRU` in bfloat16."""


def measure_costs(prepare: Callable[[], Any], call: Callable[[Any], Any], device: str) -> dict[str, Any]:
    """Run `call` on what `prepare` makes, and count its memory and its operators: columns of the timing table.

    `peak_memory_bytes`: the most memory that is held at one time during the call above what was there before `prepare`,
    on either device: its result and temporaries, and in `backward` also what the forward pass keeps for it.
    `operator_calls`: how many ATen operators it runs. `path`: the library whose layer is among them, empty for none.
    """
    prepare()  # what the last call left, its gradients, is no part of this one
    before = torch.cuda.memory_stats().get(f"{_REQUESTED}.current", 0) if device == "cuda" else 0
    with OperatorMeter() as meter, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        prepared = prepare()
        meter.restart()
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        call(prepared)
    peak_bytes: int | None = meter.peak_bytes
    if device == "cuda":
        torch.cuda.synchronize()
        peak_bytes = torch.cuda.memory_stats().get(f"{_REQUESTED}.peak", 0) - before or None
    path = sorted({words for name in meter.names for start, words in _PATHS.items() if name.startswith(start)})
    copied = any(_COPIED in str(warning.message) for warning in warned)
    return {
        "peak_memory_bytes": peak_bytes,
        "operator_calls": meter.operator_calls,
        "path": ", ".join(path + ["weights copied at every call"] * copied),
    }


def measure_kernels(prepare: Callable[[], Any], call: Callable[[Any], Any]) -> dict[str, float | None]:
    """What one warm call runs on the GPU: columns of the timing table.

    `kernel_launches`: its kernels, copies and fills aside. `device_busy_s`: how long the GPU did something, gaps left
    out, and work side by side counted once. None where the profiler sees nothing. It stays attached to the process
    (pytorch#144455) and slows its every launch: time nothing after this.
    """
    for _ in range(WARM_UPS):
        call(prepare())
    prepared = prepare()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call(prepared)
        torch.cuda.synchronize()
    on_device = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    busy_us, until_us = 0.0, 0.0
    for start_us, end_us in sorted((event.time_range.start, event.time_range.end) for event in on_device):
        busy_us += max(0.0, end_us - max(start_us, until_us))
        until_us = max(until_us, end_us)
    kernels = sum(not event.name.startswith(("Memcpy", "Memset")) for event in on_device)
    return {"kernel_launches": kernels or None, "device_busy_s": busy_us * 1e-6 or None}


class OperatorMeter(LightDispatchMode):
    """Counts the operators that run inside the `with`, and the bytes of every tensor storage that they make.

    `held_bytes` of them are held now, `peak_bytes` were held at one time at most. Exact and the same in every run;
    scratch memory inside one operator is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operator_calls = self.held_bytes = self.peak_bytes = 0
        self.names: set[str] = set()

    def restart(self) -> None:
        """Count operators and the peak from here on; what is held stays held, and the names of operators too."""
        self.operator_calls, self.peak_bytes = 0, self.held_bytes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run the operator; a storage of its results that is none of its arguments' is new."""
        self.operator_calls += 1
        self.names.add(func._schema.name.removeprefix("aten::"))
        given = {storage._cdata for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in given:
                given.add(storage._cdata)
                self._change(storage.nbytes())
                weakref.finalize(storage, self._change, -storage.nbytes())
        return result

    def _change(self, change_bytes: int) -> None:
        self.held_bytes += change_bytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)


def _storages(tree: object) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
