"""The cases that two runs share, the verdicts that are not the same in both, the speedups whose intervals part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, Verdict, axis_word
from rnn_parity.findings.speedups import speedup_table
from rnn_parity.findings.verdicts import AXES, FAULTS
from rnn_parity.report.figures.study import swept_axes

_RANK = {str(verdict): rank for rank, verdict in enumerate(Verdict)}
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
    """What is not the same in two runs, `a` and `b`.

    Attributes:
        apart: axis to its value in either run, where each run has one value throughout and they differ. It is no part
            of the cases then: the same case on another device is the same case.
        machines: name to its value in either run, of what differs in the environments and settings.
        cases: how many cases both have. only_a, only_b: names of those that one alone has.
        verdicts: one row per case × candidate × regime of both: `verdict_a`, `verdict_b`, `reason_b`, `flipped`.
        speedups: one row per case × candidate × phase of both: speedup with its interval, twice, `parted`, and
            `times_faster`, the baseline's own median time in a over that in b.
    """

    a: str
    b: str
    apart: Mapping[str, tuple[Any, Any]]
    machines: Mapping[str, tuple[str, str]]
    cases: int
    only_a: list[str]
    only_b: list[str]
    verdicts: pd.DataFrame
    speedups: pd.DataFrame

    @property
    def flipped(self) -> pd.DataFrame:
        """The verdicts that are not the same, what got worse first."""
        rows = self.verdicts[self.verdicts["flipped"]]
        change = rows["verdict_b"].map(_RANK).astype(float) - rows["verdict_a"].map(_RANK).astype(float)
        held = rows["regime"].isin(EXPECTED_TO_HOLD)
        order = rows.assign(_held=held, _change=change).sort_values(
            ["_held", "_change"], ascending=False, kind="stable"
        )
        return order.drop(columns=["_held", "_change"])

    @property
    def new_faults(self) -> pd.DataFrame:
        """What had to hold, held in `a` and does not in `b`."""
        rows = self.flipped
        bad, held = rows["verdict_b"].isin(FAULTS), rows["regime"].isin(EXPECTED_TO_HOLD)
        return rows[bad & held & ~rows["verdict_a"].isin(FAULTS)]

    @property
    def parted(self) -> pd.DataFrame:
        """The speedups whose intervals part, the widest gap first."""
        rows = self.speedups[self.speedups["parted"]]
        ratio = rows["speedup_b"] / rows["speedup_a"]
        return rows.loc[ratio.where(ratio > 1, 1 / ratio).sort_values(ascending=False, kind="stable").index]


def compare_runs(a: Run, b: Run) -> RunComparison:
    """Hold two runs against each other; `InputError` where they share no case."""
    cases = {run.name: _cases(run) for run in (a, b)}
    apart = _apart(cases[a.name], cases[b.name])
    keys = ["sweep", *(axis for axis in AXES if axis not in apart)]
    both = cases[a.name].merge(cases[b.name], on=keys, suffixes=("_a", "_b"))
    if both.empty:
        raise InputError(f"{b.name}: has no case of {a.name}, expected the same sweeps with the same sizes")
    names = _names(both, keys)
    only = {run.name: _only(cases[run.name], both, f"case_id_{side}") for side, run in (("a", a), ("b", b))}
    verdicts = _pair(_verdicts(a.equivalence), _verdicts(b.equivalence), both, names, ["candidate", "regime"])
    verdicts["flipped"] = verdicts["verdict_a"] != verdicts["verdict_b"]
    speedups = _pair(_speedups(a.timing), _speedups(b.timing), both, names, ["candidate", "phase"])
    low = speedups[["speedup_ci_low_a", "speedup_ci_low_b"]].max(axis=1)
    high = speedups[["speedup_ci_high_a", "speedup_ci_high_b"]].min(axis=1)
    speedups["parted"] = low > high
    speedups["times_faster"] = speedups["baseline_median_s_a"] / speedups["baseline_median_s_b"]
    return RunComparison(
        a.name, b.name, apart, _machines(a, b), len(both), only[a.name], only[b.name], verdicts, speedups
    )


def _cases(run: Run) -> pd.DataFrame:
    tables = [table[["case_id", "sweep", *AXES]] for table in (run.equivalence, run.timing)]
    return pd.concat(tables).drop_duplicates("case_id").reset_index(drop=True)


def _apart(a: pd.DataFrame, b: pd.DataFrame) -> dict[str, tuple[Any, Any]]:
    """The axes that have one value in each run, and another one in the other."""
    found = {}
    for axis in AXES:
        mine, theirs = a[axis].unique(), b[axis].unique()
        if len(mine) == len(theirs) == 1 and mine[0] != theirs[0]:
            found[axis] = (mine[0], theirs[0])
    return found


def _names(both: pd.DataFrame, keys: list[str]) -> pd.Series:
    """The sweep and the swept values of every shared case, by its id in `a`."""
    names = {}
    frame = both[keys].assign(**{axis: 0 for axis in AXES if axis not in keys})
    for sweep, rows in frame.groupby("sweep", sort=False):
        axes = swept_axes(rows)
        for at, values in zip(rows.index, rows[axes].itertuples(index=False), strict=True):
            words = [axis_word(axis, value) for axis, value in zip(axes, values, strict=True)]
            names[both.at[at, "case_id_a"]] = " ".join(filter(None, [str(sweep), ", ".join(words)]))
    return pd.Series(names)


def _only(cases: pd.DataFrame, both: pd.DataFrame, column: str) -> list[str]:
    return list(cases.loc[~cases["case_id"].isin(both[column]), "case_id"])


def _verdicts(equivalence: pd.DataFrame) -> pd.DataFrame:
    keys = ["case_id", "candidate", "regime"]
    rows = equivalence.assign(
        rank=equivalence["verdict"].map(_RANK).astype("int64"), ratio=equivalence["ratio"].fillna(-1)
    )
    worst = rows.sort_values(["rank", "ratio"], ascending=False, kind="stable").drop_duplicates(keys)
    return worst[[*keys, "verdict", "quantity", "reason"]]


def _speedups(timing: pd.DataFrame) -> pd.DataFrame:
    table = speedup_table(timing).rename(columns={"implementation": "candidate"}).dropna(subset=["speedup"])
    own = timing[timing["implementation"] == timing["baseline"]].drop_duplicates(["case_id", "phase"])
    own = own.set_index(["case_id", "phase"])["median_s"].rename("baseline_median_s")
    names = ["case_id", "candidate", "phase", "speedup", "speedup_ci_low", "speedup_ci_high", "conclusion"]
    return table[names].join(own, on=["case_id", "phase"])


def _pair(a: pd.DataFrame, b: pd.DataFrame, both: pd.DataFrame, names: pd.Series, keys: list[str]) -> pd.DataFrame:
    """The rows of both tables side by side, by shared case and `keys`."""
    ids = both[["sweep", "case_id_a", "case_id_b"]]
    left = ids.merge(a, left_on="case_id_a", right_on="case_id").drop(columns="case_id")
    right = ids[["case_id_b"]].merge(b, left_on="case_id_b", right_on="case_id").drop(columns="case_id")
    table = left.merge(right, on=["case_id_b", *keys], suffixes=("_a", "_b"))
    table.insert(0, "case", table["case_id_a"].map(names))
    return table


def _machines(a: Run, b: Run) -> dict[str, tuple[str, str]]:
    """What differs in the environments: versions, processor, graphics card, and how both were set up."""
    parts = {"cpu": "model", "gpu": "name"}
    values = {name: [run.environment.get(name) for run in (a, b)] for name in _MACHINE}
    values |= {part: [(run.environment.get(part) or {}).get(key) for run in (a, b)] for part, key in parts.items()}
    found = {name: (str(one or "–"), str(other or "–")) for name, (one, other) in values.items() if one != other}
    for name in ("equivalence", "timing"):
        if a.config.get(name) != b.config.get(name):
            found[f"config: {name}"] = (str(a.config.get(name)), str(b.config.get(name)))
    return found
