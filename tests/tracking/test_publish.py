"""Results become runs once and only once, whatever dies in between; a server that does not answer costs seconds."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from rnn_parity.tracking import TrackingUnavailable, publish_report
from rnn_parity.tracking.failures import Failure
from rnn_parity.tracking.publish import publish_job
from rnn_parity.tracking.store import folder_tag, local_artifacts
from tracked import (
    ENVIRONMENT,
    SERVE,
    active_runs,
    equivalence_table,
    query,
    request_of,
    small_grid,
    timing_table,
    wait_for,
)

SECRET = "pa55word"


class Killed(BaseException):
    """Nothing catches it, as nothing survives a kill."""


def killed(*args, **kwargs):
    raise Killed


def publish(uri, project, grid, sweep="article", **timing):
    tables = equivalence_table(grid), timing_table(grid, **timing)
    return publish_job(uri, project, request_of(grid, sweep), *tables, ENVIRONMENT)


def report_of(uri, project, grid, reports):
    return publish_report(uri, project, grid.config, {case.case_id for case in grid.cases}, reports, ENVIRONMENT)


def client_of(uri):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@pytest.fixture
def reports(tmp_path):
    folder = tmp_path / "reports"
    for name in ("report.html", "report.md", "figures/speedup.svg", "tables/verdicts.csv", "reference/old.html"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the text of {name}")
    return folder


def test_every_case_is_a_flat_run_that_says_what_its_rows_say(uri, store, tmp_path):
    grid = small_grid()
    ids = publish(uri, tmp_path, grid) | publish(uri, tmp_path, grid, "width")
    runs = {run.info.run_id: run for run in active_runs(uri)}
    assert set(ids) == {case.case_id for case in grid.cases}
    assert set(runs) == set(ids.values())
    names = {run.info.run_name for run in runs.values()}
    assert names == {"article T=1", "article T=2", "article T=10", "width H=8", "width H=16"}
    for case in grid.cases:
        run = runs[ids[case.case_id]]
        assert run.info.status == "FINISHED"
        assert run.info.end_time - run.info.start_time == 1000
        assert run.data.params["hidden_size"] == str(case.hidden_size)
        assert run.data.metrics["speedup/step stacking_gru"] == 1.5
        tags = run.data.tags
        assert (tags["case_id"], tags["sweep"]) == (case.case_id, case.sweep)
        assert "mlflow.parentRunId" not in tags
    assert query(store, "select count(*) from metrics where is_nan or abs(value) > 1e300") == [(0,)]


def test_publishing_again_keeps_every_run_and_makes_none(uri, store, tmp_path):
    grid = small_grid()
    first = publish(uri, tmp_path, grid)
    everything = "select run_uuid, name, status, start_time, end_time, lifecycle_stage from runs order by run_uuid"
    before = query(store, everything)
    assert publish(uri, tmp_path, grid) == first
    assert query(store, everything) == before


def test_a_case_that_is_measured_again_gets_a_new_run_and_the_old_one_is_deleted(uri, tmp_path):
    grid = small_grid()
    first, width = publish(uri, tmp_path, grid), publish(uri, tmp_path, grid, "width")
    second = publish(uri, tmp_path, grid, median_s=2.0)
    assert not set(first.values()) & set(second.values())
    assert {run.info.run_id for run in active_runs(uri)} == set(second.values()) | set(width.values())
    client = client_of(uri)
    for run_id in first.values():
        old = client.get_run(run_id)
        assert old.info.lifecycle_stage == "deleted"
        assert old.data.metrics["time_ms/step stacking_gru"] != 2000.0


@pytest.mark.parametrize("step", ["log_batch", "set_terminated", "delete_run"])
def test_a_publisher_killed_at_any_step_leaves_nothing_that_the_next_does_not_mend(uri, monkeypatch, step, tmp_path):
    grid = small_grid()
    publish(uri, tmp_path, grid)
    with monkeypatch.context() as patch:
        patch.setattr(f"mlflow.MlflowClient.{step}", killed)
        with pytest.raises(Killed):
            publish(uri, tmp_path, grid, median_s=2.0)
    assert len(active_runs(uri)) == 4
    assert sum(run.info.status == "FINISHED" for run in active_runs(uri)) >= 3
    ids = publish(uri, tmp_path, grid, median_s=2.0)
    runs = active_runs(uri)
    assert sorted(run.info.run_id for run in runs) == sorted(ids.values())
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.metrics["time_ms/step stacking_gru"] == 2000.0


def test_after_two_publishers_of_one_case_the_next_leaves_one_run(uri, monkeypatch, tmp_path):
    grid = small_grid()
    original, others = type(client_of(uri)).log_batch, []

    def meet_another(*args, **kwargs):
        if not others:
            others.append(None)  # only the first call meets the other publisher
            publish(uri, tmp_path, grid)
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.log_batch", meet_another)
        with suppress(Exception):  # its run may be deleted by the other
            publish(uri, tmp_path, grid)
    assert {run.data.tags["case_id"] for run in active_runs(uri)} >= {case.case_id for case in grid.cases[:3]}
    ids = publish(uri, tmp_path, grid)
    assert sorted(run.info.run_id for run in active_runs(uri)) == sorted(ids.values())
    assert {run.info.status for run in active_runs(uri)} == {"FINISHED"}


def test_two_folders_with_one_study_leave_each_others_runs_alone(uri, reports, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    large, small = small_grid(), small_grid(sweeps={"article": {"sequence_length": [1, 10]}})
    of_one = publish(uri, one, large)
    report = report_of(uri, one, large, reports)
    of_two = publish(uri, two, small, median_s=2.0)
    other_report = report_of(uri, two, small, reports)
    shown = {run.info.run_id for run in active_runs(uri)}
    assert shown == {*of_one.values(), report, *of_two.values(), other_report}
    assert len(shown) == 3 + 1 + 2 + 1
    assert publish(uri, one, large) == of_one
    assert report_of(uri, one, large, reports) == report


def test_a_folder_is_told_by_machine_and_path_on_a_server_and_by_its_place_beside_a_database(tmp_path, monkeypatch):
    server, here, there = "http://127.0.0.1:5000", tmp_path / "a", tmp_path / "b"
    assert folder_tag(server, here) != folder_tag(server, there)
    of_this_machine = folder_tag(server, here)
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert folder_tag(server, here) not in (of_this_machine, folder_tag(server, there))
    embedded = [folder_tag(f"sqlite:///{folder}/mlflow.db", folder) for folder in (here, there)]
    assert embedded[0] == embedded[1]  # it was moved
    assert folder_tag(f"sqlite:///{here}/mlflow.db", there) != embedded[0]


def test_a_publisher_killed_among_the_artifacts_is_mended_by_the_next(uri, reports, monkeypatch, tmp_path):
    grid = small_grid()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", killed)
        with pytest.raises(Killed):
            report_of(uri, tmp_path, grid, reports)
    assert [run.info.status for run in active_runs(uri)] == ["RUNNING"]
    run_id = report_of(uri, tmp_path, grid, reports)
    assert [(run.info.run_id, run.info.status) for run in active_runs(uri)] == [(run_id, "FINISHED")]


def test_a_job_that_died_is_shown_until_it_has_a_result(uri, tmp_path):
    grid = small_grid()
    failure = Failure("timing", "KILLED", "timing was killed by SIGKILL", "the last\n</code><b>line")
    equivalence, untimed = equivalence_table(grid), timing_table(grid).slice(0, 0)
    request, cases = request_of(grid, "article"), [case.columns for case in grid.cases if case.sweep == "article"]
    died = publish_job(uri, tmp_path, request, equivalence, untimed, ENVIRONMENT, failure, cases)
    for run in active_runs(uri):
        assert run.info.status == "KILLED"
        assert (run.data.tags["verdict"], run.data.tags["failure"]) == ("not judged", failure.reason)
        assert run.data.tags["verdict/eval/stacking_gru"] == "equivalent"
        assert run.data.tags["mlflow.note.content"].endswith("\n\n    the last\n    </code><b>line")
        assert not any(key.startswith("time_ms") for key in run.data.metrics)
    assert publish_job(uri, tmp_path, request, equivalence, untimed, ENVIRONMENT, failure, cases) == died
    empty = equivalence.slice(0, 0), untimed
    assert set(publish_job(uri, tmp_path, request, *empty, ENVIRONMENT, failure, cases)) == set(died)
    ids = publish(uri, tmp_path, grid)
    assert {(run.info.run_id, run.info.status) for run in active_runs(uri)} == {
        (run_id, "FINISHED") for run_id in ids.values()
    }


def test_the_runs_of_cases_that_left_the_grid_are_deleted_with_the_next_report(uri, reports, tmp_path):
    grid = small_grid()
    ids = publish(uri, tmp_path, grid) | publish(uri, tmp_path, grid, "width")
    smaller = small_grid(sweeps={"article": {"sequence_length": [1, 10]}})
    report_of(uri, tmp_path, smaller, reports)
    shown = {run.info.run_id for run in active_runs(uri) if run.data.tags["kind"] == "case"}
    assert shown == {ids[case.case_id] for case in smaller.cases}


def test_a_moved_project_keeps_its_runs_and_nothing_is_left_elsewhere(uri, store, reports, tmp_path, monkeypatch):
    grid = small_grid()
    project = store.parent / "project"
    project.mkdir()
    shutil.move(store, project / "mlflow.db")
    here = f"sqlite:///{project}/mlflow.db"
    ids = publish(here, project, grid)
    report = report_of(here, project, grid, reports)
    elsewhere, moved = tmp_path / "elsewhere", tmp_path / "moved to"
    elsewhere.mkdir()
    shutil.move(project, moved)
    monkeypatch.chdir(elsewhere)
    there = f"sqlite:///{moved}/mlflow.db"
    assert publish(there, moved, grid) == ids
    assert report_of(there, moved, grid, reports) == report
    artifacts = local_artifacts(there, client_of(there).get_run(report).info.artifact_uri)
    assert (artifacts / "report.html").read_text() == "the text of report.html"
    assert artifacts.is_relative_to(moved)
    assert list(elsewhere.iterdir()) == []
    assert not (project / "mlflow.db").exists()


def test_a_deleted_study_comes_back_without_doubles(uri, tmp_path):
    grid = small_grid()
    publish(uri, tmp_path, grid)
    ids = publish(uri, tmp_path, grid, median_s=2.0)
    client = client_of(uri)
    client.delete_experiment(client.get_experiment_by_name("smoke").experiment_id)
    assert publish(uri, tmp_path, grid, median_s=2.0) == ids
    assert {run.info.run_id for run in active_runs(uri)} == set(ids.values())


def test_a_study_that_another_process_makes_in_between_is_used(uri, monkeypatch, tmp_path):
    grid = small_grid()
    publish(uri, tmp_path, grid)
    from mlflow import MlflowClient

    look_up, answers = MlflowClient.get_experiment_by_name, [None]
    monkeypatch.setattr(
        "mlflow.MlflowClient.get_experiment_by_name",
        lambda self, name: answers.pop() if answers else look_up(self, name),
    )
    publish(uri, tmp_path, grid, "width")
    assert len(active_runs(uri)) == 5


def test_more_entries_than_one_batch_takes_and_longer_ones_all_arrive(uri, tmp_path):
    candidates = ["stacking_gru", *(f"package.module{i}:Class" for i in range(20))]
    grid = small_grid(candidates=candidates, sweeps={"article": {"sequence_length": [1, 2]}})
    publish(uri, tmp_path, grid, reason="\0" + "x" * 6000)
    for run in active_runs(uri):
        assert len(run.data.tags["reason/step/stacking_gru"]) == 5000
        speedups = [key for key in run.data.metrics if key.startswith("speedup/step ")]
        assert len(speedups) == len(candidates)
        assert run.data.tags["verdict/train_same_seed/package.module19:Class"] in ("equivalent", "different")
        assert run.data.tags["timing/step/package.module19:Class"] == "faster"
        assert run.info.status == "FINISHED"


def test_a_hostile_study_is_only_a_name(uri, store, reports, tmp_path):
    study = """../../up it's "quoted" <script>alert(1)</script> %2e 😀"""
    grid = small_grid(study=study)
    publish(uri, tmp_path, grid)
    report_of(uri, tmp_path, grid, reports)
    assert len(active_runs(uri, study)) == 4
    copies = list((store.parent / "mlartifacts").glob("*/*/artifacts/report.html"))
    assert len(copies) == 1
    assert sorted(path.name for path in store.parent.iterdir() if path.is_dir()) == ["mlartifacts", "reports"]


