"""The embedded store is there whole or not at all, whoever makes it at the same moment and whoever is killed at it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rnn_parity.errors import InputError
from rnn_parity.tables import write_table
from rnn_parity.tracking import ensure_store, redact, resolve_uri
from rnn_parity.tracking.store import artifact_location, local_artifacts
from tracked import ENVIRONMENT, equivalence_table, query, small_grid, timing_table

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
from rnn_parity.tracking import ensure_store, publish_job
import mlflow.store.tracking.sqlalchemy_store  # once, before the fork

folder, request, environment = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])
results = [tables.read_table(folder / f"{name}.parquet", schema)
           for name, schema in (("equivalence", tables.EQUIVALENCE), ("timing", tables.TIMING))]

def make_and_publish(case_id, together):
    own = [table.filter([value == case_id for value in table["case_id"].to_pylist()]) for table in results]
    together.wait()
    ensure_store(f"sqlite:///{folder}/mlflow.db")
    publish_job(f"sqlite:///{folder}/mlflow.db", request, *own, environment)

case_ids = sorted(set(results[0]["case_id"].to_pylist()))
context = multiprocessing.get_context("fork")
together = context.Barrier(len(case_ids))
publishers = [context.Process(target=make_and_publish, args=(case_id, together)) for case_id in case_ids]
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
    assert locations[0] == "mlflow-artifacts:/smoke"
    assert len({location.lower() for location in locations}) == len(studies)
    for location in locations:
        assert local_artifacts(uri, f"{location}/run/artifacts").parents[2] == tmp_path / "mlartifacts"
    with pytest.raises(InputError, match="leads out of"):
        local_artifacts(uri, "mlflow-artifacts:/../../etc")
    assert artifact_location("http://127.0.0.1:5000", "smoke") is None


def test_eight_at_once_make_one_store_and_lose_no_run(tmp_path):
    grid = small_grid(sweeps={"eight": {"hidden_size": [4, 5, 6, 7, 8, 9, 10, 11], "sequence_length": 2}})
    write_table(tmp_path / "equivalence.parquet", equivalence_table(grid))
    write_table(tmp_path / "timing.parquet", timing_table(grid))
    texts = [grid.publish_request("eight"), json.dumps(ENVIRONMENT)]
    command = [sys.executable, "-c", EIGHT, str(tmp_path), *texts]
    eight = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert eight.returncode == 0, eight.stderr
    database = tmp_path / "mlflow.db"
    assert is_whole(database)
    assert query(database, "pragma journal_mode") == [("wal",)]
    shown = query(database, "select name, status from runs where lifecycle_stage = 'active'")
    assert sorted(shown) == sorted((f"eight H={case.hidden_size}", "FINISHED") for case in grid.cases)
    assert query(database, "select count(*) from experiments where name = 'smoke'") == [(1,)]
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith((".creating", ".lock"))]


@pytest.mark.parametrize("at_bytes", [1, 300_000])
def test_a_store_whose_maker_is_killed_is_made_by_the_next(tmp_path, at_bytes):
    database, building = tmp_path / "mlflow.db", tmp_path / "mlflow.db.creating"
    maker = subprocess.Popen([sys.executable, "-c", MAKE, str(database)])
    while not (building.exists() and building.stat().st_size >= at_bytes):
        assert maker.poll() is None
        os.sched_yield()
    maker.kill()
    maker.wait()
    assert not database.exists()
    assert building.exists()
    ensure_store(f"sqlite:///{database}")
    assert is_whole(database)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    before = database.read_bytes()
    os.link(database, building)  # as if it had been killed between linking and tidying up
    ensure_store(f"sqlite:///{database}")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert database.read_bytes() == before


def test_a_server_has_nothing_to_create(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ensure_store("http://127.0.0.1:1")
    assert not list(tmp_path.iterdir())
