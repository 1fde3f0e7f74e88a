"""Verdicts of the equivalence table: the row that decides, verdicts by sweep, their reasons, what was not judged."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, FAILING, PASSING, UNDECIDED, Regime, Verdict
from rnn_parity.tables import CASE_COLUMNS

RANKED = pd.CategoricalDtype([str(verdict) for verdict in Verdict], ordered=True)
"""The type of a column of verdicts whose maximum is the worst one."""


FORWARD = "output|[a-z]n"
"""The pattern of the quantities of the forward pass: output and last states."""


def severity(verdicts: pd.Series) -> pd.Series:
    """The rank of each verdict: the lowest for all that pass and for a missing one, the highest for `failed`."""
    return verdicts.astype(RANKED).cat.codes.clip(lower=len(PASSING) - 1)


def must_hold(equivalence: pd.DataFrame) -> pd.DataFrame:
    """The rows of the regimes in which a correct implementation must agree."""
    return equivalence[equivalence["regime"].isin(EXPECTED_TO_HOLD)]


def failing(equivalence: pd.DataFrame) -> pd.DataFrame:
    """The rows that must hold and are `different` or `failed`."""
    rows = must_hold(equivalence)
    return rows[rows["verdict"].isin(FAILING)]


def is_withheld(equivalence: pd.DataFrame) -> pd.Series:
    """Whether each row is of a quantity that the layer does not support there, though it gives others.

    cuDNN has no backward pass in evaluation mode: the gradients are withheld there, output and last states are judged.
    """
    unsupported = equivalence["verdict"] == Verdict.UNSUPPORTED
    keys = [equivalence[key] for key in ("case_id", "implementation", "regime")]
    return unsupported & ~unsupported.groupby(keys).transform("all")


def draw_dropout(rows: pd.DataFrame) -> pd.Series:
    """Whether each row is of a case that draws dropout: it acts between layers only, so one layer never draws."""
    return (rows["dropout"] > 0) & (rows["num_layers"] > 1)


def deciding_row(rows: pd.DataFrame) -> pd.Series:
    """The row that decides: of those with the worst verdict, the one with the largest error / limit.

    `identical` and `equivalent` count alike. A failing row of the forward pass goes before any of the gradients, since
    it explains them.
    """
    return _worst_first(rows).iloc[0]


def deciding_rows(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The `deciding_row` of each group of rows with the same `keys`, in the order in which the groups appear.

    The column `verdict` is the worst verdict of the group.
    """
    verdicts = rows.astype({"verdict": RANKED}).groupby(keys, sort=False)["verdict"].max().astype(object)
    deciding = _worst_first(rows).drop_duplicates(keys).drop(columns="verdict")
    return verdicts.reset_index().merge(deciding, on=keys)


def _worst_first(rows: pd.DataFrame) -> pd.DataFrame:
    forward = rows["verdict"].isin(FAILING) & ~rows["quantity"].str.startswith("grad_").astype(bool)
    return rows.iloc[np.lexsort((-rows["ratio"].fillna(-math.inf), -severity(rows["verdict"]), ~forward))]


def verdict_table(equivalence: pd.DataFrame) -> pd.DataFrame:
    """One row per sweep × candidate × regime: the verdict, how many cases pass, and the row that decides.

    Columns: `verdict`, the worst one of what the layer gives; `cases`; `cases_passing`; of the deciding row
    `worst_ratio`, `worst_case_id`, `worst_quantity` and `reason`; `withheld`: `gradients` or `quantities` where it does
    not support them, else empty.
    """
    keys = ["sweep", "implementation", "regime"]
    lacking = is_withheld(equivalence)
    missing = equivalence[lacking].groupby(keys)["quantity"].agg(_kind).rename("withheld").reset_index()
    equivalence = equivalence[~lacking]
    passing = equivalence["verdict"].isin(PASSING).groupby([equivalence[key] for key in [*keys, "case_id"]]).all()
    counts = passing.groupby(keys).agg(cases="size", cases_passing="sum").reset_index()
    names = {name: f"worst_{name}" for name in ("ratio", "case_id", "quantity")}
    deciding = deciding_rows(equivalence, keys)[[*keys, "verdict", *names, "reason"]].rename(columns=names)
    columns = [*keys, "verdict", "cases", "cases_passing", *names.values(), "reason", "withheld"]
    return deciding.merge(counts, on=keys).merge(missing, on=keys, how="left").fillna({"withheld": ""})[columns]


def _kind(quantities: pd.Series) -> str:
    return "gradients" if quantities.str.startswith("grad_").all() else "quantities"


