"""What else the machine did is what the system says, less what this process did itself."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from rnn_parity.timing import conditions as disturbance
from rnn_parity.timing.conditions import Watch, gpu_state


def work(seconds):
    """Keep this process busy for so many of its own CPU seconds."""
    end = sum(disturbance.os.times()[:2]) + seconds
    while sum(disturbance.os.times()[:2]) < end:
        sum(range(1000))


def test_another_process_is_seen_and_this_one_is_not_another():
    burner = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        burner.stdout.readline()
        watch = Watch("cpu")
        work(0.5)
        with_burner = watch.report()
    finally:
        burner.kill()
        burner.communicate()
    assert with_burner["other_busy_cores"] > 0.3  # half a core at the least, on however few
    assert with_burner["started_at"] < with_burner["ended_at"]


@pytest.mark.parametrize(("busy_ticks", "own_s", "others"), [(300, 1.0, 1.0), (100, 1.0, 0.0), (50, 1.0, 0.0)])
def test_cores_kept_busy_by_others(monkeypatch, tmp_path, busy_ticks, own_s, others):
    stat = tmp_path / "stat"
    clock = {"now": 100.0, "own": 7.0}
    monkeypatch.setattr(disturbance, "_STAT", stat)
    monkeypatch.setattr(disturbance.os, "sysconf", lambda _: 100)
    monkeypatch.setattr(disturbance.os, "times", lambda: SimpleNamespace(user=clock["own"], system=0.0))
    monkeypatch.setattr(disturbance.time, "monotonic", lambda: clock["now"])
    stat.write_text("cpu 10 10 10 5000 77 10 10 10 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    watch = Watch("cpu")
    clock |= {"now": 102.0, "own": 7.0 + own_s}
    stat.write_text(f"cpu {10 + busy_ticks} 10 10 9000 99 10 10 10 0 0\n")
    assert watch.report()["other_busy_cores"] == pytest.approx(others)


def test_a_system_that_does_not_say_leaves_it_open(monkeypatch, tmp_path):
    monkeypatch.setattr(disturbance, "_STAT", tmp_path / "missing")
    assert Watch("cpu").report()["other_busy_cores"] is None


class NVMLError(Exception):
    """As that of pynvml."""


def refuse(*_):
    raise NVMLError


@pytest.fixture
def nvml(monkeypatch):
    """A library and a GPU that are not there."""
    library = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetCurrentClocksEventReasons=lambda device: 0x1 | 0x4 | 0x20,
        nvmlDeviceGetClockInfo=lambda device, kind: {("GPU-abc", 1): 1980}[device, kind],
        nvmlDeviceGetTemperature=lambda device, kind: 61,
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="abc"))
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


STATE = {"sm_clock_mhz": 1980, "temperature_c": 61, "clock_limits": "power cap, thermal slowdown"}


def test_the_state_of_a_gpu_is_read_where_the_library_is(monkeypatch, nvml):
    assert gpu_state() == STATE
    assert STATE.items() <= Watch("cuda").report().items()
    assert not STATE.keys() & Watch("cpu").report().keys()
    nvml.nvmlDeviceGetHandleByUUID = refuse
    assert gpu_state() == {}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace())  # an old torch
    assert gpu_state() == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert gpu_state() == {}


def test_an_old_library_has_the_clock_limits_under_an_older_name(nvml):
    nvml.nvmlDeviceGetCurrentClocksThrottleReasons = nvml.nvmlDeviceGetCurrentClocksEventReasons
    del nvml.nvmlDeviceGetCurrentClocksEventReasons
    assert gpu_state() == STATE


@pytest.mark.parametrize(
    ("read", "column"),
    [
        ("nvmlDeviceGetClockInfo", "sm_clock_mhz"),
        ("nvmlDeviceGetTemperature", "temperature_c"),
        ("nvmlDeviceGetCurrentClocksEventReasons", "clock_limits"),
    ],
)
def test_what_cannot_be_read_leaves_the_rest(nvml, read, column):
    rest = {name: value for name, value in STATE.items() if name != column}
    setattr(nvml, read, refuse)
    assert gpu_state() == rest
    delattr(nvml, read)
    assert gpu_state() == rest
