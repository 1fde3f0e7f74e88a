"""What the run of a case says: name, params, metrics and tags, from the rows of its tables. Pure: no mlflow."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rnn_parity.criterion import EXPECTED_TO_HOLD, worst
from rnn_parity.grid import AXES

_SYMBOLS = {
    "input_size": "I=",
    "hidden_size": "H=",
    "num_layers": "L=",
    "sequence_length": "T=",
    "batch_size": "B=",
    "dropout": "p=",
    "threads": "threads=",
    "tf32": "tf32=",
}


@dataclass(frozen=True)
class RunContent:
    """One run. `key` is the tag and value by which it is found again; times are milliseconds since 1970."""

    key: tuple[str, str]
    name: str
    digest: str
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    histories: dict[str, list[float]] = field(default_factory=dict)
    start_ms: int | None = None
    end_ms: int | None = None


def case_content(
    request: Mapping[str, Any],
    equivalence: Sequence[Mapping[str, Any]],
    timing: Sequence[Mapping[str, Any]],
    environment: Mapping[str, Any],
    training: Sequence[Mapping[str, Any]] = (),
) -> RunContent:
    """The run of one case, from its rows of both tables, a `Grid.publish_request` and `environment["commit"]`.

    `training` has the rows of a decoder case's trainings; each becomes a metric with a value for every step.
    """
    case = (equivalence or timing)[0]
    name = run_name(request["varied"], case)
    params = {axis: _text(case[axis]) for axis in AXES}
    params |= {"baseline": request["baseline"], "candidates": ", ".join(request["candidates"])}
    metrics = {key: value for key, value in _metrics(equivalence, timing) if value is not None and math.isfinite(value)}
    tags = dict(_tags(equivalence, timing))
    tags |= {
        "kind": "case",
        "sweep": case["sweep"],
        "case_id": case["case_id"],
        "commit": environment.get("commit") or "unknown",
    }
    started = [row["started_at"] for row in timing if row["started_at"] is not None]
    ended = [row["ended_at"] for row in timing if row["ended_at"] is not None]
    return RunContent(
        key=("case_id", case["case_id"]),
        name=name,
        # Of the rows as well as of what is shown of them: a case that is measured again gets a new run.
        digest=digest([name, params, metrics, tags, equivalence, timing, *([training] if training else [])]),
        params=params,
        metrics=metrics,
        tags=tags,
        histories=dict(_histories(training)),
        start_ms=round(1e3 * min(started)) if started else None,
        end_ms=round(1e3 * max(ended)) if ended else None,
    )


def run_name(varied: Sequence[str], case: Mapping[str, Any]) -> str:
    """The sweep and the values of the axes that vary in it: `t2vec T=30`."""
    return " ".join([case["sweep"], *(f"{_SYMBOLS.get(axis, '')}{_text(case[axis])}" for axis in varied)])


def digest(content: Any) -> str:
    """SHA-256 of anything that JSON can write."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def safe_name(name: str) -> str:
    """A name as a part of a metric's or a tag's key: what MLflow rejects is replaced, two names never become one."""
    safe = re.sub(r"[^A-Za-z0-9_.: -]", "_", name)[:100]
    if safe == name and name.strip(". ") == name != "":
        return name
    return f"{safe.strip('. ')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _metrics(equivalence: Iterable[Mapping], timing: Iterable[Mapping]) -> Iterable[tuple[str, float | None]]:
    """Keys and values. The UI makes a section of charts of what stands before the last slash: few, each full."""
    for row in timing:
        phase, name = row["phase"], safe_name(row["implementation"])
        yield f"median_ms/{phase} {name}", _times(row["median_s"], 1e3)
        yield f"device_median_ms/{phase} {name}", _times(row["device_median_s"], 1e3)
        if row["implementation"] != row["baseline"]:
            yield f"speedup/{phase} {name}", row["speedup"]
            yield f"speedup_interval/{phase} {name} low", row["speedup_ci_low"]
            yield f"speedup_interval/{phase} {name} high", row["speedup_ci_high"]
    for (candidate, regime), rows in _by(equivalence, "candidate", "regime").items():
        name = safe_name(candidate)
        yield f"error_over_limit/{regime} {name}", _largest(rows, "ratio")
        # Logarithms, as the UI's bars show two decimals.
        yield f"log10_error/{regime} {name}", _log10(_largest(rows, "error_2", "error_inf"))
        baseline = safe_name(rows[0]["baseline"])
        yield f"log10_error/{regime} {baseline}", _log10(_largest(rows, "baseline_error_2", "baseline_error_inf"))


def _histories(training: Iterable[Mapping]) -> Iterable[tuple[str, list[float]]]:
    """Per training its losses; and for those with the same masks, or none, their distances from the baseline's."""
    curves = _by((row for row in training if row["loss"] is not None), "mode", "role", "implementation", "seed")
    losses = {key: [row["loss"] for row in sorted(rows, key=lambda row: row["step"])] for key, rows in curves.items()}
    baselines = {mode: values for (mode, role, *_), values in losses.items() if role == "baseline"}
    for (mode, role, implementation, seed), values in losses.items():
        name = f"{safe_name(implementation)}" + (
            f" {role} {seed}" if role == "perturbed" or mode == "own_masks" else ""
        )
        yield f"loss_{mode}/{name}", values
        if role != "baseline" and mode != "own_masks":
            distances = [abs(loss - other) for loss, other in zip(values, baselines.get(mode, []), strict=False)]
            yield f"loss_distance_{mode}/{name}", distances


def _tags(equivalence: Iterable[Mapping], timing: Iterable[Mapping]) -> Iterable[tuple[str, str]]:
    held = []
    for (candidate, regime), rows in _by(equivalence, "candidate", "regime").items():
        verdict = worst(row["verdict"] for row in rows)
        if regime in EXPECTED_TO_HOLD:
            held.append(verdict)
        yield f"verdict/{regime}/{safe_name(candidate)}", str(verdict)
        reasons = [f"{row['quantity']}: {row['reason']}" for row in rows if row["verdict"] == verdict and row["reason"]]
        if reasons:
            yield f"reason/{regime}/{safe_name(candidate)}", reasons[0]
    if held:
        yield "verdict", str(worst(held))
    for row in timing:
        if row["implementation"] != row["baseline"]:
            yield f"timing/{row['phase']}/{safe_name(row['implementation'])}", row["conclusion"]
        if row["reason"]:
            yield f"reason/{row['phase']}/{safe_name(row['implementation'])}", row["reason"]


def _by(rows: Iterable[Mapping], *columns: str) -> dict[tuple, list[Mapping]]:
    groups: dict[tuple, list[Mapping]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in columns), []).append(row)
    return groups


def _largest(rows: Iterable[Mapping], *columns: str) -> float | None:
    """The largest value; infinity if one is not a number, so that the finite rest does not pass for the worst."""
    values = [row[column] for row in rows for column in columns if row[column] is not None]
    return max((math.inf if math.isnan(value) else value for value in values), default=None)


def _log10(value: float | None) -> float | None:
    return math.log10(value) if value and value > 0 else None


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
