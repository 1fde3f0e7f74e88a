"""The inputs of every implementation in a decoder case: the same parameters and the same batches of trajectories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rnn_parity.experiment.grid import Case
from rnn_parity.layers.parameters import copy_weights
from rnn_parity.layers.stimulus import WEIGHT_SCALE
from rnn_parity_t2vec.batches import Batch, drawn_batches, file_batches
from rnn_parity_t2vec.model import PAD, STACK, Attending, T2Vec
from rnn_parity_t2vec.trajectories import read_trajectories


def draw_parameters(case: Case, vocabulary: int, seed: int) -> dict[str, Tensor]:
    """Every parameter by its canonical name, drawn in float64 and then rounded to the case's dtype.

    Embeddings are normal, all else is uniform within ±2/√H. The row of the padding is zero, as `nn.Embedding` makes it.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        like = T2Vec(case, vocabulary, "stacking_gru").canonical_parameters()
    parameters, bound = {}, WEIGHT_SCALE / case.hidden_size**0.5
    for name, parameter in like.items():
        if name == "embedding.weight":
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            drawn[PAD] = 0
        else:
            drawn = (2 * torch.rand(parameter.shape, generator=generator, dtype=torch.float64) - 1) * bound
        parameters[name] = drawn.to(getattr(torch, case.dtype))
    return parameters


def build_model(
    case: Case,
    implementation: str,
    attending: Attending,
    parameters: Mapping[str, Tensor],
    *,
    input_feeding: bool = False,
) -> T2Vec:
    """The model around an implementation, in the case's dtype, on its device, with these parameters.

    With input feeding the stack reads more, and its parameters stay as they were built.
    """
    vocabulary = len(parameters["embedding.weight"])
    model = T2Vec(case, vocabulary, implementation, attending, input_feeding=input_feeding)
    model = model.to(case.device, getattr(torch, case.dtype))
    stack = {name.removeprefix(STACK): value for name, value in parameters.items() if name.startswith(STACK)}
    if not input_feeding:
        copy_weights(stack, model.decoder.rnn)
    others = {name: value for name, value in parameters.items() if not name.startswith(STACK)}
    model.load_state_dict(others, strict=False)
    return model


@dataclass(frozen=True)
class Data:
    """What sequences are drawn from: V tokens, and trajectories in place of the made-up ones. Needs no pydantic."""

    vocabulary: int
    file: str | None = None


def draw_batches(case: Case, settings: Data, count: int, seed: int) -> list[Batch]:
    """`count` batches of the case's size; `InputError` where the file does not hold them."""
    shape = case.sequence_length, case.batch_size, count, seed
    if settings.file is None:
        return list(drawn_batches(settings.vocabulary, *shape))
    trajectories = read_trajectories(Path(settings.file), settings.vocabulary)
    return list(file_batches(trajectories, *shape, name=settings.file))
