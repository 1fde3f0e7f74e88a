"""From the decoder's tables to what is said of them. Pure: data frames in, data frames and facts out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from rnn_parity.compare.criterion import FACTOR
from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, FAILING, PASSING, Dtype, Verdict

PHASE_WORDS = {
    "inference": "decoder, no gradients",
    "step": "decoder, forward and backward",
    "train_step": "training step",
}
"""The phases in which it is told where the gain comes from, in words."""

WAY_WORDS = {
    "original": "as t2vec is written",
    "attention_once": "attention once for all steps",
    "layer_replaced": "the layer replaced",
    "both": "both",
    "input_feeding": "with input feeding",
}
MODE_WORDS = {
    "no_dropout": "dropout off",
    "matched_masks": "the same dropout masks",
    "own_masks": "dropout masks of their own",
}
_LAST_SHARE = 0.25
_CONFIDENCE = 0.999  # three trainings a case: a difference that is none must hardly ever be called one


@dataclass(frozen=True)
class DecoderTables:
    """The collected tables of decoder sweeps, and those of all sweeps that hold their rows too."""

    attribution: pd.DataFrame
    training: pd.DataFrame
    generation: pd.DataFrame
    timing: pd.DataFrame
    equivalence: pd.DataFrame

    @classmethod
    def of(cls, results: Mapping[str, pd.DataFrame]) -> DecoderTables:
        """The tables among the collected ones."""
        return cls(**{field.name: results[field.name] for field in fields(cls)})

    @property
    def case_ids(self) -> list[str]:
        """The decoder cases that were timed or trained, in their order."""
        return list(dict.fromkeys([*self.attribution["case_id"], *self.training["case_id"]]))


def divergence(training: pd.DataFrame) -> pd.DataFrame:
    """Per step of a training with no dropout or matched masks: how far from the baseline's loss each other is.

    `candidate` rows hold |loss − loss of the baseline|; `floor` rows the largest of those that were perturbed.
    """
    rows = training[training["mode"].isin(["no_dropout", "matched_masks"])].dropna(subset=["loss"])
    keys = ["case_id", "mode", "step"]
    baseline = rows[rows["role"] == "baseline"][[*keys, "loss"]].rename(columns={"loss": "of_baseline"})
    others = rows[rows["role"] != "baseline"].merge(baseline, on=keys)
    others["difference"] = (others["loss"] - others["of_baseline"]).abs()
    candidate = others[others["role"] == "candidate"].assign(what=lambda table: table["implementation"])
    floor = others[others["role"] == "perturbed"].groupby(keys, as_index=False)["difference"].max().assign(what="floor")
    return pd.concat([candidate, floor])[[*keys, "what", "difference"]].reset_index(drop=True)


def training_table(training: pd.DataFrame) -> pd.DataFrame:
    """Per case, candidate and mode: how far apart the trainings are, and how far they may be.

    With the same masks, or none: the largest difference of the losses, over all steps, and the floor's. With masks of
    their own: the mean of the last quarter's losses, candidate minus baseline over the seeds, with Welch's 99.9 %
    interval. `same` says whether the difference is within `FACTOR` floors. It is False, too, where the interval does
    not hold 0, or where the candidate failed and the baseline did not; else it is None: a few seeds show no sameness.
    """
    far, rows = divergence(training), []
    for (case_id, mode), group in training.groupby(["case_id", "mode"], sort=False):
        floor = far[(far["case_id"] == case_id) & (far["mode"] == mode) & (far["what"] == "floor")]["difference"].max()
        for name, mine in group[group["role"] == "candidate"].groupby("implementation", sort=False):
            row = {"case_id": case_id, "mode": mode, "implementation": name, "steps": int(mine["step"].max()) + 1}
            theirs = group[group["role"] == "baseline"]
            ended = pd.concat([mine, theirs]).query("reason != ''")
            if len(ended):
                alone = (ended["role"] == "candidate").all() and (ended["verdict"] == Verdict.FAILED).any()
                rows.append(row | {"reason": ended["reason"].iloc[0], "same": False if alone else None})
            elif mode != "own_masks" and math.isnan(floor):
                rows.append(row | {"reason": "no training from weights one rounding away came to its end"})
            elif mode == "own_masks":
                rows.append(row | {"reason": ""} | _compare_last(group, name))
            else:
                chosen = (far["case_id"] == case_id) & (far["mode"] == mode) & (far["what"] == name)
                largest = far[chosen]["difference"].max()
                row |= {"largest_difference": largest, "floor": floor, "reason": ""}
                rows.append(row | {"same": bool(largest <= FACTOR * floor)})
    columns = ["case_id", "mode", "implementation", "steps", "reason", "largest_difference", "floor", "same"]
    more = ["seeds", "baseline_mean", "candidate_mean", "difference", "difference_ci_low", "difference_ci_high"]
    return pd.DataFrame(rows, columns=[*columns, *more])


def last_losses(training: pd.DataFrame) -> pd.DataFrame:
    """Per training: the mean loss of the last quarter of its steps."""
    rows = training.dropna(subset=["loss"])
    keys = ["case_id", "mode", "implementation", "role", "seed"]
    last = rows.groupby(keys, sort=False)["step"].transform("max") * (1 - _LAST_SHARE)
    return rows[rows["step"] >= last].groupby(keys, sort=False, as_index=False)["loss"].mean()


def _compare_last(group: pd.DataFrame, name: str) -> dict[str, Any]:
    last = last_losses(group)
    ours = last[last["role"] == "baseline"]["loss"].to_numpy()
    theirs = last[(last["role"] == "candidate") & (last["implementation"] == name)]["loss"].to_numpy()
    difference = float(theirs.mean() - ours.mean())
    row = {
        "seeds": len(theirs),
        "baseline_mean": ours.mean(),
        "candidate_mean": theirs.mean(),
        "difference": difference,
    }
    if min(len(ours), len(theirs)) < 2:
        return row
    parts = [values.var(ddof=1) / len(values) for values in (ours, theirs)]
    error, reach = math.sqrt(sum(parts)), 0.0
    if error:
        freedom = sum(parts) ** 2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (ours, theirs), strict=True))
        reach = float(student.ppf(0.5 + _CONFIDENCE / 2, freedom)) * error
    low, high = difference - reach, difference + reach
    same = None if low <= 0 <= high else False  # that no difference was seen is not yet sameness
    return row | {"difference_ci_low": low, "difference_ci_high": high, "same": same}


def attribution_table(attribution: pd.DataFrame) -> pd.DataFrame:
    """The rows of the ways without input feeding, with `of_original`: their time as a share of the original's."""
    original = attribution[attribution["way"] == "original"].set_index(["case_id", "candidate", "phase"])["median_s"]
    rows = attribution[attribution["way"] != "input_feeding"].copy()
    keys = pd.MultiIndex.from_frame(rows[["case_id", "candidate", "phase"]])
    rows["of_original"] = rows["median_s"].to_numpy() / original.reindex(keys).to_numpy()
    return rows


