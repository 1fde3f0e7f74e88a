"""The log of a dead job tells how it died; its cases are shown with the reason until they have a result."""

import time

import pytest

from rnn_parity.experiment.results import Results
from rnn_parity.tables import write_rows, write_table
from rnn_parity.tracking import publish_unfinished
from rnn_parity.tracking.failures import read_failure
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
    assert (run.info.status, run.data.tags["verdict"]) == ("KILLED", "failed")
    assert run.data.tags["failure"] in died
    assert run.data.tags["failure"].startswith("training was killed by SIGKILL")
    assert run.data.metrics["speedup/step stacking_gru"] == 1.5
    columns = {"mode": "no_dropout", "role": "candidate", "implementation": "stacking_gru", "seed": 0, "step": 0}
    losses = [{"case_id": job.cases[0].case_id, **columns, "loss": 2.5}]
    write_rows(tmp_path / f"results/training/model/{job.name}.parquet", tables.TRAINING, losses)
    assert unfinished(uri, tmp_path, grid) == []
    (run,) = active_runs(uri)
    assert (run.info.status, run.data.metrics["loss_no_dropout/stacking_gru"]) == ("FINISHED", 2.5)
