"""From the findings of the self-test to rates: how often faults are caught, how often right layers are accused."""

from __future__ import annotations

import pandas as pd

from rnn_parity.compare.criterion import unit_roundoff
from rnn_parity.statistics import wilson
from rnn_parity.trust.findings import Detection

LARGEST_FALSE_ALARM_RATE = 1e-3
"""The most comparisons with a right layer that may be called different, per dtype."""

SMALLEST_SHARE_CAUGHT = 0.98
"""The least share of planted faults that must be caught, per dtype: a limit that is too wide calls them hidden."""

_KINDS = ["equations", "dropout", "backward", "precision"]
EXERCISED = (Detection.CAUGHT, Detection.MISSED, Detection.HIDDEN, Detection.NOT_JUDGED)


def detection(findings: pd.DataFrame) -> pd.DataFrame:
    """One row per device × dtype × mutant, in how many cases it was caught.

    Columns:
        cases, exercised: in how many it was tried, and changed anything. caught, missed, hidden, not_judged: what came
        of the exercised. share, share_ci_low, share_ci_high: caught of those that were judged, hidden ones included.
        allclose, assert_close: in how many exercised cases these would have failed a test, right or wrong as they are.
        largest_hidden_u: the largest fault, in units of u, that rounding hid.
    """
    rows = []
    mutants = findings[findings["kind"] != "correct"]
    for (device, dtype, layer), group in mutants.groupby(["device", "dtype", "layer"], sort=False):
        count = {finding: int((group["finding"] == finding).sum()) for finding in Detection}
        exercised = group[group["finding"].isin(EXERCISED)]
        judged = len(exercised) - count[Detection.NOT_JUDGED]
        low, high = wilson(count[Detection.CAUGHT], judged)
        rows.append(
            {
                "device": device,
                "dtype": dtype,
                "kind": group["kind"].iloc[0],
                "layer": layer,
                "fault": group["fault"].iloc[0],
                "cases": len(group),
                "exercised": len(exercised),
                **{name.replace(" ", "_"): count[name] for name in EXERCISED},
                "share": count[Detection.CAUGHT] / judged if judged else float("nan"),
                "share_ci_low": low,
                "share_ci_high": high,
                "allclose": int((exercised["allclose_unequal"] > 0).sum()),
                "assert_close": int((exercised["assert_close_unequal"] > 0).sum()),
                "largest_hidden_u": exercised["fault_size_u"].max(),
            }
        )
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values("kind", key=lambda kind: kind.map(_KINDS.index), kind="stable")


def totals(caught: pd.DataFrame) -> pd.DataFrame:
    """One row per device × dtype of a detection table: all faults together.

    Columns: judged, caught, hidden, missed; share with its interval; and how many of the exercised ones each default
    tolerance would have let pass.
    """
    if caught.empty:
        return caught
    rows = []
    for (device, dtype), group in caught.groupby(["device", "dtype"], sort=False):
        count = {name: int(group[name].sum()) for name in ("exercised", "not_judged", "caught", "hidden", "missed")}
        judged = count["exercised"] - count["not_judged"]
        low, high = wilson(count["caught"], judged)
        share = count["caught"] / judged if judged else float("nan")
        row = {"device": device, "dtype": dtype, "judged": judged, **count, "share": share}
        row |= {"share_ci_low": low, "share_ci_high": high}
        for name in ("allclose", "assert_close"):
            row[f"{name}_passes"] = count["exercised"] - int(group[name].sum())
        rows.append(row)
    return pd.DataFrame(rows)


def largest_hidden(caught: pd.DataFrame) -> dict | None:
    """Of the faults of a detection table that hid below their limits, the largest: its `dtype`, `fault` and `share`."""
    rows = caught[caught["hidden"] > 0] if len(caught) else caught
    if rows.empty:
        return None
    share = rows["largest_hidden_u"] * rows["dtype"].map(unit_roundoff)
    return rows.loc[share.idxmax(), ["dtype", "fault"]].to_dict() | {"share": share.max()}


