"""What the timing table says: speedups, the case that is quoted first, how many cases are faster."""

from __future__ import annotations

import pandas as pd

from rnn_parity.tables import CASE_COLUMNS

NOT_TIMED = ("unsupported", "failed", "no baseline")
QUOTED_SWEEP = "t2vec"
"""The sweep whose largest case is quoted first, where the grid has it."""


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


def quoted_speedups(timing: pd.DataFrame, candidate: str, sweep: str | None = None) -> pd.DataFrame:
    """The rows `inference` and `step` of one candidate in the largest case, by FLOPs, of the sweep that is quoted.

    That is `sweep`, else `QUOTED_SWEEP` where the grid has it, else the whole grid.
    """
    rows = timing[timing["implementation"] == candidate]
    if (sweep or QUOTED_SWEEP) in set(rows["sweep"]):
        rows = rows[rows["sweep"] == (sweep or QUOTED_SWEEP)]
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
