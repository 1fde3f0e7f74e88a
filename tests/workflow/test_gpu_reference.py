"""The command for whoever has a GPU, tried whole on a CPU: with nothing but what measures, cut off, brought back."""

import json
import os
import subprocess
import sys
import tarfile

import pyarrow.parquet as pq
import pytest

from project import PROJECT
from rnn_parity.experiment.devices import find_cuda

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

SCRIPT = PROJECT / "workflow/gpu_reference.py"
ABSENT = ["snakemake", "mlflow", "psutil", "yaml", "safetensors", "tabulate"]
OF_PYDANTIC = ["rnn_parity.experiment.config", "rnn_parity_t2vec.settings"]  # which newer versions of typer bring
REFUSE = f"""
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *given: None if name in {ABSENT + OF_PYDANTIC} else find(name, *given)
"""


def python(*arguments, folder=PROJECT, path=(), check=True):
    sources = os.pathsep.join(map(str, [*path, PROJECT / "src"]))
    environment = os.environ | {"PYTHONPATH": sources}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A folder for PYTHONPATH with which what only plans and shows cannot be imported."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(REFUSE)
    assert "pydantic" in (PROJECT / "src/rnn_parity/experiment/config.py").read_text()
    return folder


@pytest.fixture(scope="module")
def brought(tmp_path_factory, bare):
    """What is brought back: planned here, cut off after the first steps there, and gone on with."""
    folder = tmp_path_factory.mktemp("reference") / "reference"
    given = [SCRIPT, "--device", "cpu", "--small", "--folder", folder]
    python(*given, "--plan")
    cut = python(*given, "--minutes", "0.2", path=[bare], check=False)
    assert "steps are not done; the same command goes on" in cut.stderr
    with tarfile.open(folder.with_suffix(".tar.gz")) as tar:
        assert f"{folder.name}/steps/fixture-machine.log" in tar.getnames()
    again = python(*given, "--minutes", "30", path=[bare])
    assert "fixture-machine" not in again.stdout  # it was done
    return folder


def test_every_step_is_done_where_only_torch_is(brought):
    steps = {path.stem: json.loads(path.read_text()) for path in (brought / "steps").glob("*.json")}
    planned = [step["name"] for group in json.loads((brought / "plan.json").read_text())["groups"] for step in group]
    assert set(steps) == set(planned)
    assert {name for name, step in steps.items() if step["exit_code"] != 0} == set()
    verdicts = set()
    for part in brought.glob("*/results/equivalence/*/*.parquet"):
        verdicts |= set(pq.read_table(part, partitioning=None)["verdict"].to_pylist())
    assert "identical" in verdicts
    assert not verdicts & {"failed"}


def test_the_report_is_made_elsewhere_and_nothing_is_measured_again(brought):
    parts = {path: path.stat().st_mtime_ns for path in (brought / "gpu/results").rglob("*.parquet")}
    run = ["-m", "rnn_parity", "run", "--config", "config.yaml", "--cores", "2"]
    python(*run, folder=brought / "gpu")
    assert (brought / "gpu/reports/report.html").exists()
    assert {path: path.stat().st_mtime_ns for path in parts} == parts


@pytest.mark.skipif(find_cuda().major is not None, reason="there is a GPU")
def test_of_a_gpu_that_was_taken_away_the_rest_is_not_judged_and_the_report_made(tmp_path):
    """All that came back is what the machine was: the rest is asked of a GPU that is not here."""
    folder = tmp_path / "reference"
    python(SCRIPT, "--small", "--folder", folder, "--plan")
    results = folder / "loop/results"
    results.mkdir()
    environment = {"gpu": {"name": "a GPU", "capability": [9, 0], "memory_bytes": 1, "cuda": "13.0"}, "peaks": []}
    environment |= {"cpu": {"model": "a CPU", "cores": 2}, "platform": "Linux", "measured_at": "2026-01-01T00:00:00"}
    (results / "environment.json").write_text(json.dumps(environment))
    python("-m", "rnn_parity", "run", "--config", "config.yaml", "--cores", "2", folder=folder / "loop")
    (part,) = results.glob("equivalence/*/*.parquet")
    rows = pq.read_table(part, partitioning=None)
    assert set(rows["verdict"].to_pylist()) == {"not judged"}
    assert all("GPU" in reason for reason in rows["reason"].to_pylist())
    assert "not judged" in (folder / "loop/reports/report.md").read_text()


@pytest.mark.skipif(find_cuda().major is not None, reason="there is a GPU")
def test_a_gpu_that_does_not_work_ends_it_in_one_line(tmp_path):
    folder = tmp_path / "reference"
    python(SCRIPT, "--small", "--folder", folder, "--plan")
    done = python(SCRIPT, "--small", "--folder", folder, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "the GPU fails when it is asked for" in done.stderr
    assert not (folder / "gpu/results").exists()
