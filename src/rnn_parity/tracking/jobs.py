"""The jobs of a folder in MLflow: what is measured from its tables, what died with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rnn_parity.experiment.grid import Grid
from rnn_parity.experiment.results import Results
from rnn_parity.experiment.workloads import find_workload, load_object
from rnn_parity.tables import EQUIVALENCE, TIMING, read_json, read_table
from rnn_parity.tracking.failures import Failure, ended_by_slurm, read_failure
from rnn_parity.tracking.publish import publish_job


def publish_results(
    uri: str,
    project: Path,
    request: Mapping[str, Any],
    results: Results,
    job: str,
    environment: Mapping[str, Any],
    failure: Failure | None = None,
    cases: Iterable[Mapping[str, Any]] = (),
) -> dict[str, str]:
    """Publish a job from those of its tables that are there; everything else is as in `publish_job`."""

    def rows_of(name: str, schema: Any) -> Any:
        path = results.of_job(name, request["sweep"], job)
        return read_table([path] if path.exists() else [], schema)

    histories: dict[str, Any] = {}
    for name, extra in find_workload(request["workload"]).extras.items():
        if extra.histories and name in request["extras"]:
            histories |= load_object(extra.histories)(rows_of(name, load_object(extra.schema)).to_pylist())
    tables = rows_of("equivalence", EQUIVALENCE), rows_of("timing", TIMING)
    return publish_job(uri, project, request, *tables, environment, failure, cases, histories)


def publish_unfinished(
    uri: str,
    project: Path,
    grid: Grid,
    results: Results,
    logs: Path,
    environment: Mapping[str, Any],
    since: float,
    run_logs: Iterable[Path] = (),
) -> list[str]:
    """Publish every job that died after `since`, in seconds since 1970, and every measured one without a marker.

    `run_logs` are Snakemake's logs of the run: what they say of Slurm. Returns a line for each job that died. Raises
    `TrackingUnavailable` if the server does not answer.
    """
    died = []
    by_slurm = {log: end for run_log in run_logs for log, end in ended_by_slurm(run_log).items()}
    for job in grid.jobs:
        request = json.loads(grid.publish_request(job))
        names = ("equivalence", "timing", *request["extras"])
        missing = [name for name in names if not results.of_job(name, job.sweep, job.name).exists()]
        logged = [(name, logs / name / job.sweep / f"{job.name}.log") for name in missing]
        tried = [
            (name, log, by_slurm.get(str(log)))
            for name, log in logged
            if str(log) in by_slurm or (log.exists() and log.stat().st_mtime >= since)
        ]
        failure = read_failure(*tried[0]) if tried else None
        if failure:
            died.append(f"{job.sweep}/{job.name}: {failure.reason}")
        elif missing or _is_published(results.published(job.sweep, job.name)):
            continue
        cases = [case.columns for case in job.cases]
        publish_results(uri, project, request, results, job.name, environment, failure, cases)
    return died


def _is_published(marker: Path) -> bool:
    return marker.exists() and read_json(marker)["published"]
