"""Results become runs once and only once, whatever dies in between; a server that does not answer costs seconds."""

import json
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from rnn_parity.commands.processes import Failure
from rnn_parity.tracking import TrackingUnavailable, publish_job, publish_report
from rnn_parity.tracking.store import local_artifacts
from tracked import ENVIRONMENT, SERVE, equivalence_table, query, request_of, small_grid, timing_table

TRICKLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"

SECRET = "pa55word"


class Killed(BaseException):
    """Nothing catches it, as nothing survives a kill."""


def publish(uri, grid, sweep="article", **timing):
    tables = equivalence_table(grid), timing_table(grid, **timing)
    return publish_job(uri, request_of(grid, sweep), *tables, ENVIRONMENT).run_ids


def case_ids(grid):
    return {case.case_id for case in grid.cases}


def client_of(uri):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def active_runs(uri, study="smoke"):
    client = client_of(uri)
    return client.search_runs([client.get_experiment_by_name(study).experiment_id])


@pytest.fixture
def store(new_store, tmp_path) -> Path:
    """The database of an embedded store of the test's own."""
    return Path(shutil.copy(new_store, tmp_path))


@pytest.fixture
def uri(store):
    return f"sqlite:///{store}"


@pytest.fixture
def reports(tmp_path):
    folder = tmp_path / "reports"
    for name in ("report.html", "report.md", "figures/speedup.svg", "tables/verdicts.csv", "reference/old.html"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the text of {name}")
    return folder


def test_every_case_is_a_flat_run_that_says_what_its_rows_say(uri, store):
    grid = small_grid()
    ids = publish(uri, grid) | publish(uri, grid, "width")
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
        assert (tags["case_id"], tags["sweep"], tags["complete"]) == (case.case_id, case.sweep, "true")
        assert "mlflow.parentRunId" not in tags
    assert query(store, "select count(*) from metrics where is_nan or abs(value) > 1e300") == [(0,)]


def test_publishing_again_keeps_every_run_and_makes_none(uri, store):
    grid = small_grid()
    first = publish(uri, grid)
    everything = "select run_uuid, name, status, start_time, end_time, lifecycle_stage from runs order by run_uuid"
    before = query(store, everything)
    assert publish(uri, grid) == first
    assert query(store, everything) == before


def test_a_case_that_is_measured_again_gets_a_new_run_and_the_old_one_is_deleted(uri):
    grid = small_grid()
    first, width = publish(uri, grid), publish(uri, grid, "width")
    second = publish(uri, grid, median_s=2.0)
    assert not set(first.values()) & set(second.values())
    assert {run.info.run_id for run in active_runs(uri)} == set(second.values()) | set(width.values())
    client = client_of(uri)
    for run_id in first.values():
        old = client.get_run(run_id)
        assert old.info.lifecycle_stage == "deleted"
        assert old.data.metrics["median_ms/step stacking_gru"] != 2000.0


@pytest.mark.parametrize("step", ["log_batch", "set_tag", "set_terminated", "delete_run"])
def test_a_publisher_killed_at_any_step_leaves_nothing_that_the_next_does_not_mend(uri, monkeypatch, step):
    grid = small_grid()
    publish(uri, grid)

    def killed(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(f"mlflow.MlflowClient.{step}", killed)
        with pytest.raises(Killed):
            publish(uri, grid, median_s=2.0)
    assert len(active_runs(uri)) == 4
    assert sum(run.data.tags.get("complete") == "true" for run in active_runs(uri)) >= 3
    ids = publish(uri, grid, median_s=2.0)
    runs = active_runs(uri)
    assert sorted(run.info.run_id for run in runs) == sorted(ids.values())
    for run in runs:
        assert (run.info.status, run.data.tags["complete"]) == ("FINISHED", "true")
        assert run.data.metrics["median_ms/step stacking_gru"] == 2000.0


@pytest.mark.parametrize("step", ["create_run", "log_batch", "set_tag", "set_terminated"])
def test_two_publishers_of_one_case_agree_on_one_run(uri, monkeypatch, step):
    grid = small_grid()
    original, others = getattr(type(client_of(uri)), step), []

    def meet_another(*args, **kwargs):
        if not others:
            others.append(None)  # only the first call meets the other publisher
            others.append(publish(uri, grid))
        return original(*args, **kwargs)

    monkeypatch.setattr(f"mlflow.MlflowClient.{step}", meet_another)
    ids = publish(uri, grid)
    assert set(ids) == set(others[1])
    runs = active_runs(uri)
    assert sorted(run.info.run_id for run in runs) == sorted(ids.values())
    assert {(run.info.status, run.data.tags["complete"]) for run in runs} == {("FINISHED", "true")}


def test_a_publisher_killed_among_the_artifacts_is_mended_by_the_next(uri, reports, monkeypatch):
    grid = small_grid()

    def killed(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", killed)
        with pytest.raises(Killed):
            publish_report(uri, grid.config, case_ids(grid), reports, ENVIRONMENT)
    ((_, left),) = [(run.info.run_id, run.info.status) for run in active_runs(uri)]
    assert left == "RUNNING"
    (run_id,) = publish_report(uri, grid.config, case_ids(grid), reports, ENVIRONMENT).run_ids.values()
    assert [(run.info.run_id, run.info.status) for run in active_runs(uri)] == [(run_id, "FINISHED")]


def test_a_publisher_that_raises_leaves_no_run_running(uri, reports, monkeypatch):
    grid = small_grid()
    monkeypatch.setattr("shutil.copyfile", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish_report(uri, grid.config, case_ids(grid), reports, ENVIRONMENT)
    assert [run.info.status for run in active_runs(uri)] == ["FAILED"]


def test_a_job_that_died_is_shown_until_it_has_a_result(uri):
    grid = small_grid()
    failure = Failure("timing", "KILLED", "timing was killed by SIGKILL", "the last\n</code><b>line")
    equivalence, timing = equivalence_table(grid), timing_table(grid)
    request, cases = request_of(grid, "article"), [case.columns for case in grid.cases if case.sweep == "article"]
    died = publish_job(uri, request, equivalence, timing.slice(0, 0), ENVIRONMENT, failure, cases).run_ids
    for run in active_runs(uri):
        assert run.info.status == "KILLED"
        tags = run.data.tags
        assert (tags["verdict"], tags["failure"], tags["complete"]) == ("failed", failure.reason, "false")
        assert tags["verdict/eval/stacking_gru"] == "equivalent"
        assert tags["mlflow.note.content"].endswith("\n\n    the last\n    </code><b>line")
        assert not any(key.startswith("median_ms") for key in run.data.metrics)
    assert publish_job(uri, request, equivalence, timing.slice(0, 0), ENVIRONMENT, failure, cases).run_ids == died
    empty = equivalence.slice(0, 0), timing.slice(0, 0)
    assert set(publish_job(uri, request, *empty, ENVIRONMENT, failure, cases).run_ids) == set(died)
    ids = publish(uri, grid)
    assert {(run.info.run_id, run.info.status) for run in active_runs(uri)} == {
        (run_id, "FINISHED") for run_id in ids.values()
    }


def test_the_runs_of_cases_that_left_the_grid_are_deleted_with_the_next_report(uri, reports):
    grid = small_grid()
    ids = publish(uri, grid) | publish(uri, grid, "width")
    smaller = small_grid(sweeps={"article": {"sequence_length": [1, 10]}})
    publish_report(uri, smaller.config, case_ids(smaller), reports, ENVIRONMENT)
    shown = {run.info.run_id for run in active_runs(uri) if run.data.tags["kind"] == "case"}
    assert shown == {ids[case_id] for case_id in case_ids(smaller)}


def test_a_moved_project_keeps_its_runs_and_nothing_is_left_elsewhere(uri, store, reports, tmp_path, monkeypatch):
    grid = small_grid()
    project = store.parent / "project"
    project.mkdir()
    shutil.move(store, project / "mlflow.db")
    here = f"sqlite:///{project}/mlflow.db"
    ids = publish(here, grid)
    (report,) = publish_report(here, grid.config, case_ids(grid), reports, ENVIRONMENT).run_ids.values()
    elsewhere, moved = tmp_path / "elsewhere", tmp_path / "moved to"
    elsewhere.mkdir()
    shutil.move(project, moved)
    monkeypatch.chdir(elsewhere)
    there = f"sqlite:///{moved}/mlflow.db"
    assert publish(there, grid) == ids
    assert publish_report(there, grid.config, case_ids(grid), reports, ENVIRONMENT).run_ids == {"report": report}
    artifacts = local_artifacts(there, client_of(there).get_run(report).info.artifact_uri)
    assert (artifacts / "report.html").read_text() == "the text of report.html"
    assert artifacts.is_relative_to(moved)
    assert list(elsewhere.iterdir()) == []
    assert not (project / "mlflow.db").exists()


def test_a_deleted_study_comes_back_without_doubles(uri):
    grid = small_grid()
    publish(uri, grid)
    ids = publish(uri, grid, median_s=2.0)
    client = client_of(uri)
    client.delete_experiment(client.get_experiment_by_name("smoke").experiment_id)
    assert publish(uri, grid, median_s=2.0) == ids
    assert {run.info.run_id for run in active_runs(uri)} == set(ids.values())


def blind_once(monkeypatch):
    """Let the next look-up of an experiment find none, as if another process made it right after."""
    from mlflow import MlflowClient

    look_up, answers = MlflowClient.get_experiment_by_name, [None]
    monkeypatch.setattr(
        "mlflow.MlflowClient.get_experiment_by_name",
        lambda self, name: answers.pop() if name != "Default" and answers else look_up(self, name),
    )


def test_a_study_that_another_process_makes_in_between_is_used(uri, monkeypatch):
    grid = small_grid()
    publish(uri, grid)
    blind_once(monkeypatch)
    publish(uri, grid, "width")
    assert len(active_runs(uri)) == 5


def test_more_entries_than_one_batch_takes_all_arrive(uri):
    candidates = ["stacking_gru", *(f"package.module{i}:Class" for i in range(20))]
    grid = small_grid(candidates=candidates, sweeps={"article": {"sequence_length": [1, 2]}})
    publish(uri, grid)
    for run in active_runs(uri):
        speedups = [key for key in run.data.metrics if key.startswith("speedup/step ")]
        assert len(speedups) == len(candidates)
        assert run.data.tags["verdict/train_same_seed/package.module19:Class"] in ("equivalent", "different")
        assert run.data.tags["timing/step/package.module19:Class"] == "faster"
        assert run.data.tags["complete"] == "true"


@pytest.mark.parametrize("study", ['it\'s "quoted"', "../../up", "<script>alert(1)</script> %2e 😀"])
def test_a_hostile_study_is_only_a_name(uri, store, reports, study):
    grid = small_grid(study=study)
    publish(uri, grid)
    publish_report(uri, grid.config, case_ids(grid), reports, ENVIRONMENT)
    assert len(active_runs(uri, study)) == 4
    copies = list((store.parent / "mlartifacts").glob("*/*/artifacts/report.html"))
    assert len(copies) == 1
    assert sorted(path.name for path in store.parent.iterdir() if path.is_dir()) == ["mlartifacts", "reports"]


def test_the_report_is_a_run_with_its_page_figures_and_tables(uri, store, reports):
    grid = small_grid()
    publish(uri, grid)
    (run_id,) = publish_report(uri, grid.config, case_ids(grid), reports, ENVIRONMENT).run_ids.values()
    (run,) = [run for run in active_runs(uri) if run.data.tags["kind"] == "report"]
    assert (run.info.run_id, run.info.run_name, run.info.status) == (run_id, "report", "FINISHED")
    folder = store.parent / "mlartifacts" / "smoke" / run_id / "artifacts"
    assert run.info.artifact_uri == f"mlflow-artifacts:/smoke/{run_id}/artifacts"
    copied = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    names = ("report.html", "figures/speedup.svg", "tables/verdicts.csv")
    assert copied == {name: f"the text of {name}" for name in names}
    assert publish_report(uri, grid.config, case_ids(grid), reports, ENVIRONMENT).run_ids == {"report": run_id}
    (reports / "figures" / "speedup.svg").write_text("another picture")
    assert publish_report(uri, grid.config, case_ids(grid), reports, ENVIRONMENT).run_ids != {"report": run_id}
    assert len(active_runs(uri)) == 4


def unavailable(uri):
    grid = small_grid()
    started = time.monotonic()
    with pytest.raises(TrackingUnavailable) as caught:
        publish(uri, grid)
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


def test_a_server_that_answers_byte_by_byte_is_given_up_too():
    done = threading.Event()

    class Trickling(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            self.request.sendall(TRICKLE)
            with suppress(OSError):
                while not done.wait(1):
                    self.request.sendall(b" ")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Trickling) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        message = unavailable(f"http://user:{SECRET}@127.0.0.1:{port}")
        done.set()
        server.shutdown()
    assert message == f"http://***@127.0.0.1:{port} gave no answer in 10 s"


def test_a_killed_ui_leaves_no_server_behind(uri, store):
    command = [sys.executable, "-c", SERVE, uri, str(store.parent), "0", "smoke"]
    ui = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    while "http://" not in (line := ui.stdout.readline()):
        assert line
    servers = psutil.Process(ui.pid).children(recursive=True)
    assert servers
    ui.kill()
    ui.communicate()
    assert psutil.wait_procs(servers, timeout=60)[1] == []


def test_the_ui_serves_what_is_published_to_it_or_to_its_file_until_ctrl_c(uri, store, reports, monkeypatch):
    grid = small_grid()
    ids = publish(uri, grid)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-c", SERVE, uri, str(store.parent), str(port), "smoke"]
        ui = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=reports)
        try:
            link = ui.stdout.readline().strip()
            match = re.fullmatch(
                r"(http://127\.0\.0\.1:\d+)/#/experiments/(\d+)/runs\?"
                r"workflowType=machine_learning&compareRunsMode=CHART",
                link,
            )
            assert match, link
            server, experiment_id = match.groups()
            assert not server.endswith(f":{port}")
            with monkeypatch.context() as patch:
                blind_once(patch)
                assert publish(server, grid) == ids
            (run_id,) = publish_report(server, grid.config, case_ids(grid), reports, ENVIRONMENT).run_ids.values()
            assert publish_report(uri, grid.config, case_ids(grid), reports, ENVIRONMENT).run_ids == {"report": run_id}
            address = f"{server}/get-artifact?path=figures/speedup.svg&run_uuid={run_id}"
            with urllib.request.urlopen(address) as answer:
                assert answer.read() == b"the text of figures/speedup.svg"
            request = urllib.request.Request(
                f"{server}/api/2.0/mlflow/experiments/get-by-name?experiment_name=smoke",
                headers={"Host": "10.evil.example"},
            )
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(request)
            with urllib.request.urlopen(request.full_url) as answer:
                assert json.load(answer)["experiment"]["experiment_id"] == experiment_id
        finally:
            ui.send_signal(signal.SIGINT)
            ui.communicate(timeout=60)
    assert ui.returncode == 0
    assert "is not available" in unavailable(server)
