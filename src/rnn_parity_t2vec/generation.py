"""Greedy decoding, each token read again, with the baseline and with the candidate: do both say the same tokens?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import classify_exception
from rnn_parity_t2vec.batches import Batch
from rnn_parity_t2vec.model import BOS, EOS, PAD, T2Vec
from rnn_parity_t2vec.workload import Decoder


def generation_rows(
    workload: Decoder, case: Case, baseline: str, candidates: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield one row per candidate: of the tokens of one batch, how many are those that the baseline says.

    The parameters are those of the equivalence, whose model says many different tokens; one that was trained for a few
    steps says the same one again and again. A choice between two tokens that are as likely as each other, but for a
    rounding, may go either way, and then all that follows differs.
    """
    task = workload.draw(case, seed=1)
    batch = task.batch.to(case.device)
    said: dict[str, Tensor] = {}
    failed: dict[str, str] = {}
    for name in [baseline, *candidates]:
        try:
            said[name] = greedy(task.build(name, "all_steps").eval(), batch, case.sequence_length)
        except Exception as error:  # whatever an implementation raises is a result
            failed[name] = classify_exception(error)[1]
    for name in candidates:
        row = {**case.columns, "baseline": baseline, "implementation": name}
        reason = failed.get(baseline) or failed.get(name)
        yield row | ({"reason": reason} if reason else agreement(said[baseline], said[name]))


@torch.no_grad()
def greedy(model: T2Vec, batch: Batch, steps: int) -> Int[Tensor, "T B"]:
    """The likeliest token of every step, T = `steps`; padding after a sequence's end, which is EOS or padding."""
    source = batch.source
    context, h = model.encoder(source, batch.lengths)
    padding = source.T == PAD
    token, tokens = source.new_full(source.shape[1:], BOS), []
    ended = torch.zeros_like(token, dtype=torch.bool)
    for _ in range(steps):
        output, h = model.decoder(token[None], h, context, padding)
        token = model.generator(output)[0].argmax(dim=-1).masked_fill(ended, PAD)
        ended = ended | (token == EOS) | (token == PAD)
        tokens.append(token)
    return torch.stack(tokens)


def agreement(ours: Tensor, theirs: Tensor) -> dict[str, Any]:
    """Of the tokens up to the end of either sequence, (T, B), how many are alike; and of how many sequences all are."""
    ends = [(tokens == EOS) | (tokens == PAD) for tokens in (ours, theirs)]
    said = ~((ends[0].cumsum(0) - ends[0].long() > 0) & (ends[1].cumsum(0) - ends[1].long() > 0))
    alike = ours == theirs
    return {
        "sequences": ours.shape[1],
        "tokens": int(said.sum()),
        "different_tokens": int(ours[said].unique().numel()),
        "agreement": float((alike & said).sum() / said.sum()),
        "sequences_alike": int((alike | ~said).all(0).sum()),
        "reason": "",
    }