def test_the_report_is_a_run_with_its_page_figures_and_tables(uri, store, reports, tmp_path):
    grid = small_grid()
    publish(uri, tmp_path, grid)
    run_id = report_of(uri, tmp_path, grid, reports)
    (run,) = [run for run in active_runs(uri) if run.data.tags["kind"] == "report"]
    assert (run.info.run_id, run.info.run_name, run.info.status) == (run_id, "report", "FINISHED")
    assert re.fullmatch(rf"mlflow-artifacts:/\w+/{run_id}/artifacts", run.info.artifact_uri)
    folder = store.parent / run.info.artifact_uri.replace("mlflow-artifacts:", "mlartifacts")
    copied = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    names = ("report.html", "figures/speedup.svg", "tables/verdicts.csv")
    assert copied == {name: f"the text of {name}" for name in names}
    assert report_of(uri, tmp_path, grid, reports) == run_id
    (reports / "figures" / "speedup.svg").write_text("another picture")
    assert report_of(uri, tmp_path, grid, reports) != run_id
    assert len(active_runs(uri)) == 4


def unavailable(uri):
    grid = small_grid()
    started = time.monotonic()
    with pytest.raises(TrackingUnavailable) as caught:
        publish(uri, Path(), grid)
    assert time.monotonic() - started < 15
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__  # a traceback would quote the address
    return str(caught.value)


