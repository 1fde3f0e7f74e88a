"""Every case in one row: its axes, what is said of it, what it gains. No loop over cases: there may be thousands."""

from __future__ import annotations

import pandas as pd

from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, Verdict, axis_word
from rnn_parity.findings.speedups import speedup_table
from rnn_parity.findings.verdicts import AXES, PASSES
from rnn_parity.report.figures import study

_RANK = {str(verdict): rank for rank, verdict in enumerate(Verdict)}
_WORDS = list(_RANK)


def case_table(equivalence: pd.DataFrame, timing: pd.DataFrame) -> pd.DataFrame:
    """One row per case × candidate, in the order of the grid.

    Columns: `case_id`, `sweep`, the axes, `case` (the values that its sweep varies, in words), `candidate`; `verdict`
    over the regimes that must hold, the largest error / limit there (`ratio`) with its `quantity` and `regime`; the
    worst verdict of each regime as `verdict_{regime}`; per phase `speedup_{phase}`, its interval `…_ci_low`,
    `…_ci_high`, `conclusion_{phase}` and `exclusive_{phase}`; `reason`, of what does not pass.
    """
    keys = ["case_id", "candidate"]
    cases = pd.concat([study.case_frame(equivalence), study.case_frame(timing)]).drop_duplicates("case_id")
    pairs = [table[["case_id", name]].set_axis(keys, axis=1) for table, name in _candidates(equivalence, timing)]
    result = pd.concat(pairs).drop_duplicates().merge(cases, on="case_id", how="left")
    result["case"] = result["case_id"].map(case_names(cases))
    for part in (_verdicts(equivalence, keys), _speedups(timing, keys)):
        result = result.merge(part, on=keys, how="left")
    first = ["case_id", "sweep", *AXES, "case", "candidate"]
    return result[[*first, *(name for name in result if name not in first)]]


def case_names(table: pd.DataFrame) -> dict[str, str]:
    """Id of a case to the values that its sweep varies, in words."""
    names = {}
    for _, cases in study.case_frame(table).groupby("sweep", sort=False):
        swept = study.swept_axes(cases)
        words = [[axis_word(axis, value) for value in cases[axis]] for axis in swept]
        names |= dict(zip(cases["case_id"], map(", ".join, zip(*words, strict=True)), strict=True)) if words else {}
        names |= {} if words else dict.fromkeys(cases["case_id"], "")
    return names


def worst_first(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a case table, those that do not pass first, by error / limit."""
    rank = table["verdict"].map(_RANK).astype(float).fillna(-1).where(~table["verdict"].isin(PASSES), -1)
    order = table.assign(_rank=rank).sort_values(["_rank", "ratio"], ascending=False, kind="stable")
    return order.drop(columns="_rank")


def _candidates(equivalence: pd.DataFrame, timing: pd.DataFrame):
    yield equivalence, "candidate"
    yield timing[timing["implementation"] != timing["baseline"]], "implementation"


def _verdicts(equivalence: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    table = equivalence[[*keys, "regime", "quantity", "verdict", "ratio", "reason"]].reset_index(drop=True)
    table["rank"] = table["verdict"].map(_RANK).astype("int64")
    table["size"] = table["ratio"].fillna(-1.0)
    by_regime = table.groupby([*keys, "regime"], sort=False)["rank"].max().unstack("regime")
    by_regime = by_regime.apply(lambda ranks: ranks.map(lambda r: _WORDS[int(r)], na_action="ignore"))
    held = table[table["regime"].isin(EXPECTED_TO_HOLD)]
    worst = held.groupby(keys, sort=False)["rank"].max()
    # As in `summary.worst_row`: the largest error / limit, among those of the worst verdict unless all pass.
    held = held.assign(bad=held["rank"].where(held["rank"] > _RANK[PASSES[-1]], -1))
    deciding = held.sort_values(["bad", "size"], ascending=False, kind="stable").drop_duplicates(keys)
    deciding = deciding[[*keys, "ratio", "quantity", "regime", "reason"]]
    verdict = worst.map(_WORDS.__getitem__).rename("verdict").reset_index()
    named = by_regime.add_prefix("verdict_").rename_axis(columns=None).reset_index()
    return verdict.merge(deciding, on=keys, how="left").merge(named, on=keys, how="outer")


def _speedups(timing: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    table = speedup_table(timing).rename(columns={"implementation": "candidate"})
    parts = []
    for phase, rows in table.groupby("phase", sort=False):
        names = {
            "speedup": f"speedup_{phase}",
            "speedup_ci_low": f"speedup_{phase}_ci_low",
            "speedup_ci_high": f"speedup_{phase}_ci_high",
            "conclusion": f"conclusion_{phase}",
            "exclusive": f"exclusive_{phase}",
            "reason": f"reason_{phase}",
        }
        parts.append(rows.set_index(keys)[list(names)].rename(columns=names))
    return pd.concat(parts, axis=1).reset_index() if parts else pd.DataFrame(columns=keys)
