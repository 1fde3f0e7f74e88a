"""What a call takes of the machine beside time: memory, operators, kernels. The same in every run."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from rnn_parity.layers.running import LightDispatchMode


@dataclass(frozen=True)
class Costs:
    """What one call takes.

    Attributes:
        peak_memory_bytes: the most memory that is held at one time during it above what was there before `prepare`, on
            either device: its result and temporaries, and in `backward` also what the forward pass keeps for it.
        operator_calls: how many ATen operators it runs.
    """

    peak_memory_bytes: int
    operator_calls: int


def measure_costs(prepare: Callable[[], Any], call: Callable[[Any], Any], device: str) -> Costs:
    """Run `call` on what `prepare` makes, and count its memory and its operators."""
    prepare()  # what the last call left, its gradients, is no part of this one
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    with OperatorMeter() as meter:
        prepared = prepare()
        meter.restart()
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        result = call(prepared)
        del result
    if device == "cuda":
        torch.cuda.synchronize()
        peak_bytes = torch.cuda.max_memory_allocated() - before
    else:
        peak_bytes = meter.peak_bytes
    return Costs(peak_bytes, meter.operator_calls)


def kernel_launches(prepare: Callable[[], Any], call: Callable[[Any], Any]) -> int | None:
    """The kernels that one call runs on the GPU, copies and fills aside; None where the profiler sees none.

    The profiler stays attached to the process (pytorch#144455) and slows its every launch: time nothing after this.
    """
    prepared = prepare()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        result = call(prepared)
        torch.cuda.synchronize()
        del result
    on_device = [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return sum(not name.startswith(("Memcpy", "Memset")) for name in on_device) or None


class OperatorMeter(LightDispatchMode):
    """Counts the operators that run inside the `with`, and the bytes of every tensor storage that they make.

    Exact and the same in every run; scratch memory inside one operator is not seen.

    Attributes:
        operator_calls: how many ran. held_bytes: what is held now of what they made. peak_bytes: the most that was held
            at one time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operator_calls = self.held_bytes = self.peak_bytes = 0

    def restart(self) -> None:
        """Count operators and the peak from here on; what is held stays held."""
        self.operator_calls, self.peak_bytes = 0, self.held_bytes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run the operator; a storage of its results that is none of its arguments' is new."""
        self.operator_calls += 1
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
