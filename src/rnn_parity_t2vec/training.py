"""A short real training, with the baseline and with the candidate: the same start, the same data, the same steps.

Where rounding differs, two trainings part; how far is a matter of the training, not of the layer. So the baseline is
trained once more from weights that differ by one rounding: that distance is the floor. Without the same masks two
trainings are two draws, and only the law of their losses can be compared: several seeds of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rnn_parity.compare import criterion
from rnn_parity.compare.run import Role
from rnn_parity.dropout.order import MaskOrder, UnknownOrder
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.running import classify_exception
from rnn_parity_t2vec.batches import Batch
from rnn_parity_t2vec.inputs import build_model, draw_batches, draw_parameters
from rnn_parity_t2vec.model import PAD, T2Vec, nll_loss
from rnn_parity_t2vec.model_masks import Masks, imposed, in_order, order_of_stack
from rnn_parity_t2vec.phases import make_adam, take_step
from rnn_parity_t2vec.workload import ATTENTION_BY_ROLE, Decoder

MODES = ("no_dropout", "matched_masks", "own_masks")
"""Dropout off; on, with the same masks; on, each drawing its own."""

PERTURBATIONS = 3
"""Trainings of the baseline from weights one rounding away, for the floor."""

INITIAL_SCALE = 0.5
"""Of the parameters a training starts from, beside what equivalence is judged with: PyTorch's own are as small."""


def training_rows(
    workload: Decoder, case: Case, baseline: str, candidates: Sequence[str], *, steps: int, seeds: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the training table, a loss each.

    Without matched masks one training per seed and implementation; with them, and without dropout, of the first seed.
    """
    batches = draw_batches(case, workload.settings, steps, seeds[0])
    start = initial(case, workload.settings.vocabulary)
    for mode in MODES if case.dropout > 0 else MODES[:1]:
        for name, role, seed in _runs(mode, baseline, candidates, seeds):
            context = {**case.columns, "baseline": baseline, "mode": mode, "implementation": name, "role": role}
            context |= {"seed": seed, "verdict": "", "reason": ""}
            parameters = perturbed(start, case, seed) if role == "perturbed" else start
            for row in _train(case, name, role, mode, seed, batches, parameters):
                yield {**context, **row}


def _runs(mode: str, baseline: str, candidates: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, str, int]]:
    """Implementation, role and seed of every training of a mode."""
    for seed in seeds if mode == "own_masks" else seeds[:1]:
        yield baseline, "baseline", seed
        yield from ((name, "candidate", seed) for name in candidates)
    if mode != "own_masks":
        yield from ((baseline, "perturbed", seed) for seed in range(PERTURBATIONS))


def initial(case: Case, vocabulary: int) -> dict[str, Tensor]:
    """The parameters that every training starts from."""
    drawn = draw_parameters(case, vocabulary, 0)
    return {name: value * (1 if name == "embedding.weight" else INITIAL_SCALE) for name, value in drawn.items()}


def perturbed(parameters: Mapping[str, Tensor], case: Case, seed: int) -> dict[str, Tensor]:
    """Every parameter times 1 ± 2u, rounded: about one unit in its last place away."""
    generator = torch.Generator().manual_seed(seed)
    u = criterion.unit_roundoff(case.dtype)

    def moved(value: Tensor) -> Tensor:
        signs = 2 * torch.randint(0, 2, value.shape, generator=generator, dtype=torch.float64) - 1
        return (value.double() * (1 + 2 * u * signs)).to(value.dtype)

    return {name: moved(value) for name, value in parameters.items()}


def _train(
    case: Case, name: str, role: str, mode: str, seed: int, batches: Sequence[Batch], start: Mapping[str, Tensor]
) -> list[dict[str, Any]]:
    """A row per step; of a training that ends early, the last row has no loss, but a verdict and the reason."""
    rows: list[dict[str, Any]] = []
    end = None
    if mode == "no_dropout":  # not eval: in that mode cuDNN has no backward pass
        case = replace(case, dropout=0.0)
    try:
        attending = ATTENTION_BY_ROLE[Role.CANDIDATE if role == "candidate" else Role.BASELINE]
        model = build_model(case, name, attending, start).train()
        matched = mode == "matched_masks"
        order = order_of_stack(case, name) if matched else None
        torch.manual_seed(seed)
        for loss in train(model, case, batches, matched=matched, order=order):
            if not math.isfinite(loss):
                end = Verdict.FAILED, f"the loss is no longer finite at step {len(rows)}"
                break
            rows.append({"step": len(rows), "loss": loss})
    except InputError:
        raise
    except UnknownOrder as error:
        end = Verdict.UNSUPPORTED, f"{error}: unsupported with the same masks"
    except Exception as error:  # whatever an implementation raises is a result
        end = classify_exception(error)
    if end:
        rows.append({"step": len(rows), "loss": None, "verdict": end[0], "reason": end[1]})
    return rows


def train(
    model: T2Vec, case: Case, batches: Sequence[Batch], *, matched: bool, order: MaskOrder | None = None
) -> Iterator[float]:
    """Train one step per batch; yield the loss per token of each.

    Masks of step k are from seed k if `matched`, drawn by the stack in this order, None for gap by gap.
    """
    adam = make_adam(model)
    for number, batch in enumerate(batch.to(case.device) for batch in batches):
        adam.zero_grad(set_to_none=True)
        masks = Masks.draw(case, len(batch.source), number) if matched else None
        with imposed(model, batch.lengths, masks, in_order(order, masks)) if masks else nullcontext():
            said = take_step(model, adam, batch)
        tokens = (batch.target[1:] != PAD).sum().item() / case.batch_size
        # Read in float64: a loss that is rounded to 16 bits would hide how far apart two trainings are.
        yield nll_loss(said.detach().double(), batch.target[1:]).item() / tokens
