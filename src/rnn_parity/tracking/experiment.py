"""The experiment of a study: made once, with a note on what is studied and saved views to open it by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rnn_parity.tracking.content import safe_name
from rnn_parity.tracking.store import artifact_location

GROUPINGS = {"sweep": "tag", "verdict": "tag", "machine": "tag", "sequence_length": "param", "hidden_size": "param"}
"""What the note offers to group the runs by: a tag or a param."""


def runs_page(experiment_id: str, mode: str = "CHART", view: str = "") -> str:
    """The address, within the UI, of the runs of a study as a CHART or a TABLE; `view` is a grouping, or `table`."""
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&compareRunsMode={mode}"
    return f"{page}&viewStateShareKey={view}" if view else page


def find_experiment(client: Any, study: str) -> str | None:
    """The id of the study's experiment, or None if there is none."""
    experiment = client.get_experiment_by_name(study)
    return experiment and experiment.experiment_id


def make_experiment(client: Any, uri: str, study: str) -> str:
    """The id of the study's experiment, made if there is none, restored if it was deleted."""
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


def experiment_tags(config: Mapping[str, Any], experiment_id: str, report_run_id: str) -> dict[str, str]:
    """The note on the experiment, and the views that its links open."""
    note = _NOTE.format(
        baseline=config["baseline"],
        candidates=", ".join(f"`{name}`" for name in config["candidates"]),
        report=f"#/experiments/{experiment_id}/runs/{report_run_id}/artifacts/report.html?workflowType=machine_learning",
        table=runs_page(experiment_id, "TABLE", "table"),
        charts=", ".join(f"[{key}]({runs_page(experiment_id, 'CHART', key)})" for key in GROUPINGS),
    )
    views = {key: _grouped_by(mode, key) for key, mode in GROUPINGS.items()} | {"table": _table(config["candidates"])}
    shared = {f"mlflow.sharedViewState.{key}": json.dumps(view) for key, view in views.items()}
    return {"mlflow.note.content": note, "mlflow.experimentKind": "custom_model_development", **shared}


# Folded, the UI shows the first line only.
_NOTE = """[The report]({report}) · [all cases]({table}) · charts by {charts}

May `{baseline}` be replaced by {candidates}? Every run is one case of the grid, named by what varies in its sweep.

- The tag `verdict` is the worst of the regimes that are expected to hold; `verdict/…` and `reason/…` say it in detail.
- A run that is not *finished* has no result; its description says why.
- `speedup/…` above 1 is faster than the baseline; `median_ms/…` are milliseconds; `error_over_limit/…` up to 1 passes;
  `log10_error/…` is the relative error to a float64 oracle, the roundoff of float32 being -7.2.
"""


def _grouped_by(mode: str, key: str) -> dict[str, Any]:
    """The state in which the runs page opens: grouped, every run and group shown."""
    grouping = {"aggregateFunction": "average", "groupByKeys": [{"mode": mode, "groupByData": key}]}
    return {"groupBy": grouping, "runsHiddenMode": "SHOW_ALL"}


def _table(candidates: Sequence[str]) -> dict[str, Any]:
    """The verdict and the numbers of every case, in columns."""
    names = [safe_name(name) for name in candidates]
    metrics = [f"{what} {name}" for name in names for what in ("speedup/step", "log10_error/eval")]
    columns = ["tags.`sweep`", "tags.`verdict`", *(f"metrics.`{key}`" for key in metrics)]
    return {"selectedColumns": columns, "runsHiddenMode": "SHOW_ALL"}
