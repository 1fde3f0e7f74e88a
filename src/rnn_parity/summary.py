"""From the tables to the facts that the report states. Pure pandas: tables in, smaller tables and facts out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rnn_parity.criterion import EXPECTED_TO_HOLD, Verdict, worst
from rnn_parity.tables import CASE_COLUMNS

AXES = tuple(CASE_COLUMNS)[2:]
PASSES = (Verdict.IDENTICAL, Verdict.EQUIVALENT)
FAULTS = (Verdict.DIFFERENT, Verdict.FAILED)
SEED_REGIME = "train_same_seed"
NOT_TIMED = ("unsupported", "failed", "no baseline")
QUOTED_SWEEP = "t2vec"
"""The sweep whose largest case is quoted first, where the grid has it."""

_SEED_AXES = ("sequence_length", "num_layers")
_VERDICT_COLUMNS = ("verdict", "cases", "cases_passing", "worst_ratio", "worst_case_id", "worst_quantity", "reason")


def expected(equivalence: pd.DataFrame) -> pd.DataFrame:
    """The rows of the regimes in which a correct implementation must agree."""
    return equivalence[equivalence["regime"].isin(EXPECTED_TO_HOLD)]


def unmet(equivalence: pd.DataFrame) -> pd.DataFrame:
    """The rows that had to hold and do not: `different` or `failed` in a regime of `EXPECTED_TO_HOLD`."""
    rows = expected(equivalence)
    return rows[rows["verdict"].isin(FAULTS)]


def worst_row(rows: pd.DataFrame) -> pd.Series:
    """The row that decides: the largest error / limit, among those of the worst verdict unless all pass."""
    verdict = worst(rows["verdict"].unique())
    deciding = rows if verdict in PASSES else rows[rows["verdict"] == verdict]
    return deciding.loc[deciding["ratio"].fillna(-math.inf).idxmax()]


def verdict_table(equivalence: pd.DataFrame) -> pd.DataFrame:
    """One row per sweep × candidate × regime: the verdict, how many cases pass, and the case that decides."""
    keys = ["sweep", "candidate", "regime"]
    table = []
    for group, rows in equivalence.reset_index(drop=True).groupby(keys, sort=False):
        deciding = worst_row(rows)
        values = (
            str(worst(rows["verdict"].unique())),
            rows["case_id"].nunique(),
            int(rows["verdict"].isin(PASSES).groupby(rows["case_id"]).all().sum()),
            deciding["ratio"],
            deciding["case_id"],
            deciding["quantity"],
            deciding["reason"],
        )
        table.append(dict(zip(keys, group, strict=True)) | dict(zip(_VERDICT_COLUMNS, values, strict=True)))
    return pd.DataFrame(table, columns=[*keys, *_VERDICT_COLUMNS])


def speedup_table(timing: pd.DataFrame) -> pd.DataFrame:
    """One row per case × implementation × phase, without the baseline's own."""
    columns = [
        *CASE_COLUMNS,
        "implementation",
        "phase",
        "median_s",
        "speedup",
        "speedup_ci_low",
        "speedup_ci_high",
        "control_ci_low",
        "control_ci_high",
        "conclusion",
        "samples",
        "peak_memory_bytes",
        "reason",
    ]
    return timing.loc[timing["implementation"] != timing["baseline"], columns].reset_index(drop=True)


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
    return Answer(candidate, word, len(passing), int(passing.sum()), len(broken), fault, regimes, apart, seed)


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


def quoted_speedups(timing: pd.DataFrame, candidate: str) -> pd.DataFrame:
    """The rows `inference` and `step` of one candidate in the largest case, by FLOPs, that is quoted first."""
    rows = timing[timing["implementation"] == candidate]
    if QUOTED_SWEEP in set(rows["sweep"]):
        rows = rows[rows["sweep"] == QUOTED_SWEEP]
    if rows.empty:
        return rows
    largest = rows.loc[rows["flops"].fillna(0).idxmax(), "case_id"]
    rows = rows[rows["case_id"] == largest].set_index("phase", drop=False)
    return rows.loc[[phase for phase in ("inference", "step") if phase in rows.index]]


def conclusions(timing: pd.DataFrame, candidate: str) -> pd.DataFrame:
    """Per phase: how many cases are faster, within noise, slower and not timed, and the range of the speedup."""
    rows = timing[timing["implementation"] == candidate]
    table = []
    for phase, group in rows.groupby("phase", sort=False):
        count = group["conclusion"].value_counts()
        table.append(
            {
                "phase": phase,
                "cases": len(group),
                **{name.replace(" ", "_"): int(count.get(name, 0)) for name in ("faster", "within noise", "slower")},
                "not_timed": int(group["conclusion"].isin(NOT_TIMED).sum()),
                "lowest": group["speedup"].min(),
                "highest": group["speedup"].max(),
            }
        )
    return pd.DataFrame(table)


