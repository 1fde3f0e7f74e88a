"""The embedded store is there whole or not at all, whoever makes it at the same moment and whoever is killed at it."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock, Timeout

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.tracking_uri import HEAD_VARIABLE, here
from rnn_parity.tables import write_table
from rnn_parity.tracking import TrackingUnavailable, ensure_store, redact, resolve_uri
from rnn_parity.tracking.publish import publish_job
from rnn_parity.tracking.store import artifact_location, connection, is_on_network, local_artifacts
from tracked import ENVIRONMENT, equivalence_table, query, request_of, small_grid, timing_table

SECRET = "pa55word"

MAKE = """
import sys
from pathlib import Path
from rnn_parity.tracking import ensure_store
ensure_store("sqlite:///" + sys.argv[1])
"""

EIGHT = """
import json, multiprocessing, sys
from pathlib import Path
from rnn_parity import tables
from rnn_parity.tracking import ensure_store
from rnn_parity.tracking.publish import publish_job
import mlflow.store.tracking.sqlalchemy_store  # once, before the fork

folder, request, environment = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])
results = [tables.read_table(folder / f"{name}.parquet", schema)
           for name, schema in (("equivalence", tables.EQUIVALENCE), ("timing", tables.TIMING))]

def make_and_publish(case_ids, together):
    own = [table.filter([value in case_ids for value in table["case_id"].to_pylist()]) for table in results]
    together.wait()
    ensure_store(f"sqlite:///{folder}/mlflow.db")
    publish_job(f"sqlite:///{folder}/mlflow.db", folder, request, *own, environment)

case_ids = sorted(set(results[0]["case_id"].to_pylist()))
context = multiprocessing.get_context("fork")
together = context.Barrier(8)
shares = [case_ids[writer::8] for writer in range(8)]
publishers = [context.Process(target=make_and_publish, args=(share, together)) for share in shares]
for publisher in publishers:
    publisher.start()
for publisher in publishers:
    publisher.join()
