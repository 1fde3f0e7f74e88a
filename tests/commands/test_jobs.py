"""What ends the process that measures costs one layer's rows of one case, and every other row is on disk."""

import json
import signal

import pytest
import yaml

from conftest import PROJECT
from rnn_parity.capabilities import probing
from rnn_parity.commands import jobs, processes
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import make_grid
from rnn_parity.layers import containment, preflight
from rnn_parity.layers.containment import Ended, contained
from rnn_parity.layers.running import DeviceLost
from rnn_parity.tables import CAPABILITIES, EQUIVALENCE, LIFE, TIMING, read_table

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
WAYS = {
    "Exits": ("failed", "it ends its process: SystemExit: enough"),
    "ExitsAtOnce": ("failed", "it ends its process: exit code 0"),
    "Segfaults": ("failed", "it crashes its process: SIGSEGV"),
    "Killed": ("not judged", "its process was killed by SIGKILL (by the system where memory runs out, or by hand)"),
    "NeverReturns": ("not judged", "time limit: it took more than 10 s"),
    "LosesDevice": ("not judged", "the device is lost: CUDA error: an illegal memory access was encountered"),
    "NotSupported": ("unsupported", "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED."),
}


def measured(tmp_path, kind, candidates, *, baseline="stacking_gru_cell", widths=(6, 8, 7), limit=10.0, **changes):
    """The rows of a job with a case for each width, as lists by width and implementation."""
    sweeps = {"mine": {"hidden_size": list(widths), "sequence_length": 2, "seeds": [0], "regimes": ["eval"]}}
    timing = {"phases": ["inference"], "min_rounds": 6, "max_seconds": 0.01}
    own = {"baseline": baseline, "candidates": candidates, "sweeps": sweeps, "within_job": ["hidden_size"]}
    grid = make_grid(SMOKE | own | {"timing": timing, "self_test": {"cases": 0, "own_cases": False}} | changes)
    (job,) = grid.jobs
    request = grid.equivalence_request(job) if kind == "equivalence" else grid.timing_request(job)
    jobs.run_job(kind, request, "mine/job", tmp_path, limit)
    schema = EQUIVALENCE if kind == "equivalence" else TIMING
    rows = {}
    for row in read_table(tmp_path / kind / "mine/job.parquet", schema).to_pylist():
        rows.setdefault((row["hidden_size"], row["implementation"]), []).append(row)
    return rows


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_that_ends_its_process_costs_its_own_rows(tmp_path, way):
    verdict, reason = WAYS[way]
    rows = measured(tmp_path, "equivalence", [f"faults:{way}", "stacking_gru"])
    ended = rows.pop((8, f"faults:{way}"))
    assert {(row["verdict"], row["reason"]) for row in ended} == {(verdict, reason)}
    assert len(ended) == len(rows[8, "stacking_gru"])  # a row for every quantity
    assert len(rows) == 5
    assert {row["verdict"] for every in rows.values() for row in every} <= {"identical", "equivalent"}


@pytest.mark.parametrize("way", ["ExitsAtOnce", "LosesDevice"])
def test_of_the_times_too(tmp_path, way):
    verdict, reason = WAYS[way]
    rows = measured(tmp_path, "timing", [f"faults:{way}", "stacking_gru"])
    (ended,) = rows.pop((8, f"faults:{way}"))
    assert (ended["conclusion"], ended["reason"]) == (verdict, reason)
    assert len(rows) == 8
    assert all(len(every) == 1 and every[0]["median_s"] > 0 for every in rows.values())


def test_where_the_baseline_ends_the_process_no_candidate_is_blamed(tmp_path):
    rows = measured(tmp_path, "equivalence", ["stacking_gru"], baseline="faults:Segfaults", widths=[8])
    said = {(row["verdict"], row["reason"]) for row in rows[8, "stacking_gru"]}
    assert said == {("not judged", "baseline: it crashes its process: SIGSEGV")}
    rows = measured(tmp_path, "timing", ["stacking_gru"], baseline="faults:Segfaults", widths=[8])
    assert {name for _, name in rows} == {"faults:Segfaults", "stacking_gru"}
    assert {row["conclusion"] for (row,) in rows.values()} == {"not judged"}


