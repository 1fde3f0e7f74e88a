"""The kinds of machines that the cases were timed on. No summary mixes two kinds: a sweep that ran on both is split.

A case is timed by one process on one machine, so that no ratio has times of two.
"""

from __future__ import annotations

import pandas as pd


def machine_of_case(timing: pd.DataFrame) -> pd.Series:
    """The kind of machine of every case that was timed, by its id."""
    return timing.dropna(subset=["machine"]).drop_duplicates("case_id").set_index("case_id")["machine"]


def numbered(timing: pd.DataFrame) -> dict[str, int]:
    """Each kind of machine of the table to a number, in the order in which they appear."""
    return {machine: number for number, machine in enumerate(timing["machine"].dropna().unique(), 1)}


def unlike(timing: pd.DataFrame) -> dict[str, list[str]]:
    """Each sweep whose cases of one device were timed on several kinds of machines, to these."""
    several = timing.groupby(["sweep", "device"])["machine"].transform("nunique") > 1
    rows = timing[several].dropna(subset=["machine"])
    return {str(sweep): list(of["machine"].unique()) for sweep, of in rows.groupby("sweep", sort=False)}


def split_sweeps(table: pd.DataFrame, timing: pd.DataFrame) -> pd.DataFrame:
    """A table of cases in which a sweep that was timed on unlike machines is several: `width (machine 2)`."""
    apart, number = unlike(timing), table["case_id"].map(machine_of_case(timing)).map(numbered(timing))
    sweeps = zip(table["sweep"], number, number.notna(), strict=True)
    names = [f"{name} (machine {at:.0f})" if timed and name in apart else name for name, at, timed in sweeps]
    return table.assign(sweep=names)
