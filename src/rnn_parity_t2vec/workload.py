"""One decoder case to rows: does the model compute with the candidate what it computes with the baseline?

The baseline stands in the decoder as t2vec is written, attending after every step; the candidate as one would put it
there, attending once for all steps. One forward and one backward pass of the whole training loss; every parameter's
gradient is a quantity, the encoder's among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from rnn_parity.compare import criterion
from rnn_parity.compare.case import compare_quantity
from rnn_parity.compare.reference import Reference, draw_rounding, sensitivity
from rnn_parity.compare.run import RunResult
from rnn_parity.dropout.masks import DropoutRecorder, UnknownDraw, draws_out_of_sight
from rnn_parity.dropout.recovery import Replay, Unrecoverable, recover_masks
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.running import classify_exception, numerics
from rnn_parity_t2vec.batches import Batch
from rnn_parity_t2vec.inputs import (
    DecoderSettings,
    Model,
    build_model,
    draw_batches,
    draw_parameters,
    make_loss,
    parameter_shapes,
    proximity,
    with_vocabulary,
)
from rnn_parity_t2vec.masks import Masks, encoder_seen, imposed
from rnn_parity_t2vec.model import PAD, Attending
from rnn_parity_t2vec.reference import Equations, training_step

REGIMES = ("eval", "train_matched_masks")
"""Those of a decoder; of a layer alone there are more."""

WAYS: dict[str, Attending] = {"baseline": "each_step", "candidate": "all_steps"}

_SENSITIVITY_DRAWS = {True: 24, False: 6}  # in a small model one saturated gate may rule, and a few draws miss how far
_SMALL = 200_000  # numbers in the scores over the vocabulary


def quantities(case: Case, settings: DecoderSettings) -> list[str]:
    """Every compared tensor: the decoder's outputs, the loss, what flows back to the encoder, all parameters."""
    names = ["context", "h0", *parameter_shapes(settings.sizes(case))]
    return ["output", "hn", "loss", *(f"grad_{name}" for name in names)]


def compare_case(
    case: Case, baseline: str, candidates: Sequence[str], seeds: Sequence[int], regimes: Sequence[str], **settings: Any
) -> Iterator[dict[str, Any]]:
    """Yield one row per seed × regime × candidate × quantity; a fault of an implementation is a row, never raised.

    `settings` are those of `DecoderSettings`. Regimes that a decoder does not have are left out.
    """
    decoder = with_vocabulary(DecoderSettings(**settings))
    with numerics(case.threads, case.tf32):
        for seed in seeds:
            task = Task.draw(case, decoder, seed)
            for regime in (regime for regime in regimes if regime in REGIMES):
                yield from _compare_regime(task, baseline, candidates, regime)


@dataclass(frozen=True)
class Task:
    """What one seed gives to all, and the references of it that are known."""

    case: Case
    settings: DecoderSettings
    seed: int
    parameters: Mapping[str, Tensor]
    batch: Batch
    known: list[tuple[Masks | None, Reference]] = field(default_factory=list)

    @classmethod
    def draw(cls, case: Case, settings: DecoderSettings, seed: int) -> Task:
        """Parameters and a batch, from the seed."""
        (batch,) = draw_batches(case, settings, 1, seed)
        return cls(case, settings, seed, draw_parameters(case, settings, seed), batch)

    def truth(self, masks: Masks | None) -> Reference:
        """The reference's quantities under some masks, and how far rounding may move them; computed once."""
        for known, truth in self.known:
            if known == masks or (known is None and masks is None):
                return truth
        self.known.append((masks, run_reference(self, masks)))
        return self.known[-1][1]

    def floor(self, quantity: str) -> float:
        """The least error that is granted, f·u, by the longest sum of the case's own precision on the way to it.

        Every gradient comes through the sum over the vocabulary, and a parameter's sums over T·B. In half precision
        products sum in float32; left are sums over steps, and those of an embedding's row over where it is read.
        """
        case, batch = self.case, self.batch
        steps = max(case.sequence_length, len(batch.source))
        if criterion.sums_in_float32(case):
            terms = steps if quantity.startswith("grad_") else 1
            if quantity == "grad_embedding.weight":
                read = torch.cat([batch.source.flatten(), batch.target.flatten()])
                terms = max(steps, int(read[read > 0].bincount().max()))
        else:
            terms = max(3 * case.hidden_size, case.input_size)
            if quantity == "loss" or quantity.startswith("grad_"):
                terms = max(terms, steps * case.batch_size)
            if quantity.startswith("grad_"):
                terms = max(terms, self.settings.vocabulary)
        return criterion.floor_of_sums(terms, case)


def run_reference(task: Task, masks: Masks | None) -> Reference:
    """The float64 training step, and how far one rounding of all that a model is given and keeps moves it."""
    case = task.case
    near = proximity(task.settings) if task.settings.loss == "spatial" else None
    equations = Equations(task.batch, masks, case.dropout, near)
    small = case.sequence_length * case.batch_size * task.settings.vocabulary <= _SMALL
    rounded = draw_rounding(case, task.seed)
    exact = {name: value.double() for name, value in task.parameters.items()}
    values = training_step(equations, exact)
    draws = {
        name: rounded(value.expand(_SENSITIVITY_DRAWS[small], *value.shape), case.tf32) for name, value in exact.items()
    }
    if small:  # side by side: what every operator costs is shared
        moved = training_step(equations, draws, rounded)
    else:
        parts = [
            training_step(equations, {name: value[k] for name, value in draws.items()}, rounded)
            for k in range(_SENSITIVITY_DRAWS[small])
        ]
        moved = {quantity: list(map(itemgetter(quantity), parts)) for quantity in values}
    return Reference(values, {quantity: sensitivity(moved[quantity], truth) for quantity, truth in values.items()})