def reasons(verdicts: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of the verdict table that are neither `identical` nor `equivalent` and have a reason.

    One row stands for all of a candidate and regime whose reasons differ in numbers alone; `others` are its sweeps.
    """
    faulty = verdicts[~verdicts["verdict"].isin(PASSING) & (verdicts["reason"] != "")]
    kind = faulty["reason"].str.split(":").str[0].str.replace(r"[\d.,e+-]+", "", regex=True)
    groups = faulty.groupby(["implementation", "regime", kind], sort=False)
    return [group.to_dict("records")[0] | {"others": list(group["sweep"][1:])} for _, group in groups]


def withheld_rows(of_candidate: pd.DataFrame) -> list[dict[str, Any]]:
    """What one candidate withholds where it must hold: per `regime` the `kind`, in how many `cases`, and a `reason`."""
    rows = must_hold(of_candidate)
    return [
        {
            "regime": Regime(regime),
            "kind": _kind(group["quantity"]),
            "cases": group["case_id"].nunique(),
            "reason": group["reason"].iloc[0],
        }
        for regime, group in rows[is_withheld(rows)].groupby("regime", sort=False)
    ]


def not_judged(equivalence: pd.DataFrame) -> pd.DataFrame:
    """The rows without a verdict for or against: one row per candidate × regime × verdict × kind of reason.

    Columns: `implementation`, `regime`, `verdict` (`unsupported` or `not judged`), `quantities` (empty for all),
    `cases` and the first `reason`; in words the regime, `regime_words`, and `whole`, every quantity or every gradient,
    empty for fewer.
    """
    rows = equivalence[equivalence["verdict"].isin(UNDECIDED)]
    kind = rows["reason"].str.split(":").str[0]  # numbers after the colon differ from case to case
    gradients = equivalence[equivalence["quantity"].str.startswith("grad_")]
    table = []
    for (candidate, regime, verdict, _), group in rows.groupby(
        ["implementation", "regime", "verdict", kind], sort=False
    ):
        named = set(group["quantity"])
        every = set(equivalence.loc[equivalence["case_id"].isin(group["case_id"]), "quantity"])
        quantities = [] if named == every else sorted(named)
        own = set(gradients.loc[gradients["implementation"] == candidate, "quantity"])
        whole = "every quantity" if named == every else "every gradient" if own <= named else ""
        found = (candidate, regime, verdict, quantities, group["case_id"].nunique(), group["reason"].iloc[0])
        table.append((*found, Regime(regime).words, whole))
    columns = ["implementation", "regime", "verdict", "quantities", "cases", "reason", "regime_words", "whole"]
    return pd.DataFrame(table, columns=columns)


def tolerance_checks(equivalence: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How often default tolerances agree with the verdicts of what must hold.

    Of each check: `equal`, the comparisons that pass here, and `false_alarms`, those of them that it calls unequal;
    `different`, the comparisons that are different here, and `missed`, those of them that it calls equal.
    """
    rows = must_hold(equivalence)
    rows = rows[rows["allclose_default"].notna()]
    passing, different = rows["verdict"].isin(PASSING), rows["verdict"] == Verdict.DIFFERENT
    counts = {}
    for name, column in (("torch.allclose", "allclose"), ("torch.testing.assert_close", "assert_close")):
        says_equal = rows[f"{column}_default"].astype(bool)
        counts[name] = {
            "equal": int(passing.sum()),
            "false_alarms": int((passing & ~says_equal).sum()),
            "different": int(different.sum()),
            "missed": int((different & says_equal).sum()),
        }
    return counts


def seed_table(equivalence: pd.DataFrame) -> pd.DataFrame:
    """The cases of `train_same_seed` that draw dropout: those of the sweep `article` where there are any, else all.

    Columns: case, axes, implementation; `verdict`, the worst one; `max_abs_diff` of the forward pass; `mask_agreement`,
    the smallest.
    """
    rows = equivalence[(equivalence["regime"] == Regime.TRAIN_SAME_SEED) & draw_dropout(equivalence)]
    if "article" in set(rows["sweep"]):
        rows = rows[rows["sweep"] == "article"]
    forward = rows["max_abs_diff"].where(rows["quantity"].str.fullmatch(FORWARD))
    rows = rows.assign(max_abs_diff=forward).astype({"verdict": RANKED, "mask_agreement": float})
    groups = rows.groupby([*CASE_COLUMNS, "implementation"], sort=False)
    table = groups.agg({"verdict": "max", "max_abs_diff": "max", "mask_agreement": "min"})
    return table.astype({"verdict": str}).reset_index()


def article_lengths(equivalence: pd.DataFrame) -> dict[str, dict[str, list[int]]]:
    """In the sweep `article`, per candidate: each verdict of `train_same_seed` and the lengths T that have it."""
    rows = seed_table(equivalence)
    rows = rows[rows["sweep"] == "article"].sort_values("sequence_length")
    found: dict[str, dict[str, list[int]]] = {}
    for (candidate, verdict), group in rows.groupby(["implementation", "verdict"], sort=False):
        found.setdefault(candidate, {})[verdict] = list(dict.fromkeys(group["sequence_length"]))
    return found
