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
