"""One candidate against one baseline, without a config: `rnn_parity.check`, for a test of one's own.

def test_my_layer_may_replace_the_loop():
    report = rnn_parity.check("stacking_gru_cell", MyGRU)
    assert report.equivalent, report.explain()
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
from torch import nn

from rnn_parity.capabilities.probing import probe_capabilities
from rnn_parity.compare.case import compare_case
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case, make_grid
from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, Regime, Verdict
from rnn_parity.layers.kinds import describe_call, infer_kind, require_call, require_kind
from rnn_parity.layers.registry import named
from rnn_parity.layers.settings import put_back, told
from rnn_parity.life.live import life_case, live
from rnn_parity.report.check import Report
from rnn_parity.tables import CAPABILITIES, EQUIVALENCE, LIFE, TIMING
from rnn_parity.timing.rounds import time_case
from rnn_parity.trust.diagnose import diagnose
from rnn_parity.workloads.layer import Layer

SIZES = ("input_size", "hidden_size", "num_layers", "sequence_length", "batch_size", "dropout")

PRESETS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "small": (dict(zip(SIZES, (7, 16, 3, 12, 4, 0.2), strict=True)), (0, 1, 2)),
    "article": (dict(zip(SIZES, (5, 10, 3, 10, 7, 0.1), strict=True)), (1215,)),
    "t2vec": (dict(zip(SIZES, (256, 256, 3, 30, 128, 0.2), strict=True)), (0,)),
}
"""Sizes and seeds by name. `small` shows every planted fault: I ≠ H, L = 3, steps and dropout enough."""

REGIMES = (Regime.EVAL, Regime.TRAIN_MATCHED_MASKS, Regime.TRAIN_SAME_SEED)
DISTRIBUTION_DRAWS = 2000
"""With these, at the sizes of `small`, a dropout probability wrong by a tenth of itself was found from 8 of 8 seeds."""

_PHASES = ("inference", "step")
_TIMING: dict[str, Any] = {"precision": 0.02, "min_rounds": 10, "confidence": 0.95, "exclusive": False}
_SECTIONS = re.compile(r"^(defaults|equivalence|sweeps\.check)\.")


def check(
    baseline: str | Callable[..., Any],
    candidate: str | Callable[..., Any],
    *,
    cell: str | None = None,
    like: str = "small",
    input_size: int | None = None,
    hidden_size: int | None = None,
    num_layers: int | None = None,
    sequence_length: int | None = None,
    batch_size: int | None = None,
    dropout: float | None = None,
    dtype: str = "float32",
    device: str = "auto",
    threads: int = 1,
    seeds: Sequence[int] | None = None,
    regimes: Sequence[str] = REGIMES,
    life: bool = True,
    deep: bool = False,
    capabilities: bool = True,
    timing_seconds: float = 0.5,
    progress: Callable[[str], None] = lambda step: None,
) -> Report:
    """May `candidate` replace `baseline`? Compare their numbers, probe what they can do, and time both.

    Args:
        baseline, candidate: a registered name, `package.module:Class`, or what builds the layer itself: a class, or
            any callable that takes input_size, hidden_size, num_layers and dropout.
        cell: the kind of cell that both shall be: `gru`, `gru_reset_before`, `lstm`, or `package.module:Class`. None
            is the kind that the candidate's parameters tell.
        like: the preset that gives the sizes and seeds that are not given: `small`, `article` or `t2vec`.
        device: `auto` is cuda where there is one. threads: CPU threads to compute with.
        regimes: at least one of those that must hold, `eval` and `train_matched_masks`.
        life: whether to judge the candidate over many calls too. deep: sizes too that take minutes or gigabytes.
        capabilities: whether to probe them; seconds, half of them the compiler's.
        timing_seconds: for how long each of inference and step may be timed beyond ten rounds; 0 times nothing.
        progress: told what is done next.

    Raises `InputError`, in one line, for arguments that cannot be used, and for a layer whose parameters are not those
    of its kind, or that is called in another way and cannot be adapted. Whatever else a layer raises when it runs is in
    the report.
    """
    if like not in PRESETS:
        raise InputError(f"like: holds {like!r}, expected one of {', '.join(PRESETS)}")
    if not timing_seconds >= 0:
        raise InputError(f"timing_seconds: holds {timing_seconds!r}, expected at least 0")
    if not set(regimes) & set(EXPECTED_TO_HOLD):
        raise InputError(f"regimes: holds {', '.join(regimes)}, expected at least one of {', '.join(EXPECTED_TO_HOLD)}")
    preset, preset_seeds = PRESETS[like]
    given = (input_size, hidden_size, num_layers, sequence_length, batch_size, dropout)
    axes = preset | {name: value for name, value in zip(SIZES, given, strict=True) if value is not None}
    axes |= {"dtype": dtype, "threads": threads}
    seeds = list(preset_seeds if seeds is None else seeds)
    for key, implementation in (("baseline", baseline), ("candidate", candidate)):
        if isinstance(implementation, nn.Module):
            what = f"a {type(implementation).__name__} already built"
            raise InputError(f"{key}: holds {what}, expected what builds one, as its class or a functools.partial")
    with named(baseline, "baseline") as ours, named(candidate, "candidate") as theirs:
        if ours == theirs:
            raise InputError(f"candidate: holds {theirs!r}, the baseline itself, expected another")
        axes["cell"] = (infer_kind(theirs) or "gru") if cell is None else cell
        case = _make_case(ours, theirs, device, axes, seeds, regimes)
        for key, name in (("candidate", theirs), ("baseline", ours)):
            require_kind(name, case.cell, key, case.num_layers, case.dropout)
            require_call(name, case, key)
        lived = abilities = timing = None
        if life:  # before all else: what its very first call of the process leaves behind is to be seen
            progress("judging many calls")
            with put_back(theirs):
                lived = _frame(list(live(life_case(case, theirs), theirs, deep)), LIFE)
        progress("comparing numbers")
        rows = _compare(case, ours, theirs, seeds, regimes)
        if timing_seconds:
            progress("timing")
            protocol = {**_TIMING, "max_seconds": float(timing_seconds)}
            measured = time_case(Layer(), case, ours, [theirs], phases=_PHASES, **protocol)
            timing = _frame(measured, TIMING)
        if capabilities:  # last: a CUDA graph that cannot be captured may leave the device unfit for anything else
            progress("probing capabilities")
            own = case.input_size, case.hidden_size, case.num_layers
            probed = probe_capabilities(ours, [theirs], case.device, threads, case.cell, own)
            abilities = _frame(list(probed), CAPABILITIES)
        adapted = {name: words for name in (ours, theirs) if (words := describe_call(name, case.cell))}
        settings = {name: words for name in (ours, theirs) if (words := told(name))}
        report = Report(ours, theirs, case, _frame(rows, EQUIVALENCE), lived, abilities, timing, adapted, settings)
        if report.answer.word == "no" and report.answer.deciding:
            progress("looking for the cause")
            row = report.answer.deciding
            cause = _planted_cause(case, ours, theirs, row) or _telling_quantity(report.equivalence, row)
            report = dataclasses.replace(report, cause=cause)
    return report


def _make_case(
    baseline: str, candidate: str, device: str, axes: dict[str, Any], seeds: list[int], regimes: Sequence[str]
) -> Case:
    """The case, checked as the one case of an experiment would be; the message names the argument."""
    config = {"study": "check", "baseline": baseline, "candidates": [candidate], "device": device, "defaults": axes}
    config |= {"sweeps": {"check": {}}, "equivalence": {"seeds": seeds, "regimes": list(regimes)}}
    try:
        return make_grid(config).cases[0]
    except InputError as error:
        raise InputError(_SECTIONS.sub("", str(error))) from error


def _compare(
    case: Case, baseline: str, candidate: str, seeds: Sequence[int], regimes: Sequence[str]
) -> list[dict[str, Any]]:
    """The rows of the regimes; where masks cannot be had, also those of training without dropout: with the law of many
    draws they say what matched masks would.
    """
    rows = list(compare_case(Layer(), case, baseline, [candidate], seeds, regimes, DISTRIBUTION_DRAWS))
    matched = {row["verdict"] for row in rows if row["regime"] == "train_matched_masks"}
    if case.draws_dropout and matched == {Verdict.NOT_JUDGED}:
        without = dataclasses.replace(case, dropout=0.0)
        rows += compare_case(Layer(), without, baseline, [candidate], seeds, ["train_matched_masks"])
    return rows


def _planted_cause(case: Case, baseline: str, candidate: str, row: Mapping[str, Any]) -> str:
    """The planted fault of the candidate, or else of the baseline, told in a case of few steps and rows."""
    steps, rows = min(case.sequence_length, 12), min(case.batch_size, 8)
    small = dataclasses.replace(case, dropout=row["dropout"], sequence_length=steps, batch_size=rows)
    ((task, _),) = Layer().draw(small, row["seed"]).split(baseline, [candidate])
    for whose, name in (("its", candidate), ("the baseline's", baseline)):
        if fault := diagnose(task.references, name, row["regime"], task.quantities()):
            return f"{whose} numbers are those of a layer with this fault: {fault[0].lower()}{fault[1:]}"
    return ""


def _telling_quantity(equivalence: pd.DataFrame, row: Mapping[str, Any]) -> str:
    """Another quantity of which more is known than the size of its error, where of the one that decides it is not."""
    if not row["reason"].startswith("error is"):
        return ""
    beside = equivalence[(equivalence["regime"] == row["regime"]) & (equivalence["seed"] == row["seed"])]
    known = beside[beside["reason"].str.startswith("it ")]
    return "" if known.empty else f"{known.iloc[0]['quantity']} {known.iloc[0]['reason'].removeprefix('it ')}"


def _frame(rows: list[dict[str, Any]], schema: pa.Schema) -> pd.DataFrame:
    return pa.Table.from_pylist(rows, schema=schema).to_pandas()