sys.exit([publisher.exitcode for publisher in publishers] != [0] * 8)
"""


def is_whole(database: Path) -> bool:
    (revision,) = query(database, "select version_num from alembic_version")
    return query(database, "pragma integrity_check") == [("ok",)] and len(revision) == 1


def test_the_configured_store_comes_before_the_environment_and_that_before_the_projects_own(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert resolve_uri(None, tmp_path) == "http://127.0.0.1:5000"
    assert resolve_uri("sqlite:////data/a.db", tmp_path) == "sqlite:////data/a.db"


def test_a_relative_database_is_one_of_the_project_wherever_the_command_is_started(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert resolve_uri("sqlite:///runs/a.db", tmp_path / "project") == f"sqlite:///{tmp_path}/project/runs/a.db"
    assert resolve_uri("sqlite:///a.db?timeout=9", tmp_path) == f"sqlite:///{tmp_path}/a.db?timeout=9"


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///data/mlruns", "sqlite://", "sqlite:///:memory:"])
def test_what_keeps_no_runs_is_refused_by_its_key(tmp_path, monkeypatch, uri):
    with pytest.raises(InputError, match=r"^tracking\.uri: holds .*expected sqlite:///PATH"):
        resolve_uri(uri, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match=r"^MLFLOW_TRACKING_URI: holds .*expected sqlite:///PATH"):
        resolve_uri(None, tmp_path)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (f"http://user:{SECRET}@host:5000/path", "http://***@host:5000/path"),
        (f"https://user:a@{SECRET}/b@host", "https://***@host"),
        (f"postgresql+psycopg://user:{SECRET}#?@db/mlflow", "postgresql+psycopg://***@db/mlflow"),
        (f"postgresql://db/mlflow?password={SECRET}", "postgresql://db/mlflow?***"),
        (f"https://{SECRET}@host", "https://***@host"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_credentials_are_not_shown(uri, shown):
    assert redact(uri) == shown


def test_artifacts_stay_inside_their_folder(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    studies = ["smoke", "../smoke", "a/b", "a b", "a'b", "%2e%2e", "😀", "x" * 200, "x" * 199]
    locations = [artifact_location(uri, study) for study in studies]
    assert len(set(locations)) == len(studies)
    for location in locations:
        assert local_artifacts(uri, f"{location}/run/artifacts").parents[2] == tmp_path / "mlartifacts"
    with pytest.raises(InputError, match="leads out of"):
        local_artifacts(uri, "mlflow-artifacts:/../../etc")
    assert artifact_location("http://127.0.0.1:5000", "smoke") is None


@pytest.mark.slow
def test_eight_at_once_make_one_store_and_lose_nothing(tmp_path):
    candidates = ["stacking_gru", *(f"package.module:Class{number}" for number in range(4))]
    sweeps = {"eight": {"hidden_size": [4, 5, 6, 7, 8, 9, 10, 11], "sequence_length": list(range(1, 7))}}
    grid = small_grid(candidates=candidates, sweeps=sweeps)
    write_table(tmp_path / "equivalence.parquet", equivalence_table(grid))
    write_table(tmp_path / "timing.parquet", timing_table(grid))
    texts = [grid.publish_request(grid.jobs[0]), json.dumps(ENVIRONMENT)]
    command = [sys.executable, "-c", EIGHT, str(tmp_path), *texts]
    eight = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert eight.returncode == 0, eight.stderr
    database = tmp_path / "mlflow.db"
    assert is_whole(database)
    assert query(database, "pragma journal_mode") == [("wal",)]
    shown = query(database, "select name, status from runs where lifecycle_stage = 'active'")
    names = [f"eight H={case.hidden_size} T={case.sequence_length}" for case in grid.cases]
    assert sorted(shown) == sorted((name, "FINISHED") for name in names)
    assert len(shown) == 48
    ((metrics_per_run,),) = set(query(database, "select count(*) from latest_metrics group by run_uuid"))
    assert metrics_per_run >= 100
    assert query(database, "select count(*) from metrics") == [(48 * metrics_per_run,)]
    assert query(database, "select count(*) from experiments where name = 'smoke'") == [(1,)]
    assert not list(tmp_path.glob("*.creating*"))


@pytest.mark.slow
def test_a_store_whose_maker_is_killed_is_made_by_the_next(tmp_path):
    database, building = tmp_path / "mlflow.db", tmp_path / "mlflow.db.creating"
    maker = subprocess.Popen([sys.executable, "-c", MAKE, str(database)])
    while not (building.exists() and building.stat().st_size > 400_000):
        assert maker.poll() is None
        os.sched_yield()
    maker.kill()
    maker.wait()
    assert not database.exists()
    assert building.exists()
    ensure_store(f"sqlite:///{database}")
    assert is_whole(database)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_the_log_of_a_database_that_was_taken_away_is_not_played_into_the_next(new_store, tmp_path):
    old, database = shutil.copy(new_store, tmp_path / "old.db"), tmp_path / "mlflow.db"
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("create table left_over (x)")
        shutil.copy(f"{old}-wal", f"{database}-wal")
    ensure_store(f"sqlite:///{database}")
    assert is_whole(database)
    assert query(database, "select name from sqlite_master where name = 'left_over'") == []


def test_another_schema_is_refused_with_the_way_out_and_left_as_it_was(new_store, tmp_path):
    database = Path(shutil.copy(new_store, tmp_path))
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update alembic_version set version_num = '0a1b2c'")
    grid = small_grid()
    tables = equivalence_table(grid), timing_table(grid)
    with pytest.raises(InputError, match="found version 0a1b2c, .* then run 'mlflow db upgrade") as refused:
        publish_job(f"sqlite:///{database}", tmp_path, request_of(grid, "article"), *tables, ENVIRONMENT)
    assert str(refused.value).startswith(f"{database}: ")
    assert "\n" not in str(refused.value)
    assert not isinstance(refused.value, TrackingUnavailable)
    assert query(database, "select * from alembic_version") == [("0a1b2c",)]


@pytest.mark.parametrize("text", ["no database", ""])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path, text):
    database = tmp_path / "mlflow.db"
    database.write_text(text)
    with pytest.raises(InputError, match=r"mlflow\.db: cannot be used \(.*; fix that .*, or move the file away"):
        ensure_store(f"sqlite:///{database}")
    assert database.read_text() == text


def test_a_database_on_a_network_has_no_wal(tmp_path, monkeypatch):
    mounts = {"/": "ext4", "/home/a b": "nfs4", "/mnt": "fuse.sshfs", "/mnt/own": "tmpfs"}
    partitions = [SimpleNamespace(mountpoint=point, fstype=kind) for point, kind in mounts.items()]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: partitions)
    assert is_on_network(Path("/home/a b/project"))
    assert is_on_network(Path("/mnt/project"))
    assert not is_on_network(Path("/mnt/own/project"))
    assert not is_on_network(Path("/home/ab"))
    mounts = [SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs")]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: mounts)
    ensure_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert query(tmp_path / "mlflow.db", "pragma journal_mode") == [("delete",)]


ON_A_FULL_DISK = """
import multiprocessing, shutil, subprocess, sys
from pathlib import Path
from rnn_parity import tables, tracking
from rnn_parity.experiment.errors import InputError
from rnn_parity.tracking.publish import publish_job
from tracked import ENVIRONMENT, equivalence_table, query, request_of, small_grid, timing_table

