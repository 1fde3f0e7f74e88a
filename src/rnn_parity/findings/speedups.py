"""Speedups of the timing table: per case, in the case that is quoted first, and counted over all cases."""

from __future__ import annotations

from typing import Any

import pandas as pd

from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.statistics import LARGEST_CHANGE, Conclusion
from rnn_parity.tables import CASE_COLUMNS

NOT_TIMED = (
    Conclusion.UNSUPPORTED,
    Conclusion.NOT_JUDGED,
    Conclusion.DIFFERENT,
    Conclusion.FAILED,
    Conclusion.NO_BASELINE,
)
UNSURE = (Conclusion.WITHIN_NOISE, Conclusion.DISTURBED)
PAGE_FAULT_S = 1e-6
"""What a page of memory is taken to cost; on a virtual machine, 2 to 3 µs were measured."""

LOADED_CORES = 0.2
QUOTED_SWEEP = "t2vec"
"""The sweep whose largest case is quoted first, where the grid has it."""


def speedup_table(timing: pd.DataFrame) -> pd.DataFrame:
    """One row per case × implementation × phase, without the baseline's own."""
    columns = [
        *CASE_COLUMNS,
        "implementation",
        "phase",
        "machine",
        "median_s",
        "speedup",
        "speedup_ci_low",
        "speedup_ci_high",
        "control_ci_low",
        "control_ci_high",
        "conclusion",
        "exclusive",
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


_ENDED = ("it crashes its process", "it ends its process")


def result_changed(timing: pd.DataFrame | None, candidate: str) -> dict[str, Any] | None:
    """The fault of a candidate that, while it was timed, gave results not its own or ended its process; or None."""
    rows = pd.DataFrame(columns=["implementation", "conclusion"]) if timing is None else timing
    rows = rows[rows["implementation"] == candidate]
    said: dict[str, Any] = {"point": "timed", "title": "Timed calls", "condition": "", "verdict": Verdict.DIFFERENT}
    if ended := [row for row in rows.to_dict("records") if str(row.get("reason")).startswith(_ENDED)]:
        said |= {"verdict": Verdict.FAILED, "when": f"in {ended[0]['phase']}, while it was timed", "quantity": ""}
        return ended[0] | said
    rows = rows[rows["conclusion"] == Conclusion.DIFFERENT]
    if rows.empty:
        return None
    row = rows.iloc[0].to_dict()
    said |= {"when": f"in {row['phase']}", "quantity": "its result"}
    return row | said | {"reason": row["reason"].removeprefix("its result ")}


def conclusions(timing: pd.DataFrame, candidate: str) -> pd.DataFrame:
    """Per phase: how many cases are faster, within noise, slower, disturbed and not timed; the speedup's range."""
    rows = timing[timing["implementation"] == candidate]
    words = (Conclusion.FASTER, Conclusion.WITHIN_NOISE, Conclusion.SLOWER, Conclusion.DISTURBED)
    counted = {word.replace(" ", "_"): rows["conclusion"] == word for word in words}
    counted["not_timed"] = rows["conclusion"].isin(NOT_TIMED)
    phases = rows.assign(**counted).groupby("phase", sort=False)
    table = phases[list(counted)].sum()
    table.insert(0, "cases", phases.size())
    return table.assign(lowest=phases["speedup"].min(), highest=phases["speedup"].max()).reset_index()


def untimed(timing: pd.DataFrame) -> dict[str, list[str]]:
    """Each reason for which the machine timed not a single case of a sweep, to these sweeps."""
    rows = timing[timing["implementation"] != timing["baseline"]]
    whole = rows["conclusion"].eq(Conclusion.NOT_JUDGED).groupby(rows["sweep"]).transform("all")
    reasons = rows[whole].groupby("sweep", sort=False)["reason"].first()
    return {reason: list(reasons.index[reasons == reason]) for reason in reasons.unique()}


def timing_effort(timing: pd.DataFrame, max_seconds: float) -> dict[str, Any]:
    """The cost of timing, and the disturbances. Each phase of a case is one measurement.

    - `measurements`: how many were made, in at most `allowed_s` together.
    - `stopped_early`: measurements that reached the precision before `max_seconds`; they saved `saved_s`.
    - `loaded`: measurements beside which other processes kept more than `LOADED_CORES` busy.
    - `clock_limited`: measurements during which the GPU's clock was held down; `throttled`: rounds left out for that.
    - `contended`: measurements beside which other processes computed on the GPU.
    - `paged`: measurements in which page faults may be over `LARGEST_CHANGE` of a call's time.
    - `shared`: whether other jobs of the workflow ran beside.
    """
    each = timing.dropna(subset=["rounds_s", "median_s"]).drop_duplicates(["case_id", "phase"])
    paged = timing["page_faults"] * PAGE_FAULT_S > LARGEST_CHANGE * timing["median_s"]
    unused_s = (max_seconds - each["rounds_s"]).clip(lower=0)
    return {
        "measurements": len(each),
        "stopped_early": int((unused_s > 0).sum()),
        "saved_s": float(unused_s.sum()),
        "allowed_s": max_seconds * len(each),
        "loaded": int((each["other_busy_cores"] > LOADED_CORES).sum()),
        "clock_limited": int(each["clock_limits"].fillna("").ne("").sum()),
        "throttled": int(each["throttled_rounds"].fillna(0).sum()),
        "contended": int((each["other_gpu_processes"].fillna(0) > 0).sum()),
        "paged": len(timing[paged].drop_duplicates(["case_id", "phase"])),
        "shared": not each["exclusive"].astype(bool).all(),
    }


def shares_of_peak(efficiency: pd.DataFrame, case_id: str, implementations: list[str]) -> dict[str, list[float]]:
    """By phase, the share of the machine's peak rate that each implementation reaches in one case; empty if unknown."""
    rows = efficiency[efficiency["case_id"] == case_id].dropna(subset=["share_of_peak"])
    table = rows.pivot_table(index="phase", columns="implementation", values="share_of_peak", sort=False)
    if not set(implementations) <= set(table):
        return {}
    return {str(phase): list(row) for phase, row in zip(table.index, table[implementations].to_numpy(), strict=True)}
