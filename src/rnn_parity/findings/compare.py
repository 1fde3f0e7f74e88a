"""Two runs compared: the cases that both have, the verdicts that changed, the speedups whose intervals are disjoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.vocabulary import AXES, EXPECTED_TO_HOLD, FAILING
from rnn_parity.findings.cases import case_frame, case_names
from rnn_parity.findings.machines import numbered
from rnn_parity.findings.speedups import speedup_table
from rnn_parity.findings.verdicts import RANKED, deciding_rows

_MACHINE = ("rnn_parity", "commit", "python", "torch", "platform")


@dataclass(frozen=True)
class Run:
    """One folder of results. `environment` and `config` are empty where the folder has none."""

    name: str
    equivalence: pd.DataFrame
    timing: pd.DataFrame
    environment: Mapping[str, Any]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class RunComparison:
    """The differences between two runs, `a` and `b`.

    Attributes:
        differing_axes: axis to its value in either run, where each run has one value throughout and they differ. The
            axis is no part of the cases then: the same case on another device is the same case.
        machines: name to its value in either run, of the environments' and settings' differences.
        cases: how many cases both have. only_a, only_b: ids of the cases that one alone has.
        verdicts: one row per case × implementation × regime of both: `verdict_a`, `verdict_b`, `reason_b`, `flipped`.
        speedups: one row per case × implementation × phase of both: machine, and speedup with its interval, twice;
            `disjoint`, whether the intervals are; `times_faster`, the baseline's own median time in a over that in b,
            where both were timed on the same kind of machine.
    """

    a: str
    b: str
    differing_axes: Mapping[str, tuple[Any, Any]]
    machines: Mapping[str, tuple[str, str]]
    cases: int
    only_a: list[str]
    only_b: list[str]
    verdicts: pd.DataFrame
    speedups: pd.DataFrame

    @property
    def flipped(self) -> pd.DataFrame:
        """The verdicts that changed: first those that must hold, by how much worse they became."""
        rows = self.verdicts[self.verdicts["flipped"]]
        before, after = (rows[f"verdict_{run}"].astype(RANKED).cat.codes.astype(int) for run in "ab")
        order = rows.assign(_held=rows["regime"].isin(EXPECTED_TO_HOLD), _change=after - before)
        order = order.sort_values(["_held", "_change"], ascending=False, kind="stable")
        return order.drop(columns=["_held", "_change"])

    @property
    def regressions(self) -> pd.DataFrame:
        """The verdicts that must hold and fail in `b` but not in `a`."""
        rows = self.flipped[self.flipped["regime"].isin(EXPECTED_TO_HOLD)]
        return rows[rows["verdict_b"].isin(FAILING) & ~rows["verdict_a"].isin(FAILING)]

    @property
    def on_unlike_machines(self) -> int:
        """How many speedups were timed on another kind of machine in `b` than in `a`."""
        return int((self.speedups["machine_a"] != self.speedups["machine_b"]).sum())

    @property
    def disjoint(self) -> pd.DataFrame:
        """The speedups with disjoint intervals, the largest change first."""
        rows = self.speedups[self.speedups["disjoint"]]
        ratio = rows["speedup_b"] / rows["speedup_a"]
        return rows.loc[ratio.where(ratio > 1, 1 / ratio).sort_values(ascending=False, kind="stable").index]


def compare_runs(a: Run, b: Run) -> RunComparison:
    """Compare two runs; raise `InputError` where they share no case."""
    cases_a, cases_b = (case_frame(run.equivalence, run.timing) for run in (a, b))
    differing_axes = _differing_axes(cases_a, cases_b)
    shared = ["sweep", *(axis for axis in AXES if axis not in differing_axes)]
    both = cases_a.merge(cases_b, on=shared, suffixes=("_a", "_b"))
    if both.empty:
        raise InputError(f"{b.name}: has no case of {a.name}, expected the same sweeps with the same sizes")
    both["case"] = _names(both, differing_axes)
    verdicts = _side_by_side(_verdicts(a.equivalence), _verdicts(b.equivalence), both, ["implementation", "regime"])
    verdicts["flipped"] = verdicts["verdict_a"] != verdicts["verdict_b"]
    speedups = _side_by_side(_speedups(a.timing), _speedups(b.timing), both, ["implementation", "phase"])
    low = speedups[["speedup_ci_low_a", "speedup_ci_low_b"]].max(axis=1)
    high = speedups[["speedup_ci_high_a", "speedup_ci_high_b"]].min(axis=1)
    speedups["disjoint"] = low > high
    ratio = speedups["baseline_median_s_a"] / speedups["baseline_median_s_b"]
    speedups["times_faster"] = ratio.where(speedups["machine_a"] == speedups["machine_b"])
    return RunComparison(
        a.name,
        b.name,
        differing_axes,
        _machines(a, b),
        cases=len(both),
        only_a=list(cases_a["case_id"][~cases_a["case_id"].isin(both["case_id_a"])]),
        only_b=list(cases_b["case_id"][~cases_b["case_id"].isin(both["case_id_b"])]),
        verdicts=verdicts,
        speedups=speedups,
    )


def _differing_axes(a: pd.DataFrame, b: pd.DataFrame) -> dict[str, tuple[Any, Any]]:
    """The axes that have one value in each run, and another one in the other."""
    values = {axis: (a[axis].unique(), b[axis].unique()) for axis in AXES}
    single = {axis: (mine[0], theirs[0]) for axis, (mine, theirs) in values.items() if len(mine) == len(theirs) == 1}
    return {axis: pair for axis, pair in single.items() if pair[0] != pair[1]}


def _names(both: pd.DataFrame, differing_axes: Mapping[str, Any]) -> pd.Series:
    """The sweep and the swept values of every shared case."""
    swept = case_names(both.rename(columns={"case_id_a": "case_id"}).assign(**dict.fromkeys(differing_axes, 0)))
    return (both["sweep"] + " " + both["case_id_a"].map(swept)).str.strip()


def _verdicts(equivalence: pd.DataFrame) -> pd.DataFrame:
    keys = ["case_id", "implementation", "regime"]
    return deciding_rows(equivalence, keys)[[*keys, "verdict", "quantity", "reason"]]


def _speedups(timing: pd.DataFrame) -> pd.DataFrame:
    table = speedup_table(timing).dropna(subset=["speedup"])
    keys, said = ["case_id", "phase"], ["machine", "speedup", "speedup_ci_low", "speedup_ci_high", "conclusion"]
    own = timing[timing["implementation"] == timing["baseline"]].set_index(keys)["median_s"]
    return table[["case_id", "implementation", "phase", *said]].join(own.rename("baseline_median_s"), on=keys)


def _side_by_side(a: pd.DataFrame, b: pd.DataFrame, both: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The rows of both tables by shared case and `keys`, with the columns `…_a` and `…_b`."""
    left = both[["case", "sweep", "case_id_a", "case_id_b"]].merge(a.rename(columns={"case_id": "case_id_a"}))
    return left.merge(b.rename(columns={"case_id": "case_id_b"}), on=["case_id_b", *keys], suffixes=("_a", "_b"))


def _machines(a: Run, b: Run) -> dict[str, tuple[str, str]]:
    """The differences of versions, processor, graphics card, and of how both were set up."""
    parts = {"cpu": "model", "gpu": "name"}
    values = {name: [run.environment.get(name) for run in (a, b)] for name in _MACHINE}
    values["timed on"] = ["; ".join(numbered(run.timing)) for run in (a, b)]
    values |= {part: [(run.environment.get(part) or {}).get(key) for run in (a, b)] for part, key in parts.items()}
    found = {name: (str(one or "–"), str(other or "–")) for name, (one, other) in values.items() if one != other}
    for name in ("equivalence", "timing"):
        if a.config.get(name) != b.config.get(name):
            found[f"config: {name}"] = (str(a.config.get(name)), str(b.config.get(name)))
    return found
