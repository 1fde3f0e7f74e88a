"""A soak of the embedded store: 2,000 cases published twice by a process that is killed again and again."""

from __future__ import annotations

import json
import multiprocessing
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from benchmarks.result import Result
from rnn_parity.experiment.grid import Grid, make_grid
from rnn_parity.tables import EQUIVALENCE, TIMING
from rnn_parity.tracking import ensure_store
from rnn_parity.tracking.publish import publish_job

CASES = 2000
_RUNS_PER_CASE = """
    select count(*), sum(r.status = 'FINISHED' and m.value = 2000)
    from runs r join tags id on id.run_uuid = r.run_uuid and id.key = 'case_id'
    left join latest_metrics m on m.run_uuid = r.run_uuid and m.key = 'time_ms/step stacking_gru'
    where r.lifecycle_stage = 'active' group by id.value
"""
PER_JOB = 100
KILL_AFTER_S = (2.0, 20.0)
_FILLING = {pa.string(): "x", pa.bool_(): False, pa.int64(): 1, pa.float64(): 0.5}


def soak_grid(cases: int) -> Grid:
    """A grid of as many cases, in jobs of `PER_JOB`."""
    sizes, lengths = list(range(1, cases // PER_JOB + 1)), list(range(1, PER_JOB + 1))
    sweeps = {"soak": {"hidden_size": sizes, "sequence_length": lengths}}
    names = {"baseline": "stacking_gru_cell", "candidates": ["stacking_gru"]}
    return make_grid({"study": "soak", "device": "cpu", **names, "sweeps": sweeps})


def table_of(grid: Grid, schema: pa.Schema, rows: list[dict]) -> list[pa.Table]:
    """A table per job, every case with the given rows and the rest made up."""
    filling = {field.name: _FILLING[field.type] for field in schema}
    return [
        pa.Table.from_pylist([filling | row | case.columns for case in job.cases for row in rows], schema=schema)
        for job in grid.jobs
    ]


def publish_all(uri: str, grid: Grid, median_s: float) -> None:
    """Publish every job of the grid, `median_s` being the result."""
    names = {"baseline": "stacking_gru_cell", "candidate": "stacking_gru", "verdict": "equivalent", "regime": "eval"}
    compared = [names | {"quantity": quantity} for quantity in ("output", "hn")]
    timed = [
        {"baseline": "stacking_gru_cell", "implementation": name, "phase": phase, "median_s": median_s}
        for name in ("stacking_gru_cell", "stacking_gru")
        for phase in ("inference", "forward", "backward", "step")
    ]
    request = json.loads(grid.publish_request("soak"))
    for equivalence, timing in zip(table_of(grid, EQUIVALENCE, compared), table_of(grid, TIMING, timed), strict=True):
        publish_job(uri, Path(), request, equivalence, timing, {})


def publish_under_fire(uri: str, grid: Grid, median_s: float, draw: random.Random) -> tuple[int, float]:
    """Start publishing again and again, killing it after a random time, until once it ends. Kills, and seconds."""
    context, start, kills = multiprocessing.get_context("fork"), time.monotonic(), 0
    while True:
        publisher = context.Process(target=publish_all, args=(uri, grid, median_s))
        publisher.start()
        # Later and later, so that a slow machine gets to the end as well.
        publisher.join(draw.uniform(*KILL_AFTER_S) * 1.1**kills)
        if publisher.exitcode is not None:
            if publisher.exitcode:
                raise RuntimeError(f"a publisher ended by itself with exit code {publisher.exitcode}")
            return kills, time.monotonic() - start
        publisher.kill()
        publisher.join()
        kills += 1


def measure(cases: int = CASES) -> Iterator[Result]:
    """Publish all of it twice, the second time measured again, and count what is there."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  (once, before the forks)

    draw, grid = random.Random(0), soak_grid(cases)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "mlflow.db")
        ensure_store(f"sqlite:///{database}")
        for words, median_s in (("for the first time", 1.0), ("measured again", 2.0)):
            kills, seconds = publish_under_fire(f"sqlite:///{database}", grid, median_s, draw)
            yield Result(f"{cases:,} cases published, {words}", cases / seconds, "cases/s", note=f"{kills} kills")
        with closing(sqlite3.connect(database)) as connection:
            runs = connection.execute(_RUNS_PER_CASE).fetchall()
            whole = connection.execute("pragma integrity_check").fetchone() == ("ok",)
        yield Result("cases with a run", len(runs), "cases", at_most=cases, at_least=cases)
        right = sum(row == (1, 1) for row in runs)
        yield Result("of these with one run, finished and the last", right, "cases", at_most=cases, at_least=cases)
        yield Result("the database is whole", whole, "", at_least=1)
        yield Result("its size", database.stat().st_size / 1e6, "MB")
