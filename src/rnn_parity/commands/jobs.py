"""What the commands that compute a job share: their options, their log, and the check of all its cases."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

JobLine = Annotated[str, typer.Option("--job", help="The job: a line of JSON that `rnn-parity cases --json` prints.")]
Output = Annotated[Path, typer.Option("--output", help="Where to write the result.")]


def check_job(job: str, output: Path, compare_case: Callable[..., Iterable[dict[str, Any]]]) -> None:
    """Compare every case of a job and write the equivalence table; the log says the worst verdict of each."""
    from rnn_parity.experiment.grid import parse_request
    from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, worst
    from rnn_parity.tables import EQUIVALENCE, write_rows

    cases, settings = parse_request(job)
    started_at, rows = time.time(), []
    for case in cases:
        of_case = list(compare_case(case, **settings))
        rows += of_case
        every = [row["verdict"] for row in of_case]
        expected = [row["verdict"] for row in of_case if row["regime"] in EXPECTED_TO_HOLD]
        log(f"{case.case_id}: {worst(expected or every) if every else 'no regime that it has was asked for'}")
    write_rows(output, EQUIVALENCE, rows, started_at=repr(started_at), ended_at=repr(time.time()))


def log(line: str) -> None:
    """A line of a job's log."""
    print(line, file=sys.stderr, flush=True)