def not_judged(equivalence: pd.DataFrame) -> pd.DataFrame:
    """What is neither yes nor no: one row per candidate × regime × kind of reason; no `quantities` means all."""
    rows = equivalence[equivalence["verdict"] == Verdict.UNSUPPORTED].copy()
    rows["kind"] = rows["reason"].str.split(":").str[0]  # numbers after the colon differ from case to case
    table = []
    for (candidate, regime, _), group in rows.groupby(["candidate", "regime", "kind"], sort=False):
        named = set(group["quantity"])
        every = set(equivalence.loc[equivalence["case_id"].isin(group["case_id"]), "quantity"])
        values = ([] if named == every else sorted(named), group["case_id"].nunique(), group["reason"].iloc[0])
        row = {"candidate": candidate, "regime": regime}
        table.append(row | dict(zip(("quantities", "cases", "reason"), values, strict=True)))
    return pd.DataFrame(table, columns=["candidate", "regime", "quantities", "cases", "reason"])


def tolerance_checks(equivalence: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How tests with default tolerances judge what had to hold: their false alarms, and the faults they pass."""
    rows = expected(equivalence)
    rows = rows[rows["allclose_default"].notna()]
    good = rows["verdict"].isin(PASSES)
    checks = {"torch.allclose": "allclose_default", "torch.testing.assert_close": "assert_close_default"}
    counts = {}
    for name, column in checks.items():
        says_equal = rows[column].astype(bool)
        counts[name] = {
            "equal": int(good.sum()),
            "false_alarms": int((good & ~says_equal).sum()),
            "faults": int((rows["verdict"] == Verdict.DIFFERENT).sum()),
            "missed": int(((rows["verdict"] == Verdict.DIFFERENT) & says_equal).sum()),
        }
    return counts


def seed_table(equivalence: pd.DataFrame) -> pd.DataFrame:
    """The cases of `train_same_seed` that draw dropout: the article's own sweep where there is one, else all."""
    rows = equivalence[equivalence["regime"] == SEED_REGIME]
    rows = rows[(rows["dropout"] > 0) & (rows["num_layers"] > 1)]
    if "article" in set(rows["sweep"]):
        rows = rows[rows["sweep"] == "article"]
    table = []
    for (case_id, candidate), group in rows.groupby(["case_id", "candidate"], sort=False):
        forward = group[group["quantity"].isin(["output", "hn"])]
        table.append(
            {
                "case_id": case_id,
                "candidate": candidate,
                **{axis: group[axis].iloc[0] for axis in ("sweep", *AXES)},
                "verdict": str(worst(group["verdict"].unique())),
                "max_abs_diff": forward["max_abs_diff"].max(),
                "mask_agreement": group["mask_agreement"].min(),
            }
        )
    columns = ["case_id", "candidate", "sweep", *AXES, "verdict", "max_abs_diff", "mask_agreement"]
    return pd.DataFrame(table, columns=columns)


def protocol(equivalence: pd.DataFrame) -> dict[str, dict[str, list[int]]]:
    """In the sweep `article`, per candidate: each verdict of `train_same_seed` and the lengths T that have it."""
    found: dict[str, dict[str, list[int]]] = {}
    rows = seed_table(equivalence)
    for row in rows[rows["sweep"] == "article"].sort_values("sequence_length").itertuples():
        lengths = found.setdefault(row.candidate, {}).setdefault(row.verdict, [])
        if row.sequence_length not in lengths:
            lengths.append(row.sequence_length)
    return found


def capability_rows(capabilities: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per device × capability: its `title`, the rows of the table `by_name`, and whether they `part` there.

    They part where one can do what another cannot, or where both can and their numbers are not the same.
    """
    rows = []
    for (device, _), group in capabilities.groupby(["device", "capability"], sort=False):
        by_name = {row["implementation"]: row for row in group.to_dict("records")}
        part = group["outcome"].nunique() > 1 or any(row["agrees"] is False for row in by_name.values())
        rows.append({"device": device, "title": group["title"].iloc[0], "by_name": by_name, "part": part})
    return rows


def lost_capabilities(rows: list[dict[str, Any]], baseline: str, candidate: str) -> list[str]:
    """The titles of what the baseline can do and the candidate cannot, or not with the same numbers."""
    lost = [row["title"] for row in rows if is_lost(row["by_name"][baseline], row["by_name"][candidate])]
    return list(dict.fromkeys(lost))


def is_lost(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether the baseline's row of a capability works and the candidate's does not, or with other numbers."""
    return ours["outcome"] == "works" and (theirs["outcome"] != "works" or theirs["agrees"] is False)
