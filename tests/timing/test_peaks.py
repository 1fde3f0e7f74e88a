"""A rate is operations over seconds, in the settings that were asked for."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from rnn_parity.timing import peaks


def test_a_rate_is_that_of_the_fastest_call(monkeypatch):
    monkeypatch.setattr(peaks, "_GEMM_SIZES", {"cpu": (10, 100)})
    monkeypatch.setattr(peaks, "_COPY_BYTES", {"cpu": 4000})
    ran = []
    seconds = iter([0.5, 0.002, 0.004])

    def best_s(run, device, enough_s):
        ran.append((run().shape, torch.get_num_threads(), torch.get_float32_matmul_precision()))
        return next(seconds)

    monkeypatch.setattr(peaks, "_best_s", best_s)
    found = peaks.measure_peaks("cpu", "float32", True, 2)
    fastest = 2 * 100**3 / 0.004  # not 2 * 10**3 / 0.002
    assert found == {"copy_bytes_per_s": 2 * 4000 / 0.5, "gemm_flops_per_s": fastest}
    assert ran == [((1000,), 2, "high"), ((10, 10), 2, "high"), ((100, 100), 2, "high")]


@pytest.mark.parametrize(("free_gib", "copied_gib", "sizes"), [(78, 2, [4096, 8192]), (4, 0.5, [4096])])
def test_on_a_gpu_the_peaks_take_a_part_of_what_is_free(monkeypatch, free_gib, copied_gib, sizes):
    taken = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_gib * 2**30, 80 * 2**30))
    monkeypatch.setattr(peaks, "measure_copy", lambda size_bytes, *_, **__: taken.append(size_bytes / 2**30) or 1.0)
    monkeypatch.setattr(peaks, "measure_gemm", lambda m, *_, **__: taken.append(m) or 1.0)
    peaks.measure_peaks("cuda", "float64", False, 1)
    assert taken == [copied_gib, *sizes]


def test_the_product_of_one_step_has_its_own_rate(monkeypatch):
    shapes = []
    monkeypatch.setattr(peaks, "_best_s", lambda run, *_: shapes.append((run().shape, run().dtype)) or 2.0)
    assert peaks.measure_gemm(7, 10, 30, "cpu", "bfloat16") == 7 * 10 * 30
    assert shapes == [((7, 30), torch.bfloat16)]


@pytest.mark.parametrize("recorded", [True, False])
def test_on_a_gpu_short_calls_are_one_graph_and_no_launches(monkeypatch, recorded):
    """A launch of 10 µs hides a call of 2; where nothing can be recorded, the launches are timed."""
    now, graph = [0.0], SimpleNamespace(calls=0)
    replays = []

    def run():
        if capturing[0]:
            graph.calls += 1
        else:
            now[0] += 10e-6

    def replay():
        replays.append(graph.calls)
        now[0] += 2e-6 * graph.calls

    capturing = [False]

    @contextmanager
    def capture(given):
        assert given is graph
        if not recorded:
            raise RuntimeError("operation not permitted when stream is capturing")
        capturing[0] = True
        yield
        capturing[0] = False

    graph.replay = replay
    monkeypatch.setattr(peaks.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    assert peaks._best_s(run, "cuda", enough_s=1.0) == pytest.approx(2e-6 if recorded else 10e-6)
    assert (len(replays) > 1) == recorded


@pytest.mark.parametrize(("call_s", "calls"), [(1e-6, 200), (1e-2, 1)])
def test_short_calls_are_timed_many_together(monkeypatch, call_s, calls):
    now, done, samples = [0.0], [0], []

    def run():
        now[0] += call_s
        done[0] += 1

    def clock():
        samples.append(done[0])
        return now[0]

    monkeypatch.setattr(peaks.time, "perf_counter", clock)
    assert peaks._best_s(run, "cpu", enough_s=1.0) == pytest.approx(call_s)
    assert samples[5] - samples[4] == pytest.approx(calls, abs=1)