def run_model(task: Task, name: str, attending: Attending, regime: str, masks: Masks | None) -> tuple[RunResult, Any]:
    """The model with one implementation, forward and backward; and the masks that it applied.

    What draws out of sight applies stack masks of its own; they are recovered, and stand in place of those given.
    Raises `InputError` only for an implementation that cannot be built at all.
    """
    outcome, case = RunResult(), task.case
    every = quantities(case, task.settings)
    try:
        model = build_model(case, task.settings, name, attending, task.parameters).train(regime != "eval")
        masks = _run_step(task, name, model, masks, outcome)
    except InputError:
        raise
    except Unrecoverable as error:
        outcome.values.clear()
        outcome.faults |= {quantity: (Verdict.NOT_JUDGED, str(error)) for quantity in every}
    except Exception as error:  # whatever an implementation under test raises is a result
        outcome.faults |= {quantity: classify_exception(error) for quantity in every if quantity not in outcome.values}
    return outcome, masks


def _run_step(task: Task, name: str, model: Model, masks: Masks | None, outcome: RunResult) -> Masks | None:
    """Forward, loss, backward; the masks that were applied."""
    batch = task.batch.to(task.case.device)
    done, masks = _forward(task, name, model, batch, masks, outcome)
    loss = make_loss(task.case, task.settings)(model.m1(done["output"]), batch.target[1:])
    steps, (layers, rows, hidden_size) = task.case.sequence_length, done["h0"].shape
    shapes = {"output": (steps, rows, hidden_size), "hn": (layers, rows, hidden_size)}
    _record(outcome, {"output": done["output"], "hn": done["hn"], "loss": loss}, task, shapes)
    wanted = {"context": done["context"], "h0": done["h0"]} | model.parameters
    gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    found = {
        f"grad_{key}": torch.zeros_like(like) if gradient is None else gradient
        for (key, like), gradient in zip(wanted.items(), gradients, strict=True)
    }
    _record(outcome, found, task)
    return masks


def _forward(
    task: Task, name: str, model: Model, batch: Batch, masks: Masks | None, outcome: RunResult
) -> tuple[dict[str, Tensor], Masks | None]:
    """`output`, `hn`, and `context` and `h0` between encoder and decoder, under the masks that come with them.

    Where the stack draws out of sight these are its own.
    """

    def run(in_stack: Any = None) -> tuple[dict[str, Tensor], DropoutRecorder | None]:
        around = encoder_seen(model.m0) if masks is None else imposed(model.m0, batch.lengths, masks, in_stack)
        torch.manual_seed(task.seed)
        with around as drawn:
            context, h0 = model.m0.encoder(batch.source, batch.lengths)
            output, hn = model.m0.decoder(batch.target[:-1], h0, context, batch.source.T == PAD)
        return {"output": output, "hn": hn, "context": context, "h0": h0}, drawn

    def states() -> Tensor:  # which no draw but the stack's can change; whoever calls has set the seed
        with imposed(model.m0, batch.lengths, masks), torch.no_grad():
            return model.m0(batch.source, batch.lengths, batch.target[:-1])[1]

    try:
        done, drawn = run()
        unseen = masks is not None and task.case.draws_dropout and task.case.dropout < 1 and not drawn.drawn
        out_of_sight = unseen and draws_out_of_sight(states)
    except UnknownDraw:
        out_of_sight = True
    if out_of_sight:
        replay, outcome.out_of_sight = Replay(task.seed), True
        masks = replace(masks, stack=recover_masks(task.case, name, replay))
        done, _ = run(replay)
    return done, masks


def _compare_regime(task: Task, baseline: str, candidates: Sequence[str], regime: str) -> Iterator[dict[str, Any]]:
    case = task.case
    drawn = None
    if regime != "eval" and case.dropout > 0:
        drawn = Masks.draw(case, len(task.batch.source), task.seed)
    of_baseline, applied = run_model(task, baseline, WAYS["baseline"], regime, drawn)
    for name in candidates:
        ours, our_masks = of_baseline, applied
        of_candidate, masks = run_model(task, name, WAYS["candidate"], regime, our_masks)
        if masks != our_masks:
            ours, our_masks = run_model(task, baseline, WAYS["baseline"], regime, masks)
        context = {**case.columns, "baseline": baseline, "candidate": name, "regime": regime, "seed": task.seed}
        for quantity in quantities(case, task.settings):
            references = [Reference({}, {})] * 2
            if quantity not in ours.faults and quantity not in of_candidate.faults:
                references = [task.truth(our_masks), task.truth(masks)]
            yield {
                **context,
                **compare_quantity(
                    case, quantity, ours, references[0], of_candidate, references[1], task.floor(quantity)
                ),
            }


def _record(
    outcome: RunResult, values: Mapping[str, Tensor], task: Task, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> None:
    dtype = getattr(torch, task.case.dtype)
    for quantity, value in values.items():
        shape = (shapes or {}).get(quantity, value.shape)
        if value.dtype != dtype:
            outcome.faults[quantity] = (Verdict.DIFFERENT, f"gives {value.dtype}, expected {dtype}")
        elif value.shape != shape:
            outcome.faults[quantity] = (Verdict.DIFFERENT, f"has shape {tuple(value.shape)}, expected {shape}")
        else:
            outcome.values[quantity] = value.detach().cpu()
