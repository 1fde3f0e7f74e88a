"""From the decoder's tables to what is said of them. Pure: data frames in, data frames and facts out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from rnn_parity.compare.criterion import FACTOR
from rnn_parity.experiment.vocabulary import Dtype, Verdict
from rnn_parity.findings.answer import answer_for
from rnn_parity.findings.verdicts import must_hold

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


def divergence(training: pd.DataFrame) -> pd.DataFrame:
    """Per step of a training with no dropout or matched masks: how far from the baseline's loss each other is.

    `what` is a candidate, with |loss − loss of the baseline|, or `floor`, with the largest of the perturbed ones.
    """
    rows, keys = training[training["mode"] != "own_masks"].dropna(subset=["loss"]), ["case_id", "mode", "step"]
    baseline = rows.loc[rows["role"] == "baseline", [*keys, "loss"]].rename(columns={"loss": "of_baseline"})
    others = rows[rows["role"] != "baseline"].merge(baseline, on=keys)
    others["difference"] = (others["loss"] - others["of_baseline"]).abs()
    others["what"] = others["implementation"].where(others["role"] == "candidate", "floor")
    return others.groupby([*keys, "what"], as_index=False, sort=False)["difference"].max()


def training_table(training: pd.DataFrame) -> pd.DataFrame:
    """Per case, candidate and mode: how far apart the trainings are, and how far they may be.

    With the same masks, or none: the largest difference of the losses, over all steps, and the floor's. With masks of
    their own: the mean of the last quarter's losses, candidate minus baseline over the seeds, with Welch's 99.9 %
    interval. `same` says whether the difference is within `FACTOR` floors. It is False, too, where the interval does
    not hold 0, or where the candidate failed and the baseline did not; else it is None: a few seeds show no sameness.
    """
    far = divergence(training).groupby(["case_id", "mode", "what"])["difference"].max()
    keys, rows = ["case_id", "mode", "implementation"], []
    for (case_id, mode, name), theirs in training[training["role"] == "candidate"].groupby(keys, sort=False):
        ours = training.query("case_id == @case_id and mode == @mode and role == 'baseline'")
        row = {"case_id": case_id, "mode": mode, "implementation": name, "steps": int(theirs["step"].max()) + 1}
        ended = pd.concat([theirs, ours]).query("reason != ''")
        if len(ended):
            alone = (ended["role"] == "candidate").all() and (ended["verdict"] == Verdict.FAILED).any()
            row |= {"reason": ended["reason"].iloc[0], "same": False if alone else None}
        elif mode == "own_masks":
            row |= {"reason": "", **_compare_last(ours, theirs)}
        elif (case_id, mode, "floor") not in far:
            row["reason"] = "no training from weights one rounding away was completed"
        else:
            largest, floor = far[case_id, mode, name], far[case_id, mode, "floor"]
            row |= {"reason": "", "largest_difference": largest, "floor": floor}
            row["same"] = bool(largest <= FACTOR * floor)
        rows.append(row)
    columns = [*keys, "steps", "reason", "largest_difference", "floor", "same"]
    return pd.DataFrame(rows, columns=[*columns, "seeds", "difference", "difference_ci_low", "difference_ci_high"])


def last_losses(training: pd.DataFrame) -> pd.DataFrame:
    """Per training: the mean loss of the last quarter of its steps."""
    rows = training.dropna(subset=["loss"])
    keys = ["case_id", "mode", "implementation", "role", "seed"]
    last = rows.groupby(keys, sort=False)["step"].transform("max") * (1 - _LAST_SHARE)
    return rows[rows["step"] >= last].groupby(keys, sort=False, as_index=False)["loss"].mean()


def _compare_last(of_baseline: pd.DataFrame, of_candidate: pd.DataFrame) -> dict[str, Any]:
    ours, theirs = (last_losses(rows)["loss"].to_numpy() for rows in (of_baseline, of_candidate))
    difference = theirs.mean() - ours.mean()
    row = {"seeds": len(theirs), "difference": difference}
    if min(len(ours), len(theirs)) < 2:
        return row
    low = high = difference
    if np.ptp(ours) or np.ptp(theirs):
        low, high = ttest_ind(theirs, ours, equal_var=False).confidence_interval(_CONFIDENCE)
    same = None if low <= 0 <= high else False  # that no difference was seen is not yet sameness
    return row | {"difference_ci_low": low, "difference_ci_high": high, "same": same}


def largest_case(rows: pd.DataFrame) -> str | None:
    """The case of a table that computes most, the first of those alike: the one that is quoted and drawn."""
    if rows.empty:
        return None
    sizes = rows["sequence_length"] * rows["batch_size"] * rows["num_layers"] * rows["hidden_size"] ** 2
    return rows.loc[sizes.idxmax(), "case_id"]


def facts(results: Mapping[str, pd.DataFrame], candidate: str) -> dict[str, Any]:
    """The values of the report's paragraph on one candidate; None where a table does not hold them."""
    attribution, training, generation, timing, equivalence = (
        results[name] for name in ("attribution", "training", "generation", "timing", "equivalence")
    )
    case_id = largest_case(attribution)
    rows = attribution.query("case_id == @case_id and implementation == @candidate")
    timed = timing.query("case_id == @case_id and implementation == @candidate")
    of_model = equivalence["case_id"].isin([*attribution["case_id"], *training["case_id"]])
    compared = must_hold(equivalence[of_model & (equivalence["implementation"] == candidate)])
    trained = training_table(training).query("implementation == @candidate")
    same = trained.dropna(subset=["same"])
    ways = {phase: group.set_index("way").to_dict("index") for phase, group in rows.groupby("phase", sort=False)}
    return {
        "candidate": candidate,
        "case": _first(attribution[attribution["case_id"] == case_id]),
        "verdicts": compared["verdict"].value_counts().to_dict(),
        "answer": answer_for(compared, candidate, timing=timing[timing["case_id"].isin(compared["case_id"])]),
        "dtypes": sorted(compared["dtype"].unique(), key=list(Dtype).index),
        "train_step": _first(timed[timed["phase"] == "train_step"]),
        "decoder_step": _first(timed[timed["phase"] == "step"]),
        "ways": ways,
        "training": trained.to_dict("records"),
        "training_same": None if same.empty else bool(same["same"].all()),
        "generation": generation[generation["implementation"] == candidate].to_dict("records"),
    }


def _first(rows: pd.DataFrame) -> Mapping[str, Any] | None:
    return None if rows.empty else rows.replace({np.nan: None}).iloc[0].to_dict()
