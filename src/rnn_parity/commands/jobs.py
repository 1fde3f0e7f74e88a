"""The one command that measures: it turns the cases of a job into tables.

Every case is measured in a separate process: a layer that ends the process, loses the device or never returns affects
only its own rows. The candidates of that case are then measured again, each by itself, to find which one it was.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnn_parity.commands.processes import on_this_machine
from rnn_parity.experiment.errors import InputError

if TYPE_CHECKING:
    from rnn_parity.experiment.grid import Case
    from rnn_parity.experiment.results import Results
    from rnn_parity.layers.containment import Ended

JobName = Annotated[str, typer.Option("--name", help="The name of its files: sweep/job.")]
ResultsFolder = Annotated[Path, typer.Option("--results", help="The folder of the result tables.")]
Limit = Annotated[float, typer.Option("--limit", help="Seconds after which a case is ended and not judged.")]

Rows = list[dict[str, Any]]
Tables = dict[str, Rows]


def run_job(
    kind: Annotated[str, typer.Argument(help="equivalence, timing, or an extra table of the job's workload.")],
    job: Annotated[str, typer.Option(help="The job: a line of JSON that `rnn-parity cases --json` prints.")],
    name: JobName,
    results: ResultsFolder = Path("results"),
    limit: Limit = 3600.0,
) -> None:
    """Measure every case of a job, and write RESULTS/KIND/NAME.parquet again after each case.

    `equivalence` also writes the tables `coverage` and `masks`. Run a timing alone on the machine: other work would
    change the times.
    """
    from rnn_parity.experiment.grid import parse_request
    from rnn_parity.experiment.results import Results
    from rnn_parity.experiment.workloads import find_workload, load_object
    from rnn_parity.tables import COLLECTED, write_rows
    from rnn_parity.workloads.base import load_workload

    cases, request = parse_request(job)
    entry = find_workload(request.pop("workload"))
    if kind not in ("equivalence", "timing", *entry.extras):
        kinds = ", ".join(["equivalence", "timing", *entry.extras])
        raise InputError(f"KIND: holds {kind!r}, expected one of {kinds} for the workload {entry.name}")
    compute = load_object(entry.extras[kind].compute) if kind in entry.extras else None
    workload = load_workload(entry, request.pop("settings"))
    measurement = _Measurement(kind, workload, compute, request, limit)
    tables: Tables = {table: [] for table in (kind, *(("coverage", "masks") if kind == "equivalence" else ()))}
    schemas = COLLECTED | {name: load_object(extra.schema) for name, extra in entry.extras.items()}

    def write() -> None:
        for table, rows in tables.items():
            write_rows(Results(results).of_job(table, *name.split("/")), schemas[table], rows)

    alone = bool(request.get("exclusive"))
    with on_this_machine(alone, limit, log) as granted:
        if alone:
            request["exclusive"] = granted  # a row says what was so, not what was asked
        for part in measurement.parts(cases):
            for table, rows in part.items():
                tables[table] += rows
            write()
        if kind == "timing" and cases[0].device == "cuda":
            tables[kind] = measurement.with_kernels(cases, tables[kind])
            write()
        if kind == "timing":
            _describe_machine(Results(results), name, tables[kind], limit)


@dataclass(frozen=True)
class _Measurement:
    """Measures the cases of a job. `compute` is the function of an extra table."""

    kind: str
    workload: Any
    compute: Any
    request: dict[str, Any]
    limit_s: float

    def parts(self, cases: Sequence[Case]) -> Iterator[Tables]:
        """Yield the tables of each case."""
        from rnn_parity.experiment.vocabulary import Verdict
        from rnn_parity.layers.containment import Ended, contained

        no_device = why_no_gpu() if cases[0].device == "cuda" else None
        if no_device:
            log(f"no case is judged: {no_device}")
            yield from (self._not_measured(case, Ended(Verdict.NOT_JUDGED, no_device)) for case in cases)
            return
        for case, part in zip(cases, contained(self._measure, cases, self.limit_s), strict=True):
            if isinstance(part, Ended):
                log(f"{case.case_id}: {part.verdict}: {part.reason}")
                part = {self.kind: []} if self.compute else self._one_by_one(case, part)
            yield part

    def with_kernels(self, cases: Sequence[Case], rows: Rows) -> Rows:
        """The rows of the times, with the kernels that a profiler counts. Separate: it may hang, or lose the device."""
        from rnn_parity.layers.containment import Ended, contained
        from rnn_parity.timing.rounds import count_kernels

        def count(rows: Rows) -> Rows:
            count_kernels(self.workload, cases, rows)
            return rows

        (counted,) = contained(count, [rows], self.limit_s)
        if isinstance(counted, Ended):
            log(f"the kernels could not be counted: {counted.reason}")
            return rows
        return counted

    def _one_by_one(self, case: Case, ended: Ended) -> Tables:
        """Measure a case whose process ended again: each candidate by itself, then the baseline against itself.

        If all these processes end, the baseline is at fault.
        """
        from rnn_parity.experiment.vocabulary import because_of_baseline
        from rnn_parity.layers.containment import Ended, contained

        def alone(candidate: str) -> Tables:
            own = {"own_cases": candidate == baseline and self.request.get("own_cases", False)}
            picture = {"picture": self.request.get("picture") if candidate == baseline else None}
            more = own | picture if self.kind == "equivalence" else {}
            return self._measure(case, candidates=[candidate], **more)

        baseline, candidates = self.request["baseline"], self.request["candidates"]
        asked = [*(candidates if len(candidates) > 1 else ()), baseline]
        found = dict(zip(asked, contained(alone, asked, self.limit_s), strict=True))
        of_baseline = found.pop(baseline)
        found = found or {candidates[0]: ended}
        if isinstance(of_baseline, Ended) and all(isinstance(part, Ended) for part in found.values()):
            of_all = Ended(*because_of_baseline(of_baseline.verdict, of_baseline.reason))
            return self._not_measured(case, of_all, with_baseline=True)
        joined: Tables = {self.kind: []}
        for candidate, part in found.items():
            if isinstance(part, Ended):
                log(f"{case.case_id}: {candidate}: {part.verdict}: {part.reason}")
                part = self._not_measured(case, part, [candidate], with_baseline=False)
            joined[self.kind] += part[self.kind]
        if not isinstance(of_baseline, Ended):
            joined[self.kind] += of_baseline.pop(self.kind)
            joined |= of_baseline
        # One row of the baseline a phase, of the first run that has it; where nothing is timed there is none.
        first = {
            row["phase"]: row for row in reversed(joined[self.kind]) if self.kind == "timing" and _is_baseline(row)
        }
        joined[self.kind] = [*first.values(), *(row for row in joined[self.kind] if not _is_baseline(row))]
        return joined

    def _not_measured(
        self, case: Case, ended: Ended, candidates: Sequence[str] = (), with_baseline: bool = True
    ) -> Tables:
        """Rows that say why nothing was measured. An extra table has no such rows."""
        candidates = candidates or self.request["candidates"]
        named = {**case.columns, "baseline": self.request["baseline"], "reason": ended.reason}
        if self.kind == "timing":
            names = [self.request["baseline"], *candidates] if with_baseline else candidates
            named |= {"exclusive": self.request["exclusive"], "conclusion": str(ended.verdict)}
            phases = self.workload.phases(self.request["phases"])
            return {"timing": [{**named, "implementation": who, "phase": phase} for phase in phases for who in names]}
        if self.kind != "equivalence":
            return {self.kind: []}
        named |= {"verdict": str(ended.verdict)}
        rows = [
            {**named, "implementation": who, "regime": regime, "seed": seed, "quantity": quantity}
            for regime in self.request["regimes"]
            for seed in self.request["seeds"]
            for who in candidates
            for quantity in self._quantities(case)
        ]
        return {"equivalence": rows}

    def _quantities(self, case: Case) -> list[str]:
        """The quantities of a case. To find them, the case is drawn in a separate process, which drawing may end."""
        from rnn_parity.layers.containment import Ended, contained

        on_cpu = replace(case, device="cpu")
        (found,) = contained(lambda seed: self.workload.draw(on_cpu, seed).quantities(), [0], self.limit_s)
        return ["output"] if isinstance(found, Ended) else found

    def _measure(self, case: Case, **other: Any) -> Tables:
        """The tables of a case. `other` overrides parts of the request."""
        from rnn_parity.layers.running import numerics
        from rnn_parity.layers.settings import settings_changed_by

        asked = self.request | other
        if self.kind == "equivalence":
            tables, said = _compare(self.workload, case, **asked)
        elif self.kind == "timing":
            from rnn_parity.timing.rounds import time_case

            tables = {self.kind: time_case(self.workload, case, **asked)}
            said = ", ".join(map(_speedup_words, tables[self.kind]))
        else:
            with numerics(case.threads, case.tf32):
                tables, said = {self.kind: list(self.compute(self.workload, case, **asked))}, "done"
        log(f"{case.case_id}: {said}")
        for layer in (asked["baseline"], *asked["candidates"]):
            if sets := settings_changed_by(layer):
                log(f"{layer}: note that it sets {sets}")
        return tables


def _describe_machine(results: Results, name: str, rows: Rows, limit_s: float) -> None:
    """Write what this machine is, and its peak rates, unless the results have them for a machine of its kind."""
    from rnn_parity.experiment.variables import environment_variables
    from rnn_parity.experiment.vocabulary import RATE_AXES
    from rnn_parity.layers.containment import Ended, contained
    from rnn_parity.tables import read_json, write_json
    from rnn_parity.timing.environment import describe_environment

    own, keys = results.machine(*name.split("/")), ["machine", *RATE_AXES]
    told = [read_json(path)["peaks"] for path in results.machines if path != own]
    known = [tuple(peak.get(key) for key in keys) for peaks in told for peak in peaks]
    met = dict.fromkeys(tuple(row[key] for key in keys) for row in rows if row.get("median_s"))
    unknown = [dict(zip(keys[1:], kind[1:], strict=True)) for kind in met if kind not in known]
    if unknown:
        (found,) = contained(describe_environment, [unknown], limit_s)
        if isinstance(found, Ended):
            log(f"the rates of this machine are not known: {found.reason}")
        else:
            write_json(own, found | {"variables": environment_variables()})


def why_no_gpu() -> str | None:
    """Try the GPU in a separate process, before any layer could be blamed. Return the reason if it does not work."""
    from rnn_parity.layers.containment import Ended, contained
    from rnn_parity.layers.preflight import MAX_SECONDS, preflight

    (found,) = contained(lambda _: preflight(), [None], MAX_SECONDS)
    return f"the GPU: {found.reason}" if isinstance(found, Ended) else found["why"]


def _compare(
    workload: Any,
    case: Case,
    *,
    baseline: str,
    candidates: Sequence[str],
    seeds: Sequence[int],
    regimes: Sequence[str],
    draws: int,
    own_cases: bool = False,
    picture: str | None = None,
) -> tuple[Tables, str]:
    """A case's rows of three tables, and its verdict: equivalence, faults planted in its tasks, the masks' picture.

    Faults are planted with the first seed. `picture` is the id of the case whose masks are shown.
    """
    from rnn_parity.compare.case import compare_task
    from rnn_parity.dropout.picture import mask_rows
    from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, worst
    from rnn_parity.layers.running import numerics

    tables: Tables = {"equivalence": [], "coverage": [], "masks": []}
    with numerics(case.threads, case.tf32):
        for seed in seeds:
            task = workload.draw(case, seed)
            tables["equivalence"] += compare_task(task, baseline, candidates, regimes, draws)
            if own_cases and seed == seeds[0]:
                from rnn_parity.trust.run import examine_own_case

                tables["coverage"] += examine_own_case(task.references, baseline)
    if picture == case.case_id:  # on the CPU: a GPU draws from no one stream in which an entry would have a place
        on_cpu = replace(case, device="cpu", tf32=False)
        tables["masks"] += mask_rows(on_cpu, list(dict.fromkeys([baseline, *candidates])), seed=0)
    rows = tables["equivalence"]
    every = [row["verdict"] for row in rows]
    expected = [row["verdict"] for row in rows if row["regime"] in EXPECTED_TO_HOLD]
    return tables, worst(expected or every) if every else "no regime that it has was asked for"


def _is_baseline(row: dict[str, Any]) -> bool:
    return row["implementation"] == row["baseline"]


def _speedup_words(row: dict[str, Any]) -> str:
    speedup = f" {row['speedup']:.2f}×" if row.get("speedup") else ""
    return f"{row['implementation']} {row['phase']}{speedup} {row['conclusion']}"


def log(line: str) -> None:
    """Write a line of a job's log."""
    print(line, file=sys.stderr, flush=True)