def false_alarms(findings: pd.DataFrame) -> pd.DataFrame:
    """One row per device × dtype: comparisons with right layers, and how many each check called different.

    Columns:
        cases, comparisons, alarms; rate of the comparisons. cases_alarmed: the cases with at least one alarm, and the
        interval of their share, since the comparisons of one case depend on each other. not_judged: comparisons.
        largest_ratio: the largest error over its limit, the baseline's included, which is a right layer as well.
        allclose, assert_close: how many comparisons these call unequal.
    """
    rows = []
    correct = findings[findings["kind"] == "correct"]
    for (device, dtype), group in correct.groupby(["device", "dtype"], sort=False):
        comparisons, alarms = int(group["comparisons"].sum()), int(group["different"].sum())
        cases = group.groupby("case_id")["different"].sum()
        cases_alarmed = int((cases > 0).sum())
        low, high = wilson(cases_alarmed, len(cases))
        rows.append(
            {
                "device": device,
                "dtype": dtype,
                "cases": len(cases),
                "comparisons": comparisons,
                "alarms": alarms,
                "rate": alarms / comparisons,
                "cases_alarmed": cases_alarmed,
                "cases_ci_low": low,
                "cases_ci_high": high,
                "not_judged": int(group["not_judged"].sum()),
                "largest_ratio": group["ratio"].max(),
                "allclose": int(group["allclose_unequal"].sum()),
                "assert_close": int(group["assert_close_unequal"].sum()),
            }
        )
    return pd.DataFrame(rows)


def broken_promises(caught: pd.DataFrame, alarms: pd.DataFrame) -> list[str]:
    """What does not hold of a detection and a false-alarm table, in words.

    A fault above its limit was missed; so few were caught that it is no chance (by the interval's upper end); or right
    layers were accused too often.
    """
    broken = [
        f"{row.dtype} on {row.device}: missed in {row.missed} of {row.exercised} cases: {row.fault}"
        for row in caught.itertuples()
        if row.missed
    ]
    broken += [
        f"{row.dtype} on {row.device}: only {row.caught} of {row.judged} faults caught, at least "
        f"{SMALLEST_SHARE_CAUGHT:.0%} expected".replace("%", " %")
        for row in totals(caught).itertuples()
        if row.share_ci_high < SMALLEST_SHARE_CAUGHT
    ]
    return broken + [
        f"{row.dtype} on {row.device}: {row.alarms} false alarms in {row.comparisons:,} comparisons"
        for row in alarms.itertuples()
        if row.rate > LARGEST_FALSE_ALARM_RATE
    ]


def blind_spots(findings: pd.DataFrame) -> list[dict]:
    """Which faults the cases of an experiment could not have shown: one row per set of cases with the same faults.

    Keys: `case_ids`; `caught` and `tried`, how many faults; `not_caught`, kind to the faults of it that were not, where
    a kind is whole, to None.
    """
    findings = findings[findings["kind"] != "correct"]
    unseen = findings["finding"] != Detection.CAUGHT
    by_case = findings.groupby("case_id", sort=False).size().rename("tried").to_frame()
    layers = findings[unseen].groupby("case_id", sort=False)["layer"].agg(tuple)
    by_case["layers"] = [layers.get(case_id, ()) for case_id in by_case.index]
    groups = []
    for (tried, layers), cases in by_case.groupby(["tried", "layers"], sort=False):
        rows = findings[findings["case_id"] == cases.index[0]]
        of_kind = {kind: rows[rows["kind"] == kind] for kind in _KINDS}
        faults = {kind: list(part.loc[part["layer"].isin(layers), "fault"]) for kind, part in of_kind.items()}
        not_caught = {
            kind: None if len(names) == len(of_kind[kind]) else names for kind, names in faults.items() if names
        }
        row = {"case_ids": list(cases.index), "caught": tried - len(layers), "tried": tried, "not_caught": not_caught}
        groups.append(row)
    return sorted(groups, key=lambda row: row["tried"] - row["caught"])


def shown_by_none(findings: pd.DataFrame) -> list[str]:
    """The faults that no case of an experiment could have shown."""
    findings = findings[findings["kind"] != "correct"]
    caught = (findings["finding"] == Detection.CAUGHT).groupby(findings["fault"], sort=False).any()
    return list(caught.index[~caught.to_numpy(bool)])
