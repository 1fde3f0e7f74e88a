"""One decoder case to samples: the decoder alone, and the whole training step, both ways; and what each change gains.

The protocol is that of a layer alone (`rnn_parity.timing.rounds`): rounds in shuffled order, the baseline twice. Here
the rounds have more in them: beside the decoder as t2vec is written and as one would replace it, the two ways between.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.running import classify_exception, numerics
from rnn_parity.statistics import Interval, conclude, median_ratio
from rnn_parity.timing import rounds as timing
from rnn_parity.timing.conditions import Watch
from rnn_parity.timing.rounds import Contender, count_costs, run_rounds, sample_rows, summarize
from rnn_parity_t2vec.batches import Batch
from rnn_parity_t2vec.inputs import (
    DecoderSettings,
    Model,
    build_model,
    draw_batches,
    draw_parameters,
    make_loss,
    with_vocabulary,
)
from rnn_parity_t2vec.model import PAD, Attending

LEARNING_RATE, CLIP = 1e-3, 5.0
"""The published ones: Adam's rate, and the norm to which gradients are clipped."""

WITHOUT_ADAM = {
    "float16": (
        Verdict.UNSUPPORTED,
        "Adam's eps of 1e-8 is 0 in float16, so that weights kept in it are no numbers after one step",
    )
}
"""The dtypes in which the published training step cannot be made, and what is said of it."""

PHASES = ("inference", "forward", "backward", "step", "train_step")
"""The first four of the decoder alone, as of a layer; `train_step` is that of the whole model, Adam included."""

ATTRIBUTED = ("inference", "step", "train_step")
"""The phases in which the ways between are timed too."""

_RESAMPLES = 2000

WAYS: dict[str, tuple[str, Attending]] = {
    "original": ("baseline", "each_step"),
    "attention_once": ("baseline", "all_steps"),
    "layer_replaced": ("candidate", "each_step"),
    "both": ("candidate", "all_steps"),
}
"""Way to which layer it has and how it attends. `both` is the candidate as one would put it there."""

FED_BACK = "attention is fed back, so that a step needs the one before it: the layer is called once for every step"


