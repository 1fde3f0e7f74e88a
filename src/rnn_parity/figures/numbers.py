"""The numbers that each figure draws, as tables. Pure pandas, so that the tables of the report need no plotting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rnn_parity.criterion import unit_roundoff
from rnn_parity.summary import AXES, expected, verdict_table, worst_row

FAMILIES = {
    "output, hn": ("output", "hn"),
    "gradients of input and h0": ("grad_input", "grad_h0"),
    "gradients of parameters": ("grad_weight", "grad_bias"),
}
"""Family of quantities to how their names begin."""

AXIS_LABELS = {
    "device": "device",
    "dtype": "dtype",
    "tf32": "TF32",
    "input_size": "input size I",
    "hidden_size": "hidden size H",
    "num_layers": "layers L",
    "sequence_length": "sequence length T",
    "batch_size": "batch size B",
    "dropout": "dropout p",
    "threads": "CPU threads",
}
_SHORT_DTYPES = {"float64": "fp64", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_DTYPE_ORDER = list(_SHORT_DTYPES)


@dataclass(frozen=True)
class Study:
    """The completed config, the tables that are drawn, and the machine they were measured on."""

    config: Mapping[str, Any]
    equivalence: pd.DataFrame
    timing: pd.DataFrame
    masks: pd.DataFrame
    environment: Mapping[str, Any]

    @property
    def candidates(self) -> list[str]:
        """The candidates in the order of the config."""
        return list(self.config["candidates"])

    @property
    def implementations(self) -> list[str]:
        """The baseline, then the candidates."""
        return [self.config["baseline"], *self.candidates]


@dataclass(frozen=True)
class Panel:
    """The rows of one sweep that differ in the axis `x` only."""

    title: str
    x: str
    rows: pd.DataFrame

    @property
    def values(self) -> list:
        """The values of the axis `x`, in order."""
        values = self.rows[self.x].unique().tolist()
        return sorted(values, key=_DTYPE_ORDER.index if self.x == "dtype" else None)


def swept_axes(rows: pd.DataFrame) -> list[str]:
    """The axes that vary within these rows."""
    return [axis for axis in AXES if rows[axis].nunique() > 1]


def tick_label(axis: str, value: Any) -> str:
    """A value of an axis as a tick: short."""
    if axis == "tf32":
        return "TF32" if value else "no TF32"
    return _SHORT_DTYPES.get(value, value) if isinstance(value, str) else f"{value:g}"


def panels(table: pd.DataFrame, x: str | None = None) -> Iterator[Panel]:
    """Split a table by sweep, and by every swept axis but one: `x`, or else the numeric axis with the most values."""
    for sweep, rows in table.groupby("sweep", sort=False):
        swept = swept_axes(rows)
        if x is None:
            numeric = [axis for axis in swept if rows[axis].dtype.kind in "if"]
            along = max(numeric or swept or ["sequence_length"], key=lambda axis: rows[axis].nunique())
        else:
            along = x
        others = [axis for axis in swept if axis != along]
        for values, group in rows.groupby(others, sort=False) if others else [((), rows)]:
            words = [axis_word(axis, value) for axis, value in zip(others, values, strict=True)]
            yield Panel(", ".join([str(sweep), *words]), along, group)


def axis_word(axis: str, value: Any) -> str:
    """A value with the letter of its axis: `T 30`, `fp32`."""
    if isinstance(value, str) or axis == "tf32":
        return tick_label(axis, value)
    return f"{AXIS_LABELS[axis].rsplit(' ', 1)[-1]} {value:g}"


def case_frame(table: pd.DataFrame) -> pd.DataFrame:
    """Sweep, id and axes of every case of a table."""
    return table[["case_id", "sweep", *AXES]].drop_duplicates("case_id")


def error_vs_length(equivalence: pd.DataFrame) -> pd.DataFrame:
    """Per case, implementation and family of quantities: the worst error in the 2-norm and its limit, also over u."""
    rows = expected(equivalence).dropna(subset=["error_2", "limit_2"]).reset_index(drop=True)
    rows["u"] = [unit_roundoff(dtype, bool(tf32)) for dtype, tf32 in zip(rows["dtype"], rows["tf32"], strict=True)]
    columns = ["error_2", "limit_2", "quantity", "regime", "seed", "u"]
    table = []
    for family, prefixes in FAMILIES.items():
        members = rows[rows["quantity"].str.startswith(prefixes)]
        for name, column, key in (("baseline", "baseline_error_2", []), ("candidate", "error_2", ["candidate"])):
            chosen = members.dropna(subset=[column])
            worst = chosen.loc[chosen.groupby(["case_id", *key], sort=False)[column].idxmax()]
            worst = worst.assign(implementation=worst[name], error_2=worst[column], family=family)
            table.append(worst[["case_id", "sweep", *AXES, "implementation", "family", *columns]])
    result = pd.concat(table, ignore_index=True)
    return result.assign(error_over_u=result["error_2"] / result["u"], limit_over_u=result["limit_2"] / result["u"])


def error_ratio(equivalence: pd.DataFrame) -> pd.DataFrame:
    """Per candidate, quantity (all layers as one) and sweep: the worst error / limit, its verdict and where it was."""
    rows = expected(equivalence).reset_index(drop=True)
    rows = rows[rows["regime"] != "train_distribution"]  # its quantities are other ones, and have no error
    rows = rows.assign(kind=rows["quantity"].str.replace(r"_l\d+(_reverse)?$", "", regex=True))
    table = []
    for (candidate, kind, sweep), group in rows.groupby(["candidate", "kind", "sweep"], sort=False):
        deciding = worst_row(group)
        table.append(
            {
                "candidate": candidate,
                "quantity": kind,
                "sweep": sweep,
                "ratio": deciding["ratio"],
                **{name: deciding[name] for name in ("verdict", "case_id", "regime", "seed", "reason")},
                "worst_quantity": deciding["quantity"],
            }
        )
    names = ["candidate", "quantity", "sweep", "ratio", "verdict", "case_id", "regime", "seed", "reason"]
    return pd.DataFrame(table, columns=[*names, "worst_quantity"])


def dropout(equivalence: pd.DataFrame) -> pd.DataFrame:
    """Per case with dropout, candidate and training regime: the largest difference to the baseline, forward.

    Cases with two gaps or more, since with one gap both orders of drawing are the same; all, where there is none.
    """
    rows = equivalence[equivalence["regime"].str.startswith("train_") & equivalence["quantity"].isin(["output", "hn"])]
    rows = rows[(rows["dropout"] > 0) & (rows["num_layers"] > 1)].dropna(subset=["max_abs_diff"])
    deep = rows[rows["num_layers"] > 2]
    rows = rows if deep.empty else deep
    keys = ["case_id", "sweep", *AXES, "candidate", "regime"]
    aggregates = {"max_abs_diff": ("max_abs_diff", "max"), "mask_agreement": ("mask_agreement", "min")}
    return rows.groupby(keys, sort=False).agg(**aggregates).reset_index()


def overview(equivalence: pd.DataFrame, timing: pd.DataFrame) -> pd.DataFrame:
    """Per sweep, candidate and regime the verdict, and beside it the speedup's geometric mean and range by phase."""
    table = verdict_table(equivalence)
    timed = timing[timing["implementation"] != timing["baseline"]].dropna(subset=["speedup"])
    for phase in ("inference", "step"):
        speedup = timed[timed["phase"] == phase].groupby(["sweep", "implementation"], sort=False)["speedup"]
        summary = pd.DataFrame(
            {
                f"{phase}_speedup_geometric_mean": speedup.apply(lambda s: float(np.exp(np.log(s).mean()))),
                f"{phase}_speedup_lowest": speedup.min(),
                f"{phase}_speedup_highest": speedup.max(),
            }
        ).rename_axis(["sweep", "candidate"])
        table = table.merge(summary.reset_index(), how="left", on=["sweep", "candidate"])
    return table


def sample_size(name: str, equivalence: pd.DataFrame, timing: pd.DataFrame) -> str:
    """What n is in a figure, in words for its caption."""
    if name in ("speedup", "latency", "roofline"):
        timed = timing.dropna(subset=["median_s"])
        if name == "latency":
            timed = pd.concat([p.rows for p in panels(timed, "sequence_length") if len(p.values) > 1] or [timed[:0]])
        if timed.empty:
            return ""
        low, high = int(timed["samples"].min()), int(timed["samples"].max())
        rounds = f"{low}" if low == high else f"{low} to {high}"
        return f"n = {timed['case_id'].nunique()} cases, {rounds} samples per point."
    rows = {"dropout": dropout, "overview": lambda table: table}.get(name, expected)(equivalence)
    seeds = equivalence.groupby("case_id")["seed"].nunique()
    if rows.empty:
        return ""
    seeds = seeds.loc[rows["case_id"].unique()]
    each = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    return f"n = {rows['case_id'].nunique()} cases, {each} seed{'' if each == '1' else 's'} each."
