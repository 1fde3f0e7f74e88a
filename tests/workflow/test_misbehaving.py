"""Layers that are wrong or die, servers and runs that do: the real pipeline, as a person sees it."""

import base64
import os
import shutil
import signal
import subprocess
import sys

import pandas as pd
import psutil
import pytest
import yaml

from pipeline import RUN, SMOKE, TINY, jobs_run, markers, runs, snakemake, write_config
from project import PROJECT, copy_project
from rnn_parity.experiment.grid import make_grid
from tracked import query

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

CANDIDATES = [f"my_layers:{name}" for name in ("Wrong", "OutOfMemory", "TellThreads", "Deadly")]
MISBEHAVING = {
    **TINY,
    "candidates": [*CANDIDATES, "stacking_gru"],
    "sweeps": {"mine": {"hidden_size": [8, 9, 10, 11], "sequence_length": [1, 2], "regimes": ["eval"]}},
    "timing": {**TINY["timing"], "exclusive": False},
    "tracking": {"mode": "at_end"},
}


@pytest.fixture(scope="module")
def misbehaving(tmp_path_factory):
    """A project in which a run is done whose candidates, in a package with a helper, are wrong, fail, and die."""
    folder = copy_project(tmp_path_factory.mktemp("misbehaving"))
    (folder / "my_layers").mkdir()
    (folder / "my_layers/__init__.py").write_text("from .kernels import *\n")
    shutil.copy2(PROJECT / "tests/faults.py", folder / "my_layers/kernels.py")
    done = snakemake(folder, *markers(MISBEHAVING), config=write_config(folder, MISBEHAVING, "own.yaml"))
    assert done.returncode == 3
    assert f"fault: a job failed; its log is above and in {folder}/logs" in done.stderr
    return folder


def test_a_job_that_dies_is_shown_with_its_reason_and_the_rest_goes_on(misbehaving):
    database = misbehaving / "mlflow.db"
    shown = query(database, "select name, status from runs where lifecycle_stage = 'active' order by name")
    status = {8: "FAILED", 9: "KILLED", 10: "KILLED", 11: "FINISHED"}
    assert shown == sorted((f"mine H={size} T={steps}", status[size]) for size in status for steps in (1, 2))
    tags = "select r.name, t.value from runs r join tags t using (run_uuid) where r.name like '%T=1' and t.key = '{}'"
    reasons = dict(query(database, tags.format("failure")))
    assert reasons["mine H=8 T=1"] == "equivalence ended with exit code 2: error: cannot go <b>on</b>"
    assert reasons["mine H=9 T=1"] == "equivalence was killed by SIGTERM"
    assert reasons["mine H=10 T=1"].startswith("equivalence was killed by SIGKILL (by the system where memory runs out")
    assert (
        "\n    error: cannot go <b>on</b>" in dict(query(database, tags.format("mlflow.note.content")))["mine H=8 T=1"]
    )


def test_what_a_layer_does_wrong_is_a_result_and_the_others_go_on(misbehaving):
    (part,) = misbehaving.glob("results/equivalence/mine/*h11*.parquet")
    verdicts = pd.read_parquet(part).groupby("implementation")["verdict"].agg(set)
    assert "different" in verdicts["my_layers:Wrong"]
    assert "different" not in verdicts["stacking_gru"]
    (part,) = misbehaving.glob("results/timing/mine/*h11*[0-9].parquet")
    timing = pd.read_parquet(part).set_index("implementation")
    assert set(timing.loc["my_layers:OutOfMemory", "conclusion"]) == {"not judged"}
    assert timing.loc["my_layers:OutOfMemory", "reason"].str.startswith("out of memory").all()
    assert timing.loc["stacking_gru", "speedup"].notna().all()
    assert not timing["exclusive"].any()
    assert set(timing.loc["my_layers:TellThreads", "reason"]) == {"ValueError: 1 threads"}  # of two cores


