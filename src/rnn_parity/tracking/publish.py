"""Results into runs, once and only once: publishing again changes nothing, or replaces what has changed.

A run is found by a tag that it has from its first moment, and counts when it is marked complete and has ended. One
that does not, or has another digest, is never mended: a new one is made, and only then the old one is deleted. So a
publisher may be killed at any moment, and the next one tidies up.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from rnn_parity.tracking.content import RunContent, case_content, digest
from rnn_parity.tracking.server import connection, make_experiment
from rnn_parity.tracking.store import local_artifacts

_METRICS_PER_BATCH = 800
_OTHERS_PER_BATCH = 100
"""MLflow takes up to 1,000 entries in one batch, 100 params and 100 tags among them."""


@dataclass(frozen=True)
class Published:
    """What became of a publication: the id of the run of every case, or of the report."""

    run_ids: dict[str, str] = field(default_factory=dict)
    published: bool = True
    reason: str = ""


def publish_job(
    uri: str,
    request: Mapping[str, Any],
    equivalence: pa.Table,
    timing: pa.Table,
    environment: Mapping[str, Any],
    training: pa.Table | None = None,
) -> Published:
    """Show every case of a sweep that the two tables hold: one run each in the experiment `request["study"]`.

    Raises `TrackingUnavailable` if the server does not answer; what was published until then stays.
    """
    cases: dict[str, tuple[list, list, list]] = {}
    for which, table in enumerate((equivalence, timing, training)):
        for row in table.to_pylist() if table is not None else ():
            if row["sweep"] == request["sweep"]:
                cases.setdefault(row["case_id"], ([], [], []))[which].append(row)
    contents = {
        case_id: case_content(request, checked, timed, environment, trained)
        for case_id, (checked, timed, trained) in cases.items()
    }
    with connection(uri) as client:
        experiment_id = make_experiment(client, uri, request["study"])
        return Published({case_id: _publish(client, uri, experiment_id, run, {}) for case_id, run in contents.items()})


def publish_report(uri: str, config: Mapping[str, Any], reports: Path, environment: Mapping[str, Any]) -> Published:
    """Show the report as one more run of the study: its page, figures and tables, the files of the folder `reports`."""
    files = {path.relative_to(reports).as_posix(): path for path in _report_files(reports)}
    params = {"baseline": config["baseline"], "candidates": ", ".join(config["candidates"])}
    tags = {"kind": "report", "commit": environment.get("commit") or "unknown", "title": config["report"]["title"]}
    contents = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    run = RunContent(("kind", "report"), "report", digest([params, tags, contents]), params=params, tags=tags)
    with connection(uri) as client:
        experiment_id = make_experiment(client, uri, config["study"])
        return Published({"report": _publish(client, uri, experiment_id, run, files)})


def _report_files(reports: Path) -> list[Path]:
    found = [reports / "report.html", *sorted((reports / "figures").glob("*")), *sorted((reports / "tables").glob("*"))]
    return [path for path in found if path.is_file()]


def _publish(client: Any, uri: str, experiment_id: str, run: RunContent, files: Mapping[str, Path]) -> str:
    """The id of the one complete run with this content, kept or made."""
    others = _find(client, experiment_id, *run.key)
    kept = [found.info.run_id for found in others if _is_complete(found, run)]
    run_id = kept[0] if kept else _create(client, uri, experiment_id, run, files)
    for other in others:
        if other.info.run_id != run_id:
            client.delete_run(other.info.run_id)
    return run_id


def _find(client: Any, experiment_id: str, tag: str, value: str) -> list[Any]:
    """The active runs with this tag, the newest first."""
    quote = '"' if "'" in value else "'"
    if quote in value:
        raise ValueError(f"{value!r} holds both kinds of quotes, so that no filter can name it")
    runs = client.search_runs([experiment_id], filter_string=f"tags.{tag} = {quote}{value}{quote}")
    return [run for run in runs if run.data.tags.get(tag) == value]


def _is_complete(found: Any, run: RunContent) -> bool:
    tags = found.data.tags
    return (
        found.info.status == "FINISHED" and tags.get("complete") == "true" and tags.get("result_digest") == run.digest
    )


def _create(client: Any, uri: str, experiment_id: str, run: RunContent, files: Mapping[str, Path]) -> str:
    from mlflow.entities import Metric, Param, RunTag

    now_ms = time.time_ns() // 1_000_000
    created = client.create_run(
        experiment_id, start_time=run.start_ms or now_ms, tags=dict([run.key]), run_name=run.name
    )
    run_id = created.info.run_id
    metrics = [Metric(key, value, run.end_ms or now_ms, 0) for key, value in run.metrics.items()]
    for key, values in run.histories.items():
        metrics += [Metric(key, value, run.end_ms or now_ms, step) for step, value in enumerate(values)]
    params = [Param(key, value) for key, value in run.params.items()]
    tags = [RunTag(key, value) for key, value in (run.tags | {"result_digest": run.digest}).items()]
    while metrics or params or tags:
        batch = metrics[:_METRICS_PER_BATCH], params[:_OTHERS_PER_BATCH], tags[:_OTHERS_PER_BATCH]
        client.log_batch(run_id, *batch)
        metrics, params, tags = (
            metrics[_METRICS_PER_BATCH:],
            params[_OTHERS_PER_BATCH:],
            tags[_OTHERS_PER_BATCH:],
        )
    _log_files(client, uri, created, files.items())
    client.set_tag(run_id, "complete", "true")
    client.set_terminated(run_id, "FINISHED", run.end_ms)
    return run_id


def _log_files(client: Any, uri: str, run: Any, files: Iterable[tuple[str, Path]]) -> None:
    """Files as artifacts; those of the embedded store are copied where the UI's server looks for them."""
    folder = local_artifacts(uri, run.info.artifact_uri)
    for name, path in files:
        if folder is None:
            client.log_artifact(run.info.run_id, str(path), str(Path(name).parent) if "/" in name else None)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
