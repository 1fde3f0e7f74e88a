"""The losses of the decoder's trainings as metrics with a value per step, for MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rnn_parity.tracking.content import safe_name


def loss_histories(training: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return, for each case id, the losses of its trainings and their distances from the baseline's.

    A distance is given where masks are the same or none are drawn. `training` are the rows of the training table, in
    the order of their steps.
    """
    curves: dict[tuple, list[float]] = {}
    for row in training:
        if row["loss"] is not None:
            key = tuple(row[column] for column in ("case_id", "mode", "role", "implementation", "seed"))
            curves.setdefault(key, []).append(row["loss"])
    baselines = {(case_id, mode): losses for (case_id, mode, role, *_), losses in curves.items() if role == "baseline"}
    histories: dict[str, dict[str, list[float]]] = {}
    for (case_id, mode, role, implementation, seed), losses in curves.items():
        own_masks, of_case = mode == "own_masks", histories.setdefault(case_id, {})
        name = safe_name(implementation) + (f" {role} {seed}" if own_masks or role == "perturbed" else "")
        of_case[f"loss_{mode}/{name}"] = losses
        if role != "baseline" and not own_masks:
            pairs = zip(losses, baselines.get((case_id, mode), []), strict=False)
            of_case[f"loss_distance_{mode}/{name}"] = [abs(loss - other) for loss, other in pairs]
    return histories
