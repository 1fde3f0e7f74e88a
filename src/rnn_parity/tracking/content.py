"""What the run of a case says: name, params, metrics and tags, from the rows of its tables. Pure: no mlflow."""

from __future__ import annotations

import hashlib
import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rnn_parity.commands.processes import Failure
from rnn_parity.compare.criterion import EXPECTED_TO_HOLD, worst
from rnn_parity.experiment.grid import AXES

_LONGEST_PARAM, _LONGEST_TAG = 6000, 5000
"""What every MLflow 3 server keeps of a param and of a tag."""

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
    status: str = "FINISHED"

    @property
    def complete(self) -> str:
        """The tag that a run gets when everything is in it: whether the case was measured to its end."""
        return "true" if self.status == "FINISHED" else "false"


def case_content(
    request: Mapping[str, Any],
    case: Mapping[str, Any],
    equivalence: Sequence[Mapping[str, Any]],
    timing: Sequence[Mapping[str, Any]],
    environment: Mapping[str, Any],
    failure: Failure | None = None,
    training: Sequence[Mapping[str, Any]] = (),
) -> RunContent:
    """The run of one case, from a `Grid.publish_request`, `Case.columns`, its rows of both tables, the machine and,
    where a job died before it could write its rows, how that ended.

    `training` has the rows of a decoder case's trainings; each becomes a metric with a value for every step.
    """
    name = run_name(request["varied"], case)
    params = {axis: _text(case[axis]) for axis in AXES}
    params |= {"baseline": request["baseline"], "candidates": ", ".join(request["candidates"])}
    metrics = {key: value for key, value in _metrics(equivalence, timing) if value is not None and math.isfinite(value)}
    tags = dict(_tags(equivalence, timing))
    if failure:
        tags |= {"verdict": "failed", "failure": failure.reason, "mlflow.note.content": _failure_note(failure)}
    tags |= {
        "kind": "case",
        "sweep": case["sweep"],
        "case_id": case["case_id"],
        "device": case["device"],
        "machine": _machine(case["device"], environment),
        "commit": environment.get("commit") or "unknown",
    }
    started = [row["started_at"] for row in timing if row["started_at"] is not None]
    ended = [row["ended_at"] for row in timing if row["ended_at"] is not None]
    return RunContent(
        key=("case_id", case["case_id"]),
        name=name,
        # Of the rows as well as of what is shown of them: a case that is measured again gets a new run.
        digest=digest([name, params, metrics, tags, equivalence, timing, *([training] if training else [])]),
        params={key: storable(value, _LONGEST_PARAM) for key, value in params.items()},
        metrics=metrics,
        tags={key: storable(value, _LONGEST_TAG) for key, value in tags.items()},
        histories=dict(_histories(training)),
        start_ms=round(1e3 * min(started)) if started else None,
        end_ms=round(1e3 * max(ended)) if ended else None,
        status=failure.status if failure else "FINISHED",
    )


def report_content(
    config: Mapping[str, Any], contents: Mapping[str, str], environment: Mapping[str, Any]
) -> RunContent:
    """The run of the report; `contents` are the digests of its files."""
    params = {"baseline": config["baseline"], "candidates": ", ".join(config["candidates"])}
    tags = {"kind": "report", "commit": environment.get("commit") or "unknown", "title": config["report"]["title"]}
    return RunContent(
        key=("kind", "report"),
        name="report",
        digest=digest([params, tags, contents]),
        params={key: storable(value, _LONGEST_PARAM) for key, value in params.items()},
        tags={key: storable(value, _LONGEST_TAG) for key, value in tags.items()},
    )


def storable(text: str, longest: int) -> str:
    """A text that every store keeps whole: of a longer one the beginning, and how long it was."""
    text = text.replace("\0", "\ufffd").encode(errors="replace").decode()  # what no database and no UTF-8 holds
    mark = f" … ({len(text):,} characters)"
    return text if len(text) <= longest else text[: longest - len(mark)] + mark


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
        yield f"median_device_ms/{phase} {name}", _times(row["device_median_s"], 1e3)
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


def _machine(device: str, environment: Mapping[str, Any]) -> str:
    """The processor or the GPU that a case ran on, to group by."""
    described = environment.get("gpu" if device == "cuda" else "cpu") or {}
    return described.get("name") or described.get("model") or "unknown"


def _failure_note(failure: Failure) -> str:
    """The run's description, Markdown. The log is indented code, which nothing in it can end."""
    reason, log = (textwrap.indent(text, "    ", lambda line: True) for text in (failure.reason, failure.log))
    return f"**{failure.status}**, no result; the next run tries again.\n\n{reason}\n\nThe end of the log:\n\n{log}"


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
    return round(math.log10(value), 2) if value and value > 0 else None


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
