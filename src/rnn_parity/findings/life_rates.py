"""Rates of the self-test's lives: how many planted faults a first call sees, how many a life, and its false alarms."""

from __future__ import annotations

import functools
from importlib import resources

import pandas as pd

from rnn_parity.experiment.vocabulary import LIFE_FAULT_KINDS
from rnn_parity.findings.rates import GROUP, LARGEST_FALSE_ALARM_RATE
from rnn_parity.statistics import wilson

SMALLEST_SHARE_CAUGHT = 0.95
"""The least share of the life's planted faults that a life must see, per kind of cell and dtype."""

_COUNTED = ["calls", "first_call", "caught", "named", "alarms"]


@functools.cache
def kept_lives(cells: tuple[str, ...] = ()) -> pd.DataFrame:
    """`life_counts` as shipped with the package; those of some kinds of cells, or of all."""
    with (resources.files(__package__) / "kept" / "lives.csv").open(encoding="utf-8") as file:
        kept = pd.read_csv(file, keep_default_na=False)
    return kept[kept["cell"].isin(cells)] if cells else kept


def life_counts(lives: pd.DataFrame) -> pd.DataFrame:
    """One row per device × cell × dtype × layer of a table `lives`, a right one having the kind `correct`.

    Columns:
        lives, calls. first_call: lives whose fault one call of a fresh module shows.
        caught: lives in which some point fails; named: of these, where it is one that the fault asks for.
        alarms: points that fail.
    """
    caught = lives.assign(lives=1, caught=lives["alarms"] > 0)
    keys = [*GROUP, "kind", "implementation", "fault"]
    return caught.groupby(keys, sort=False)[["lives", *_COUNTED]].sum().reset_index()


def by_kind(counts: pd.DataFrame) -> pd.DataFrame:
    """One row per cell × kind of fault: `faults`, and the `lives` in which each was planted, with what was seen."""
    planted = counts[counts["kind"] != "correct"]
    grouped = planted.groupby(["cell", "kind"], sort=False)
    table = grouped[["lives", "first_call", "caught", "named"]].sum()
    table.insert(0, "faults", grouped["implementation"].nunique())
    return table.reset_index().sort_values("kind", key=lambda kind: kind.map(LIFE_FAULT_KINDS.index), kind="stable")


def totals(counts: pd.DataFrame, by: tuple[str, ...] = ("cell",)) -> pd.DataFrame:
    """One row per cell, or what `by` names: all faults together, and the right layers.

    Columns: lives, first_call, caught, named, caught_ci_low of the faults; right_lives, right_calls, alarms, and
    alarms_ci_high, the upper end of the interval of the share of calls.
    """
    rows = []
    for group, of_group in counts.groupby(list(by), sort=False):
        is_right = of_group["kind"] == "correct"
        faults, right = of_group[~is_right].sum(numeric_only=True), of_group[is_right].sum(numeric_only=True)
        row = dict(zip(by, group, strict=True)) | faults[["lives", "first_call", "caught", "named"]].to_dict()
        row |= {"caught_ci_low": wilson(int(faults["caught"]), int(faults["lives"]))[0]}
        row |= {"right_lives": right["lives"], "right_calls": right["calls"], "alarms": right["alarms"]}
        rows.append(row | {"alarms_ci_high": wilson(int(right["alarms"]), int(right["calls"]))[1]})
    return pd.DataFrame(rows)


def unmet_targets(counts: pd.DataFrame) -> list[str]:
    """The targets that lives do not meet, in words."""
    unmet = []
    for row in totals(counts, tuple(GROUP)).itertuples():
        of = f"{row.cell} in {row.dtype} on {row.device}"
        if row.caught < SMALLEST_SHARE_CAUGHT * row.lives:
            unmet.append(f"{of}: only {row.caught} of {row.lives} faults of the life caught")
        if row.alarms > LARGEST_FALSE_ALARM_RATE * row.right_calls:
            unmet.append(f"{of}: {row.alarms} false alarms in {row.right_calls:,} calls of correct layers")
    return unmet


def missed(counts: pd.DataFrame) -> list[str]:
    """The faults that some life does not see, in words."""
    rows = counts[(counts["kind"] != "correct") & (counts["caught"] < counts["lives"])]
    return [f"{row.cell} in {row.dtype}: {row.fault}" for row in rows.itertuples()]