disk, grid = Path(sys.argv[1]), small_grid()
uri, rows = f"sqlite:///{disk}/mlflow.db", (equivalence_table(grid), timing_table(grid))

def mount(options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)

def act(function, *arguments):
    try:
        function(*arguments)
        print("done", flush=True)
    except InputError as error:
        print(error, flush=True)

def attempt(*call):  # each is a command of its own: MLflow keeps connections to a database
    process = multiprocessing.get_context("fork").Process(target=act, args=call)
    process.start()
    process.join()

mount("size=400k")
attempt(tables.write_text, disk / "other.json", "x" * 900_000)
attempt(tracking.ensure_store, uri)
mount("remount,size=9m")
attempt(tracking.ensure_store, uri)
(disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - 80_000))
publish = publish_job, uri, disk, request_of(grid, "article"), *rows, ENVIRONMENT
attempt(*publish)
(disk / "ballast").unlink()
attempt(*publish)
print(query(disk / "mlflow.db", "pragma integrity_check"), flush=True)
print(query(disk / "mlflow.db", "select status from runs where lifecycle_stage = 'active'"))
"""


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_after_some_space_is_freed_it_goes_on(tmp_path):
    namespace = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")  # as in a container that may make no user namespaces
    command = [*namespace, sys.executable, "-c", ON_A_FULL_DISK, str(tmp_path)]
    path = os.pathsep.join(sys.path)
    full = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert (full.returncode, full.stderr) == (0, "")  # no traceback of MLflow's
    other, making, made, publishing, published, whole, shown = full.stdout.splitlines()
    assert other.startswith(f"{tmp_path}/other.json: the disk is full")
    for refused in (making, publishing):
        assert refused.startswith(f"{tmp_path}/mlflow.db: cannot be used (")
        assert re.search(r"; \d\.\d MB are free on its disk\); fix that and run the same command again", refused)
    assert made == published == "done"
    assert whole == "[('ok',)]"
    assert shown == str([("FINISHED",)] * 3)


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644)])
def test_a_store_is_as_writable_as_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        ensure_store(f"sqlite:///{tmp_path}/mlflow.db")
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "mlflow.db": mode,
        "mlflow.db.lock": mode,
    }


def test_a_server_has_nothing_to_create(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ensure_store("http://127.0.0.1:1")
    assert not list(tmp_path.iterdir())


def test_a_database_on_a_network_is_written_by_the_head_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("rnn_parity.tracking.store.is_on_network", lambda folder: True)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(InputError, match=r"mlflow.db: is on a network file system, and this job runs on .*; expected"):
        ensure_store(uri)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv(HEAD_VARIABLE, here())  # the head is a job itself
    ensure_store(uri)
    monkeypatch.delenv("SLURM_JOB_ID")
    with connection(uri) as client, pytest.raises(Timeout), FileLock(tmp_path / "mlflow.db.lock", timeout=0):
        client.search_experiments()
    monkeypatch.setattr("rnn_parity.tracking.store.is_on_network", lambda folder: False)
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    ensure_store(uri)
