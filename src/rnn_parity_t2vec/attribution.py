"""Where the gain comes from: the decoder as t2vec is written, as one would replace it, and the two ways between.

The protocol is that of every timing (`rnn_parity.timing.rounds`): rounds in shuffled order, the baseline twice.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rnn_parity.compare.run import Role
from rnn_parity.experiment.grid import Case
from rnn_parity.statistics import Interval, conclude, median_ratio
from rnn_parity.timing.environment import machine_of
from rnn_parity.timing.rounds import Contender, contender_of, run_rounds
from rnn_parity_t2vec.model import Attending
from rnn_parity_t2vec.workload import TRAIN_STEP, Decoder, DecoderTask

ATTRIBUTED = ("inference", "step", TRAIN_STEP)
"""The phases in which the ways between are timed."""

_RESAMPLES = 2000

VARIANTS: dict[str, tuple[Role, Attending]] = {
    "original": (Role.BASELINE, "each_step"),
    "attention_once": (Role.BASELINE, "all_steps"),
    "layer_replaced": (Role.CANDIDATE, "each_step"),
    "both": (Role.CANDIDATE, "all_steps"),
}
"""Way of running the decoder to whose layer it has and how it attends. `both` is the candidate as one would put it."""

FED_BACK = "attention is fed back, so that a step needs the one before it: the layer is called once for every step"


def attribution_rows(
    workload: Decoder, case: Case, baseline: str, candidates: Sequence[str], **protocol: Any
) -> Iterator[dict[str, Any]]:
    """Yield one row per candidate × phase × way. An implementation that cannot do a phase gives the reason.

    `protocol` are `precision`, `min_rounds`, `max_seconds` and `confidence`, as `run_rounds` takes them.
    """
    task = workload.draw(case, 0)
    columns = {**case.columns, "baseline": baseline, "machine": machine_of(case.device)}
    for phase in ATTRIBUTED:
        timed = {
            (name, attending): contender_of(name, partial(task.calls_attending, name, attending, phase))
            for name in (baseline, *candidates)
            for attending in ("each_step", "all_steps")
        }
        control = contender_of(baseline, partial(task.calls_attending, baseline, "each_step", phase))
        order = random.Random(f"{case.case_id} {phase} attribution")
        run_rounds([*timed.values(), control], case.device, order, **protocol)
        for name in candidates:
            by_role = {Role.BASELINE: baseline, Role.CANDIDATE: name}
            variants = {way: timed[by_role[role], attending] for way, (role, attending) in VARIANTS.items()}
            for row in attribute(variants, protocol["confidence"]):
                yield {**columns, "phase": phase, "implementation": name, **row}
    yield from ({**columns, **row} for row in _input_feeding(task, baseline, candidates, protocol))


def attribute(variants: Mapping[str, Contender], confidence: float) -> list[dict[str, Any]]:
    """One row per way: its speedup over the original, and the share of the time that `both` saves which it saves alone.

    The share that is left when one change came first is what the other saves after it.
    """
    original, both = variants["original"], variants["both"]
    rows = []
    for way, contender in variants.items():
        row: dict[str, Any] = {"way": way, "reason": ""}
        not_timed = contender.not_timed or original.not_timed
        if not_timed:
            rows.append(row | {"reason": not_timed[1]})
            continue
        row["median_s"] = float(np.median(contender.seconds))
        row |= _columns("speedup", median_ratio(original.seconds, contender.seconds, confidence))
        if way == "both":
            row["share"] = 1.0
        elif way != "original" and not both.not_timed:
            row |= _columns("share", share_of_gain(original.seconds, contender.seconds, both.seconds, confidence))
        rows.append(row)
    return rows


def share_of_gain(original_s: ArrayLike, way_s: ArrayLike, both_s: ArrayLike, confidence: float) -> Interval | None:
    """The time that one way saves over the time that both changes save, each the median over rounds.

    None where the whole is noise. The interval is from resampling the rounds, each with all three times in it.
    """
    if median_ratio(original_s, both_s, confidence).low <= 1:
        return None
    left = np.array([way_s, both_s]) / np.asarray(original_s)  # (2, rounds)
    rounds = np.random.default_rng(0).integers(left.shape[1], size=(_RESAMPLES, left.shape[1]))
    way, both = 1 - np.median(left, axis=1)
    ways, boths = 1 - np.median(left[:, rounds], axis=2)
    low, high = np.quantile(ways / boths, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(way / both), float(low), float(high))


def _input_feeding(
    task: DecoderTask, baseline: str, candidates: Sequence[str], protocol: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Where attention is fed back, the way that takes the sequence at once is not there: what is left of the gain."""
    case, names, confidence = task.case, (baseline, *candidates, baseline), protocol["confidence"]
    original, *fed, control = (
        contender_of(name, partial(task.calls_attending, name, "each_step", TRAIN_STEP, input_feeding=True))
        for name in names
    )
    run_rounds([original, *fed, control], case.device, random.Random(f"{case.case_id} fed"), **protocol)
    for candidate in fed:
        row = attribute({"original": original, "both": candidate}, confidence)[1]
        if not (row["reason"] or control.not_timed):
            ratios = (median_ratio(original.seconds, other.seconds, confidence) for other in (candidate, control))
            row["conclusion"] = conclude(*ratios)
        row |= {"way": "input_feeding", "reason": row["reason"] or FED_BACK, "share": None}
        yield {"phase": TRAIN_STEP, "implementation": candidate.name, **row}


def _columns(name: str, interval: Interval | None) -> dict[str, float]:
    if interval is None:
        return {}
    return {name: interval.estimate, f"{name}_ci_low": interval.low, f"{name}_ci_high": interval.high}