def test_what_is_done_is_on_disk_before_the_next_case_begins(tmp_path, monkeypatch):
    """Also where the whole job is killed in its second case."""
    monkeypatch.setattr(containment, "_kill", lambda child: None)

    def broken(*given):
        if given[2]:
            yield given[0](given[1][0])
        raise KeyboardInterrupt

    monkeypatch.setattr(containment, "contained", broken)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, "equivalence", ["stacking_gru"])
    rows = read_table(tmp_path / "equivalence/mine/job.parquet", EQUIVALENCE).to_pylist()
    assert {row["hidden_size"] for row in rows} == {6}


def on_a_gpu(monkeypatch, why):
    """A grid for a GPU, and what its jobs find when they try it."""
    from rnn_parity.experiment import devices

    monkeypatch.setattr(devices, "find_cuda", lambda: devices.Cuda(9))
    monkeypatch.setattr(preflight, "preflight", why)
    return {"device": "cuda"}


@pytest.mark.parametrize("kind", ["equivalence", "timing"])
def test_a_gpu_that_fails_before_any_layer_ran_is_no_layers_fault(tmp_path, monkeypatch, kind):
    asked = on_a_gpu(monkeypatch, lambda: {"major": None, "why": "the driver is too old"})
    rows = measured(tmp_path, kind, ["stacking_gru"], **asked)
    column = "verdict" if kind == "equivalence" else "conclusion"
    assert {(row[column], row["reason"]) for every in rows.values() for row in every} == {
        ("not judged", "the driver is too old")
    }
    assert len(rows) == (3 if kind == "equivalence" else 6)


def test_a_gpu_that_does_not_answer_is_waited_for_no_longer_than_its_limit(tmp_path, monkeypatch):
    asked = on_a_gpu(monkeypatch, signal.pause)
    monkeypatch.setattr(preflight, "MAX_SECONDS", 0.2)
    rows = measured(tmp_path, "equivalence", ["stacking_gru"], **asked)
    assert {row["reason"] for every in rows.values() for row in every} == {
        "the GPU: time limit: it took more than 0.2 s"
    }


@pytest.mark.slow
def test_a_life_that_ends_the_process_is_told_and_the_next_one_lived(tmp_path):
    from rnn_parity.commands.rules import device

    asked = make_grid(SMOKE | {"candidates": ["faults:ExitsInLife", "stacking_gru"]}).life_request("cpu")
    device("life", "cpu", json.dumps(asked), tmp_path, 60.0)
    rows = read_table(tmp_path / "life/cpu.parquet", LIFE).to_pylist()
    ended = [row for row in rows if row["implementation"] == "faults:ExitsInLife"]
    assert {(row["verdict"], row["reason"]) for row in ended} == {WAYS["Exits"]}
    assert {row["verdict"] for row in rows if row not in ended} <= {
        "identical",
        "equivalent",
        "not judged",
        "unsupported",
    }


def test_behind_a_point_that_ends_the_process_and_only_makes_a_condition_the_life_goes_on(tmp_path, monkeypatch):
    from rnn_parity.commands.rules import device
    from rnn_parity.life import live

    few = ["first_call", "two_threads", "zero_states"]
    monkeypatch.setattr(live, "POINTS", {name: live.POINTS[name] for name in few})
    asked = make_grid(SMOKE | {"candidates": ["faults:ExitsInThread"]}).life_request("cpu")
    device("life", "cpu", json.dumps(asked | {"cases": asked["cases"][:1]}), tmp_path, 60.0)
    rows = read_table(tmp_path / "life/cpu.parquet", LIFE).to_pylist()
    assert [row["point"] for row in rows if row["verdict"] != "failed"] == ["first_call", "zero_states"]
    assert [row["point"] for row in rows] == few
    assert rows[1]["reason"] == "it ends its process: exit code 7"
    assert rows[1]["condition"] == live.POINTS["two_threads"].condition != ""


