"""Cases that a failed run leaves: those whose job died, and those that were measured but not published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnn_parity.experiment.grid import Grid, Job
from rnn_parity.experiment.results import Results
from rnn_parity.tables import EQUIVALENCE, TIMING, read_table
from rnn_parity.tracking.failures import Failure, read_failure
from rnn_parity.tracking.publish import publish_job


def publish_unfinished(
    uri: str, project: Path, grid: Grid, results: Results, logs: Path, environment: Mapping[str, Any], since: float
) -> list[str]:
    """Publish every job that died after `since`, in seconds since 1970, and every measured one without a marker.

    Returns a line for each that died. Raises `TrackingUnavailable` if the server does not answer.
    """
    died, extra_jobs = [], grid.extra_jobs
    for job in grid.jobs:
        names = ["equivalence", "timing", *(name for name, jobs in extra_jobs.items() if job in jobs)]
        tables = {name: results.of_job(name, job.sweep, job.name) for name in names}
        failure = _failure(job, tables, logs, since)
        if failure:
            died.append(f"{job.sweep}/{job.name}: {failure.reason}")
        elif not all(path.exists() for path in tables.values()) or _is_published(results, job):
            continue
        equivalence, timing = (
            read_table([tables[name]] if tables[name].exists() else [], schema)
            for name, schema in (("equivalence", EQUIVALENCE), ("timing", TIMING))
        )
        request, cases = json.loads(grid.publish_request(job.sweep)), [case.columns for case in job.cases]
        publish_job(uri, project, request, equivalence, timing, environment, failure, cases)
    return died


def _failure(job: Job, tables: Mapping[str, Path], logs: Path, since: float) -> Failure | None:
    """Return the end of the job's first rule that was tried and left no table."""
    for name, path in tables.items():
        log = logs / name / job.sweep / f"{job.name}.log"
        if not path.exists() and log.exists() and log.stat().st_mtime >= since:
            return read_failure(name, log)
    return None


def _is_published(results: Results, job: Job) -> bool:
    marker = results.published(job.sweep, job.name)
    return marker.exists() and json.loads(marker.read_text())["published"]
