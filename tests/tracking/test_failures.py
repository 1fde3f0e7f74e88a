"""The log of a dead job tells how it died; its cases are shown with the reason until they have a result."""

import time
from pathlib import Path

import pytest

from rnn_parity.experiment.results import Results
from rnn_parity.tables import write_rows, write_table
from rnn_parity.tracking import publish_unfinished
from rnn_parity.tracking.failures import SlurmEnd, ended_by_slurm, read_failure
from tracked import ENVIRONMENT, active_runs, equivalence_table, small_grid, timing_table

GONE = "timing left no exit code: it was probably killed (SIGKILL or out of memory)"


@pytest.mark.parametrize(
    ("log", "status", "reason"),
    [
        ("a line\nValueError: no\nexit code 1\n", "FAILED", "timing ended with exit code 1: ValueError: no"),
        ("error: bad\n\nexit code 2\n", "FAILED", "timing ended with exit code 2: error: bad"),
        ("exit code 137\n", "KILLED", "timing was killed by SIGKILL (by the system where memory runs out, or by hand)"),
        ("half a li\nexit code 143", "KILLED", "timing was killed by SIGTERM"),
        ("exit code 1\n", "FAILED", "timing ended with exit code 1: its log is empty"),
        ("x\nexit code 168\n", "KILLED", "timing was killed by signal 40"),
        (
            "case 1: equivalent\n",
            "KILLED",
            "timing left no exit code: it was probably killed (SIGKILL or out of memory)",
        ),
        ("", "KILLED", GONE),
    ],
)
def test_a_log_tells_how_its_job_ended(tmp_path, log, status, reason):
    path = tmp_path / "job.log"
    path.write_text(log)
    failure = read_failure("timing", path)
    assert (failure.status, failure.reason) == (status, reason)


def test_only_the_end_of_a_log_is_kept(tmp_path):
    path = tmp_path / "job.log"
    path.write_bytes(b"\xff\n" + b"first\n" * 100 + b"x" * 5000 + b"\nlast\nexit code 1\n")
    log = read_failure("timing", path).log
    assert log.endswith("last")
    assert len(log) == 4000
    assert "exit code" not in log


def block(state, log, slurm_log):
    """What Snakemake writes of a job that did not complete in Slurm, by plugin 2.8."""
    return f"""Error in rule timing:
    message: SLURM-job '7' failed, SLURM status is: '{state}'. For further error details see the log files.
    jobid: 3
    output: results/timing/a/x.parquet
    log: {log}, {slurm_log} (check log file(s) for error details)
    shell:
        logged logs/timing/a/x.log python -m rnn_parity job timing
    external_jobid: 7
[Fri Nov 27 14:27:08 2026]
"""


def test_snakemakes_log_has_slurms_word_for_each_job(tmp_path):
    run_log = tmp_path / "run.log"
    own = "Error in rule figures:\n    message: None\n    log: logs/figures.log (check log file(s) for error details)\n"
    run_log.write_text(
        own + block("TIMEOUT", "logs/a.log", "/l/7.log") + own + block("FAILED", "logs/b.log", "/l/8.log")
    )
    expected = {
        "logs/a.log": SlurmEnd("TIMEOUT", Path("/l/7.log")),
        "logs/b.log": SlurmEnd("FAILED", Path("/l/8.log")),
    }
    assert ended_by_slurm(run_log) == expected
    assert ended_by_slurm(tmp_path / "none.log") == {}


MEMORY = "StepId=9.0 exceeded memory limit (1672441856 > 1468006400), being killed"
STEPD = f"slurmstepd-na: error: {MEMORY}\n"
BAD = "timing ended with exit code 2: error: bad"


@pytest.mark.parametrize(
    ("state", "log", "slurm_log", "status", "reason", "tail"),
    [
        ("TIMEOUT", "case 1\nexit code 143\n", "", "KILLED", "timing was killed by Slurm: TIMEOUT", "case 1"),
        (
            "FAILED",
            "case 1\n",
            f"x\n{STEPD}{STEPD}",
            "KILLED",
            f"timing was killed by Slurm: FAILED ({MEMORY})",
            "case 1",
        ),
        (
            "FAILED",
            "error: bad\nexit code 2\n",
            "x\n",
            "FAILED",
            "timing ended with exit code 2: error: bad",
            "error: bad",
        ),
        ("CANCELLED", None, "", "KILLED", "timing was killed by Slurm: CANCELLED", ""),
        ("FAILED", None, "srun: fatal: no\n", "KILLED", GONE, "srun: fatal: no"),
    ],
)
def test_slurms_word_comes_before_a_guess(tmp_path, state, log, slurm_log, status, reason, tail):
    job, of_slurm = tmp_path / "job.log", tmp_path / "7.log"
    if log is not None:
        job.write_text(log)
    of_slurm.write_text(slurm_log)
    failure = read_failure("timing", job, SlurmEnd(state, of_slurm))
    assert (failure.status, failure.reason, failure.log) == (status, reason, tail)


