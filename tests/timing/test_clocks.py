"""A sample on a GPU is flushed, synchronised and read from both clocks."""

import pytest
import torch

from rnn_parity.timing import clocks


def test_on_a_gpu_the_cache_is_flushed_and_both_clocks_wait_for_the_device(monkeypatch):
    """The order of calls, on a GPU that is not there."""
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append("event")

        def elapsed_time(self, end):
            log.append("elapsed")
            return 2.5  # milliseconds

    class Buffer:
        def zero_(self):
            log.append("flush")

    wall = iter([10.0, 10.004])

    def read_wall():
        log.append("wall")
        return next(wall)

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: type("Properties", (), {"L2_cache_size": 100}))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("synchronize"))
    monkeypatch.setattr(torch, "empty", lambda size, **_: log.append(size) or Buffer())
    monkeypatch.setattr(clocks, "perf_counter", read_wall)
    monkeypatch.setattr(clocks, "sm_clock_mhz", lambda: 1980)
    assert clocks.CudaClock().sm_mhz() == 1980
    log.clear()
    seconds, device_seconds, _ = clocks.CudaClock().time(lambda: log.append("run"))
    assert log == [200, "flush", "synchronize", "event", "wall", "run", "event", "synchronize", "wall", "elapsed"]
    assert (seconds, device_seconds) == (pytest.approx(0.004), 0.0025)
