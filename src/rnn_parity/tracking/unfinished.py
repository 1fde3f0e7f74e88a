"""What a run that failed leaves to be shown: cases whose job died, and those that were measured but not published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnn_parity.commands.processes import Failure, read_failure
from rnn_parity.experiment.grid import Grid, Job
from rnn_parity.experiment.results import Results
from rnn_parity.tables import EQUIVALENCE, TIMING, read_table
from rnn_parity.tracking.publish import publish_job

_SCHEMAS = {"equivalence": EQUIVALENCE, "timing": TIMING}


def publish_unfinished(
    uri: str, grid: Grid, results: Results, logs: Path, environment: Mapping[str, Any], since: float
) -> list[str]:
    """Show every job that died after `since`, in seconds since 1970, and every measured one without a marker.

    Returns a line for each that died. Raises `TrackingUnavailable` if the server does not answer.
    """
    died = []
    for job in grid.jobs:
        tables = {name: results.of_job(name, job.sweep, job.name) for name in _SCHEMAS}
        failure = _failure(job, tables, logs, since)
        if failure:
            died.append(f"{job.sweep}/{job.name}: {failure.reason}")
        elif not all(path.exists() for path in tables.values()) or _is_published(results, job):
            continue
        rows = [read_table([path] if path.exists() else [], _SCHEMAS[name]) for name, path in tables.items()]
        request = json.loads(grid.publish_request(job.sweep))
        publish_job(uri, request, *rows, environment, failure, [case.columns for case in job.cases])
    return died


def _failure(job: Job, tables: Mapping[str, Path], logs: Path, since: float) -> Failure | None:
    """How the job ended if it was tried and has no result: the first of its rules that did."""
    for name, path in tables.items():
        log = logs / name / job.sweep / f"{job.name}.log"
        if not path.exists() and log.exists() and log.stat().st_mtime >= since:
            return read_failure(name, log)
    return None


def _is_published(results: Results, job: Job) -> bool:
    marker = results.published(job.sweep, job.name)
    return marker.exists() and json.loads(marker.read_text())["published"]