def test_mended_it_runs_again_and_the_gate_closes_on_the_one_that_is_wrong(misbehaving):
    """An edit of a helper module of the user's package is an edit of the layer."""
    kernels = misbehaving / "my_layers/kernels.py"
    kernels.write_text(kernels.read_text() + "\n# a comment\n")
    assert jobs_run(snakemake(misbehaving, "-n"))["equivalence"] == 3
    kernels.write_text(kernels.read_text().replace("h0.shape[-1]", "-1"))
    planned = jobs_run(snakemake(misbehaving, "-n"))
    assert planned["equivalence"] == planned["timing"] == 4
    done = snakemake(misbehaving, "gate")
    assert done.returncode == 1
    assert "| mine | `my_layers:Wrong` | " in (misbehaving / "logs/gate.log").read_text()
    assert (misbehaving / "reports/report.html").exists()
    assert snakemake(misbehaving).returncode == 0  # a mismatch is a result
    assert list(runs(misbehaving)["status"]) == ["FINISHED"] * 9


def test_a_dead_server_costs_a_warning_and_the_next_run_publishes(finished_copy):
    folder = finished_copy
    shutil.rmtree(folder / "results/published")
    (folder / "reports/report.md").unlink()  # the figures stay, so that the report could be written first
    (folder / "mlflow.db").unlink()
    done = snakemake(folder, MLFLOW_TRACKING_URI="http://me:secret@127.0.0.1:9")
    assert done.returncode == 0, done.stdout + done.stderr
    warning = next((folder / "logs/publish/article").iterdir()).read_text()
    assert "127.0.0.1:9" in warning
    assert "secret" not in warning + done.stdout + done.stderr
    missing = "7 of 7 runs not published: http://***@127.0.0.1:9 is not available (Connection refused)"
    assert f"warning: {missing}; `snakemake publish` tries again" in done.stderr
    assert "7 of 7 runs not published" in (folder / "reports/report.md").read_text()
    assert not (folder / "mlflow.db").exists()
    assert snakemake(folder, "publish").returncode == 0
    assert len(runs(folder)) == len(make_grid(RUN | {"workloads": {}}).cases) + 1
    assert "not published" not in (folder / "reports/report.md").read_text()
    assert not jobs_run(snakemake(folder, "publish", "-n"))
    assert not any("timing" in name for name in jobs_run(snakemake(folder, "-n")))


def refused(done):
    """The one line of a run that is refused."""
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if not line.startswith("Using workflow specific profile"))
    return line


def test_what_snakemake_reads_otherwise_is_read_as_it_is_written(tmp_path):
    folder = copy_project(tmp_path / "a")
    (folder / "twice.yaml").write_text(f"{yaml.safe_dump(SMOKE)}study: again\n")
    first = yaml.safe_dump(SMOKE).splitlines().index(f"study: {SMOKE['study']}") + 1
    assert f'the key "study" is set here and in line {first}' in refused(snakemake(folder, "-n", config="twice.yaml"))
    config = write_config(folder, SMOKE)
    assert snakemake(folder, "-n", "--config", "timing={max_seconds: 0.2}", "study=7", config=config).returncode == 0
    for addresses in ({"MLFLOW_TRACKING_URI": "htp://host"}, {"MLFLOW_TRACKING_URI": "mysql+aiomysql://host/a"}):
        assert refused(snakemake(folder, "-n", config=config, **addresses)).startswith("error: MLFLOW_TRACKING_URI: ")
    assert snakemake(folder, "-n", "--config", "tracking={mode: off}", config=config, **addresses).returncode == 0
    with (folder / "workflow/rules/setup.smk").open("a") as rules:
        rules.write("\nno_such_name\n")
    done = snakemake(folder, "-n", config=config)
    assert (done.returncode, done.stderr.splitlines()[-1][:16]) == (3, "fault: NameError")