@pytest.fixture
def project(tmp_path):
    """A folder in which one job of three is measured and published to nowhere, one died, and one was never tried."""
    grid = small_grid(sweeps={"width": {"hidden_size": [8, 9, 10], "sequence_length": [1, 2]}})
    measured, died, _ = grid.jobs
    for job in (measured, died):
        for name, table in (("equivalence", equivalence_table(grid)), ("timing", timing_table(grid))):
            ids = {case.case_id for case in job.cases}
            mask = [value in ids for value in table["case_id"].to_pylist()]
            if (name, job) != ("timing", died):
                write_table(tmp_path / f"results/{name}/width/{job.name}.parquet", table.filter(mask))
    log = tmp_path / f"logs/timing/width/{died.name}.log"
    log.parent.mkdir(parents=True)
    log.write_text("cannot go on\nexit code 1\n")
    return grid


def unfinished(uri, folder, grid, since=0.0):
    return publish_unfinished(uri, folder, grid, Results(folder / "results"), folder / "logs", ENVIRONMENT, since)


@pytest.mark.slow
def test_a_failed_run_shows_what_died_with_its_reason_and_what_was_measured(uri, project, tmp_path):
    died = project.jobs[1].name
    expected = f"width/{died}: timing ended with exit code 1: cannot go on"
    assert unfinished(uri, tmp_path, project) == [expected]
    shown = {run.info.run_name: run.info.status for run in active_runs(uri)}
    finished = dict.fromkeys(("width H=8 T=1", "width H=8 T=2"), "FINISHED")
    assert shown == finished | dict.fromkeys(("width H=9 T=1", "width H=9 T=2"), "FAILED")
    for run in active_runs(uri):
        assert run.data.tags["verdict/eval/stacking_gru"] == "equivalent"
        assert ("time_ms/step stacking_gru" in run.data.metrics) is (run.info.status == "FINISHED")
    assert unfinished(uri, tmp_path, project, since=time.time() + 60) == []  # a log of an earlier run


def test_a_job_that_slurm_ended_before_it_began_is_shown_too(uri, project, tmp_path):
    never = project.jobs[2].name
    (tmp_path / "run.log").write_text(block("NODE_FAIL", tmp_path / f"logs/timing/width/{never}.log", "/none"))
    died = publish_unfinished(
        uri,
        tmp_path,
        project,
        Results(tmp_path / "results"),
        tmp_path / "logs",
        ENVIRONMENT,
        time.time() + 60,
        [tmp_path / "run.log"],
    )
    assert died == [f"width/{never}: timing was killed by Slurm: NODE_FAIL"]


def test_a_published_job_is_left_alone(uri, project, tmp_path):
    marker = tmp_path / f"results/published/width/{project.jobs[0].name}.json"
    marker.parent.mkdir(parents=True)
    marker.write_text('{"published": true}')
    unfinished(uri, tmp_path, project)
    assert {run.info.status for run in active_runs(uri)} == {"FAILED"}


def test_a_training_that_dies_is_no_finished_run(uri, tmp_path):
    tables = pytest.importorskip("rnn_parity_t2vec.tables")
    grid = small_grid(sweeps={"model": {"workload": "decoder", "sequence_length": 3, "extras": ["training"]}})
    (job,) = grid.jobs
    for name, table in (("equivalence", equivalence_table(grid)), ("timing", timing_table(grid))):
        write_table(tmp_path / f"results/{name}/model/{job.name}.parquet", table)
    log = tmp_path / f"logs/training/model/{job.name}.log"
    log.parent.mkdir(parents=True)
    log.write_text("exit code 137\n")
    (died,) = unfinished(uri, tmp_path, grid)
    (run,) = active_runs(uri)
    assert (run.info.status, run.data.tags["verdict"]) == ("KILLED", "not judged")
    assert run.data.tags["failure"] in died
    assert run.data.tags["failure"].startswith("training was killed by SIGKILL")
    assert run.data.metrics["speedup/step stacking_gru"] == 1.5
    columns = {"mode": "no_dropout", "role": "candidate", "implementation": "stacking_gru", "seed": 0, "step": 0}
    losses = [{"case_id": job.cases[0].case_id, **columns, "loss": 2.5}]
    write_rows(tmp_path / f"results/training/model/{job.name}.parquet", tables.TRAINING, losses)
    assert unfinished(uri, tmp_path, grid) == []
    (run,) = active_runs(uri)
    assert (run.info.status, run.data.metrics["loss_no_dropout/stacking_gru"]) == ("FINISHED", 2.5)
