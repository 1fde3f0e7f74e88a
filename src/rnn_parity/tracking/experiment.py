"""The experiment of a study: made once, with a note on what is studied and saved views to open it by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rnn_parity.tracking.store import artifact_location

VIEWS = {"sweep": "tag", "verdict": "tag", "machine": "tag", "sequence_length": "param", "hidden_size": "param"}
"""What the note offers to group the runs by: a tag or a param, under which the UI finds a saved view."""


def charts_page(experiment_id: str, view: str = "") -> str:
    """The address, within the UI, of the charts of a study; `view` is one of `VIEWS`."""
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&compareRunsMode=CHART"
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
    groupings = " · ".join(f"[{key}]({charts_page(experiment_id, key)})" for key in VIEWS)
    candidates = ", ".join(f"`{name}`" for name in config["candidates"])
    note = f"""May `{config["baseline"]}` be replaced by {candidates}? Every run is one case of the grid.

- **The answer**: [the report](#/experiments/{experiment_id}/runs/{report_run_id}/artifacts/report.html), the run at the top.
- **Charts**, grouped by {groupings}.
- **Tags**: `verdict` is the worst of the regimes that are expected to hold, `verdict/…` and `reason/…` are in detail.
  A run that is not FINISHED has no result, and says why in its description.
- **Metrics**: `speedup/…` above 1 is faster than the baseline; `median_ms/…` in milliseconds; `error_over_limit/…` up
  to 1 passes; `log10_error/…` is the relative error to a float64 oracle, -7 being the rounding of float32.
"""
    views = {f"mlflow.sharedViewState.{key}": json.dumps(_view(mode, key)) for key, mode in VIEWS.items()}
    return {"mlflow.note.content": note, "mlflow.experimentKind": "custom_model_development", **views}


def _view(mode: str, key: str) -> dict[str, Any]:
    """The state in which the runs page opens: grouped, every run and group shown."""
    grouping = {"aggregateFunction": "average", "groupByKeys": [{"mode": mode, "groupByData": key}]}
    return {"groupBy": grouping, "runsHiddenMode": "SHOW_ALL"}
