"""Results into runs, once and only once: publishing again changes nothing, or replaces what has changed.

Runs are immutable: if the content changed, create a new run, then delete the old one. An unfinished run is deleted by
the next publisher. A run belongs to the folder whose results it shows; a publisher touches no run of another folder.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from rnn_parity.experiment.grid import implementations
from rnn_parity.tracking.content import RunContent, case_content, report_content, storable
from rnn_parity.tracking.failures import Failure
from rnn_parity.tracking.store import artifact_location, artifacts_refused, connection, folder_tag, local_artifacts

_METRICS_PER_BATCH = 800
_OTHERS_PER_BATCH = 100
"""MLflow takes up to 1,000 entries in one batch, 100 params and 100 tags among them."""


# Folded, the UI shows the first line only.
_NOTE = """[The report]({report})

May {baseline} be replaced by {candidates}? Every run is one case of the grid, named by the axes that vary in its
sweep.

- The tag `verdict` is the worst of the regimes that are expected to hold; `verdict/…` and `reason/…` have the details.
- A run that is not *finished* has no result; its description gives the reason.
- `speedup/…` above 1 is faster than the baseline. `time_ms/…` are medians in milliseconds.
- `worst_error_over_limit/…` up to 1 passes. `worst_error_log10/…` is the logarithm of the relative error to a float64
  oracle; the roundoff of float32 is -7.2.
"""


def publish_job(
    uri: str,
    project: Path,
    request: Mapping[str, Any],
    equivalence: pa.Table,
    timing: pa.Table,
    environment: Mapping[str, Any],
    failure: Failure | None = None,
    cases: Iterable[Mapping[str, Any]] = (),
    histories: Mapping[str, Mapping[str, list[float]]] | None = None,
) -> dict[str, str]:
    """Publish one run per case of a sweep in the experiment `request["study"]`; return the run ids by case id.

    `project` is the folder of the results. For a job that died, `failure` says how, and `cases` are the `Case.columns`
    that may have no rows. `histories` has metrics with a value per step, by case id. Raises `TrackingUnavailable` if
    the server does not answer; the runs published until then stay.
    """
    columns = {case["case_id"]: case for case in cases}
    checked: dict[str, list] = defaultdict(list)
    timed: dict[str, list] = defaultdict(list)
    for rows, table in ((checked, equivalence), (timed, timing)):
        for row in table.to_pylist():
            if row["sweep"] == request["sweep"]:
                columns.setdefault(row["case_id"], row)
                rows[row["case_id"]].append(row)
    run_ids = {}
    with connection(uri) as client:
        experiment_id = _make_experiment(client, uri, request["study"])
        for case_id, case in columns.items():
            curves = (histories or {}).get(case_id, {})
            run = case_content(request, case, checked[case_id], timed[case_id], environment, failure, curves)
            run_ids[case_id] = _publish(client, uri, experiment_id, folder_tag(uri, project), run, {})
    return run_ids


def publish_report(
    uri: str,
    project: Path,
    config: Mapping[str, Any],
    case_ids: Collection[str],
    reports: Path,
    environment: Mapping[str, Any],
) -> str:
    """Publish the report as one more run of the study, with its page, figures and tables; return the run id.

    `project` is the folder of the results. The report covers the whole grid, so runs of this folder whose cases are not
    among `case_ids` are deleted, and the note on the experiment is written.
    """
    paths = [reports / "report.html", *sorted(reports.glob("figures/[!.]*")), *sorted(reports.glob("tables/[!.]*"))]
    files = {path.relative_to(reports).as_posix(): path for path in paths if path.is_file()}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    run, folder = report_content(config, digests, environment), folder_tag(uri, project)
    with connection(uri) as client:
        experiment_id = _make_experiment(client, uri, config["study"])
        run_id = _publish(client, uri, experiment_id, folder, run, files)
        for found in _find(client, experiment_id, {"kind": "case", "folder": folder}):
            if found.data.tags.get("case_id") not in case_ids:
                client.delete_run(found.info.run_id)
        for key, value in _experiment_tags(config, experiment_id, run_id).items():
            client.set_experiment_tag(experiment_id, key, value)
    return run_id


def _make_experiment(client: Any, uri: str, study: str) -> str:
    """Return the id of the study's experiment; make it if there is none, restore it if it was deleted."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(study)
    try:
        if experiment is None:
            return client.create_experiment(study, artifact_location(uri, study))
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
    except MlflowException:  # another process may have done it in between
        experiment = client.get_experiment_by_name(study)
        if experiment is None or experiment.lifecycle_stage == "deleted":
            raise
    return experiment.experiment_id


