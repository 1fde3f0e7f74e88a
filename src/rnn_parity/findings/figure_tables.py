"""The numbers that each figure draws, as tables. Pure pandas, so that the tables of the report need no plotting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from rnn_parity.experiment.vocabulary import unit_roundoff
from rnn_parity.findings import rates
from rnn_parity.findings.efficiency import efficiency_table
from rnn_parity.findings.machines import split_sweeps
from rnn_parity.findings.speedups import speedup_table
from rnn_parity.findings.verdicts import FORWARD, deciding_rows, draw_dropout, is_withheld, must_hold, verdict_table
from rnn_parity.tables import CASE_COLUMNS

FAMILIES = {
    "output and last states": FORWARD,
    "gradients of input and states": "grad_(input|[a-z]0)",
    "gradients of parameters": "grad_(weight|bias).*",
}
"""Family of quantities to the pattern of their names."""


def tables(results: Mapping[str, pd.DataFrame], environment: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Every table that a figure draws, by the name in its `FigureEntry`; those of the run itself are left out.

    A sweep that was timed on unlike machines is split, as in the figures.
    """
    timing = results["timing"]
    kept = rates.kept_rates(tuple(results["equivalence"]["cell"].unique()))
    equivalence, timing = (split_sweeps(table, timing) for table in (results["equivalence"], timing))
    return {
        "overview": overview(equivalence, timing),
        "speedup": speedup_table(timing),
        "crossover": crossover(timing),
        "resources": resources(timing),
        "roofline": efficiency_table(timing, environment.get("peaks") or []),
        "error_ratio": error_ratio(equivalence),
        "error_vs_length": error_vs_length(equivalence),
        "dropout": dropout(equivalence),
        "detection": kept.detection,
    }


def error_vs_length(equivalence: pd.DataFrame) -> pd.DataFrame:
    """Per case, implementation and family of quantities: the worst error in the 2-norm and its limit, also over u."""
    rows = must_hold(equivalence).dropna(subset=["error_2", "limit_2"]).reset_index(drop=True)
    rows["u"] = [unit_roundoff(dtype, bool(tf32)) for dtype, tf32 in zip(rows["dtype"], rows["tf32"], strict=True)]
    own = rows.assign(implementation=rows["baseline"], error_2=rows["baseline_error_2"]).dropna(subset=["error_2"])
    rows = pd.concat([own, rows], ignore_index=True)
    table = []
    for family, pattern in FAMILIES.items():
        members = rows[rows["quantity"].str.fullmatch(pattern)].assign(family=family)
        table.append(members.loc[members.groupby(["case_id", "implementation"], sort=False)["error_2"].idxmax()])
    columns = ["implementation", "family", "error_2", "limit_2", "quantity", "regime", "seed", "u"]
    result = pd.concat(table, ignore_index=True)[[*CASE_COLUMNS, *columns]]
    return result.assign(error_over_u=result["error_2"] / result["u"], limit_over_u=result["limit_2"] / result["u"])


def error_ratio(equivalence: pd.DataFrame) -> pd.DataFrame:
    """Per candidate, quantity (all layers as one) and sweep: the verdict and the row that decides.

    What a layer does not support in one regime is judged in the others.
    """
    rows = must_hold(equivalence[~is_withheld(equivalence)])
    rows = rows[rows["regime"] != "train_distribution"]  # its quantities are other ones, and have no error
    kind = rows["quantity"].str.replace(r"_l\d+(_reverse)?$", "", regex=True)
    keys = ["implementation", "quantity", "sweep"]
    table = deciding_rows(rows.assign(worst_quantity=rows["quantity"], quantity=kind), keys)
    return table[[*keys, "ratio", "verdict", "case_id", "regime", "seed", "reason", "worst_quantity"]]


def dropout(equivalence: pd.DataFrame) -> pd.DataFrame:
    """Per case with dropout, candidate and training regime: the largest difference to the baseline, forward.

    Cases with two gaps or more, since with one gap both orders of drawing are the same; all, where there is none.
    """
    rows = equivalence[equivalence["regime"].str.startswith("train_") & equivalence["quantity"].str.fullmatch(FORWARD)]
    rows = rows[draw_dropout(rows)].dropna(subset=["max_abs_diff"])
    deep = rows[rows["num_layers"] > 2]
    rows = rows if deep.empty else deep
    groups = rows.groupby([*CASE_COLUMNS, "implementation", "regime"], sort=False)
    return groups.agg({"max_abs_diff": "max", "mask_agreement": "min"}).reset_index()