def test_a_layer_that_ends_its_process_where_it_is_probed_refuses_that_alone(tmp_path, monkeypatch):
    from rnn_parity.commands.rules import device

    few = ["multi_threading", "carried_state"]
    monkeypatch.setattr(probing, "CAPABILITIES", {name: probing.CAPABILITIES[name] for name in few})
    asked = make_grid(SMOKE | {"candidates": ["faults:ExitsInThread"]}).device_request("capabilities", "cpu")
    device("capabilities", "cpu", asked, tmp_path, 60.0)
    rows = read_table(tmp_path / "capabilities/cpu.parquet", CAPABILITIES).to_pylist()
    found = {(row["implementation"], row["capability"]): (row["outcome"], row["detail"]) for row in rows}
    assert found.pop(("faults:ExitsInThread", "multi_threading")) == ("refuses", "it ends its process: exit code 7")
    assert [outcome for outcome, _ in found.values()] == ["works"] * 3


def test_what_layers_can_do_is_probed_for_every_kind(tmp_path, monkeypatch):
    from rnn_parity.commands.rules import device

    monkeypatch.setattr(probing, "CAPABILITIES", {"carried_state": probing.CAPABILITIES["carried_state"]})
    kinds = {"lstm": {"baseline": "stacking_lstm_cell", "candidates": ["stacking_lstm", "torch.nn:LSTM"]}}
    asked = make_grid(SMOKE | {"cells": kinds, "sweeps": {"kinds": {"cell": ["gru", "lstm"]}}})
    device("capabilities", "cpu", asked.device_request("capabilities", "cpu"), tmp_path, 60.0)
    rows = read_table(tmp_path / "capabilities/cpu.parquet", CAPABILITIES).to_pylist()
    assert [(row["cell"], row["baseline"], row["implementation"]) for row in rows] == [
        ("gru", "stacking_gru_cell", "stacking_gru_cell"),
        ("gru", "stacking_gru_cell", "stacking_gru"),
        ("lstm", "stacking_lstm_cell", "stacking_lstm_cell"),
        ("lstm", "stacking_lstm_cell", "stacking_lstm"),
        ("lstm", "stacking_lstm_cell", "torch.nn:LSTM"),
    ]
    assert {row["outcome"] for row in rows} == {"works"}


def test_results_come_in_order_and_each_end_costs_one_item():
    def work(item):
        if item == 2:
            raise DeviceLost("gone")
        if item == 3:
            raise SystemExit
        return item * item

    lost, ended = Ended("not judged", "gone"), Ended("failed", "it ends its process: SystemExit")
    assert list(contained(work, range(5), 10)) == [0, 1, lost, ended, 16]


def test_a_fault_of_the_program_is_raised_and_not_told_as_a_layers():
    with pytest.raises(KeyError, match="ratio"):
        list(contained({}.__getitem__, ["ratio"], 10))

    def refuse(item):
        raise InputError("no such layer")

    with pytest.raises(InputError, match="no such layer"):
        list(contained(refuse, [0], 10))


@pytest.mark.slow
def test_a_time_that_was_taken_beside_other_jobs_is_not_called_exclusive(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "MACHINE_LOCK", tmp_path / "lock")  # not the one that other tests hold
    rows = measured(tmp_path, "timing", ["stacking_gru"], widths=(6,))
    assert {row["exclusive"] for every in rows.values() for row in every} == {True}
    monkeypatch.setattr(processes, "MACHINE_LOCK", tmp_path / "not there" / "lock")
    rows = measured(tmp_path, "timing", ["stacking_gru"], widths=(6,))
    assert {row["exclusive"] for every in rows.values() for row in every} == {False}
