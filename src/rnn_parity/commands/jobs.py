"""The one command that measures: the cases of a job to tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rnn_parity.experiment.errors import InputError

JobLine = Annotated[str, typer.Option("--job", help="The job: a line of JSON that `rnn-parity cases --json` prints.")]
JobName = Annotated[str, typer.Option("--name", help="What its files are called: sweep/job.")]
ResultsFolder = Annotated[Path, typer.Option("--results", help="The folder of the result tables.")]
Output = Annotated[Path, typer.Option("--output", help="Where to write the result.")]

Rows = list[dict[str, Any]]


def run_job(
    kind: Annotated[str, typer.Argument(help="equivalence, timing, or an extra table of the job's workload.")],
    job: JobLine,
    name: JobName,
    results: ResultsFolder = Path("results"),
) -> None:
    """Measure every case of a job, and write RESULTS/KIND/NAME.parquet.

    `equivalence` writes the tables `coverage` and `masks` beside its own. Run a timing alone on the machine: whatever
    runs beside it is measured too.
    """
    from rnn_parity.experiment.grid import parse_request
    from rnn_parity.experiment.results import Results
    from rnn_parity.experiment.workloads import find_workload, load_object
    from rnn_parity.tables import EQUIVALENCE, MASKS, SELF_TEST, TIMING, write_rows
    from rnn_parity.workloads.base import load_workload

    cases, request = parse_request(job)
    entry = find_workload(request.pop("workload"))
    workload = load_workload(entry, request.pop("settings"))
    if kind == "equivalence":
        rows, planted, masks = _compare(workload, cases, **request)
        tables = {"coverage": (SELF_TEST, planted), "masks": (MASKS, masks), kind: (EQUIVALENCE, rows)}
    elif kind == "timing":
        tables = {kind: (TIMING, _time(workload, cases, **request))}
    elif kind in entry.extras:
        extra = entry.extras[kind]
        rows = _compute(load_object(extra.compute), workload, cases, request)
        tables = {kind: (load_object(extra.schema), rows)}
    else:
        kinds = ", ".join(["equivalence", "timing", *entry.extras])
        raise InputError(f"KIND: holds {kind!r}, expected one of {kinds} for the workload {entry.name}")
    for table, (schema, rows) in tables.items():
        write_rows(Results(results).of_job(table, *name.split("/")), schema, rows)


def _compare(
    workload: Any,
    cases: Sequence[Any],
    *,
    baseline: str,
    candidates: Sequence[str],
    seeds: Sequence[int],
    regimes: Sequence[str],
    draws: int,
    own_cases: bool = False,
    picture: str | None = None,
) -> tuple[Rows, Rows, Rows]:
    """The rows of equivalence, those of every fault planted in the same tasks, and those of the masks' picture.

    Faults are planted with the first seed. `picture` is the id of the case whose masks are shown.
    """
    from rnn_parity.compare.case import compare_task
    from rnn_parity.dropout.picture import mask_rows
    from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, worst
    from rnn_parity.layers.running import numerics

    rows: Rows = []
    planted: Rows = []
    masks: Rows = []
    for case in cases:
        of_case: Rows = []
        with numerics(case.threads, case.tf32):
            for seed in seeds:
                task = workload.draw(case, seed)
                of_case += compare_task(task, baseline, candidates, regimes, draws)
                if own_cases and seed == seeds[0]:
                    from rnn_parity.trust.run import examine_own_case

                    planted += examine_own_case(task.references, baseline)
        every = [row["verdict"] for row in of_case]
        expected = [row["verdict"] for row in of_case if row["regime"] in EXPECTED_TO_HOLD]
        log(f"{case.case_id}: {worst(expected or every) if every else 'no regime that it has was asked for'}")
        rows += of_case
        if picture == case.case_id:  # on the CPU: a GPU draws from no one stream in which an entry would have a place
            masks += mask_rows(replace(case, device="cpu", tf32=False), [baseline, *candidates], seed=0)
    return rows, planted, masks


def _time(workload: Any, cases: Sequence[Any], **settings: Any) -> Rows:
    from rnn_parity.timing.rounds import count_kernels, time_case

    rows: Rows = []
    for case in cases:
        of_case = time_case(workload, case, **settings)
        rows += of_case
        log(f"{case.case_id}: " + ", ".join(map(_speedup_words, of_case)))
    count_kernels(workload, cases, rows)
    return rows


def _compute(compute: Callable[..., Any], workload: Any, cases: Sequence[Any], settings: dict[str, Any]) -> Rows:
    from rnn_parity.layers.running import numerics

    rows: Rows = []
    for case in cases:
        with numerics(case.threads, case.tf32):
            rows += compute(workload, case, **settings)
        log(f"{case.case_id}: done")
    return rows


def _speedup_words(row: dict[str, Any]) -> str:
    speedup = f" {row['speedup']:.2f}×" if row.get("speedup") else ""
    return f"{row['implementation']} {row['phase']}{speedup} {row['conclusion']}"


def log(line: str) -> None:
    """Write a line of a job's log."""
    print(line, file=sys.stderr, flush=True)
