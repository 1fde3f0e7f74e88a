"""What a run on a GPU tells beside its times: who computed, how busy the GPU was, where float32 is coarser."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from rnn_parity.experiment.vocabulary import Dtype, unit_roundoff
from rnn_parity.findings.verdicts import must_hold

_HALF = 0.5
_FAR = 4.0  # errors of a candidate so many times the baseline's are worth a word
_FAST_TANH_WIDEST = 192  # cuDNN's kernels for layers up to this hidden size take tanh from fast instructions


def libraries(timing: pd.DataFrame) -> list[dict[str, Any]]:
    """By implementation and path, the library that it called on a GPU: in which `settings`, in words."""
    ran = timing[(timing["device"] == "cuda") & timing["path"].notna()]
    words = [
        f"{dtype} with TF32" if tf32 else str(dtype) for dtype, tf32 in zip(ran["dtype"], ran["tf32"], strict=True)
    ]
    groups = ran.assign(setting=words).groupby(["implementation", "path"], sort=False)["setting"]
    return groups.unique().map(list).rename("settings").reset_index().to_dict("records")


def calls(timing: pd.DataFrame, case_ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """The rows of some cases whose time on the GPU is known, by case, in the order of phases and implementations."""
    known = timing.dropna(subset=["median_s", "device_busy_s"])
    wanted = dict.fromkeys(case_ids)
    found = {case_id: known[known["case_id"] == case_id] for case_id in wanted}
    return {case_id: rows.to_dict("records") for case_id, rows in found.items() if len(rows)}


def occupancy(timing: pd.DataFrame) -> dict[str, Any]:
    """The share of a call in which the GPU is busy, over all calls where it is known; empty where it never is.

    `calls`, and in how many of them it is `idle` for more than half of the time; `lowest`, `median` and `highest`.
    """
    share = (timing["device_busy_s"] / timing["median_s"]).dropna()
    if share.empty:
        return {}
    counts = {"calls": len(share), "idle": int((share < _HALF).sum())}
    return counts | {"lowest": share.min(), "median": share.median(), "highest": share.max()}


def undisturbed(timing: pd.DataFrame) -> bool:
    """Whether every timing on a GPU was watched, and neither its clock was limited nor another process computed."""
    timed = timing[(timing["device"] == "cuda") & timing["median_s"].notna()]
    calm = (timed["clock_limits"] == "") & (timed["other_gpu_processes"] == 0) & (timed["throttled_rounds"] == 0)
    return len(timed) > 0 and bool(calm.all())


def float32_errors(equivalence: pd.DataFrame, candidate: str) -> dict[str, Any]:
    """The cases in float32 on a GPU, without TF32, whose errors are far above the baseline's; empty for none.

    Errors are in the 2-norm, in unit roundoffs. `cases` and `of`, all such cases; the `largest` error in them, and that
    of the `baseline`; their `narrowest` and `widest` hidden size, and whether all cases up to it are `whole`ly such;
    `elsewhere`, the largest error in the others, NaN for none; `fast_tanh`, whether cuDNN's fast tanh explains them.
    """
    rows = must_hold(equivalence[equivalence["implementation"] == candidate])
    single = (rows["device"] == "cuda") & (rows["dtype"] == Dtype.FLOAT32) & ~rows["tf32"].astype(bool)
    rows = rows[single].dropna(subset=["error_2", "baseline_error_2"])
    errors = rows.groupby("case_id")[["hidden_size", "error_2", "baseline_error_2"]].max()
    errors[["error_2", "baseline_error_2"]] /= unit_roundoff(Dtype.FLOAT32)
    far = errors["error_2"] > _FAR * errors["baseline_error_2"]
    if not far.any():
        return {}
    those, others = errors[far], errors[~far]
    widest = int(those["hidden_size"].max())
    return {
        "cases": len(those),
        "of": len(errors),
        "largest": those["error_2"].max(),
        "baseline": those["baseline_error_2"].max(),
        "narrowest": int(those["hidden_size"].min()),
        "widest": widest,
        "whole": bool((others["hidden_size"] > widest).all()),
        "elsewhere": others["error_2"].max(),
        "fast_tanh": widest <= _FAST_TANH_WIDEST,
    }
