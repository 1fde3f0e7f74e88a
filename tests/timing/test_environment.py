"""The environment says what was measured on, once for every kind of machine."""

import importlib.metadata
import json
import os
import subprocess
from types import SimpleNamespace

import pytest
import torch

from project import PROJECT, SMOKE
from rnn_parity.commands import rules
from rnn_parity.commands.jobs import run_job
from rnn_parity.experiment.grid import make_grid
from rnn_parity.experiment.results import Results
from rnn_parity.tables import TIMING, read_table
from rnn_parity.timing import environment
from rnn_parity.timing.environment import COMMIT_VARIABLE, MACHINE_VARIABLE, describe_environment, machine_of

SETTINGS = [{"device": "cpu", "dtype": dtype, "tf32": False, "threads": 1} for dtype in ("float32", "bfloat16")]
GIB = 2**30


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Peaks of small products and copies."""
    monkeypatch.delenv(MACHINE_VARIABLE, raising=False)
    monkeypatch.setattr("rnn_parity.timing.peaks._GEMM_SIZES", {"cpu": (64,)})
    monkeypatch.setattr("rnn_parity.timing.peaks._COPY_BYTES", {"cpu": 2**16})


def test_versions_commit_machine_and_peaks():
    facts = describe_environment(SETTINGS)
    assert facts["torch"] == importlib.metadata.version("torch")
    assert facts["mlflow"] == importlib.metadata.version("mlflow")
    assert facts["cpu"]["cores"] == os.cpu_count()
    assert facts["cpu"]["model"]
    assert facts["gpu"] is None
    assert [(peak["device"], peak["dtype"]) for peak in facts["peaks"]] == [("cpu", "float32"), ("cpu", "bfloat16")]
    assert {peak["machine"] for peak in facts["peaks"]} == {machine_of("cpu")}
    assert all(peak["gemm_flops_per_s"] > 0 and peak["copy_bytes_per_s"] > 0 for peak in facts["peaks"])
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if head.returncode == 0:
        assert facts["commit"].removesuffix("-dirty") == head.stdout.strip()


def test_a_machine_is_its_processor_cores_and_memory_and_its_gpu_where_that_computes(monkeypatch):
    monkeypatch.setattr(environment, "_cpu_model", lambda: "A CPU")
    monkeypatch.setattr(environment.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(name="A GPU"))
    sizes = {"SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(environment.os, "sysconf", sizes.__getitem__)
    # The kernel keeps another share in each of its versions.
    for seen, built_in in ((7.7, 8), (31.1, 32), (125.4, 128), (125.8, 128), (376.2, 384), (1.9, 2)):
        sizes["SC_PHYS_PAGES"] = int(seen * GIB / 4096)
        assert machine_of("cpu") == f"A CPU, 16 cores, {built_in} GiB"
    assert machine_of("cuda") == "A CPU, 16 cores, 2 GiB, A GPU"
    monkeypatch.setenv(MACHINE_VARIABLE, "the old nodes")
    assert machine_of("cpu") == machine_of("cuda") == "the old nodes"
    assert describe_environment([])["machine_variable"] == "the old nodes"


def test_every_kind_of_machine_that_times_is_described_once(monkeypatch, tmp_path):
    """Four jobs on two kinds: those of the second kind find no peaks of theirs, and the first of them measures some."""
    sweeps = {name: {"hidden_size": 4, "sequence_length": 2} for name in "abcd"}
    timing = {"phases": ["inference"], "min_rounds": 6, "max_seconds": 0.01}
    grid, results = make_grid(SMOKE | {"sweeps": sweeps, "timing": timing}), Results(tmp_path)

    def time(place):
        job = grid.jobs["abcd".index(place)]
        run_job("timing", grid.timing_request(job), f"{place}/{job.name}", tmp_path)
        return read_table(results.of_job("timing", place, job.name), TIMING).to_pylist()

    tmp_path.joinpath("environment.json").write_text(json.dumps(describe_environment(SETTINGS)))
    assert {row["machine"] for row in time("a")} == {machine_of("cpu")}
    assert results.machines == [results.environment]
    monkeypatch.setenv(MACHINE_VARIABLE, "the old nodes")
    written_at = []
    for place in "bcb":
        assert {row["machine"] for row in time(place)} == {"the old nodes"}
        assert results.machines == [results.environment, results.machine("b", grid.jobs[1].name)]
        written_at.append(results.machines[1].stat().st_mtime_ns)
    assert written_at[0] == written_at[1] < written_at[2]  # with its times a job measures the peaks again that it wrote
    told = json.loads(results.machines[1].read_text())
    assert [(peak["machine"], peak["dtype"]) for peak in told["peaks"]] == [("the old nodes", "float32")]
    assert told["machine_variable"] == "the old nodes"
    assert told["variables"] is not None
    machines = [peak["machine"] for peak in rules._environment(results)["peaks"]]
    assert [machine == "the old nodes" for machine in machines] == [False, False, True]


def test_copied_sources_are_of_the_commit_that_they_were_copied_from(monkeypatch):
    """They may lie over a checkout of another one."""
    monkeypatch.setenv(COMMIT_VARIABLE, "0123abc")
    assert describe_environment([])["commit"] == "0123abc"