def _experiment_tags(config: Mapping[str, Any], experiment_id: str, report_run_id: str) -> dict[str, str]:
    """Return the tags of the experiment: its note, which links to the report, and its kind."""
    note = _NOTE.format(
        **{key: ", ".join(f"`{name}`" for name in implementations(config, key)) for key in ("baseline", "candidates")},
        report=f"#/experiments/{experiment_id}/runs/{report_run_id}/artifacts/report.html?workflowType=machine_learning",
    )
    return {"mlflow.note.content": note, "mlflow.experimentKind": "custom_model_development"}


def _publish(client: Any, uri: str, experiment_id: str, folder: str, run: RunContent, files: Mapping[str, Path]) -> str:
    """Return the id of the one finished run with this content, kept or made; delete every other run of its key."""
    key = run.key | {"folder": folder}
    found = _find(client, experiment_id, key)
    run_id = min((other.info.run_id for other in found if _is_finished(other, run)), default=None)
    if run_id is None:
        tags = key | {"kind": run.tags["kind"]}  # by which it is found, should nothing else follow
        run_id = client.create_run(experiment_id, run.start_ms, tags, run.name).info.run_id
        _fill(client, uri, run_id, run, files)
    for other in found:
        if other.info.run_id != run_id:
            client.delete_run(other.info.run_id)
    return run_id


def _find(client: Any, experiment_id: str, tags: Mapping[str, str]) -> list[Any]:
    """Return the active runs with these tags; names of sweeps and folders hold no quotes."""
    condition, found, token = " and ".join(f"tags.{tag} = '{value}'" for tag, value in tags.items()), [], None
    while token != "":
        page = client.search_runs([experiment_id], condition, max_results=1000, page_token=token)
        found += page
        token = page.token or ""
    # A database may compare without case.
    return [run for run in found if tags.items() <= run.data.tags.items()]


def _is_finished(found: Any, run: RunContent) -> bool:
    """Tell whether a run holds all of this content: its status is set after everything else."""
    return (found.info.status, found.data.tags.get("result_digest")) == (run.status, run.digest)


def _fill(client: Any, uri: str, run_id: str, run: RunContent, files: Mapping[str, Path]) -> None:
    """Write the whole content into a new run, then end it."""
    from mlflow.entities import Metric, Param, RunTag

    at_ms = run.end_ms or time.time_ns() // 1_000_000
    metrics = [Metric(key, value, at_ms, 0) for key, value in run.metrics.items()]
    for key, values in run.histories.items():
        metrics += [Metric(key, value, at_ms, step) for step, value in enumerate(values)]
    params = [Param(key, storable(value)) for key, value in run.params.items()]
    tags = [RunTag(key, storable(value)) for key, value in (run.tags | {"result_digest": run.digest}).items()]
    while metrics or params or tags:
        client.log_batch(run_id, metrics[:_METRICS_PER_BATCH], params[:_OTHERS_PER_BATCH], tags[:_OTHERS_PER_BATCH])
        metrics, params = metrics[_METRICS_PER_BATCH:], params[_OTHERS_PER_BATCH:]
        tags = tags[_OTHERS_PER_BATCH:]
    if files:
        _log_files(client, uri, client.get_run(run_id), files)
    client.set_terminated(run_id, run.status, run.end_ms)


def _log_files(client: Any, uri: str, run: Any, files: Mapping[str, Path]) -> None:
    """Write files as artifacts; those of the embedded store are copied where the UI's server reads them."""
    folder = local_artifacts(uri, run.info.artifact_uri)
    for name, path in files.items():
        if folder is None:
            try:
                client.log_artifact(run.info.run_id, str(path), str(Path(name).parent) if "/" in name else None)
            except Exception as error:  # whatever the storage's own client raises
                raise artifacts_refused(uri, error) from None
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
