"""The calls that are timed, of the decoder alone and of a training step, and that training step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rnn_parity.timing.calls import Calls, phase_calls
from rnn_parity_t2vec.batches import Batch
from rnn_parity_t2vec.model import PAD, T2Vec, nll_loss

LEARNING_RATE, CLIP = 1e-3, 5.0
"""The published ones: Adam's rate, and the norm to which gradients are clipped."""


def decoder_calls(phase: str, model: T2Vec, batch: Batch) -> Calls:
    """Of the decoder alone: the context and the first states are inputs, with gradients of their own."""
    decoder, target, padding = model.decoder, batch.target[:-1], batch.source.T == PAD
    with torch.no_grad():
        context, h0 = (tensor.clone() for tensor in model.encoder(batch.source, batch.lengths))
        cotangent = torch.randn_like(decoder(target, h0, context, padding)[0])
    return phase_calls(phase, decoder, lambda: decoder(target, h0, context, padding), (context, h0), (cotangent,))


def training_step_calls(model: T2Vec, batch: Batch) -> Calls:
    """Of the whole model."""
    adam = make_adam(model)
    return lambda: adam.zero_grad(set_to_none=True), lambda _: take_step(model, adam, batch)


def make_adam(model: T2Vec) -> torch.optim.Adam:
    """The published optimizer; raises `NotImplementedError` for the dtype in which it cannot train."""
    parameters = list(model.canonical_parameters().values())
    if parameters[0].dtype == torch.float16:
        raise NotImplementedError(
            "Adam's eps of 1e-8 is 0 in float16, so that weights kept in it are no numbers after one step"
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
