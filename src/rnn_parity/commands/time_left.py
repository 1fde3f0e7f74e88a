"""An estimate of the time that a run will still take, from the times of its finished jobs."""

from __future__ import annotations

import csv
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

EVERY_S = 60.0


@dataclass(frozen=True)
class Planned:
    """A job of a run.

    Attributes:
        kind: what it does. cases: how many it has. alone: whether it has the machine alone.
        benchmark: the file in which Snakemake writes its time. is_done: whether it is done by now.
        expected_s: its time, if that is known before any job of its kind is done.
    """

    kind: str
    cases: int
    alone: bool
    benchmark: Path
    is_done: Callable[[], bool]
    expected_s: float | None = None


def tell_time_left(jobs: Iterable[Planned], cores: int) -> None:
    """Say every minute how many jobs are done, and what is left, in a thread that ends with the process."""
    planned, started_s = list(jobs), time.monotonic()

    def tell() -> None:
        time.sleep(EVERY_S)
        while words := progress_line(planned, cores, time.monotonic() - started_s):
            print(f"{time.strftime('%T')} {words}", file=sys.stderr, flush=True)
            time.sleep(EVERY_S)

    threading.Thread(target=tell, daemon=True).start()


def progress_line(jobs: Sequence[Planned], cores: int, elapsed_s: float) -> str:
    """`12 of 30 jobs have measured; about 8 min left`; empty where all have. `elapsed_s` is since the run began."""
    left = sum(not job.is_done() for job in jobs)
    seconds = time_left_s(jobs, cores, elapsed_s)
    words = "" if seconds is None else f"; about {seconds / 60:.0f} min left" if seconds > 90 else "; a minute left"
    return f"{len(jobs) - left} of {len(jobs)} jobs have measured{words}" if left else ""


def time_left_s(jobs: Iterable[Planned], cores: int, elapsed_s: float) -> float | None:
    """Seconds that are left. None if the time of some kind of job is not known yet.

    Jobs that run alone follow one another. The others share the cores. The time of a job is that of finished jobs of
    its kind with as many cases, since every job also needs time to start. A run takes longer than the sum of its jobs:
    the estimate is scaled by the ratio so far.
    """
    by_kind: dict[str, list[Planned]] = {}
    for job in jobs:
        by_kind.setdefault(job.kind, []).append(job)
    done_s = left_s = 0.0
    for members in by_kind.values():
        known = [(job, s) for job in members if job.is_done() and (s := _seconds(job.benchmark)) is not None]
        done_s += sum(_share(job, seconds, cores) for job, seconds in known)
        for job in (job for job in members if not job.is_done()):
            seconds = _expected_s(job, [(other.cases, seconds) for other, seconds in known])
            if seconds is None:
                return None
            left_s += _share(job, seconds, cores)
    return left_s * max(1.0, elapsed_s / done_s if done_s else 1.0)


def _share(job: Planned, seconds: float, cores: int) -> float:
    """The seconds by which a job makes a run longer."""
    return seconds if job.alone else seconds / cores


def _expected_s(job: Planned, known: Sequence[tuple[int, float]]) -> float | None:
    """The expected seconds of a job, from the cases and seconds of others of its kind."""
    if alike := [seconds for cases, seconds in known if cases == job.cases]:
        return mean(alike)
    if job.expected_s is not None or not known:
        return job.expected_s
    return job.cases * sum(seconds for _, seconds in known) / sum(cases for cases, _ in known)


def _seconds(benchmark: Path) -> float | None:
    """The wall seconds of a job; None where they are not known."""
    try:
        with benchmark.open(encoding="utf-8") as file:
            (row,) = csv.DictReader(file, delimiter="\t")
        return float(row["s"])
    except (OSError, ValueError, KeyError):
        return None