def test_a_snakefile_runs_no_sources_but_its_own(tmp_path):
    with_colon = copy_project(tmp_path / "a:b")
    assert "has ':' in its name" in refused(snakemake(with_colon, "-n", config=write_config(with_colon, SMOKE)))
    alone = copy_project(tmp_path / "alone")
    shutil.rmtree(alone / "src")
    path = os.pathsep.join(sys.path)
    assert "does not belong to" in refused(snakemake(alone, "-n", config=write_config(alone, SMOKE), PYTHONPATH=path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"studdy": "x"}, 'error: config: unknown key "studdy"'),
        ({"candidates": ["torch.nn:NoSuchLayer"]}, "error: torch.nn:NoSuchLayer: cannot be imported"),
        ({"candidates": ["torch.nn:LSTM"]}, "error: torch.nn:LSTM: this is an LSTM, not a GRU: --cell lstm"),
        ({"sweeps": {"x": {"hidden_size": []}}}, "error: sweeps.x.hidden_size: holds [], expected at least 1 value"),
        (
            {"tracking": {"uri": "localhost:5000"}},
            "error: tracking.uri: holds 'localhost:5000', expected a URL: ",
        ),
    ],
)
def test_bad_input_ends_before_any_job_with_one_line(tmp_path, change, message):
    folder = copy_project(tmp_path)
    assert refused(snakemake(folder, config=write_config(folder, {**SMOKE, **change}))).startswith(message)
    assert not (folder / "results").exists()


def finished(folder, part):
    """Whether Snakemake knows that the job is finished which wrote an equivalence part."""
    name = str(part.relative_to(folder))
    of_job = [name.replace("equivalence", table) for table in ("equivalence", "coverage", "masks")]
    marks = [base64.urlsafe_b64encode(name.encode()).decode() for name in of_job]
    return not any((folder / ".snakemake/incomplete" / mark).exists() for mark in marks)


def is_ours(process):
    try:
        return "rnn_parity" in process.cmdline()
    except psutil.Error:  # it has ended meanwhile
        return False


def waiting_run(tmp_path, **options):
    """A run of which a job waits in its layer, until somebody writes to the pipe beside it."""
    folder = copy_project(tmp_path, own_lock=True)
    shutil.copy2(PROJECT / "tests/faults.py", folder / "own_layer.py")
    os.mkfifo(folder / "pipe")
    sweeps = {"mine": {"hidden_size": [8, 9], "sequence_length": 1, "regimes": ["eval"]}}
    waiting = {**TINY, "candidates": ["own_layer:Waiting"], "sweeps": sweeps}
    config = write_config(folder, waiting)
    command = [sys.executable, "-m", "snakemake", *markers(waiting), "--cores", "2", "--configfile", config]
    run = subprocess.Popen(command, cwd=folder, **options)
    return folder, waiting, config, run, os.open(folder / "pipe", os.O_WRONLY)  # returns when a job waits in the layer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_interrupts_a_run_is_no_fault(tmp_path, number):
    """Ctrl-C as a terminal sends it, to the run and to its jobs; a request to end goes to the run alone."""
    options = {"start_new_session": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    options["preexec_fn"] = lambda: signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # ignored by what a shell started with &
    folder, *_, run, writer = waiting_run(tmp_path, **options)
    if number == signal.SIGINT:
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)
        (folder / "pipe").unlink()  # it waits for the jobs that run
        os.close(writer)
    _, told = run.communicate(timeout=300)
    if number == signal.SIGINT:
        os.close(writer)
    assert run.returncode == 128 + number, told
    assert "interrupted; the same command goes on from here" in told
    assert "fault:" not in told


def test_after_a_kill_the_same_command_goes_on_and_a_second_one_beside_it_is_refused(tmp_path):
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    folder, waiting, config, first, writer = waiting_run(tmp_path, **silent)
    pipe = folder / "pipe"
    jobs = [job for job in psutil.Process(first.pid).children(recursive=True) if is_ours(job)]
    assert jobs
    second = snakemake(folder, *markers(waiting), config=config)
    assert second.returncode == 2
    refusal = f"error: another run is at work in this folder (process {first.pid} on "
    assert [line.startswith(refusal) for line in second.stderr.splitlines() if "rror" in line] == [True]
    for reading in (["-n"], ["--summary"], ["--dag"], ["--list-changes", "code"]):
        assert snakemake(folder, *markers(waiting), *reading, config=config).returncode == 0
    while not any(finished(folder, part) for part in folder.glob("results/equivalence/*/[!.]*.parquet")):
        assert first.poll() is None
        os.sched_yield()
    first.kill()
    first.wait()
    assert psutil.wait_procs(jobs, timeout=60)[1] == []
    os.close(writer)
    pipe.unlink()
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*.parquet")}
    assert before
    done = snakemake(folder, *markers(waiting), config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before, done.stdout + done.stderr
    assert list(runs(folder)["status"]) == ["FINISHED"] * 2
