"""The workload `decoder`: does t2vec compute with the candidate what it computes with the baseline, and how fast?

The baseline stands in the decoder as t2vec is written, attending after every step; the candidate as one would put it
there, attending once for all steps. One forward and one backward pass of the whole training loss; every parameter's
gradient is a quantity, the encoder's among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rnn_parity.compare import criterion
from rnn_parity.compare.reference import Reference, References, perturb
from rnn_parity.compare.run import Role, RunResult, record
from rnn_parity.dropout.order import UnknownOrder
from rnn_parity.dropout.recovery import Replay, Unrecoverable, recover_masks
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.running import classify_exception
from rnn_parity.timing.calls import Calls
from rnn_parity.workloads.base import ReferencedTask
from rnn_parity_t2vec.batches import Batch
from rnn_parity_t2vec.inputs import Data, build_model, draw_batches, draw_parameters
from rnn_parity_t2vec.model import PAD, Attending, T2Vec, nll_loss
from rnn_parity_t2vec.model_masks import Masks, imposed, in_order, order_of_stack
from rnn_parity_t2vec.phases import decoder_calls, training_step_calls
from rnn_parity_t2vec.reference import Equations, training_step

ATTENTION_BY_ROLE: dict[Role, Attending] = {Role.BASELINE: "each_step", Role.CANDIDATE: "all_steps"}

TRAIN_STEP = "train_step"
"""The phase of the whole model, Adam included; the other phases are of the decoder alone."""

_PERTURBATIONS = {True: 24, False: 6}  # in a small model one saturated gate may rule, and a few draws miss how far
_SMALL = 200_000  # numbers in the scores over the vocabulary


class Decoder:
    """The workload: t2vec over some data."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Data(**settings)

    def draw(self, case: Case, seed: int) -> DecoderTask:
        """Draw the parameters and a batch."""
        (batch,) = draw_batches(case, self.settings, 1, seed)
        inputs = ModelInputs(draw_parameters(case, self.settings.vocabulary, seed), batch)
        return DecoderTask(References(case, inputs, seed, run_reference))

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


def run_reference(case: Case, inputs: ModelInputs, masks: Tensor | None, seed: int) -> Reference:
    """The float64 training step, and how far one rounding of all that a model is given and keeps moves it."""
    placed = None if masks is None else Masks.unflatten(masks, case, len(inputs.batch.source))
    equations = Equations(inputs.batch, placed, case.dropout)
    small = case.sequence_length * case.batch_size * len(inputs.parameters["embedding.weight"]) <= _SMALL

    def run(moved: ModelInputs, rounding: Any) -> dict[str, Tensor]:
        return training_step(equations, moved.parameters, rounding)

    return perturb(case, seed, inputs, run, _PERTURBATIONS[small], side_by_side=small)


class DecoderTask(ReferencedTask):
    """What one seed gives to every model, with its references. Masks are those of `Masks.flatten`."""

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """By canonical name."""
        return self.stimulus.parameters

    @property
    def batch(self) -> Batch:
        """What the model reads and shall say."""
        return self.stimulus.batch

    def quantities(self) -> list[str]:
        """The decoder's outputs, the loss, what flows back to the encoder, all parameters."""
        return ["output", "hn", "loss", "grad_context", "grad_h0", *(f"grad_{name}" for name in self.parameters)]

    def draw_masks(self) -> Tensor | None:
        """In all places of the model; also with one layer there is dropout, behind the attention."""
        if self.case.dropout == 0:
            return None
        return Masks.draw(self.case, len(self.batch.source), self.seed).flatten()

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
        return max(terms, len(self.parameters["embedding.weight"])) if quantity.startswith("grad_") else terms

    def build(self, implementation: str, attending: Attending, *, input_feeding: bool = False) -> T2Vec:
        """The model around an implementation, with the parameters of this task."""
        return build_model(self.case, implementation, attending, self.parameters, input_feeding=input_feeding)

    def run(self, implementation: str, role: Role, regime: str, masks: Tensor | None) -> RunResult:
        """Run the model with one implementation forward and backward. Whatever it raises is a missing quantity.

        A stack that takes no masks of ours applies its own; they are recovered, and stand in place of those given.
        Raises `InputError` only for an implementation that cannot be built at all.
        """
        result = RunResult()
        try:
            model = self.build(implementation, ATTENTION_BY_ROLE[role]).train(regime != "eval")
            self._run_step(implementation, model, masks, result)
        except InputError:
            raise
        except Exception as error:  # whatever an implementation under test raises is a result
            unrecoverable = isinstance(error, Unrecoverable)
            why = (Verdict.NOT_JUDGED, str(error)) if unrecoverable else classify_exception(error)
            result.missing |= {quantity: why for quantity in self.quantities() if quantity not in result.values}
        return result

    def _run_step(self, name: str, model: T2Vec, masks: Tensor | None, result: RunResult) -> None:
        """Forward, loss, backward."""
        case, batch = self.case, self.batch.to(self.case.device)
        done = self._forward(name, model, batch, masks, result)
        loss = nll_loss(model.generator(done["output"]), batch.target[1:])
        dtype, (layers, rows, hidden_size) = getattr(torch, case.dtype), done["h0"].shape
        record(result, "output", done["output"], (case.sequence_length, rows, hidden_size), dtype)
        record(result, "hn", done["hn"], (layers, rows, hidden_size), dtype)
        record(result, "loss", loss, loss.shape, dtype)
        wanted = {"context": done["context"], "h0": done["h0"]} | model.canonical_parameters()
        gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, materialize_grads=True)
        for key, gradient in zip(wanted, gradients, strict=True):
            record(result, f"grad_{key}", gradient, gradient.shape, dtype)

    def _forward(
        self, name: str, model: T2Vec, batch: Batch, flat: Tensor | None, result: RunResult
    ) -> dict[str, Tensor]:
        """`output`, `hn`, and `context` and `h0` between encoder and decoder, under the masks that come with them."""
        masks = None if flat is None else Masks.unflatten(flat, self.case, len(batch.source))

        in_stack: AbstractContextManager | None = None
        if masks is not None:
            try:
                in_stack = in_order(order_of_stack(self.case, name), masks)
            except UnknownOrder as error:
                in_stack = Replay(self.seed, error.may_be_watched)
                result.own_masks = True
                masks = replace(masks, stack=recover_masks(self.case, name, in_stack))
            result.masks = masks.flatten()
        torch.manual_seed(self.seed)
        with imposed(model, batch.lengths, masks, in_stack):
            context, h0 = model.encoder(batch.source, batch.lengths)
            output, hn = model.decoder(batch.target[:-1], h0, context, batch.source.T == PAD)
        return {"output": output, "hn": hn, "context": context, "h0": h0}

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
            return training_step_calls(model, batch)
        return decoder_calls(phase, model, batch)
