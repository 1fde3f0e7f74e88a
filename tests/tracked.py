"""What the tests of tracking share: a small grid, its tables, and a look into the database."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from rnn_parity.experiment.grid import Grid, make_grid
from rnn_parity.tables import EQUIVALENCE, TIMING
from synthetic import equivalence_rows, timing_rows

CONFIG = {
    "study": "smoke",
    "baseline": "stacking_gru_cell",
    "candidates": ["stacking_gru"],
    "device": "cpu",
    "defaults": {"input_size": 5, "hidden_size": 10, "num_layers": 3, "dropout": 0.1, "batch_size": 7},
    "sweeps": {"article": {"sequence_length": [1, 2, 10]}, "width": {"hidden_size": [8, 16], "sequence_length": 8}},
}
ENVIRONMENT = {"commit": "0123456789abcdef0123456789abcdef01234567"}

SERVE = """
import sys
from pathlib import Path
from rnn_parity.tracking import serve_ui
serve_ui(sys.argv[1], Path(sys.argv[2]), sys.argv[4], int(sys.argv[3]))
"""


def small_grid(**changes) -> Grid:
    return make_grid(CONFIG | changes)


def equivalence_table(grid: Grid, **changes) -> pa.Table:
    return pa.Table.from_pylist([row | changes for row in equivalence_rows(grid)], schema=EQUIVALENCE)


def timing_table(grid: Grid, **changes) -> pa.Table:
    return pa.Table.from_pylist([row | changes for row in timing_rows(grid)], schema=TIMING)


def request_of(grid: Grid, sweep: str) -> dict:
    return json.loads(grid.publish_request(next(job for job in grid.jobs if job.sweep == sweep)))


def query(database: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def active_runs(uri: str, study: str = "smoke") -> list:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return client.search_runs([client.get_experiment_by_name(study).experiment_id])


def wait_for(server: str, process) -> None:
    """Wait until an MLflow server answers."""
    for _ in range(1800):
        assert process.poll() is None, "the server ended by itself"
        try:
            urllib.request.urlopen(f"{server}/health").close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{server} does not answer")
