"""Free-running decoding: each token is read again, so that the stack is called with one step at a time.

A sequence ends with EOS, or with padding, should a model say that.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from rnn_parity_t2vec.model import BOS, EOS, PAD, Generator, T2Vec


@torch.no_grad()
def greedy(
    model: T2Vec, generator: Generator, source: Int[Tensor, "S B"], lengths: Int[Tensor, " B"], steps: int
) -> Int[Tensor, "T B"]:
    """The likeliest token of every step, T = `steps`; padding after a sequence's end."""
    context, h = model.encoder(source, lengths)
    padding = source.T == PAD
    token, tokens = source.new_full(source.shape[1:], BOS), []
    ended = torch.zeros_like(token, dtype=torch.bool)
    for _ in range(steps):
        output, h = model.decoder(token[None], h, context, padding)
        token = generator(output)[0].argmax(dim=-1).masked_fill(ended, PAD)
        ended = ended | (token == EOS) | (token == PAD)
        tokens.append(token)
    return torch.stack(tokens)


@torch.no_grad()
def beam_search(
    model: T2Vec, generator: Generator, source: Int[Tensor, "S B"], lengths: Int[Tensor, " B"], steps: int, width: int
) -> Int[Tensor, "T B"]:
    """The likeliest of `width` sequences that are kept beside each other, T = `steps`; padding after its end."""
    batch = source.shape[1]
    context, h = model.encoder(source, lengths)
    rows = torch.arange(batch, device=source.device).repeat_interleave(width)  # of a sequence its beams side by side
    context, h, padding = context[:, rows], h[:, rows], (source.T == PAD)[rows]
    likelihood = context.new_full((batch, width), float("-inf"), dtype=torch.float64)  # a sum of many, kept apart
    likelihood[:, 0] = 0.0
    tokens, token = source.new_empty((0, batch * width)), source.new_full((batch * width,), BOS)
    for _ in range(steps):
        output, h = model.decoder(token[None], h, context, padding)
        found = generator(output)[0].double().unflatten(0, (batch, width))
        over = ((token == EOS) | (token == PAD)).unflatten(0, (batch, width))
        found = found.masked_fill(over[..., None], float("-inf"))
        found[..., PAD] = found[..., PAD].masked_fill(over, 0.0)
        likelihood, chosen = (likelihood[..., None] + found).flatten(1).topk(width, dim=-1)
        beam, token = chosen // found.shape[-1], (chosen % found.shape[-1]).flatten()
        kept = (beam + width * torch.arange(batch, device=beam.device)[:, None]).flatten()
        tokens, h = torch.cat([tokens[:, kept], token[None]]), h[:, kept]
    return tokens.unflatten(1, (batch, width))[:, :, 0]
