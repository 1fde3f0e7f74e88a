"""Results into runs, once and only once: publishing again changes nothing, or replaces what has changed.

A run is found by a tag that it has from its first moment, and counts when it is marked complete and has ended. One
that does not, or has another digest, is never mended: a new one is made, and only then the old one is deleted. So a
publisher may be killed at any moment, and the next one tidies up.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from rnn_parity.commands.processes import Failure
from rnn_parity.experiment.errors import InputError
from rnn_parity.tracking.content import RunContent, case_content, report_content
from rnn_parity.tracking.experiment import experiment_tags, make_experiment
from rnn_parity.tracking.server import connection, refused
from rnn_parity.tracking.store import local_artifacts, redact

_ATTEMPTS = 5
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
    failure: Failure | None = None,
    cases: Iterable[Mapping[str, Any]] = (),
    training: pa.Table | None = None,
) -> Published:
    """Show every case of a sweep that the two tables hold: one run each in the experiment `request["study"]`.

    Of a job that died, `failure` says how, and `cases` are the `Case.columns` that may have no rows. Raises
    `TrackingUnavailable` if the server does not answer; what was published until then stays.
    """
    shown = {case["case_id"]: (case, [], [], []) for case in cases}
    for which, table in enumerate((equivalence, timing, training), 1):
        for row in table.to_pylist() if table is not None else ():
            if row["sweep"] == request["sweep"]:
                shown.setdefault(row["case_id"], (row, [], [], []))[which].append(row)
    contents = {
        case_id: case_content(request, case, checked, timed, environment, failure, trained)
        for case_id, (case, checked, timed, trained) in shown.items()
    }
    with connection(uri) as client:
        experiment_id = make_experiment(client, uri, request["study"])
        return Published({case_id: _publish(client, uri, experiment_id, run, {}) for case_id, run in contents.items()})


def publish_report(
    uri: str, config: Mapping[str, Any], case_ids: Collection[str], reports: Path, environment: Mapping[str, Any]
) -> Published:
    """Show the report as one more run of the study: its page, figures and tables, the files of the folder `reports`.

    It is of the whole grid, so the runs of cases that are no longer among `case_ids` are deleted, and the note on the
    experiment is written.
    """
    files = {path.relative_to(reports).as_posix(): path for path in _report_files(reports)}
    contents = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    run = report_content(config, contents, environment)
    with connection(uri) as client:
        experiment_id = make_experiment(client, uri, config["study"])
        run_id = _publish(client, uri, experiment_id, run, files)
        for found in _find(client, experiment_id, "kind", "case"):
            if found.data.tags.get("case_id") not in case_ids:
                client.delete_run(found.info.run_id)
        for key, value in experiment_tags(config, experiment_id, run_id).items():
            client.set_experiment_tag(experiment_id, key, value)
        return Published({"report": run_id})


def _report_files(reports: Path) -> list[Path]:
    found = [reports / "report.html", *sorted((reports / "figures").glob("*")), *sorted((reports / "tables").glob("*"))]
    return [path for path in found if path.is_file()]


def _publish(client: Any, uri: str, experiment_id: str, run: RunContent, files: Mapping[str, Path]) -> str:
    """The id of the one complete run with this content, kept or made.

    Two publishers of one case may each make a run, or delete the other's: then both look again, and agree on the
    run with the smallest id.
    """
    for _ in range(_ATTEMPTS):
        found = _find(client, experiment_id, *run.key)
        complete = sorted(other.info.run_id for other in found if _is_complete(other, run))
        if complete:
            for other in found:
                if other.info.run_id != complete[0]:
                    client.delete_run(other.info.run_id)
            return complete[0]
        run_id = _create_run(client, experiment_id, run)
        try:
            _fill(client, uri, run_id, run, files)
        except Exception as error:
            if refused(error) and client.get_run(run_id).info.lifecycle_stage == "deleted":
                continue
            with suppress(Exception):  # a server that is gone leaves it running until the next attempt deletes it
                client.set_terminated(run_id, "FAILED")
            raise
    raise InputError(f"{redact(uri)}: another publisher deletes the runs of {run.name!r} again and again")


def _find(client: Any, experiment_id: str, tag: str, value: str) -> list[Any]:
    """The active runs with this tag."""
    quote = '"' if "'" in value else "'"
    if quote in value:
        raise ValueError(f"{value!r} holds both kinds of quotes, so that no filter can name it")
    runs = _search(client, experiment_id, f"tags.{tag} = {quote}{value}{quote}")
    return [run for run in runs if run.data.tags.get(tag) == value]  # a database may compare without case


def _search(client: Any, experiment_id: str, filter_string: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment_id], filter_string, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _is_complete(found: Any, run: RunContent) -> bool:
    tags = found.data.tags
    marks = found.info.status, tags.get("complete"), tags.get("result_digest")
    return marks == (run.status, run.complete, run.digest)


def _create_run(client: Any, experiment_id: str, run: RunContent) -> str:
    start_ms = run.start_ms or time.time_ns() // 1_000_000
    tags = {"kind": run.tags["kind"], **dict([run.key])}  # by which it is found, should nothing else follow
    return client.create_run(experiment_id, start_ms, tags, run.name).info.run_id


def _fill(client: Any, uri: str, run_id: str, run: RunContent, files: Mapping[str, Path]) -> None:
    """Everything into a new run; it is marked complete and ended after all else is there."""
    from mlflow.entities import Metric, Param, RunTag

    at_ms = run.end_ms or time.time_ns() // 1_000_000
    metrics = [Metric(key, value, at_ms, 0) for key, value in run.metrics.items()]
    for key, values in run.histories.items():
        metrics += [Metric(key, value, at_ms, step) for step, value in enumerate(values)]
    params = [Param(key, value) for key, value in run.params.items()]
    tags = [RunTag(key, value) for key, value in (run.tags | {"result_digest": run.digest}).items()]
    while metrics or params or tags:
        client.log_batch(run_id, metrics[:_METRICS_PER_BATCH], params[:_OTHERS_PER_BATCH], tags[:_OTHERS_PER_BATCH])
        metrics, params = metrics[_METRICS_PER_BATCH:], params[_OTHERS_PER_BATCH:]
        tags = tags[_OTHERS_PER_BATCH:]
    if files:
        _log_files(client, uri, client.get_run(run_id), files.items())
    client.set_tag(run_id, "complete", run.complete)
    client.set_terminated(run_id, run.status, run.end_ms)


def _log_files(client: Any, uri: str, run: Any, files: Iterable[tuple[str, Path]]) -> None:
    """Files as artifacts; those of the embedded store are copied where the UI's server looks for them."""
    folder = local_artifacts(uri, run.info.artifact_uri)
    for name, path in files:
        if folder is None:
            client.log_artifact(run.info.run_id, str(path), str(Path(name).parent) if "/" in name else None)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
