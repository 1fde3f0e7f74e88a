"""The workload `decoder`: does t2vec compute with the candidate what it computes with the baseline, and how fast?

The baseline stands in the decoder as t2vec is written, attending after every step; the candidate as one would put it
there, attending once for all steps. One forward and one backward pass of the whole training loss; every parameter's
gradient is a quantity, the encoder's among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rnn_parity.compare import criterion
from rnn_parity.compare.reference import Reference, References, perturb
from rnn_parity.compare.run import Role, RunResult, describe_failure, record
from rnn_parity.dropout.masks import DropoutRecorder, UnknownDraw, draws_out_of_sight
from rnn_parity.dropout.recovery import Replay, Unrecoverable, recover_masks
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.timing.rounds import Calls
from rnn_parity_t2vec.data.batches import Batch
from rnn_parity_t2vec.inputs import (
    Model,
    build_model,
    draw_batches,
    draw_parameters,
    make_loss,
    model_sizes,
    parameter_shapes,
    proximity,
    with_vocabulary,
)
from rnn_parity_t2vec.model import PAD, Attending
from rnn_parity_t2vec.model_masks import Masks, imposed
from rnn_parity_t2vec.phases import decoder_calls, training_step_calls
from rnn_parity_t2vec.reference import Equations, training_step
from rnn_parity_t2vec.settings import DecoderSettings

ATTENTION_BY_ROLE: dict[Role, Attending] = {Role.BASELINE: "each_step", Role.CANDIDATE: "all_steps"}

TRAIN_STEP = "train_step"
"""The phase of the whole model, Adam included; the other phases are of the decoder alone."""

_PERTURBATIONS = {True: 24, False: 6}  # in a small model one saturated gate may rule, and a few draws miss how far
_SMALL = 200_000  # numbers in the scores over the vocabulary


class Decoder:
    """The workload: t2vec with some settings."""

    def __init__(self, **settings: Any) -> None:
        self.settings = with_vocabulary(DecoderSettings(**settings))

    def draw(self, case: Case, seed: int) -> DecoderTask:
        """Draw the parameters and a batch."""
        (batch,) = draw_batches(case, self.settings, 1, seed)
        inputs = ModelInputs(draw_parameters(case, self.settings, seed), batch)
        return DecoderTask(self.settings, References(case, inputs, seed, partial(run_reference, self.settings)))

    def phases(self, asked: Sequence[str]) -> Sequence[str]:
        """Those of a layer, of the decoder alone, and the training step of the whole model."""
        return [*asked, TRAIN_STEP]


@dataclass(frozen=True)
class ModelInputs:
    """What one seed gives to every model: parameters by canonical name, and a batch."""

    parameters: Mapping[str, Tensor]
    batch: Batch

    def map(self, change: Callable[[Tensor], Tensor]) -> ModelInputs:
        """The inputs with `change` applied to every parameter."""
        return replace(self, parameters={name: change(value) for name, value in self.parameters.items()})


def run_reference(
    settings: DecoderSettings, case: Case, inputs: ModelInputs, masks: Tensor | None, seed: int
) -> Reference:
    """The float64 training step, and how far one rounding of all that a model is given and keeps moves it."""
    placed = None if masks is None else Masks.unflatten(masks, case, len(inputs.batch.source))
    near = proximity(settings) if settings.loss == "spatial" else None
    equations = Equations(inputs.batch, placed, case.dropout, near)
    small = case.sequence_length * case.batch_size * settings.vocabulary <= _SMALL

    def run(moved: ModelInputs, rounding: Any) -> dict[str, Tensor]:
        return training_step(equations, moved.parameters, rounding)

    return perturb(case, seed, inputs, run, _PERTURBATIONS[small], side_by_side=small)


@dataclass(frozen=True)
class DecoderTask:
    """What one seed gives to every model, with its references. Masks are those of `Masks.flatten`."""

    settings: DecoderSettings
    references: References

    @property
    def case(self) -> Case:
        """The case that it was drawn for."""
        return self.references.case

    @property
    def seed(self) -> int:
        """The seed that it was drawn from."""
        return self.references.seed

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """By canonical name."""
        return self.references.stimulus.parameters

    @property
    def batch(self) -> Batch:
        """What the model reads and shall say."""
        return self.references.stimulus.batch

    def quantities(self) -> list[str]:
        """The decoder's outputs, the loss, what flows back to the encoder, all parameters."""
        names = ["context", "h0", *parameter_shapes(model_sizes(self.case, self.settings))]
        return ["output", "hn", "loss", *(f"grad_{name}" for name in names)]

    def draw_masks(self) -> Tensor | None:
        """In all places of the model; also with one layer there is dropout, behind the attention."""
        if self.case.dropout == 0:
            return None
        return Masks.draw(self.case, len(self.batch.source), self.seed).flatten()

    def reference(self, masks: Tensor | None) -> Reference:
        """The equations' own quantities."""
        return self.references.with_masks(masks)

    def terms(self, quantity: str) -> int:
        """The terms of the longest sum of the case's own precision on the way to a quantity.

        Every gradient comes through the sum over the vocabulary, and a parameter's sums over T·B. In half precision
        products sum in float32; left are sums over steps, and those of an embedding's row over where it is read.
        """
        case, batch = self.case, self.batch
        steps = max(case.sequence_length, len(batch.source))
        if criterion.sums_in_float32(case):
            if quantity == "grad_embedding.weight":
                read = torch.cat([batch.source.flatten(), batch.target.flatten()])
                return max(steps, int(read[read > 0].bincount().max()))
            return steps if quantity.startswith("grad_") else 1
        terms = max(3 * case.hidden_size, case.input_size)
        if quantity == "loss" or quantity.startswith("grad_"):
            terms = max(terms, steps * case.batch_size)
        return max(terms, self.settings.vocabulary) if quantity.startswith("grad_") else terms

    def compare_distributions(self, *_: Any) -> Iterator[dict[str, Any]]:
        """Yield nothing: a decoder is not compared by the law of many draws."""
        return iter(())

    def build(self, implementation: str, attending: Attending, *, input_feeding: bool = False) -> Model:
        """The model around an implementation, with the parameters of this task."""
        words = self.case, self.settings, implementation, attending, self.parameters
        return build_model(*words, input_feeding=input_feeding)

    def run(self, implementation: str, role: Role, regime: str, masks: Tensor | None) -> RunResult:
        """Run the model with one implementation forward and backward. Whatever it raises is a missing quantity.

        What draws out of sight applies stack masks of its own; they are recovered, and stand in place of those given.
        Raises `InputError` only for an implementation that cannot be built at all.
        """
        result, every = RunResult(), self.quantities()
        try:
            model = self.build(implementation, ATTENTION_BY_ROLE[role]).train(regime != "eval")
            self._run_step(implementation, model, masks, result)
        except InputError:
            raise
        except Unrecoverable as error:
            result.missing |= {quantity: (Verdict.NOT_JUDGED, str(error)) for quantity in every}
        except Exception as error:  # whatever an implementation under test raises is a result
            failure = describe_failure(error, self.case.device)
            result.missing |= {quantity: failure for quantity in every if quantity not in result.values}
        return result

    def _run_step(self, name: str, model: Model, masks: Tensor | None, result: RunResult) -> None:
        """Forward, loss, backward."""
        case, batch = self.case, self.batch.to(self.case.device)
        done = self._forward(name, model, batch, masks, result)
        loss = make_loss(case, self.settings)(model.m1(done["output"]), batch.target[1:])
        dtype, (layers, rows, hidden_size) = getattr(torch, case.dtype), done["h0"].shape
        record(result, "output", done["output"], (case.sequence_length, rows, hidden_size), dtype)
        record(result, "hn", done["hn"], (layers, rows, hidden_size), dtype)
        record(result, "loss", loss, loss.shape, dtype)
        wanted = {"context": done["context"], "h0": done["h0"]} | model.parameters
        gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
        for (key, like), gradient in zip(wanted.items(), gradients, strict=True):
            gradient = torch.zeros_like(like) if gradient is None else gradient
            record(result, f"grad_{key}", gradient, gradient.shape, dtype)

    def _forward(
        self, name: str, model: Model, batch: Batch, flat: Tensor | None, result: RunResult
    ) -> dict[str, Tensor]:
        """`output`, `hn`, and `context` and `h0` between encoder and decoder, under the masks that come with them."""
        masks = None if flat is None else Masks.unflatten(flat, self.case, len(batch.source))

        def run(in_stack: Any = None) -> tuple[dict[str, Tensor], DropoutRecorder | None]:
            torch.manual_seed(self.seed)
            with imposed(model.m0, batch.lengths, masks, in_stack) as drawn:
                context, h0 = model.m0.encoder(batch.source, batch.lengths)
                output, hn = model.m0.decoder(batch.target[:-1], h0, context, batch.source.T == PAD)
            return {"output": output, "hn": hn, "context": context, "h0": h0}, drawn

        def states() -> Tensor:  # which no draw but the stack's can change; whoever calls has set the seed
            with imposed(model.m0, batch.lengths, masks), torch.no_grad():
                return model.m0(batch.source, batch.lengths, batch.target[:-1])[1]

        try:
            done, drawn = run()
            unseen = drawn is not None and self.case.draws_dropout and self.case.dropout < 1 and not drawn.drawn
            out_of_sight = unseen and draws_out_of_sight(states)
        except UnknownDraw:
            out_of_sight = True
        if masks is not None and out_of_sight:
            replay, result.out_of_sight = Replay(self.seed), True
            masks = replace(masks, stack=recover_masks(self.case, name, replay))
            done, _ = run(replay)
        result.masks = None if masks is None else masks.flatten()
        return done

    def rates(self, phase: str) -> dict[str, Any]:
        """None are known."""
        return {}

    def calls(self, implementation: str, role: Role, phase: str) -> Calls:
        """The calls of a phase on the model with an implementation in its role."""
        return self.calls_attending(implementation, ATTENTION_BY_ROLE[role], phase)

    def calls_attending(
        self, implementation: str, attending: Attending, phase: str, *, input_feeding: bool = False
    ) -> Calls:
        """The calls of a phase on any variant of the model."""
        model = self.build(implementation, attending, input_feeding=input_feeding).train(phase != "inference")
        batch = self.batch.to(self.case.device)
        if phase == TRAIN_STEP:
            return training_step_calls(model, batch, make_loss(self.case, self.settings))
        return decoder_calls(phase, model, batch)
