"""May the candidate replace the baseline? The answer for each, from the equivalence table alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, Verdict
from rnn_parity.findings.verdicts import AXES, PASSES, SEED_REGIME, expected, unmet, worst_row

_SEED_AXES = ("sequence_length", "num_layers")


@dataclass(frozen=True)
class SameSeed:
    """What the same seed before each forward gave, in the cases that draw dropout.

    Attributes:
        drawing, differing: how many cases draw, and in how many of them the candidate is not equal.
        first_length, first_layers: the smallest T and L of a differing case; None where there is none.
        always: whether every drawing case with at least that T and L differs.
        masks_differ: the largest share of mask entries that differ; NaN where the masks were not seen.
        out_of_sight: whether in a differing case no mask was seen.
    """

    drawing: int
    differing: int
    first_length: int | None
    first_layers: int | None
    always: bool
    masks_differ: float
    out_of_sight: bool


@dataclass(frozen=True)
class Answer:
    """May the candidate replace the baseline?

    Attributes:
        word: `yes`, `yes, when` (it computes the same, but the same seed gives other masks), `no`, or `open`: nothing
            could be judged.
        cases, judged, broken: how many cases; in how many every quantity passes; in how many one is at fault.
        fault: the row that decides a `no`. regimes: the regimes with faults.
        apart: what all broken cases have that no other has, in words.
        compared: each regime that must hold, to the number of cases in which it was run; where it needs dropout, only
            those with dropout.
        same_seed: None where that regime was not run on a case that draws dropout.
    """

    candidate: str
    word: str
    cases: int
    judged: int
    broken: int
    fault: Mapping[str, Any] | None
    regimes: tuple[str, ...]
    apart: str
    compared: Mapping[str, int]
    same_seed: SameSeed | None


def answer(equivalence: pd.DataFrame, candidate: str) -> Answer:
    """Answer for one candidate, from its rows alone."""
    rows = equivalence[equivalence["candidate"] == candidate].reset_index(drop=True)
    held, faults = expected(rows), unmet(rows)
    passing = held["verdict"].isin(PASSES).groupby(held["case_id"]).all()
    regimes = tuple(regime for regime in EXPECTED_TO_HOLD if regime in set(faults["regime"]))
    fault = worst_row(faults[faults["regime"] == regimes[0]]).to_dict() if regimes else None
    seed = same_seed(rows)
    if fault:
        word = "no"
    elif not held["verdict"].isin(PASSES).any():
        word = "open"
    else:
        word = "yes, when" if seed and seed.differing else "yes"
    broken = set(faults["case_id"])
    apart = sets_apart(held[held["case_id"].isin(broken)], held[~held["case_id"].isin(broken)])
    judged, compared = int(passing.sum()), regimes_compared(held)
    return Answer(candidate, word, len(passing), judged, len(broken), fault, regimes, apart, compared, seed)


def regimes_compared(held: pd.DataFrame) -> dict[str, int]:
    """Each regime of these rows to the number of its cases; without dropout, all but `eval` says nothing more."""
    rows = held[(held["regime"] == "eval") | (held["dropout"] > 0)]
    cases = rows.groupby("regime")["case_id"].nunique()
    return {regime: int(cases[regime]) for regime in EXPECTED_TO_HOLD if regime in cases}


def same_seed(rows: pd.DataFrame) -> SameSeed | None:
    """What the rows of one candidate show in the regime `train_same_seed`."""
    rows = rows[(rows["regime"] == SEED_REGIME) & (rows["dropout"] > 0) & (rows["num_layers"] > 1)]
    if rows.empty:
        return None
    bad = rows[rows["verdict"] == Verdict.DIFFERENT]
    cases = rows.drop_duplicates("case_id")
    first_length, first_layers = (None if bad.empty else int(bad[axis].min()) for axis in _SEED_AXES)
    beyond = cases[(cases["sequence_length"] >= (first_length or 0)) & (cases["num_layers"] >= (first_layers or 0))]
    return SameSeed(
        drawing=len(cases),
        differing=bad["case_id"].nunique(),
        first_length=first_length,
        first_layers=first_layers,
        always=set(beyond["case_id"]) == set(bad["case_id"]),
        masks_differ=1 - bad["mask_agreement"].astype(float).min(),
        out_of_sight=bool(bad["mask_agreement"].isna().any()),
    )


def sets_apart(these: pd.DataFrame, others: pd.DataFrame) -> str:
    """The axes that alone tell these cases from the others, in words; empty where none does."""
    words = []
    for axis in AXES if len(these) and len(others) else ():
        mine, rest = sorted(set(these[axis])), sorted(set(others[axis]))
        if set(mine) & set(rest):
            continue
        if isinstance(mine[0], str | bool) or (mine[0] < rest[-1] and rest[0] < mine[-1]):
            words.append(f"{axis} {' or '.join(map(str, mine))}")
        else:
            words.append(f"{axis} ≥ {mine[0]}" if mine[0] > rest[-1] else f"{axis} ≤ {mine[-1]}")
    return ", ".join(words)
