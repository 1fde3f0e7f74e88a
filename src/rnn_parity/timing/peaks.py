"""The rates that this machine really reaches, in matrix products and in copies: what a time is held against."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from rnn_parity.layers.running import numerics

_GEMM_SIZES = {"cpu": (256, 512, 1024), "cuda": (4096, 8192)}  # the best size is one that the caches like
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**31}
_SAMPLE_S = {"cpu": 2e-4, "cuda": 2e-3}  # long beside the clock's resolution and a synchronisation
_SAMPLES = 10


def measure_peaks(device: str, dtype: str, tf32: bool, threads: int) -> dict[str, float]:
    """The best rate of square matrix products (FLOP/s), and that of copies (bytes read and written per second).

    On a GPU they take no more than a quarter of the memory that is free, but for the smallest product.
    """
    kind = getattr(torch, dtype)
    most_bytes = torch.cuda.mem_get_info()[0] / 4 if device == "cuda" else math.inf
    smallest, *larger = _GEMM_SIZES[device]
    sizes = [smallest, *(size for size in larger if 3 * size**2 * kind.itemsize <= most_bytes)]
    with numerics(threads, tf32):
        copy = measure_copy(int(min(_COPY_BYTES[device], most_bytes / 2)), device, kind, enough_s=0.5)
        gemm = max(measure_gemm(size, size, size, device, dtype, enough_s=0.5) for size in sizes)
    return {"gemm_flops_per_s": gemm, "copy_bytes_per_s": copy}


def measure_copy(size_bytes: int, device: str, dtype: torch.dtype = torch.float32, enough_s: float = 0.05) -> float:
    """The best rate, in bytes read and written per second, of a copy of so many bytes that is repeated."""
    source = torch.zeros(max(1, size_bytes // dtype.itemsize), dtype=dtype, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best_s(lambda: target.copy_(source), device, enough_s)


def measure_gemm(m: int, k: int, n: int, device: str, dtype: str, enough_s: float = 0.05) -> float:
    """The best rate, in FLOP/s, of a product (m, k) · (n, k)ᵀ that is repeated with the same factors.

    For about `enough_s` seconds, with the threads and numeric settings that are in force.
    """
    kind = getattr(torch, dtype)
    a, b = torch.randn(m, k).to(device, kind), torch.randn(n, k).to(device, kind)
    return 2 * m * k * n / _best_s(lambda: torch.nn.functional.linear(a, b), device, enough_s)


@torch.no_grad()
def _best_s(run: Callable[[], Any], device: str, enough_s: float) -> float:
    """Seconds of one call in the best of a few samples; fewer where one is long already.

    On a GPU the calls of a sample are one CUDA graph: launched one by one, short calls would wait for their launch.
    """

    def seconds(work: Callable[[], Any]) -> float:
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds(run)
    best_s = seconds(run)
    calls = max(1, int(_SAMPLE_S[device] / best_s))

    def several() -> None:
        for _ in range(calls):
            run()

    sample = _as_graph(several) if device == "cuda" and calls > 1 else several
    for _ in range(min(_SAMPLES, int(enough_s / (calls * best_s)))):
        best_s = min(best_s, seconds(sample) / calls)
    return best_s


def _as_graph(work: Callable[[], Any]) -> Callable[[], Any]:
    """The same work as one launch, or as it is where it cannot be recorded."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            work()
    except RuntimeError:
        return work
    return graph.replay
