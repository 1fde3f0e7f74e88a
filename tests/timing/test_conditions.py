"""What else the machine did is what the system says, less what this process did itself."""

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from rnn_parity.timing import conditions
from rnn_parity.timing.conditions import Watch, clock_limits, other_processes, sm_clock_mhz


def work(seconds):
    """Keep this process busy for so many of its own CPU seconds."""
    end = sum(conditions.os.times()[:2]) + seconds
    while sum(conditions.os.times()[:2]) < end:
        sum(range(1000))


def test_another_process_is_seen_and_this_one_is_not_another():
    burner = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        burner.stdout.readline()
        watch = Watch("cpu")
        work(0.5)
        with_burner = watch.met()
    finally:
        burner.kill()
        burner.communicate()
    assert with_burner["other_busy_cores"] > 0.3  # half a core at the least, on however few
    assert with_burner["started_at"] < with_burner["ended_at"]


BLOCKS_OF_40_MB = """
import ctypes
from rnn_parity.timing.conditions import count_page_faults, keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def faults(turns):
    at = count_page_faults()
    for _ in range(turns):
        blocks = [libc.malloc(1_000_000) for _ in range(40)]
        for block in reversed(blocks):
            libc.memset(ctypes.c_void_p(block), 1, 1_000_000)
            libc.free(ctypes.c_void_p(block))
    return (count_page_faults() - at) / turns

faults(3), print(faults(10))
keep_freed_memory()
faults(3), print(faults(10))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is asked")
def test_freed_memory_is_kept_where_it_was_given_back_and_asked_for_again():
    tunables = {name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    plain = {name: value for name, value in os.environ.items() if name not in tunables}
    said = subprocess.check_output([sys.executable, "-c", BLOCKS_OF_40_MB], env=plain, text=True)
    before, after = map(float, said.split())
    assert before > 5000
    assert after < 100


@pytest.mark.parametrize(("busy_s", "own_s", "others"), [(3.0, 1.0, 1.0), (1.0, 1.0, 0.0), (0.5, 1.0, 0.0)])
def test_cores_kept_busy_by_others(monkeypatch, busy_s, own_s, others):
    clock = {"now": 100.0, "own": 7.0, "busy": 40.0}
    idle = {"idle": 5000, "iowait": 77}
    ticks_per_s = os.sysconf("SC_CLK_TCK")

    def stat(**_):  # user nice system idle iowait irq softirq steal guest guest_nice, the last two in user already
        user = round(clock["busy"] * ticks_per_s)
        return f"cpu  {user} 1 2 {idle['idle']} {idle['iowait']} 0 0 0 {user} 0\ncpu0 {user} 0 0\n"

    monkeypatch.setattr(conditions, "Path", lambda name: SimpleNamespace(read_text=stat))
    monkeypatch.setattr(conditions.os, "times", lambda: SimpleNamespace(user=clock["own"], system=0.0))
    monkeypatch.setattr(conditions.time, "monotonic", lambda: clock["now"])
    watch = Watch("cpu")
    clock |= {"now": 102.0, "own": 7.0 + own_s, "busy": 40.0 + busy_s}
    idle |= {"idle": 9000, "iowait": 99}
    assert watch.met()["other_busy_cores"] == pytest.approx(others)


class NVMLError(Exception):
    """As that of pynvml."""


def refuse(*_):
    raise NVMLError


@pytest.fixture
def nvml(monkeypatch):
    """A library and a GPU that are not there."""
    conditions._nvml.cache_clear()
    library = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetCurrentClocksEventReasons=lambda device: {"GPU-abc": 0x1 | 0x4 | 0x20}[device],
        nvmlDeviceGetClockInfo=lambda device, which: {("GPU-abc", 1): 1980}[device, which],
        nvmlDeviceGetComputeRunningProcesses=lambda device: {"GPU-abc": ["this one"]}[device],
        NVML_CLOCK_SM=1,
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="abc"))
    monkeypatch.setitem(sys.modules, "pynvml", library)
    yield library
    conditions._nvml.cache_clear()


LIMITS = "power cap, thermal slowdown"


def test_what_holds_a_gpu_back_is_read_where_the_library_is(monkeypatch, nvml):
    assert clock_limits() == LIMITS
    assert Watch("cuda").met()["clock_limits"] == LIMITS
    assert "clock_limits" not in Watch("cpu").met()
    assert sm_clock_mhz() == 1980
    conditions._nvml.cache_clear()
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert clock_limits() is None
    assert sm_clock_mhz() is None
    assert Watch("cuda").met()["other_gpu_processes"] is None


def test_who_else_computes_on_the_gpu_is_counted_before_and_after(nvml):
    assert Watch("cuda").met()["other_gpu_processes"] == 0
    running = [["this one", "another"], ["this one"], ["this one"], ["this one", "another", "a third"], []]
    nvml.nvmlDeviceGetComputeRunningProcesses = lambda _: running.pop(0)
    assert Watch("cuda").met()["other_gpu_processes"] == 1  # it has ended meanwhile
    assert Watch("cuda").met()["other_gpu_processes"] == 2  # they have come meanwhile
    assert other_processes() == 0  # a container may hide every process
    assert "other_gpu_processes" not in Watch("cpu").met()


def test_of_a_slice_of_a_gpu_the_clock_is_that_of_the_whole_and_the_processes_are_its_own(nvml):
    def handle(uuid):
        return uuid if uuid == "MIG-abc" else refuse()

    nvml.nvmlDeviceGetHandleByUUID = handle
    nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle = {"MIG-abc": "GPU-abc"}.get
    nvml.nvmlDeviceGetComputeRunningProcesses = {"MIG-abc": ["this one", "another"]}.get
    assert sm_clock_mhz() == 1980
    assert clock_limits() == LIMITS
    assert other_processes() == 1


@pytest.mark.parametrize("read", ["nvmlDeviceGetHandleByUUID", "nvmlDeviceGetCurrentClocksEventReasons"])
def test_a_gpu_that_does_not_say_leaves_it_open(nvml, read):
    setattr(nvml, read, refuse)
    assert clock_limits() is None
    delattr(nvml, read)
    assert clock_limits() is None
