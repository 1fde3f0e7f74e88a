"""What a case costs: the operations its shape demands, and the memory a call takes at its peak."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch.utils._pytree import tree_leaves

from rnn_parity.execution import LightDispatchMode
from rnn_parity.grid import Case

_TIMES_FORWARD = {"inference": 1, "forward": 1, "backward": 2, "step": 3}
"""A matrix product's backward is two of its size: one for the gradient of each factor."""


def matmul_flops(case: Case, phase: str) -> int:
    """Floating-point operations of the matrix products of one call: 2·T·B·3H·(I_l + H) per layer and forward."""
    widths = [case.input_size] + [case.hidden_size] * (case.num_layers - 1)
    columns = sum(width + case.hidden_size for width in widths)
    forward = 2 * case.sequence_length * case.batch_size * 3 * case.hidden_size * columns
    return _TIMES_FORWARD[phase] * forward


def peak_memory_bytes(call: Callable[[], object], device: str) -> int:
    """The most memory that tensors made inside `call` hold at one time, its result included."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = call()
        torch.cuda.synchronize()
        del result
        return torch.cuda.max_memory_allocated() - before
    with StorageMeter() as meter:
        result = call()
        del result
    return meter.peak_bytes


class StorageMeter(LightDispatchMode):
    """Counts the bytes of every tensor storage made inside the `with`, from its birth to its end.

    Exact and the same in every run; scratch memory inside one operator is not seen.

    Attributes:
        held_bytes: what is held now. peak_bytes: the most that was held at one time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held_bytes = self.peak_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run the operator; a storage of its results that is none of its arguments' is new."""
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
