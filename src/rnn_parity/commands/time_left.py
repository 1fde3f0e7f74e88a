"""How long a run will still take, told while it goes on: from what its finished jobs took."""

from __future__ import annotations

import csv
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 60.0


@dataclass(frozen=True)
class Planned:
    """A job of a run.

    Attributes:
        kind: what it does; jobs of one kind take as long as they have cases. alone: whether it has the machine alone.
        benchmark: the file in which Snakemake says what it took. is_done: whether it is done by now.
        expected_s: what it takes, where that is known before any of its kind is done.
    """

    kind: str
    cases: int
    alone: bool
    benchmark: Path
    is_done: Callable[[], bool]
    expected_s: float | None = None


def tell_time_left(jobs: Iterable[Planned], cores: int) -> None:
    """Say every minute how many jobs are done, and what is left, in a thread that ends with the process."""
    planned = list(jobs)

    def tell() -> None:
        time.sleep(EVERY_S)
        while words := in_words(planned, cores):
            print(f"{time.strftime('%T')} {words}", file=sys.stderr, flush=True)
            time.sleep(EVERY_S)

    threading.Thread(target=tell, daemon=True).start()


def in_words(jobs: Sequence[Planned], cores: int) -> str:
    """`12 of 30 jobs have measured; about 8 min left`; empty where all have."""
    left = sum(not job.is_done() for job in jobs)
    seconds = time_left_s(jobs, cores)
    words = "" if seconds is None else f"; about {seconds / 60:.0f} min left" if seconds > 90 else "; a minute left"
    return f"{len(jobs) - left} of {len(jobs)} jobs have measured{words}" if left else ""


def time_left_s(jobs: Iterable[Planned], cores: int) -> float | None:
    """Seconds that are left; None where nobody knows yet what jobs of some kind take.

    What runs alone follows one another; the rest shares the cores.
    """
    by_kind: dict[str, list[Planned]] = {}
    for job in jobs:
        by_kind.setdefault(job.kind, []).append(job)
    total_s = 0.0
    for members in by_kind.values():
        took = [(job.cases, _seconds(job.benchmark)) for job in members if job.is_done()]
        known = [(cases, seconds) for cases, seconds in took if seconds is not None]
        for job in (job for job in members if not job.is_done()):
            seconds = sum(s for _, s in known) / sum(n for n, _ in known) * job.cases if known else job.expected_s
            if seconds is None:
                return None
            total_s += seconds if job.alone else seconds / cores
    return total_s


def _seconds(benchmark: Path) -> float | None:
    """The wall seconds of a job; None where they are not known."""
    try:
        with benchmark.open(encoding="utf-8") as file:
            (row,) = csv.DictReader(file, delimiter="\t")
        return float(row["s"])
    except (OSError, ValueError, KeyError):
        return None
