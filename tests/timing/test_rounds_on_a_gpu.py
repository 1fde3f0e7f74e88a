"""What is done around the rounds on a GPU: profiles after the last sample, and no gap called beside others."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch

from rnn_parity.commands.jobs import run_job
from rnn_parity.compare.run import Role
from rnn_parity.experiment.grid import Case
from rnn_parity.layers import containment, preflight
from rnn_parity.layers.stepwise import StackingGRUCellLoop
from rnn_parity.layers.stimulus import build_loaded
from rnn_parity.tables import TIMING, read_table
from rnn_parity.timing import environment
from rnn_parity.timing import rounds as timing
from rnn_parity.timing.calls import Calls
from rnn_parity.timing.clocks import WallClock
from rnn_parity.timing.costs import measure_costs
from rnn_parity.timing.rounds import count_kernels, time_case
from rnn_parity.workloads import layer
from rnn_parity.workloads.layer import Layer

CASE = Case("test", "cpu", "float32", False, 3, 4, 2, 3, 2, 0.3, 1)
SETTINGS = {"precision": 0.5, "min_rounds": 4, "max_seconds": 0.05, "confidence": 0.95, "exclusive": True}
ON_CUDA = dataclasses.replace(CASE, device="cuda")


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that is not there: its cases are computed on the CPU. The list tells samples and profiles apart."""
    events, sample = [], timing._sample

    def build(case, name, stimulus):
        return build_loaded(dataclasses.replace(case, device="cpu"), name, stimulus)

    def spy_on_sample(*given):
        events.append("sample")
        sample(*given)

    def profiled(prepare, call):
        events.append("profile")
        return {"kernel_launches": 7, "device_busy_s": 1e-6}

    monkeypatch.setattr(layer, "build_loaded", build)
    monkeypatch.setattr(layer.LayerTask, "_on_device", property(lambda task: task.stimulus))
    monkeypatch.setattr(layer, "measure_gemm", lambda *_: 1.0)
    monkeypatch.setattr(timing.audits, "too_fast", lambda *_: "")
    monkeypatch.setattr(timing, "Watch", lambda _, watch=timing.Watch: watch("cpu"))
    monkeypatch.setattr(timing, "CudaClock", WallClock)
    monkeypatch.setattr(timing, "machine_of", lambda device: f"a machine with {device}")
    monkeypatch.setattr(environment, "describe_environment", lambda settings: {"peaks": settings})
    monkeypatch.setattr(timing, "measure_costs", lambda prepare, call, _: measure_costs(prepare, call, "cpu"))
    monkeypatch.setattr(timing, "_sample", spy_on_sample)
    monkeypatch.setattr(timing, "measure_kernels", profiled)
    return events


def test_nothing_is_profiled_before_the_last_sample_of_a_job(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, "preflight", lambda: {"why": None})
    monkeypatch.setattr(containment, "contained", lambda work, items, _: map(work, items))  # here, to be watched
    names = ["stacking_gru", "faults:Crash"]
    job = {**dataclasses.asdict(ON_CUDA), "sequence_length": [2, 3], "phases": ["inference", "step"], **SETTINGS}
    job |= {"baseline": "stacking_gru_cell", "candidates": names, "workload": "layer", "settings": {}}
    run_job("timing", json.dumps(job), "a/b", tmp_path)
    rows = read_table(tmp_path / "timing/a/b.parquet", TIMING).to_pylist()
    assert len(rows) == 2 * 2 * 3  # lengths, phases, layers
    for row in rows:
        assert row["machine"] == "a machine with cuda"
        assert row["kernel_launches"] == (None if row["implementation"] == "faults:Crash" else 7)
        assert (row["peak_memory_bytes"] is None) == (row["implementation"] == "faults:Crash")
    assert gpu == sorted(gpu, reverse=True)  # every sample before the first profile
    assert gpu.count("profile") == 8


def test_beside_another_process_on_the_gpu_no_gap_is_called(gpu, monkeypatch):
    def rows_beside(others):
        watch = SimpleNamespace(met=lambda: {"other_gpu_processes": others})
        monkeypatch.setattr(timing, "Watch", lambda _: watch)
        names = ["stacking_gru", "faults:Crash"]
        rows = time_case(Layer(), ON_CUDA, "stacking_gru_cell", names, phases=["inference"], **SETTINGS)
        return [(row["conclusion"], row["reason"]) for row in rows]

    assert [conclusion for conclusion, _ in rows_beside(2)] == ["baseline", "disturbed", "failed"]
    assert rows_beside(2)[1][1] == "another process computed on the GPU"
    assert rows_beside(0)[1][1] != "another process computed on the GPU"


def test_a_profiler_that_fails_takes_nothing_else_with_it(gpu, monkeypatch, caplog):
    rows = time_case(Layer(), ON_CUDA, "stacking_gru_cell", ["stacking_gru"], phases=["inference"], **SETTINGS)
    monkeypatch.setattr(timing, "measure_kernels", lambda *_: 1 / 0)
    count_kernels(Layer(), [ON_CUDA], rows)
    assert all("kernel_launches" not in row and row["peak_memory_bytes"] > 0 for row in rows)
    assert "stacking_gru: its kernels could not be counted: ZeroDivisionError" in caplog.text


def test_kernels_are_counted_in_their_role_and_of_the_rows_of_their_case(gpu, monkeypatch):
    other = dataclasses.replace(ON_CUDA, batch_size=5)
    rows = [
        {"case_id": case.case_id, "implementation": name, "baseline": "a", "phase": "step", "median_s": 1.0}
        for case, name in ((ON_CUDA, "a"), (other, "b"), (CASE, "c"))
    ]
    made = []

    class Task:
        def __init__(self, case):
            self.case = case

        def calls(self, *words):
            made.append((self.case, *words))
            return Calls(lambda _: 1.0)

    class Workload:
        def draw(self, case, seed):
            return Task(case)

    count_kernels(Workload(), [ON_CUDA, other, CASE], rows)
    assert made == [(ON_CUDA, "a", "baseline", "step"), (other, "b", "candidate", "step")]
    assert [row.get("kernel_launches") for row in rows] == [7, 7, None]


class OnTheCpu(StackingGRUCellLoop):
    """Makes a tensor of its own where the input is not."""

    def forward(self, input, h0):
        return super().forward(input + torch.zeros(input.shape[-1]), h0)


GRU = [("gru", name) for name in ("stacking_gru_cell", "stacking_gru", "torch.nn:GRU")]
LSTM = [("lstm", name) for name in ("stacking_lstm_cell", "stacking_lstm")]
LAYERS = [*GRU, ("gru_reset_before", "stacking_gru_reset_before_cell"), *LSTM]


@pytest.mark.parametrize("phase", ["inference", "forward", "backward", "step"])
@pytest.mark.parametrize(("cell", "name"), [*LAYERS, ("gru", f"{__name__}:OnTheCpu")])
def test_everything_that_a_call_takes_and_gives_is_on_the_device(cell, name, phase):
    """On PyTorch's device without memory, where tensors of the CPU are refused as they are on a GPU."""

    def places():
        calls = Layer().draw(dataclasses.replace(CASE, device="meta", cell=cell), 0).calls(name, Role.CANDIDATE, phase)
        given = calls.prepare(1, 1)[0]
        return {value.device.type for value in calls.results(given, calls.call(given)).values()}

    if name.endswith("OnTheCpu"):
        with pytest.raises(RuntimeError, match="device"):
            places()
    else:
        assert places() == {"meta"}
