"""A team's server for real: MLflow on Postgres with proxied artifacts, reached by MLFLOW_TRACKING_URI alone."""

import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psycopg
import pytest

from conftest import missing
from pipeline import SMOKE, snakemake
from project import PROJECT
from rnn_parity.experiment.grid import make_grid
from rnn_parity.tracking import TrackingUnavailable, publish_report
from rnn_parity.tracking.publish import publish_job
from tracked import ENVIRONMENT, equivalence_table, request_of, small_grid, timing_table, wait_for

pytestmark = pytest.mark.server


def postgres_program(name):
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """A database of the tests' own; its address."""
    initdb, server = postgres_program("initdb"), postgres_program("postgres")
    if not (initdb and server):
        missing("Postgres")
    folder = tmp_path_factory.mktemp("postgres")
    other = {}
    if os.getuid() == 0:  # it refuses to run as root
        owner = pwd.getpwnam("nobody")
        other = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        for parent in folder.parents[: len(folder.relative_to(tempfile.gettempdir()).parts) - 1]:
            parent.chmod(0o755)
    data, port = folder / "data", free_port()
    create = [initdb, "-D", data, "-U", "mlflow", "-A", "trust", "-N"]
    subprocess.run(create, check=True, stdout=subprocess.DEVNULL, cwd=folder, **other)
    settings = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-F"]
    with (folder / "log").open("w") as log:
        running = subprocess.Popen([server, "-D", data, *settings], stdout=log, stderr=log, cwd=folder, **other)
    address = f"postgresql://mlflow@127.0.0.1:{port}/postgres"
    for _ in range(1200):
        try:
            psycopg.connect(address).close()
            break
        except psycopg.OperationalError:
            assert running.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
    yield address
    running.send_signal(signal.SIGINT)
    running.wait(60)


@contextmanager
def mlflow_server(postgres, folder, port):
    """`mlflow server`, until it is killed at the end."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--allowed-hosts", "127.0.0.1:*"]
    settings = {
        "MLFLOW_BACKEND_STORE_URI": postgres.replace("postgresql:", "postgresql+psycopg:"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "server.log").open("a") as log:
        server = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}", server)
        yield server
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(60)


def active_runs(postgres, study):
    """Id, name and status of every run of a study that is not deleted."""
    query = """select r.run_uuid, r.name, r.status from runs r
               join experiments e on e.experiment_id = r.experiment_id
               where r.lifecycle_stage = 'active' and e.name = %s"""
    with psycopg.connect(postgres) as connection:
        return connection.execute(query, [study]).fetchall()


def test_a_finished_run_reaches_a_server_that_only_the_environment_names(postgres, finished_copy, tmp_path_factory):
    folder, port = finished_copy, free_port()
    for file in folder.glob("mlflow.db*"):  # its log and lock too
        file.unlink()
    shutil.rmtree(folder / "mlartifacts")
    with mlflow_server(postgres, tmp_path_factory.mktemp("server"), port):
        done = snakemake(folder, "publish", MLFLOW_TRACKING_URI=f"http://me:pa55word@127.0.0.1:{port}")
        assert done.returncode == 0, done.stdout + done.stderr
        report = next(run_id for run_id, name, *_ in active_runs(postgres, "smoke") if name == "report")
        address = f"http://127.0.0.1:{port}/get-artifact?path=report.html&run_uuid={report}"
        with urllib.request.urlopen(address) as answer:
            assert answer.read() == (folder / "reports/report.html").read_bytes()
    shown = active_runs(postgres, "smoke")
    assert {status for _, _, status in shown} == {"FINISHED"}
    assert len(shown) == len(make_grid(SMOKE).cases) + 2 + 1  # two of a decoder, and the report
    assert not (folder / "mlflow.db").exists()
    assert not list(folder.glob("ml*"))
    written = [path for top in ("results", "logs", "reports", ".snakemake") for path in (folder / top).rglob("*")]
    assert not [path for path in written if path.is_file() and b"pa55word" in path.read_bytes()]
    assert "pa55word" not in done.stdout + done.stderr


def test_a_server_that_dies_in_mid_publish_has_every_case_once_when_it_is_back(postgres, tmp_path, monkeypatch):
    grid, port = small_grid(study="restarted"), free_port()
    uri = f"http://127.0.0.1:{port}"
    tables = equivalence_table(grid), timing_table(grid)

    def publish():
        return publish_job(uri, tmp_path, request_of(grid, "article"), *tables, ENVIRONMENT)

    import mlflow

    log_batch, calls = mlflow.MlflowClient.log_batch, []
    with mlflow_server(postgres, tmp_path, port) as server:

        def dies_at_the_second(*args, **kwargs):
            calls.append(args)
            if len(calls) == 2:
                os.killpg(server.pid, signal.SIGKILL)
            return log_batch(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr("mlflow.MlflowClient.log_batch", dies_at_the_second)
            with pytest.raises(TrackingUnavailable):
                publish()
    assert len(calls) == 2
    assert sorted(run[2] for run in active_runs(postgres, "restarted")) == ["FINISHED", "RUNNING"]
    with mlflow_server(postgres, tmp_path, port):
        ids = publish()
        assert publish() == ids
        reports = tmp_path / "reports"
        reports.mkdir()
        (reports / "report.html").write_text("<p>the report</p>")
        publish_report(uri, tmp_path, grid.config, set(ids), reports, ENVIRONMENT)
    shown = active_runs(postgres, "restarted")
    assert {status for _, _, status in shown} == {"FINISHED"}
    assert set(ids.values()) < {run[0] for run in shown}
    assert len(shown) == len(ids) + 1 == 4


def test_the_recipe_for_a_server_with_passwords_starts_and_tells_a_wrong_one(tmp_path):
    """As docs/tracking.md gives it, on another port; what it installs is there."""
    if importlib.util.find_spec("flask_wtf") is None:
        missing("mlflow[auth]")
    text, port, grid = (PROJECT / "docs/tracking.md").read_text(), free_port(), small_grid(study="password")
    (recipe,) = (block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "basic-auth" in block)
    script = (
        recipe.replace("--port 5000", f"--port {port}")
        .partition("\n")[2]
        .replace("=false mlflow", "=false exec mlflow")
    )
    variables = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    server = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, env=variables, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}", server)
        tables = equivalence_table(grid), timing_table(grid)
        for password, error in (
            ("wrong", "MLFLOW_TRACKING_PASSWORD are missing or wrong"),
            ("a-password-of-your-own", None),
        ):
            uri = f"http://me:{password}@127.0.0.1:{port}"
            with pytest.raises(TrackingUnavailable, match=error) if error else nullcontext():
                assert publish_job(uri, tmp_path, request_of(grid, "article"), *tables, ENVIRONMENT)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(60)