def time_case(
    case: Case,
    baseline: str,
    candidates: Sequence[str],
    *,
    phases: Sequence[str],
    precision: float,
    min_rounds: int,
    max_seconds: float,
    confidence: float,
    exclusive: bool,
    **settings: Any,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Time every phase of a case.

    Returns:
        the rows of the timing table and of the samples table, as of a layer, and those of the attribution table. An
        implementation that cannot do a phase gives a row with the reason.
    """
    rows, samples, attribution = [], [], []
    bench = _Bench(case, with_vocabulary(DecoderSettings(**settings)))
    protocol = precision, min_rounds, max_seconds, confidence
    with numerics(case.threads, case.tf32):
        for phase in [*(phase for phase in PHASES if phase in phases), "train_step"]:
            watch = Watch(case.device)
            original, control = (bench.contender(baseline, WAYS["original"][1], phase) for _ in range(2))
            replaced = [bench.contender(name, WAYS["both"][1], phase) for name in candidates]
            between: list[Contender] = []
            if phase in ATTRIBUTED:
                between = [bench.contender(name, WAYS["layer_replaced"][1], phase) for name in candidates]
                between.append(bench.contender(baseline, WAYS["attention_once"][1], phase))
            everyone = [original, *replaced, *between, control]
            order = random.Random(f"{case.case_id} {phase}")
            rounds_s = run_rounds(everyone, case.device, order, *protocol)
            met = watch.report()
            for contender in [original, *replaced]:
                count_costs(contender, case.device)
            context = {**case.columns, "phase": phase}
            measured = {"baseline": baseline, "exclusive": exclusive, "rounds_s": rounds_s, **met}
            mine = [original, *replaced]
            rows += [{**context, **measured, **row} for row in summarize(mine, control, confidence)]
            samples += [{**context, **row} for row in sample_rows([*mine, control])]
            if between:
                once = between.pop()
                for both, layer in zip(replaced, between, strict=True):
                    ways = dict(zip(WAYS, (original, once, layer, both), strict=True))
                    found = attribute(ways, confidence)
                    compared = {**bench.columns, "phase": phase, "baseline": baseline, "candidate": both.name}
                    attribution += [{**compared, **row} for row in found]
        attribution += _input_feeding(bench, baseline, candidates, protocol)
    return rows, samples, attribution


def count_kernels(cases: Sequence[Case], rows: Sequence[dict[str, Any]], settings: Mapping[str, Any]) -> None:
    """As `rnn_parity.timing.rounds.count_kernels`: only after the last sample of the process."""
    known = {field.name for field in fields(DecoderSettings)}
    decoder = DecoderSettings(**{name: value for name, value in settings.items() if name in known})

    def bench(case: Case) -> Callable[[dict[str, Any]], Contender]:
        made = _Bench(case, with_vocabulary(decoder))

        def contender_of(row: dict[str, Any]) -> Contender:
            way = "original" if row["implementation"] == row["baseline"] else "both"
            return made.contender(row["implementation"], WAYS[way][1], row["phase"])

        return contender_of

    timing.count_kernels(cases, rows, bench)


def attribute(ways: dict[str, Contender], confidence: float) -> list[dict[str, Any]]:
    """One row per way: its speedup over the original, and the share of the time that `both` saves which it saves alone.

    The share that is left when one change came first is what the other saves after it.
    """
    original, both = ways["original"], ways["both"]
    rows = []
    for way, contender in ways.items():
        row: dict[str, Any] = {"way": way, "reason": ""}
        fault = contender.fault or original.fault
        if fault:
            rows.append(row | {"reason": fault[1]})
            continue
        row["median_s"] = float(np.median(contender.seconds))
        row |= _columns("speedup", median_ratio(original.seconds, contender.seconds, confidence))
        if way != "original" and not both.fault:
            share = share_of_gain(original.seconds, contender.seconds, both.seconds, confidence)
            row |= _columns("share", share) if way != "both" else {"share": 1.0}
        rows.append(row)
    return rows


def share_of_gain(original_s: ArrayLike, way_s: ArrayLike, both_s: ArrayLike, confidence: float) -> Interval | None:
    """What one way saves over what both changes save, each the median over rounds; None where the whole is noise.

    The interval is from resampling the rounds, each with all three times in it.
    """
    if median_ratio(original_s, both_s, confidence).low <= 1:
        return None
    left = np.divide([way_s, both_s], original_s)  # (2, rounds)
    rounds = np.random.default_rng(0).integers(left.shape[1], size=(_RESAMPLES, left.shape[1]))
    way, both = 1 - np.median(left, axis=1)
    ways, boths = 1 - np.median(left[:, rounds], axis=2)
    low, high = np.quantile(ways / boths, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(way / both), float(low), float(high))


class _Bench:
    """What is built once for a case, and the calls of a phase on it."""

    def __init__(self, case: Case, settings: DecoderSettings) -> None:
        self.case, self.settings = case, settings
        self.parameters = draw_parameters(case, settings, 0)
        (self.batch,) = draw_batches(case, settings, 1, 0)
        self.loss_of = make_loss(case, settings)

    @property
    def columns(self) -> dict[str, Any]:
        """Of the attribution table: the case, and the data it runs on."""
        data = {"vocabulary": self.settings.vocabulary, "skipped_lines": self.settings.skipped_lines}
        return {**self.case.columns, **data}

    def contender(self, name: str, attending: Attending, phase: str, *, input_feeding: bool = False) -> Contender:
        """One way in one phase; a build that fails is the contender's fault."""
        if phase == "train_step" and self.case.dtype in WITHOUT_ADAM:
            return Contender(name, lambda: None, lambda _: None, fault=WITHOUT_ADAM[self.case.dtype])
        try:
            ways = self.case, self.settings, name, attending, self.parameters
            model = build_model(*ways, input_feeding=input_feeding).train(phase != "inference")
            batch = self.batch.to(self.case.device)
            whole = phase == "train_step"
            calls = training_step_calls(model, batch, self.loss_of) if whole else _calls(phase, model, batch)
            return Contender(name, *calls)
        except InputError:
            raise
        except Exception as error:  # an implementation that cannot be had here is a result
            return Contender(name, lambda: None, lambda _: None, fault=classify_exception(error))


def _calls(phase: str, model: Model, batch: Batch) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """The decoder alone: what is made before the clock starts, and what the clock sees."""
    decoder, target, padding = model.m0.decoder, batch.target[:-1], batch.source.T == PAD
    with torch.no_grad():
        context, h0 = (tensor.clone() for tensor in model.m0.encoder(batch.source, batch.lengths))
        cotangent = torch.randn_like(decoder(target, h0, context, padding)[0])
    if phase == "inference":

        def infer(_):
            with torch.no_grad():
                return decoder(target, h0, context, padding)

        return lambda: None, infer
    context.requires_grad_()
    h0.requires_grad_()

    def clear() -> None:
        decoder.zero_grad(set_to_none=True)
        context.grad = h0.grad = None

    def forward(_):
        return decoder(target, h0, context, padding)

    def forward_untimed():
        clear()
        return forward(None)

    def backward(outputs):
        outputs[0].backward(cotangent)

    return {
        "forward": (clear, forward),
        "backward": (forward_untimed, backward),
        "step": (clear, lambda _: backward(forward(None))),
    }[phase]


def training_step_calls(model: Model, batch: Batch, loss_of) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Of the whole model: forward, loss, backward, clipping, Adam."""
    parameters = list(model.parameters.values())
    adam = torch.optim.Adam(parameters, LEARNING_RATE)

    def step(_):
        output, _hn = model.m0(batch.source, batch.lengths, batch.target[:-1])
        loss_of(model.m1(output), batch.target[1:]).backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        adam.step()

    return lambda: adam.zero_grad(set_to_none=True), step


def _input_feeding(bench: _Bench, baseline: str, candidates: Sequence[str], protocol: tuple) -> list[dict[str, Any]]:
    """Where attention is fed back, the way that takes the sequence at once is not there: what is left of the gain."""
    case, rows = bench.case, []
    make = [(name, "each_step", "train_step") for name in (baseline, *candidates, baseline)]
    original, *fed, control = (bench.contender(*words, input_feeding=True) for words in make)
    run_rounds([original, *fed, control], case.device, random.Random(f"{case.case_id} fed"), *protocol)
    for contender in fed:
        row = attribute({"original": original, "both": contender}, protocol[-1])[1]
        if not (row["reason"] or control.fault):
            ratios = (median_ratio(original.seconds, other.seconds, protocol[-1]) for other in (contender, control))
            row["conclusion"] = conclude(*ratios)
        row |= {"way": "input_feeding", "reason": row["reason"] or FED_BACK, "share": None}
        compared = {"phase": "train_step", "baseline": baseline, "candidate": contender.name}
        rows.append({**bench.columns, **compared, **row})
    return rows


def _columns(name: str, interval: Interval | None) -> dict[str, float]:
    if interval is None:
        return {}
    return {name: interval.estimate, f"{name}_ci_low": interval.low, f"{name}_ci_high": interval.high}
