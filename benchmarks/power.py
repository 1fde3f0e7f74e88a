"""How often the clock claims a difference, where there is none and where a known share of the work is repeated."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from torch.utils.benchmark import Measurement, Timer

from benchmarks.result import PROJECT, Result
from rnn_parity.compare.run import Role
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import numerics
from rnn_parity.statistics import Conclusion, wilson
from rnn_parity.tables import write_text
from rnn_parity.timing.calls import Calls
from rnn_parity.timing.rounds import Contender, make_contender, run_rounds, summarize
from rnn_parity.workloads.layer import Layer

SIZES = [(1, 4, 8, 1), (2, 4, 16, 1), (4, 4, 16, 1), (4, 8, 32, 1), (2, 8, 32, 2)]
"""T, B, H and L of the cases of the A/A comparisons; I = H."""

PHASES = ("inference", "step")
COMPARISONS, PAIRS = 2000, 60
"""How many A/A comparisons, and pairs for every share of repeated work."""

REPEATED = (0.0, 0.01, 0.02, 0.05, 0.1)
FOLDER = PROJECT / "reports" / "benchmarks"
BASELINE = "stacking_gru_cell"
_SLOWED = (100, 4, 16, 1)  # steps enough for a hundredth of them
_CONFIDENCE = 0.95
_SHORT_S, _FULL_S = 0.06, 0.5
"""What an A/A comparison may take, lest two thousand take an hour; what `rnn_parity.check` takes."""
_RULES = {
    "rnn-parity": "rnn-parity: the interval clears 1 and the control",
    "iqr": "torch.utils.benchmark, one after the other: quartiles apart",
    "5 %": "torch.utils.benchmark, one after the other: medians 5 % apart, as pytest-benchmark's median:5%",
}


def measure(comparisons: int = COMPARISONS, pairs: int = PAIRS) -> Iterator[Result]:
    """Time a layer against itself, then against itself with some steps computed twice; draw what was claimed."""
    claims = Counter(claim for case in _cases() for claim in against_itself(*case, comparisons // len(_cases())))
    wrong, of = claims[Conclusion.FASTER] + claims[Conclusion.SLOWER], sum(claims.values())
    low, high = (100 * share for share in wilson(wrong, of))
    note = f"{wrong} of {of}; 95 % interval {low:.2g} to {high:.2g} %"
    yield Result("a layer against itself called faster or slower", 100 * wrong / of, "%", 0.5, note=note)
    disturbed = claims[Conclusion.DISTURBED]
    yield Result("… called disturbed", 100 * disturbed / of, "%", note=f"{disturbed} of {of}")
    curve = power(pairs)
    write_text(FOLDER / "power_curve.csv", curve.to_csv(index=False))
    draw(curve)
    for row in curve.itertuples():
        what = f"{_RULES[row.rule]}: {100 * row.repeated:g} % more work called slower"
        yield Result(what, 100 * row.share, "%", note=f"95 % interval {100 * row.low:.0f} to {100 * row.high:.0f} %")


def _cases() -> list[tuple[Case, str]]:
    return [(case_of(size), phase) for size in SIZES for phase in PHASES]


def case_of(size: tuple[int, int, int, int]) -> Case:
    """A case without dropout."""
    length, batch, hidden, layers = size
    return Case("bench", "cpu", "float32", False, hidden, hidden, layers, length, batch, 0.0, 1)


def against_itself(case: Case, phase: str, comparisons: int) -> Iterator[Conclusion]:
    """Yield what is concluded of three contenders with one layer, each time from new samples."""
    with numerics(case.threads, case.tf32):
        task = Layer().draw(case, 0)
        everyone = [make_contender(task, BASELINE, Role.BASELINE, phase) for _ in range(3)]
        for k in range(comparisons):
            yield _conclusions(everyone, f"{case.case_id} {phase} {k}", _SHORT_S)[0]


def _conclusions(contenders: list[Contender], order: str, max_seconds: float) -> list[Conclusion]:
    """Of each contender between the baseline and its control."""
    fresh = [replace(contender, seconds=[]) for contender in contenders]
    run_rounds(fresh, "cpu", random.Random(order), 0.02, 10, max_seconds * len(fresh) / 3, _CONFIDENCE)
    return [row["conclusion"] for row in summarize(fresh[:-1], fresh[-1], _CONFIDENCE)[1:]]


@dataclass(frozen=True)
class Pair:
    """A layer, and the same layer that computes a share of its steps twice."""

    honest: Callable[[], Any]
    slowed: Callable[[], Any]

    def said(self) -> dict[str, bool]:
        """By rule, whether blocks of each, one after the other, are called slower."""
        first, second = (Timer("run()", globals={"run": run}) for run in (self.honest, self.slowed))
        before, after = (timer.blocked_autorange(min_run_time=_FULL_S / 3) for timer in (first, second))
        return {"iqr": _quartile(after, 0.25) > _quartile(before, 0.75), "5 %": after.median > 1.05 * before.median}


def _quartile(measured: Measurement, share: float) -> float:
    return float(pd.Series(measured.times).quantile(share))


def power(pairs: int) -> pd.DataFrame:
    """One row per rule and share of repeated work: how often it is called slower, with Wilson's interval."""
    case, rows = case_of(_SLOWED), []
    slower: Counter[tuple[str, float]] = Counter()
    with numerics(case.threads, case.tf32):
        task = Layer().draw(case, 0)
        made = [make_contender(task, BASELINE, Role.BASELINE, "inference") for _ in range(len(REPEATED) + 2)]
        slowed = [_slowed(one, share) for one, share in zip(made[1:-1], REPEATED, strict=True)]
        given = made[0].calls.prepare(0, 1)[0]
        for k in range(pairs):
            said = _conclusions([made[0], *slowed, made[-1]], str(k), _FULL_S)
            for share, one, conclusion in zip(REPEATED, slowed, said, strict=True):
                slower["rnn-parity", share] += conclusion == Conclusion.SLOWER
                blocks = Pair(lambda: made[0].calls.call(given), lambda one=one: one.calls.call(given))
                for rule, claimed in blocks.said().items():
                    slower[rule, share] += claimed
    for rule in _RULES:
        for share in REPEATED:
            low, high = wilson(slower[rule, share], pairs)
            rows.append(
                {"rule": rule, "repeated": share, "share": slower[rule, share] / pairs, "low": low, "high": high}
            )
    return pd.DataFrame(rows)


def _slowed(contender: Contender, share: float) -> Contender:
    """One that computes this share of its steps twice."""
    calls, steps = contender.calls, round(share * _SLOWED[0])

    def call(given: Any) -> Any:
        if steps:
            calls.call([given[0][:steps], *given[1:]])
        return calls.call(given)

    return Contender(contender.name, Calls(call, calls.prepare))


def draw(curve: pd.DataFrame) -> None:
    """The share of pairs that each rule calls slower, over the share of work that is repeated."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for shift, (rule, words) in enumerate(_RULES.items()):
        rows = curve[curve["rule"] == rule]
        share, at = 100 * rows["share"], 100 * rows["repeated"] + 0.1 * (shift - 1)
        errors = [(share - 100 * rows["low"]).clip(lower=0), (100 * rows["high"] - share).clip(lower=0)]
        axes.errorbar(at, share, errors, marker="osD"[shift], capsize=3, label=words)
    axes.set(xlabel="work repeated / %", ylabel="pairs called slower / %", ylim=(-4, 104), xlim=(-0.5, 10.5))
    axes.set_xticks([100 * share for share in REPEATED])
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", fontsize=8, frameon=False)
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure.savefig(FOLDER / "power.png", dpi=150)
