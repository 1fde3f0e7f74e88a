"""A life from its first point to its last: rows of the table `life`."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import FAILING, PASSING, UNDECIDED, Verdict
from rnn_parity.layers.containment import Ended, Start, served
from rnn_parity.layers.running import classify_exception, compiled_as_often_as_needed, generators_kept, numerics
from rnn_parity.layers.settings import put_back
from rnn_parity.life import calls, derivatives, edges, forms, gradients, sizes, traces, weights
from rnn_parity.life.course import Life
from rnn_parity.life.judging import Found
from rnn_parity.life.points import Point
from rnn_parity.tables import LEFT_OUT, NOTHING_TO_TRY

POINTS: dict[str, Point] = {
    name: value
    for module in (calls, traces, weights, edges, forms, gradients, derivatives, sizes)
    for name, value in vars(module).items()
    if isinstance(value, Point)
}
"""Name to point, in the order in which they are lived through; the first decides which modes go on."""

MAX_SECONDS = 20.0
"""A life that has taken so long begins no further point, and says which it leaves out."""


_RANKS = [*UNDECIDED[:1], *PASSING, *UNDECIDED[1:], *FAILING]
"""What decides a point, the last most: what could not be judged counts only where nothing could."""


def life_case(case: Case, name: str) -> Case:
    """The sizes of a life: small and all unlike, where the layer takes them; else the case's own width and depth."""
    small = replace(case, sweep="life", sequence_length=5, batch_size=4, num_layers=min(case.num_layers, 3))
    tiny = replace(small, input_size=5, hidden_size=6)
    life = Life(name, tiny)
    with numerics(case.threads, case.tf32), put_back(name):
        first = life.hold(life.draw(), lambda: life.call(life.build(life.draw()), life.draw(), life.quiet))
    return small if first.verdict == Verdict.FAILED else tiny


@dataclass(frozen=True)
class _Budget:
    """Seconds of work that a life may take: of CPUs, or a tenth of the clock's where a layer waits for more than that.

    Beside other processes the clock runs on while nothing is done: a busy machine must not cut a life short. What a
    layer lets other processes do counts too, as where a compiler is one.
    """

    seconds: float
    began_s: float = field(default_factory=time.monotonic)
    spent_s: float = field(default_factory=lambda: _cpu_seconds())

    @property
    def is_spent(self) -> bool:
        elapsed_s = time.monotonic() - self.began_s
        if elapsed_s <= self.seconds:  # the usual case, and the cheap question
            return False
        return elapsed_s / 10 > self.seconds or _cpu_seconds() - self.spent_s > self.seconds


def _cpu_seconds() -> float:
    """Seconds of CPU that this process has taken, with all that it has started."""
    seconds = sum(os.times()[:4])
    try:
        import psutil
    except ImportError:  # it is not needed to measure, as on a GPU's machine that has PyTorch alone
        return seconds
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            seconds += sum(process.cpu_times()[:4])
    return seconds


def live(
    case: Case,
    name: str,
    deep: bool = False,
    max_seconds: float | None = None,
    *,
    seed: int = 0,
    points: Collection[str] = (),
    until_failure: bool = False,
    life: Life | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield one row per point: the worst that its calls came to. The case gives sizes, dtype, device and threads.

    Args:
        deep: points too that take minutes or gigabytes. max_seconds: of work, after which no point begins; None is
            `MAX_SECONDS`, and no limit for a deep life.
        seed: of all that is drawn. points: those to live through; all where none is named.
        until_failure: whether the first point that fails without a condition is the last.
        life: the life itself, where what its last call gave is wanted.
    """
    life = life or Life(name, case, seed=seed)
    budget = _Budget(max_seconds if max_seconds is not None else math.inf if deep else MAX_SECONDS)
    with numerics(case.threads, case.tf32), generators_kept(case.device):
        if points and "first_call" not in points and Life(name, case, seed=seed).refuses_eval():
            life.leave_eval()
        for key, point in POINTS.items():
            if (point.deep and not deep) or (points and key not in points):
                continue
            begun = time.monotonic()
            if life.quiet not in life.modes:
                found, tried = Found(Verdict.NOT_JUDGED, reason="left out: its first call is wrong already"), 0
            elif budget.is_spent:
                found, tried = _left_out(budget), 0
            else:
                with compiled_as_often_as_needed(), put_back(name):
                    found, tried = _live_through(point, life, budget)
            yield {
                **case.columns,
                "implementation": name,
                "point": key,
                "title": point.title,
                "condition": point.condition,
                "verdict": found.verdict,
                "when": found.when,
                "quantity": found.quantity,
                "reason": found.reason,
                "ratio": found.ratio,
                "calls": tried,
                "elapsed_s": time.monotonic() - begun,
            }
            if until_failure and found.fails and not point.condition:
                return


def _left_out(budget: _Budget) -> Found:
    return Found(Verdict.NOT_JUDGED, reason=f"{LEFT_OUT} {budget.seconds:g} s before")


def _live_through(point: Point, life: Life, budget: _Budget) -> tuple[Found, int]:
    """The finding that decides a point, the first that fails, and the number of calls; where time ends first, none."""
    untried = f"left out: its first call in {life.wrong[0]} is wrong already" if life.wrong else NOTHING_TO_TRY
    best, tried, findings = Found(Verdict.NOT_JUDGED, reason=untried), 0, point.probe(life)
    while True:
        try:
            found = next(findings)
        except StopIteration:
            return best, tried
        except InputError:
            raise
        except Exception as error:  # a layer may raise where it is built or copied too
            verdict, reason = classify_exception(error)
            found = Found(verdict, "", reason)
        if point.may_refuse and found.verdict == Verdict.FAILED:
            found = Found(Verdict.UNSUPPORTED, "", found.reason, None, found.when)
        said = found.reason if found.verdict in PASSING else ""
        if tried == 0 or said or _RANKS.index(found.verdict) > _RANKS.index(best.verdict):
            best = found
        tried += 1
        if found.fails:
            return found, tried
        if point is not calls.first_call and budget.is_spent:
            return _left_out(budget), tried


def live_contained(
    case: Case, candidate: str, points: Sequence[str], deep: bool, start: Start
) -> Iterator[dict[str, Any]]:
    """Start a life at the sizes that the layer takes, and yield its rows; a point that ends its process has failed.

    Where that point only makes a condition of the answer, a new process lives through those behind it, since they may
    yet make it a no. Behind any other the answer is known; and a time limit is not waited for twice.

    Args:
        points: of `POINTS`, in order. start: as in `served`.
    """
    tried = [key for key in points if deep or not POINTS[key].deep]

    def serve(points: Sequence[str]) -> Iterator[dict[str, Any]]:
        yield from live(life_case(case, candidate), candidate, deep, points=points)

    return _rows(case, candidate, tried, served(serve, tried, start))


def _rows(case: Case, candidate: str, points: Sequence[str], found: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for row, key in zip(found, points, strict=False):  # in this order what comes behind the last row is read too
        if not isinstance(row, Ended):
            yield row
            continue
        point = POINTS[key]
        about = {"implementation": candidate, "point": key, "title": point.title, "condition": point.condition}
        ended = {"verdict": str(row.verdict), "when": "", "quantity": "", "reason": row.reason, "calls": 0}
        yield {**case.columns, **about, **ended}
        if not point.condition or row.verdict != Verdict.FAILED:
            return
