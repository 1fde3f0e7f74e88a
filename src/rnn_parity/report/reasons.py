"""Why verdicts are what they are: reasons that many cases share, told once."""

from __future__ import annotations

from typing import Any

import pandas as pd

from rnn_parity.experiment.vocabulary import PASSING, Regime
from rnn_parity.findings.verdicts import not_judged


def reasons(verdicts: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of the verdict table that are neither `identical` nor `equivalent` and have a reason.

    One row stands for all of a candidate and regime whose reasons differ in numbers alone; `others` are its sweeps.
    """
    faulty = verdicts[~verdicts["verdict"].isin(PASSING) & (verdicts["reason"] != "")]
    kind = faulty["reason"].str.split(":").str[0].str.replace(r"[\d.,e+-]+", "", regex=True)
    groups = faulty.groupby(["implementation", "regime", kind], sort=False)
    return [group.to_dict("records")[0] | {"others": list(group["sweep"][1:])} for _, group in groups]


def undecided(equivalence: pd.DataFrame) -> list[dict[str, Any]]:
    """What was not judged, as `verdicts.not_judged`; `whole`: in words, where it is every quantity or gradient."""
    gradients = set(equivalence.loc[equivalence["quantity"].str.startswith("grad_"), "quantity"])
    rows = []
    for row in not_judged(equivalence).to_dict("records"):
        of_candidate = equivalence["implementation"] == row["implementation"]
        own = gradients & set(equivalence.loc[of_candidate, "quantity"])
        whole = "every quantity" if not row["quantities"] else "every gradient" if own <= set(row["quantities"]) else ""
        rows.append(row | {"regime_words": Regime(row["regime"]).words, "whole": whole})
    return rows
