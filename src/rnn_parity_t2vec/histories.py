"""The losses of the decoder's trainings as metrics with a value per step, for MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rnn_parity.tracking.content import safe_name


def loss_histories(training: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return, for each case id, the losses of its trainings and their distances from the baseline's.

    A distance is given where masks are the same or none are drawn. `training` are the rows of the training table.
    """
    curves: dict[tuple, dict[int, float]] = {}
    for row in training:
        if row["loss"] is not None:
            key = tuple(row[column] for column in ("case_id", "mode", "role", "implementation", "seed"))
            curves.setdefault(key, {})[row["step"]] = row["loss"]
    losses = {key: [by_step[step] for step in sorted(by_step)] for key, by_step in curves.items()}
    baselines = {(case_id, mode): values for (case_id, mode, role, *_), values in losses.items() if role == "baseline"}
    histories: dict[str, dict[str, list[float]]] = {}
    for (case_id, mode, role, implementation, seed), values in losses.items():
        repeated = role == "perturbed" or mode == "own_masks"
        name = safe_name(implementation) + (f" {role} {seed}" if repeated else "")
        of_case = histories.setdefault(case_id, {})
        of_case[f"loss_{mode}/{name}"] = values
        if role != "baseline" and mode != "own_masks":
            others = baselines.get((case_id, mode), [])
            distances = [abs(loss - other) for loss, other in zip(values, others, strict=False)]
            of_case[f"loss_distance_{mode}/{name}"] = distances
    return histories
