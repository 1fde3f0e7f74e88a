"""The content of a run: name, params, metrics and tags, from the rows of its tables. Imports no mlflow."""

from __future__ import annotations

import hashlib
import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rnn_parity.experiment.grid import implementations
from rnn_parity.experiment.vocabulary import AXES, EXPECTED_TO_HOLD, Verdict, worst
from rnn_parity.tracking.failures import Failure

_LONGEST = 5000
"""Characters of a tag that every MLflow 3 server keeps; of a param it keeps 1,000 more."""


@dataclass(frozen=True)
class RunContent:
    """One run. `key` has the tags by which it is found again; `histories` a value per step; times are ms since 1970."""

    key: dict[str, str]
    name: str
    digest: str
    params: dict[str, str]
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    histories: Mapping[str, list[float]] = field(default_factory=dict)
    start_ms: int | None = None
    end_ms: int | None = None
    status: str = "FINISHED"


def case_content(
    request: Mapping[str, Any],
    case: Mapping[str, Any],
    equivalence: Sequence[Mapping[str, Any]],
    timing: Sequence[Mapping[str, Any]],
    environment: Mapping[str, Any],
    failure: Failure | None = None,
    histories: Mapping[str, list[float]] | None = None,
) -> RunContent:
    """Make the run of one case from a `Grid.publish_request`, `Case.columns` and its rows of both tables.

    `environment` describes the machine, `failure` the end of a job that died before it could write its rows.
    `histories` are metrics with a value per step.
    """
    params = {axis: _text(case[axis]) for axis in AXES}
    params |= {"baseline": request["baseline"], "candidates": ", ".join(request["candidates"])}
    tags = dict(_tags(equivalence, timing))
    if failure:
        verdict = Verdict.NOT_JUDGED if failure.status == "KILLED" else Verdict.FAILED  # a killed layer did no wrong
        tags |= {"verdict": str(verdict), "failure": failure.reason, "mlflow.note.content": _failure_note(failure)}
    tags |= {key: case[key] for key in ("sweep", "case_id", "device")}
    tags |= {"kind": "case", "machine": _machine(case["device"], timing, environment), "commit": _commit(environment)}
    started = [row["started_at"] for row in timing if row["started_at"] is not None]
    ended = [row["ended_at"] for row in timing if row["ended_at"] is not None]
    name, metrics = run_name(request["varied"], case), dict(_metrics(equivalence, timing))
    return RunContent(
        key={"case_id": case["case_id"]},
        name=name,
        # The rows count, and not only the content made of them: a case that is measured again gets a new run.
        digest=digest([name, params, metrics, tags, equivalence, timing, histories or {}]),
        params=params,
        metrics={key: value for key, value in metrics.items() if value is not None and math.isfinite(value)},
        tags=tags,
        histories=histories or {},
        start_ms=round(1e3 * min(started)) if started else None,
        end_ms=round(1e3 * max(ended)) if ended else None,
        status=failure.status if failure else "FINISHED",
    )


def report_content(
    config: Mapping[str, Any], contents: Mapping[str, str], environment: Mapping[str, Any]
) -> RunContent:
    """Make the run of the report; `contents` are the digests of its files."""
    params = {key: ", ".join(implementations(config, key)) for key in ("baseline", "candidates")}
    tags = {"kind": "report", "commit": _commit(environment), "title": config["report"]["title"]}
    return RunContent({"kind": "report"}, "report", digest([params, tags, contents]), params, tags=tags)


def storable(text: str) -> str:
    """Return a text that every MLflow 3 server keeps whole; a longer one is cut, and says how long it was."""
    text = text.replace("\0", "\ufffd").encode(errors="replace").decode()  # no database holds \0, no UTF-8 surrogates
    mark = f" … ({len(text):,} characters)"
    return text if len(text) <= _LONGEST else text[: _LONGEST - len(mark)] + mark


def run_name(varied: Sequence[str], case: Mapping[str, Any]) -> str:
    """Name a run by its sweep and the values of the axes that vary in it: `t2vec T=30`."""
    return " ".join([case["sweep"], *(f"{AXES[axis].label.split()[-1]}={_text(case[axis])}" for axis in varied)])


