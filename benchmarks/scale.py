"""From 10,000 cases to their figures and report, and how fast cases are published: generated tables."""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from benchmarks.result import Result, rnn_parity
from rnn_parity.experiment.grid import Grid, make_grid
from rnn_parity.experiment.results import Results
from rnn_parity.tables import EQUIVALENCE, MASKS, TIMING, read_table, write_rows, write_text
from synthetic import environment, equivalence_rows, timing_rows

GRID = {
    "study": "bench",
    "baseline": "stacking_gru_cell",
    "candidates": ["stacking_gru"],
    "device": "cpu",
    "self_test": {"cases": 0, "own_cases": False},
    "capabilities": False,
}
WIDTHS = {"hidden_size": [8 * n for n in range(1, 51)], "batch_size": [2**n for n in range(10)]}
LENGTHS = {"sequence_length": list(range(1, 21))}
PUBLISHED_JOBS = 20


def measure() -> Iterator[Result]:
    """Collect, draw and write; then publish some of the jobs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grid = make_grid(GRID | {"sweeps": {"large": WIDTHS | LENGTHS}})
        rows = generate(grid, folder)
        yield Result("cases generated", len(grid.cases), "", note=f"{rows:,} rows of comparisons")
        spent = {}
        results, reports = folder / "results", folder / "reports"
        spent["collect"] = rnn_parity("collect", "--results", results)
        spent["figures"] = rnn_parity("figures", "--results", results, "--output", reports / "figures")
        spent["report"] = rnn_parity("report", "--results", results, "--output", reports)
        for step, cost in spent.items():
            yield Result(step, cost.wall_s, "s", note=f"{cost.memory_bytes / 2**30:.2f} GiB")
        yield Result("collect, figures and report", sum(c.wall_s for c in spent.values()), "s", at_most=60)
        largest = max(cost.memory_bytes for cost in spent.values())
        yield Result("the most memory", largest / 1e9, "GB", at_most=1.5)
        yield Result("size of report.html", (reports / "report.html").stat().st_size / 2**20, "MiB")
        yield from _publish(grid, folder)


def generate(grid: Grid, folder: Path) -> int:
    """Write the tables of every job, as measuring would have; the number of comparisons."""
    results, count = Results(folder / "results"), 0
    for schema, name, make in ((EQUIVALENCE, "equivalence", equivalence_rows), (TIMING, "timing", timing_rows)):
        by_case = defaultdict(list)
        for row in make(grid):
            by_case[row["case_id"]].append(row)
        for job in grid.jobs:
            rows = [row for case in job.cases for row in by_case[case.case_id]]
            count += len(rows) * (name == "equivalence")
            write_rows(results.of_job(name, job.sweep, job.name), schema, rows)
    write_rows(results.table("masks"), MASKS, [])
    write_text(results.config, json.dumps(grid.config))
    write_text(results.environment, json.dumps(environment(grid)))
    return count


def _publish(grid: Grid, folder: Path) -> Iterator[Result]:
    """Cases a second into a new embedded store, in one process."""
    from rnn_parity.tracking import ensure_store
    from rnn_parity.tracking.publish import publish_job

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    ensure_store(uri)
    results, jobs = Results(folder / "results"), grid.jobs[:PUBLISHED_JOBS]
    parts: list[tuple[pa.Table, pa.Table]] = [
        tuple(
            read_table(results.of_job(name, job.sweep, job.name), schema)
            for name, schema in (("equivalence", EQUIVALENCE), ("timing", TIMING))
        )
        for job in jobs
    ]
    request = json.loads(grid.publish_request("large"))
    publish_job(uri, folder, request, *parts[0], environment(grid))
    start = time.perf_counter()
    published = [publish_job(uri, folder, request, *part, environment(grid)) for part in parts[1:]]
    seconds = time.perf_counter() - start
    cases = sum(len(one) for one in published)
    yield Result("published", cases / seconds, "cases/s", at_least=15, note=f"{cases} cases in {seconds:.1f} s")
    start = time.perf_counter()
    for part in parts[1:]:
        publish_job(uri, folder, request, *part, environment(grid))
    seconds = time.perf_counter() - start
    yield Result("found published already", cases / seconds, "cases/s")