def overview(equivalence: pd.DataFrame, timing: pd.DataFrame) -> pd.DataFrame:
    """Per sweep, candidate and regime the verdict; beside it by phase the speedup's geometric mean, range and cases."""
    table = verdict_table(equivalence)
    timed = timing[timing["implementation"] != timing["baseline"]].dropna(subset=["speedup"])
    for phase in ("inference", "step"):
        speedup = timed[timed["phase"] == phase].groupby(["sweep", "implementation"])["speedup"]
        summary = speedup.agg(geometric_mean=lambda s: np.exp(np.log(s).mean()), lowest="min", highest="max")
        table = table.join(summary.add_prefix(f"{phase}_speedup_"), on=["sweep", "implementation"])
        table = table.join(speedup.size().rename(f"{phase}_cases_timed"), on=["sweep", "implementation"])
    return table


CROSSED = ("sequence_length", "batch_size", "hidden_size", "num_layers", "input_size", "threads")
"""The axes that a map of who wins may have; of several, a sweep is drawn over the two with the most values."""


def crossover(timing: pd.DataFrame) -> pd.DataFrame:
    """The speedups of `inference` and `step` in the sweeps that vary two or more sizes, with the axes of their map.

    Columns beside those of the speedups: `x` and `y`, names of axes.
    """
    table = speedup_table(timing)
    table = table[table["phase"].isin(["inference", "step"])]
    parts = []
    for _, rows in table.groupby("sweep", sort=False):
        values = {axis: rows[axis].nunique() for axis in CROSSED}
        most = sorted(CROSSED, key=values.__getitem__, reverse=True)[:2]
        if values[most[1]] > 1:
            x, y = sorted(most, key=CROSSED.index)
            parts.append(rows.assign(x=x, y=y))
    return pd.concat(parts, ignore_index=True) if parts else table.iloc[:0].assign(x="", y="")


def resources(timing: pd.DataFrame) -> pd.DataFrame:
    """Per case, implementation and phase: peak memory, calls of operators, launches of kernels, and the first call."""
    names = ["peak_memory_bytes", "operator_calls", "kernel_launches", "first_call_s"]
    return timing[[*CASE_COLUMNS, "implementation", "phase", "machine", *names]].reset_index(drop=True)


def sample_size(name: str, results: Mapping[str, pd.DataFrame]) -> str:
    """The n of a figure, in words for its caption."""
    equivalence, timing = results["equivalence"], split_sweeps(results["timing"], results["timing"])
    if name == "detection":
        kept = rates.kept_rates(tuple(equivalence["cell"].unique()))
        return f"n = {kept.cases} random cases in each dtype of a kind of cell."
    if name in TIMED:
        rows = TIMED[name](timing.dropna(subset=["median_s"]))
    else:
        rows = {"dropout": dropout, "overview": lambda table: table}.get(name, must_hold)(equivalence)
    if rows.empty:
        return ""
    case_ids = rows["case_id"].unique()
    each = ""
    if name not in TIMED:
        seeds = equivalence.groupby("case_id")["seed"].nunique().loc[case_ids]
        each = f", {_range(seeds)} seed{'' if seeds.max() == 1 else 's'} each"
    elif name != "resources":
        each = f", {_range(rows['samples'])} samples per point"
    return f"n = {len(case_ids):,} case{'' if len(case_ids) == 1 else 's'}{each}."


def _range(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"


def with_lengths(timed: pd.DataFrame) -> pd.DataFrame:
    """The rows of the sweeps that vary the sequence length."""
    varied = timed.groupby("sweep")["sequence_length"].transform("nunique") > 1
    return timed[varied]


def _crossed(timed: pd.DataFrame) -> pd.DataFrame:
    return timed[timed["case_id"].isin(crossover(timed)["case_id"])]


TIMED = {
    "speedup": lambda timed: timed,
    "resources": lambda timed: timed,
    "roofline": lambda timed: timed.dropna(subset=["flops"]),
    "latency": with_lengths,
    "crossover": _crossed,
}
"""Figures of the timing table to the rows of it that they draw."""
