"""What a case costs: the operations its shape demands, and the memory a call takes at its peak."""

from __future__ import annotations

from collections.abc import Callable

import torch

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
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
        del result
    changes = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        held += change.nbytes()
        peak = max(peak, held)
    return peak
