"""What a case costs beside time: the operations its shape demands; the memory and the operators a call takes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Costs:
    """What one call takes of the machine beside time; the same in every run.

    Attributes:
        peak_memory_bytes: the most memory that tensors made inside it hold at one time, its result included.
        operator_calls: how many ATen operators it runs.
        saved_bytes: what it makes and keeps for a backward pass; not counted: its arguments and parameters.
    """

    peak_memory_bytes: int
    operator_calls: int
    saved_bytes: int


def measure_costs(prepare: Callable[[], Any], call: Callable[[Any], Any], device: str) -> Costs:
    """Run `call` on what `prepare` makes, twice, the second time watching what is saved."""
    prepared = prepare()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    with OperatorMeter() as meter:
        result = call(prepared)
        del result
    if device == "cuda":
        torch.cuda.synchronize()
        peak_bytes = torch.cuda.max_memory_allocated() - before
    else:
        peak_bytes = meter.peak_bytes
    prepared = prepare()
    return Costs(peak_bytes, meter.operator_calls, _saved_bytes(lambda: call(prepared)))


def _saved_bytes(call: Callable[[], Any]) -> int:
    saved: dict[int, torch.UntypedStorage] = {}  # alive, so that no other storage takes its place

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata in meter.made:
            saved[storage._cdata] = storage
        return tensor.detach()  # a result that its own node held would never be freed

    with OperatorMeter() as meter, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()
        del result
    return sum(storage.nbytes() for storage in saved.values())


class OperatorMeter(LightDispatchMode):
    """Counts the operators that run inside the `with`, and the bytes of every tensor storage that they make.

    Exact and the same in every run; scratch memory inside one operator is not seen.

    Attributes:
        operator_calls: how many ran. held_bytes: what is held now of what they made. peak_bytes: the most that was held
            at one time. made: the identities of all that they made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operator_calls = self.held_bytes = self.peak_bytes = 0
        self.made: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run the operator; a storage of its results that is none of its arguments' is new."""
        self.operator_calls += 1
        given = {storage._cdata for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in given:
                given.add(storage._cdata)
                self.made.add(storage._cdata)
                self._change(storage.nbytes())
                weakref.finalize(storage, self._change, -storage.nbytes())
        return result

    def _change(self, change_bytes: int) -> None:
        self.held_bytes += change_bytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)


def _storages(tree: object) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
