"""The experiment of a study: made once, with a note on what is studied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rnn_parity.tracking.store import artifact_location


def make_experiment(client: Any, uri: str, study: str) -> str:
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


def experiment_tags(config: Mapping[str, Any], experiment_id: str, report_run_id: str) -> dict[str, str]:
    """Return the tags of the experiment: its note, which links to the report, and its kind."""
    note = _NOTE.format(
        baseline=config["baseline"],
        candidates=", ".join(f"`{name}`" for name in config["candidates"]),
        report=f"#/experiments/{experiment_id}/runs/{report_run_id}/artifacts/report.html?workflowType=machine_learning",
    )
    return {"mlflow.note.content": note, "mlflow.experimentKind": "custom_model_development"}


# Folded, the UI shows the first line only.
_NOTE = """[The report]({report})

May `{baseline}` be replaced by {candidates}? Every run is one case of the grid, named by the axes that vary in its
sweep.

- The tag `verdict` is the worst of the regimes that are expected to hold; `verdict/…` and `reason/…` have the details.
- A run that is not *finished* has no result; its description gives the reason.
- `speedup/…` above 1 is faster than the baseline; `median_ms/…` are milliseconds; `error_over_limit/…` up to 1 passes;
  `log10_error/…` is the relative error to a float64 oracle, the roundoff of float32 being -7.2.
"""
