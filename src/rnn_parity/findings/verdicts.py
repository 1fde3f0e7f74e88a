"""What the equivalence table says: verdicts by sweep, what was not judged, what default tolerances would say.

Pure pandas, like `answers`, `gains` and `losses` beside it: tables in, smaller tables and facts out.
"""

from __future__ import annotations

import math

import pandas as pd

from rnn_parity.experiment.vocabulary import AXES, EXPECTED_TO_HOLD, FAILING, PASSING, UNDECIDED, Regime, Verdict, worst

PASSES, FAULTS, SEED_REGIME = PASSING, FAILING, Regime.TRAIN_SAME_SEED

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


def not_judged(equivalence: pd.DataFrame) -> pd.DataFrame:
    """What is neither yes nor no: one row per candidate × regime × kind of reason; no `quantities` means all."""
    rows = equivalence[equivalence["verdict"].isin(UNDECIDED)].copy()
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
    keys = ["case_id", "candidate"]
    columns = [*keys, "sweep", *AXES, "verdict", "max_abs_diff", "mask_agreement"]
    rank = rows["verdict"].map(list(Verdict).index)
    forward = rows["max_abs_diff"].where(rows["quantity"].isin(["output", "hn"]))
    rows = rows.assign(rank=rank, max_abs_diff=forward).astype({"mask_agreement": float})
    aggregates = {"rank": "max", "max_abs_diff": "max", "mask_agreement": "min"}
    table = rows.groupby(keys, sort=False).agg({"sweep": "first", **dict.fromkeys(AXES, "first"), **aggregates})
    table["verdict"] = [str(list(Verdict)[at]) for at in table["rank"]]
    return table.reset_index()[columns]


def protocol(equivalence: pd.DataFrame) -> dict[str, dict[str, list[int]]]:
    """In the sweep `article`, per candidate: each verdict of `train_same_seed` and the lengths T that have it."""
    found: dict[str, dict[str, list[int]]] = {}
    rows = seed_table(equivalence)
    for row in rows[rows["sweep"] == "article"].sort_values("sequence_length").itertuples():
        lengths = found.setdefault(row.candidate, {}).setdefault(row.verdict, [])
        if row.sequence_length not in lengths:
            lengths.append(row.sequence_length)
    return found