def digest(content: Any) -> str:
    """Return the SHA-256 of anything that JSON can write."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def safe_name(name: str) -> str:
    """Return a name as a part of a metric's or a tag's key, without the letters that MLflow rejects.

    Two names never become one: a changed name ends in its digest.
    """
    safe = re.sub(r"[^A-Za-z0-9_.: -]", "_", name)[:100]
    if safe == name and name.strip(". ") == name != "":
        return name
    return f"{safe.strip('. ')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _metrics(equivalence: Iterable[Mapping], timing: Iterable[Mapping]) -> Iterable[tuple[str, float | None]]:
    """Yield keys and values. The UI makes a section of charts of the part before the slash, by the alphabet.

    So `speedup` comes first, and every section is full.
    """
    for row in timing:
        phase, name = row["phase"], safe_name(row["implementation"])
        yield f"time_ms/{phase} {name}", _milliseconds(row["median_s"])
        yield f"time_device_ms/{phase} {name}", _milliseconds(row["device_median_s"])
        if row["implementation"] != row["baseline"]:
            yield f"speedup/{phase} {name}", row["speedup"]
            yield f"speedup_interval/{phase} {name} low", row["speedup_ci_low"]
            yield f"speedup_interval/{phase} {name} high", row["speedup_ci_high"]
    for (candidate, regime), rows in _by(equivalence, "implementation", "regime").items():
        name = safe_name(candidate)
        yield f"worst_error_over_limit/{regime} {name}", _largest(rows, "ratio")
        # Logarithms, as the UI's bars show two decimals.
        yield f"worst_error_log10/{regime} {name}", _log10(_largest(rows, "error_2", "error_inf"))
        baseline = safe_name(rows[0]["baseline"])
        yield f"worst_error_log10/{regime} {baseline}", _log10(_largest(rows, "baseline_error_2", "baseline_error_inf"))


def _tags(equivalence: Iterable[Mapping], timing: Iterable[Mapping]) -> Iterable[tuple[str, str]]:
    held = []
    for (candidate, regime), rows in _by(equivalence, "implementation", "regime").items():
        verdict = worst(row["verdict"] for row in rows)
        if regime in EXPECTED_TO_HOLD:
            held.append(verdict)
        yield f"verdict/{regime}/{safe_name(candidate)}", str(verdict)
        reasons = [f"{row['quantity']}: {row['reason']}" for row in rows if row["verdict"] == verdict and row["reason"]]
        if reasons:
            yield f"reason/{regime}/{safe_name(candidate)}", reasons[0]
    held += [Verdict.DIFFERENT for row in timing if row["conclusion"] == Verdict.DIFFERENT]
    if held:
        yield "verdict", str(worst(held))
    for row in timing:
        if row["implementation"] != row["baseline"]:
            yield f"timing/{row['phase']}/{safe_name(row['implementation'])}", row["conclusion"]
        if row["reason"]:
            yield f"reason/{row['phase']}/{safe_name(row['implementation'])}", row["reason"]


def _machine(device: str, timing: Iterable[Mapping], environment: Mapping[str, Any]) -> str:
    """Name the kind of machine that a case was timed on, else the processor or the GPU of the run, to group by."""
    timed_on = next((row["machine"] for row in timing if row["machine"]), None)
    described = environment.get("gpu" if device == "cuda" else "cpu") or {}
    return timed_on or described.get("name") or described.get("model") or "unknown"


def _commit(environment: Mapping[str, Any]) -> str:
    return environment.get("commit") or "unknown"


def _failure_note(failure: Failure) -> str:
    """Return the run's description as Markdown. The log is indented code, which no text in it can end."""
    reason, log = (textwrap.indent(text, "    ", lambda line: True) for text in (failure.reason, failure.log))
    return f"**{failure.status}**, no result; the next run tries again.\n\n{reason}\n\nThe end of the log:\n\n{log}"


def _by(rows: Iterable[Mapping], *columns: str) -> dict[tuple, list[Mapping]]:
    groups: dict[tuple, list[Mapping]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in columns), []).append(row)
    return groups


def _largest(rows: Iterable[Mapping], *columns: str) -> float | None:
    """Return the largest value; infinity if one is not a number, so that no finite value passes for the worst."""
    values = [row[column] for row in rows for column in columns if row[column] is not None]
    return max((math.inf if math.isnan(value) else value for value in values), default=None)


def _log10(value: float | None) -> float | None:
    return round(math.log10(value), 2) if value and value > 0 else None


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
