"""The one command that measures: the cases of a job to tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rnn_parity.experiment.errors import InputError

JobName = Annotated[str, typer.Option("--name", help="What its files are called: sweep/job.")]
ResultsFolder = Annotated[Path, typer.Option("--results", help="The folder of the result tables.")]

Rows = list[dict[str, Any]]


def run_job(
    kind: Annotated[str, typer.Argument(help="equivalence, timing, or an extra table of the job's workload.")],
    job: Annotated[str, typer.Option(help="The job: a line of JSON that `rnn-parity cases --json` prints.")],
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
    from rnn_parity.layers.running import numerics
    from rnn_parity.layers.settings import told
    from rnn_parity.tables import COLLECTED, write_rows
    from rnn_parity.workloads.base import load_workload

    cases, request = parse_request(job)
    entry = find_workload(request.pop("workload"))
    workload = load_workload(entry, request.pop("settings"))
    tables: dict[str, Rows] = {name: [] for name in (kind, *(("coverage", "masks") if kind == "equivalence" else ()))}
    schemas = COLLECTED | {name: load_object(extra.schema) for name, extra in entry.extras.items()}
    if kind not in ("equivalence", "timing", *entry.extras):
        kinds = ", ".join(["equivalence", "timing", *entry.extras])
        raise InputError(f"KIND: holds {kind!r}, expected one of {kinds} for the workload {entry.name}")
    for case in cases:
        said = "done"
        if kind == "equivalence":
            said = _compare(workload, case, tables, **request)
        elif kind == "timing":
            from rnn_parity.timing.rounds import time_case

            rows = time_case(workload, case, **request)
            said = ", ".join(map(_speedup_words, rows))
            tables[kind] += rows
        else:
            with numerics(case.threads, case.tf32):
                tables[kind] += load_object(entry.extras[kind].compute)(workload, case, **request)
        log(f"{case.case_id}: {said}")
    for layer in filter(None, (request.get("baseline"), *request.get("candidates", ()))):
        if sets := told(layer):
            log(f"{layer}: mind that it sets {sets}")
    if kind == "timing":
        from rnn_parity.timing.rounds import count_kernels

        count_kernels(workload, cases, tables[kind])
    for table, rows in tables.items():
        write_rows(Results(results).of_job(table, *name.split("/")), schemas[table], rows)


def _compare(
    workload: Any,
    case: Any,
    tables: dict[str, Rows],
    *,
    baseline: str,
    candidates: Sequence[str],
    seeds: Sequence[int],
    regimes: Sequence[str],
    draws: int,
    own_cases: bool = False,
    picture: str | None = None,
) -> str:
    """Add a case's rows to three tables: equivalence, every fault planted in the same tasks, the masks' picture.

    Returns the verdict. Faults are planted with the first seed. `picture` is the id of the case whose masks are shown.
    """
    from rnn_parity.compare.case import compare_task
    from rnn_parity.dropout.picture import mask_rows
    from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, worst
    from rnn_parity.layers.running import numerics

    rows: Rows = []
    with numerics(case.threads, case.tf32):
        for seed in seeds:
            task = workload.draw(case, seed)
            rows += compare_task(task, baseline, candidates, regimes, draws)
            if own_cases and seed == seeds[0]:
                from rnn_parity.trust.run import examine_own_case

                tables["coverage"] += examine_own_case(task.references, baseline)
    tables["equivalence"] += rows
    if picture == case.case_id:  # on the CPU: a GPU draws from no one stream in which an entry would have a place
        on_cpu = replace(case, device="cpu", tf32=False)
        tables["masks"] += mask_rows(on_cpu, [baseline, *candidates], seed=0)
    every = [row["verdict"] for row in rows]
    expected = [row["verdict"] for row in rows if row["regime"] in EXPECTED_TO_HOLD]
    return worst(expected or every) if every else "no regime that it has was asked for"


def _speedup_words(row: dict[str, Any]) -> str:
    speedup = f" {row['speedup']:.2f}×" if row.get("speedup") else ""
    return f"{row['implementation']} {row['phase']}{speedup} {row['conclusion']}"


def log(line: str) -> None:
    """Write a line of a job's log."""
    print(line, file=sys.stderr, flush=True)
