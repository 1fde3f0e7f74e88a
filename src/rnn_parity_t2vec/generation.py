"""Greedy decoding, each token read again, with the baseline and with the candidate: do both say the same tokens?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import classify_exception
from rnn_parity_t2vec.decoding import greedy
from rnn_parity_t2vec.model import EOS, PAD
from rnn_parity_t2vec.workload import Decoder

_SEED = 1


def generation_rows(
    workload: Decoder, case: Case, baseline: str, candidates: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield one row per candidate: of the tokens of one batch, how many are those that the baseline says.

    The parameters are those of the equivalence, whose model says many different tokens; one that was trained for a few
    steps says the same one again and again. A choice between two tokens that are as likely as each other, but for a
    rounding, may go either way, and then all that follows differs.
    """
    task, said = workload.draw(case, _SEED), {}
    batch = task.batch.to(case.device)
    for name in [baseline, *candidates]:
        try:
            model = task.build(name, "all_steps").train(False)
            said[name] = greedy(model.m0, model.m1, batch.source, batch.lengths, case.sequence_length)
        except Exception as error:  # whatever an implementation raises is a result
            said[name] = classify_exception(error)[1]
    for name in candidates:
        row = {**case.columns, "baseline": baseline, "implementation": name}
        failed = [found for found in (said[baseline], said[name]) if isinstance(found, str)]
        yield row | ({"reason": failed[0]} if failed else agreement(said[baseline], said[name]))


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
