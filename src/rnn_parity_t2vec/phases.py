"""The calls that are timed: the decoder alone, and the training step of the whole model."""

from __future__ import annotations

import torch
from torch import nn

from rnn_parity.timing.rounds import Calls, phase_calls
from rnn_parity_t2vec.data.batches import Batch
from rnn_parity_t2vec.inputs import Model
from rnn_parity_t2vec.model import PAD

LEARNING_RATE, CLIP = 1e-3, 5.0
"""The published ones: Adam's rate, and the norm to which gradients are clipped."""


def decoder_calls(phase: str, model: Model, batch: Batch) -> Calls:
    """Of the decoder alone: the context and the first states are inputs, with gradients of their own."""
    decoder, target, padding = model.m0.decoder, batch.target[:-1], batch.source.T == PAD
    with torch.no_grad():
        context, h0 = (tensor.clone() for tensor in model.m0.encoder(batch.source, batch.lengths))
        cotangent = torch.randn_like(decoder(target, h0, context, padding)[0])
    return phase_calls(phase, decoder, lambda: decoder(target, h0, context, padding), (context, h0), (cotangent,))


def training_step_calls(model: Model, batch: Batch, loss_of) -> Calls:
    """Of the whole model: forward, loss, backward, clipping, Adam."""
    parameters = list(model.parameters.values())
    refuse_without_adam(parameters[0].dtype)
    adam = torch.optim.Adam(parameters, LEARNING_RATE)

    def step(_):
        output, _hn = model.m0(batch.source, batch.lengths, batch.target[:-1])
        loss_of(model.m1(output), batch.target[1:]).backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        adam.step()

    return lambda: adam.zero_grad(set_to_none=True), step


def refuse_without_adam(dtype: torch.dtype) -> None:
    """Raise `NotImplementedError` for the dtype in which the published training step cannot be made."""
    if dtype == torch.float16:
        raise NotImplementedError(
            "Adam's eps of 1e-8 is 0 in float16, so that weights kept in it are no numbers after one step"
        )
