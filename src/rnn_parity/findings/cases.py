"""Every case in one row: its axes, its verdict, its speedups. No loop over cases: there may be thousands."""

from __future__ import annotations

import re

import pandas as pd

from rnn_parity.experiment.vocabulary import AXES, axis_word
from rnn_parity.findings.machines import machine_of_case
from rnn_parity.findings.speedups import speedup_table
from rnn_parity.findings.verdicts import RANKED, deciding_rows, is_withheld, must_hold, severity
from rnn_parity.tables import CASE_COLUMNS

_KEYS = ["case_id", "implementation"]


def case_table(equivalence: pd.DataFrame, timing: pd.DataFrame) -> pd.DataFrame:
    """One row per case × candidate, in the order of the grid.

    Columns: `case_id`, `sweep`, the axes, `case` (the values that its sweep varies, in words), `machine` (the kind that
    it was timed on), `implementation`;
    `verdict`, the worst one over the regimes that must hold, and of the row that decides there `ratio` (error / limit),
    `quantity`, `regime` and `reason`; `withheld`, the regimes in which it does not support some quantities, which count
    in no verdict; the worst verdict of each regime as `verdict_{regime}`; of each phase
    `speedup_{phase}`, its interval `…_ci_low` and `…_ci_high`, `conclusion_{phase}`, `exclusive_{phase}` and
    `reason_{phase}`.
    """
    speedups = speedup_table(timing)
    cases = case_frame(equivalence, timing)
    pairs = pd.concat([equivalence[_KEYS], speedups[_KEYS]]).drop_duplicates()
    result = pairs.merge(cases, on="case_id", how="left")
    result["case"] = result["case_id"].map(case_names(cases))
    result["machine"] = result["case_id"].map(machine_of_case(timing))
    for part in (_verdicts(equivalence), _speedups(speedups)):
        result = result.merge(part, on=_KEYS, how="left")
    first = [*CASE_COLUMNS, "case", "machine", "implementation"]
    return result[[*first, *(name for name in result if name not in first)]]


def case_frame(*tables: pd.DataFrame) -> pd.DataFrame:
    """Id, sweep and axes of every case of the tables."""
    return pd.concat([table[list(CASE_COLUMNS)] for table in tables]).drop_duplicates("case_id")


def swept_axes(rows: pd.DataFrame) -> list[str]:
    """The axes that vary within these rows."""
    return [axis for axis in AXES if rows[axis].nunique() > 1]


def case_names(table: pd.DataFrame) -> dict[str, str]:
    """Id of a case to the values that its sweep varies, in words."""
    names = {}
    for _, cases in case_frame(table).groupby("sweep", sort=False):
        swept = swept_axes(cases)
        for case_id, *values in cases[["case_id", *swept]].itertuples(index=False):
            names[case_id] = ", ".join(map(axis_word, swept, values))
    return names


def worst_first(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a case table, those that do not pass first, by error / limit."""
    order = table.assign(_severity=severity(table["verdict"]))
    order = order.sort_values(["_severity", "ratio"], ascending=False, kind="stable")
    return order.drop(columns="_severity")


def _verdicts(equivalence: pd.DataFrame) -> pd.DataFrame:
    rows = equivalence[[*_KEYS, "regime", "quantity", "verdict", "ratio", "reason"]]
    lacking = is_withheld(equivalence)
    regimes = rows[lacking].groupby(_KEYS, sort=False)["regime"].agg(lambda found: ", ".join(found.unique()))
    rows = rows[~lacking]
    of_case = deciding_rows(must_hold(rows), _KEYS)[[*_KEYS, "verdict", "ratio", "quantity", "regime", "reason"]]
    by_regime = rows.astype({"verdict": RANKED}).groupby([*_KEYS, "regime"], sort=False)["verdict"].max()
    by_regime = by_regime.astype(object).unstack("regime").add_prefix("verdict_").rename_axis(columns=None)
    table = of_case.merge(by_regime.reset_index(), on=_KEYS, how="outer")
    return table.merge(regimes.rename("withheld").reset_index(), on=_KEYS, how="left").fillna({"withheld": ""})


def _speedups(speedups: pd.DataFrame) -> pd.DataFrame:
    columns = ["speedup", "speedup_ci_low", "speedup_ci_high", "conclusion", "exclusive", "reason"]
    parts = []
    for phase, rows in speedups.groupby("phase", sort=False):
        names = {name: re.sub("^[a-z]+", rf"\g<0>_{phase}", name) for name in columns}  # behind the first word
        parts.append(rows.set_index(_KEYS)[columns].rename(columns=names))
    return pd.concat(parts, axis=1).reset_index() if parts else pd.DataFrame(columns=_KEYS)
