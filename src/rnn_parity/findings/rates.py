"""Rates of the self-test: how often planted faults are caught, how often right layers are called different."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pandas as pd

from rnn_parity.experiment.vocabulary import FAULT_KINDS, Detection, unit_roundoff
from rnn_parity.statistics import wilson

LARGEST_FALSE_ALARM_RATE = 1e-3
"""The most comparisons with a right layer, or calls in its life, that may be called wrong, per kind and dtype."""

SMALLEST_SHARE_CAUGHT = 0.98
"""The least share of planted faults that must be caught, per dtype: a limit that is too wide calls them hidden."""

EXERCISED = (Detection.CAUGHT, Detection.MISSED, Detection.HIDDEN, Detection.NOT_JUDGED)
_COUNTED = [name.replace(" ", "_") for name in EXERCISED]
_CHECKS = ["allclose", "assert_close"]
_SHARE = ["share", "share_ci_low", "share_ci_high"]
GROUP = ["device", "cell", "dtype"]
_FAULT = [*GROUP, "kind", "implementation", "fault"]


@dataclass(frozen=True)
class KeptRates:
    """The rates of a self-test with many cases, measured once and shipped with the package.

    Attributes:
        detection, false_alarms: the tables of the functions of these names. power: as `rnn_parity.tables.POWER`.
        environment: versions, commit and machine of that self-test.
    """

    detection: pd.DataFrame
    false_alarms: pd.DataFrame
    power: pd.DataFrame
    environment: Mapping[str, Any]

    @property
    def cases(self) -> int:
        """How many random cases were tried in each dtype and kind of cell; 0 where none was."""
        return 0 if self.false_alarms.empty else int(self.false_alarms["cases"].min())


@functools.cache
def kept_rates(cells: tuple[str, ...] = ()) -> KeptRates:
    """Read the rates that are shipped with the package; those of some kinds of cells, or of all."""
    folder = resources.files(__package__) / "kept"
    tables = {}
    for name in ("detection", "false_alarms", "power"):
        with folder.joinpath(f"{name}.csv").open(encoding="utf-8") as file:
            tables[name] = pd.read_csv(file)
        if cells and "cell" in tables[name]:
            tables[name] = tables[name][tables[name]["cell"].isin(cells)]
    tables["power"]["fault"] = tables["power"]["fault"].fillna("")  # a right layer has none
    return KeptRates(environment=json.loads(folder.joinpath("environment.json").read_text()), **tables)


def detection(findings: pd.DataFrame) -> pd.DataFrame:
    """One row per device × cell × dtype × planted fault; no row for an empty table.

    Columns:
        cases, exercised: in how many cases it was tried, and in how many it changed anything.
        caught, missed, hidden, not_judged: the outcomes of the exercised cases.
        share, share_ci_low, share_ci_high: caught cases over the judged ones, hidden faults included.
        allclose, assert_close: in how many exercised cases these would have failed a test.
        largest_hidden_u: the largest fault, in units of u, that was hidden below its limit.
    """
    rows = []
    for group, of_fault in _planted(findings).groupby(_FAULT, sort=False):
        exercised = of_fault[of_fault["finding"].isin(EXERCISED)]
        counts = [int((exercised["finding"] == finding).sum()) for finding in EXERCISED]
        failed = [int((exercised[f"{check}_unequal"] > 0).sum()) for check in _CHECKS]
        share = _share(counts[0], sum(counts[:3]))
        hidden_u = exercised["fault_size_u"].max()
        rows.append((*group, len(of_fault), len(exercised), *counts, *share, *failed, hidden_u))
    columns = [*_FAULT, "cases", "exercised", *_COUNTED, *_SHARE, *_CHECKS, "largest_hidden_u"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("kind", key=lambda kind: kind.map(FAULT_KINDS.index), kind="stable")


def totals(caught: pd.DataFrame) -> pd.DataFrame:
    """One row per device × cell × dtype of a detection table: all faults together.

    Columns: judged, exercised, caught, missed, hidden, not_judged; share with its interval; `{check}_passes`, in how
    many exercised cases a default tolerance would have let the fault pass.
    """
    table = caught.groupby(GROUP, sort=False)[["exercised", *_COUNTED, *_CHECKS]].sum().reset_index()
    table.insert(len(GROUP), "judged", table["exercised"] - table["not_judged"])
    shares = [_share(*counts) for counts in table[["caught", "judged"]].itertuples(index=False)]
    table[_SHARE] = pd.DataFrame(shares, columns=_SHARE, dtype=float)
    for check in _CHECKS:
        table[f"{check}_passes"] = table["exercised"] - table.pop(check)
    return table


def false_alarms(findings: pd.DataFrame) -> pd.DataFrame:
    """One row per device × cell × dtype: the comparisons with right layers; no row for an empty table.

    Columns:
        cases, comparisons, alarms; rate, alarms over comparisons.
        cases_alarmed, cases_ci_low, cases_ci_high: the cases with an alarm, and the interval of their share, since the
        comparisons of one case depend on each other.
        not_judged: comparisons. largest_ratio: the largest error / limit, also of the baseline, a right layer as well.
        allclose, assert_close: how many comparisons these call unequal.
    """
    rows = []
    for group, right in findings[findings["kind"] == "correct"].groupby(GROUP, sort=False):
        alarmed = right.groupby("case_id")["different"].sum() > 0
        interval = wilson(int(alarmed.sum()), len(alarmed))
        names = ["comparisons", "different", "not_judged", *(f"{check}_unequal" for check in _CHECKS)]
        comparisons, alarms, not_judged, *unequal = (int(right[name].sum()) for name in names)
        values = (int(alarmed.sum()), *interval, not_judged, right["ratio"].max())
        rows.append((*group, len(alarmed), comparisons, alarms, alarms / comparisons, *values, *unequal))
    of_cases = ["cases_alarmed", "cases_ci_low", "cases_ci_high", "not_judged", "largest_ratio"]
    return pd.DataFrame(rows, columns=[*GROUP, "cases", "comparisons", "alarms", "rate", *of_cases, *_CHECKS])


def largest_hidden(caught: pd.DataFrame) -> dict | None:
    """The largest fault of a detection table that was hidden below its limit: its `dtype`, `fault` and `share`.

    `share` is its size as a share of the quantity. None where none was hidden.
    """
    rows = caught[caught["hidden"] > 0]
    if rows.empty:
        return None
    share = rows["largest_hidden_u"] * rows["dtype"].map(unit_roundoff)
    return rows.loc[share.idxmax(), ["dtype", "fault"]].to_dict() | {"share": share.max()}


def unmet_targets(caught: pd.DataFrame, alarms: pd.DataFrame) -> list[str]:
    """The targets that a detection and a false-alarm table do not meet, in words.

    A fault above its limit was missed; the share caught is below its target, by the interval's upper end; or too many
    comparisons with right layers are false alarms.
    """
    missed = [
        f"{row.cell} in {row.dtype} on {row.device}: missed in {row.missed} of {row.exercised} cases: {row.fault}"
        for row in caught.itertuples()
        if row.missed
    ]
    too_few = [
        f"{row.cell} in {row.dtype} on {row.device}: only {row.caught} of {row.judged} faults caught, at least "
        f"{SMALLEST_SHARE_CAUGHT:.0%} expected".replace("%", " %")
        for row in totals(caught).itertuples()
        if row.share_ci_high < SMALLEST_SHARE_CAUGHT
    ]
    too_many = [
        f"{row.cell} in {row.dtype} on {row.device}: {row.alarms} false alarms in {row.comparisons:,} comparisons"
        for row in alarms.itertuples()
        if row.rate > LARGEST_FALSE_ALARM_RATE
    ]
    return missed + too_few + too_many


def undetected_by_case(findings: pd.DataFrame) -> list[dict]:
    """The planted faults that the cases of an experiment do not detect: one row per set of cases with the same faults.

    Keys: `case_ids`; `caught` and `tried`, numbers of faults; `not_caught`: for each kind, the faults that were not
    caught; None if all of them were not.
    """
    groups: dict[tuple, list[str]] = {}
    for case_id, faults in _planted(findings).groupby("case_id", sort=False):
        outcome = tuple(zip(faults["kind"], faults["fault"], faults["finding"] == Detection.CAUGHT, strict=True))
        groups.setdefault(outcome, []).append(case_id)
    rows = []
    for outcome, case_ids in groups.items():
        not_caught = {}
        for kind in FAULT_KINDS:
            tried = [(fault, caught) for of_kind, fault, caught in outcome if of_kind == kind]
            if faults := [fault for fault, caught in tried if not caught]:
                not_caught[kind] = None if len(faults) == len(tried) else faults
        caught = sum(caught for _, _, caught in outcome)
        rows.append({"case_ids": case_ids, "caught": caught, "tried": len(outcome), "not_caught": not_caught})
    return sorted(rows, key=lambda row: row["tried"] - row["caught"])


def detected_by_none(findings: pd.DataFrame) -> list[str]:
    """The planted faults that no case of an experiment detects."""
    faults = _planted(findings)
    caught = (faults["finding"] == Detection.CAUGHT).groupby(faults["fault"], sort=False).any()
    return list(caught.index[~caught])


def _planted(findings: pd.DataFrame) -> pd.DataFrame:
    return findings[findings["kind"] != "correct"]


def _share(caught: int, judged: int) -> tuple[float, float, float]:
    return (caught / judged if judged else float("nan"), *wilson(caught, judged))
