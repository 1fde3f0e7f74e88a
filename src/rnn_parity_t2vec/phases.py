"""The calls that are timed, of the decoder alone and of a training step, and that training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from rnn_parity.timing import audits
from rnn_parity.timing.calls import Calls, RewrittenTensors, parameter_gradients, phase_calls
from rnn_parity_t2vec.batches import Batch
from rnn_parity_t2vec.model import PAD, SPECIAL_TOKENS, T2Vec, nll_loss

LEARNING_RATE, CLIP = 1e-3, 5.0
"""The published ones: Adam's rate, and the norm to which gradients are clipped."""


def decoder_calls(phase: str, model: T2Vec, batch: Batch) -> Calls:
    """Of the decoder alone: the context and the first states are inputs, with gradients of their own."""
    decoder, target, padding = model.decoder, batch.target[:-1].clone(), batch.source.T == PAD
    torch.manual_seed(0)  # whoever builds it is given the same
    with torch.no_grad():
        context, h0 = (tensor.clone() for tensor in model.encoder(batch.source, batch.lengths))
        cotangent = torch.randn_like(decoder(target, h0, context, padding)[0])
    return phase_calls(
        phase,
        decoder,
        lambda context, h0: decoder(target, h0, context, padding),
        {"context": context, "h0": h0},
        {"output": cotangent},
        lambda: parameter_gradients(decoder.named_parameters()),
        rotation(model, target),
    )


def training_step_calls(model: T2Vec, batch: Batch) -> Calls:
    """Of the whole model. Its own steps move the weights; to a known stimulus they come back to the first ones."""
    adam, batch = make_adam(model), replace(batch, source=batch.source.clone(), target=batch.target.clone())
    weights, rotate = RewrittenTensors(model.parameters()), rotation(model, batch.source, batch.target)

    def prepare(number: int, count: int) -> list[None]:
        rotate(number)
        if number in audits.KNOWN:
            weights.write(str(number))
        adam.zero_grad(set_to_none=True)
        return [None] * count

    def results(_: None, log_probabilities: Tensor) -> dict[str, Tensor]:
        gradients = parameter_gradients(model.named_parameters())
        return {"output": log_probabilities} | {f"grad_{name}": gradient for name, gradient in gradients.items()}

    return Calls(lambda _: take_step(model, adam, batch), prepare, results)


def rotation(model: T2Vec, *tokens: Tensor) -> Callable[[int], None]:
    """Writes other tokens in place: each moves on in the vocabulary, the special ones stay."""
    first, bases = SPECIAL_TOKENS, [token.clone() for token in tokens]
    words = model.embedding.num_embeddings - first

    def rotate(number: int) -> None:
        for token, base in zip(tokens, bases, strict=True):
            token.copy_(torch.where(base < first, base, (base - first + number) % words + first))

    return rotate


def make_adam(model: T2Vec) -> torch.optim.Adam:
    """The published optimizer; raises `NotImplementedError` for the dtype in which it cannot train."""
    parameters = list(model.canonical_parameters().values())
    if parameters[0].dtype == torch.float16:
        raise NotImplementedError(
            "Adam's eps of 1e-8 is 0 in float16, so that weights stored in float16 are NaN after one step"
        )
    return torch.optim.Adam(parameters, LEARNING_RATE)


def take_step(model: T2Vec, adam: torch.optim.Adam, batch: Batch) -> Tensor:
    """Forward, loss, backward, clipping, Adam; the log-probabilities (T, B, V) from before the parameters move."""
    output, _hn = model(batch.source, batch.lengths, batch.target[:-1])
    log_probabilities = model.generator(output)
    nll_loss(log_probabilities, batch.target[1:]).backward()
    nn.utils.clip_grad_norm_(adam.param_groups[0]["params"], CLIP)
    adam.step()
    return log_probabilities