def largest_case(rows: pd.DataFrame) -> str | None:
    """The case of a table that computes most, the first of those alike: the one that is quoted and drawn."""
    if rows.empty:
        return None
    sizes = rows["sequence_length"] * rows["batch_size"] * rows["num_layers"] * rows["hidden_size"] ** 2
    return rows.loc[sizes.idxmax(), "case_id"]


def facts(tables: DecoderTables, candidate: str) -> dict[str, Any]:
    """What the report's paragraph states of one candidate; a key that could not be had is None."""
    case_id = largest_case(tables.attribution)
    rows = tables.attribution.query("case_id == @case_id and candidate == @candidate")
    timed = tables.timing.query("case_id == @case_id and implementation == @candidate")
    quality = tables.equivalence[
        tables.equivalence["case_id"].isin(tables.case_ids)
        & (tables.equivalence["candidate"] == candidate)
        & tables.equivalence["regime"].isin(EXPECTED_TO_HOLD)
    ]
    trained = training_table(tables.training)
    trained = trained[trained["implementation"] == candidate]
    same = trained.dropna(subset=["same"])
    ways = {phase: group.set_index("way").to_dict("index") for phase, group in rows.groupby("phase", sort=False)}
    return {
        "candidate": candidate,
        "case": _first(tables.attribution[tables.attribution["case_id"] == case_id]),
        "verdicts": quality["verdict"].value_counts().to_dict(),
        "cases": int(quality["case_id"].nunique()),
        "word": _word(quality),
        "dtypes": sorted(quality["dtype"].unique(), key=list(Dtype).index),
        "worst_ratio": quality["ratio"].max(),
        "train_step": _first(timed[timed["phase"] == "train_step"]),
        "decoder_step": _first(timed[timed["phase"] == "step"]),
        "ways": ways,
        "input_feeding": ways.get("train_step", {}).get("input_feeding"),
        "training": trained.to_dict("records"),
        "training_same": None if same.empty else bool(same["same"].all()),
        "generation": tables.generation[tables.generation["implementation"] == candidate].to_dict("records"),
    }


def _word(quality: pd.DataFrame) -> str:
    """`no` at any fault; `yes` where something passes of what flows forward and of what flows back; else `open`."""
    if quality["verdict"].isin(FAILING).any():
        return "no"
    passing = quality[quality["verdict"].isin(PASSING)]["quantity"].str.startswith("grad_")
    return "yes" if passing.nunique() == 2 else "open"


def saved(speedup: float) -> float:
    """The share of the time that a speedup saves."""
    return 1 - 1 / speedup


def _first(rows: pd.DataFrame) -> Mapping[str, Any] | None:
    return None if rows.empty else rows.replace({np.nan: None}).iloc[0].to_dict()