def test_a_server_that_is_down_is_named_without_its_password():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        message = unavailable(f"http://user:{SECRET}@127.0.0.1:{port}")
    assert message == f"http://***@127.0.0.1:{port} is not available (Connection refused)"


def test_a_server_that_never_answers_is_given_up_within_15_seconds():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        message = unavailable(f"http://user:{SECRET}@127.0.0.1:{port}")
    assert message == f"http://***@127.0.0.1:{port} is not available (no answer in time)"


@pytest.mark.slow
def test_the_ui_serves_its_file_to_this_machine_alone_until_ctrl_c(uri, store, reports, tmp_path):
    grid = small_grid()
    publish(uri, tmp_path, grid)
    run_id = report_of(uri, tmp_path, grid, reports)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-c", SERVE, uri, str(store.parent), str(port), "smoke"]
        ui = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=reports)
        link = ui.stdout.readline().strip()
    try:
        page = r"/#/experiments/(\d+)/runs\?workflowType=machine_learning&compareRunsMode=CHART"
        match = re.fullmatch(rf"(http://127\.0\.0\.1:\d+){page}", link)
        assert match, link
        server, experiment_id = match.groups()
        assert not server.endswith(f":{port}")
        wait_for(server, ui)
        ids = publish(server, tmp_path, grid)  # its own address is a store like any other
        assert publish(server, tmp_path, grid) == ids
        with urllib.request.urlopen(f"{server}/get-artifact?path=figures/speedup.svg&run_uuid={run_id}") as answer:
            assert answer.read() == b"the text of figures/speedup.svg"
        asked = f"{server}/api/2.0/mlflow/experiments/get-by-name?experiment_name=smoke"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(asked, headers={"Host": "10.evil.example"}))
        with urllib.request.urlopen(asked) as answer:
            assert json.load(answer)["experiment"]["experiment_id"] == experiment_id
    finally:
        ui.send_signal(signal.SIGINT)
        ui.communicate(timeout=60)
    assert ui.returncode == 0
    assert "is not available" in unavailable(server)
