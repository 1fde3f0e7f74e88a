"""What every implementation is given in a decoder case: the same parameters and the same batches of trajectories."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.parameters import canonical_parameters, canonical_shapes, copy_weights
from rnn_parity.layers.stimulus import WEIGHT_SCALE
from rnn_parity_t2vec.data.batches import Batch, drawn_batches, file_batches
from rnn_parity_t2vec.data.city import Cells, city
from rnn_parity_t2vec.data.files import Trajectories, read_trajectories
from rnn_parity_t2vec.model import PAD, SPECIAL_TOKENS, Attending, Generator, Sizes, T2Vec, nll_loss, spatial_loss
from rnn_parity_t2vec.settings import DecoderSettings, OnBadLine, Shape

log = logging.getLogger("rnn_parity")

STACK = "decoder.rnn."
"""What the names of the replaced layer's parameters begin with; `nn.GRU`'s names follow."""


def model_sizes(case: Case, settings: DecoderSettings) -> Sizes:
    """The model's sizes in a case."""
    return Sizes(settings.vocabulary, case.input_size, case.hidden_size, case.num_layers, case.dropout)


@dataclass(frozen=True)
class Model:
    """Both modules of t2vec, with the names that parameters have here: nn.GRU's in the replaced layer."""

    m0: T2Vec
    m1: Generator

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Every parameter once, under its canonical name."""
        own = {name: p for name, p in self.m0.named_parameters() if not name.startswith(STACK)}
        stack = {STACK + name: p for name, p in canonical_parameters(self.m0.decoder.rnn).items()}
        return own | stack | {f"generator.{name}": p for name, p in self.m1.named_parameters()}

    def train(self, training: bool) -> Model:
        """Switch dropout on or off."""
        self.m0.train(training)
        self.m1.train(training)
        return self

    def zero_grad(self) -> None:
        """Forget every gradient."""
        for parameter in self.parameters.values():
            parameter.grad = None


def parameter_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Every parameter of the model with its shape, under its canonical name."""
    v, e, h, layers = sizes.vocabulary, sizes.embedding_size, sizes.hidden_size, sizes.num_layers
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (v, e)}
    for layer in range(layers):
        of_layer = canonical_shapes(e if layer == 0 else h, h // 2, 1)
        for suffix in ("", "_reverse"):
            shapes |= {f"encoder.rnn.{name[:-1]}{layer}{suffix}": shape for name, shape in of_layer.items()}
    shapes |= {"decoder.attention.L1.weight": (h, h), "decoder.attention.L2.weight": (h, 2 * h)}
    shapes |= {STACK + name: shape for name, shape in canonical_shapes(e, h, layers).items()}
    return shapes | {"generator.0.weight": (v, h), "generator.0.bias": (v,)}


def draw_parameters(case: Case, settings: DecoderSettings, seed: int) -> dict[str, Tensor]:
    """Embeddings are normal, all else uniform within ±2/√H, in float64 and then rounded to the case's dtype.

    The row of the padding is zero, as `nn.Embedding` makes it.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters, bound = {}, WEIGHT_SCALE / case.hidden_size**0.5
    for name, shape in parameter_shapes(model_sizes(case, settings)).items():
        if name == "embedding.weight":
            drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
            drawn[PAD] = 0
        else:
            drawn = (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * bound
        parameters[name] = drawn.to(getattr(torch, case.dtype))
    return parameters


def build_model(
    case: Case,
    settings: DecoderSettings,
    implementation: str,
    attending: Attending,
    parameters: Mapping[str, Tensor],
    *,
    input_feeding: bool = False,
) -> Model:
    """The model around an implementation, in the case's dtype, on its device, with these parameters.

    With input feeding the stack reads more, and its parameters stay as they were built.
    """
    sizes, dtype = model_sizes(case, settings), getattr(torch, case.dtype)
    m0 = T2Vec(sizes, implementation, attending, input_feeding=input_feeding).to(case.device, dtype)
    model = Model(m0, Generator(sizes).to(case.device, dtype))
    given = {name: value for name, value in parameters.items() if not name.startswith(STACK)}
    with torch.no_grad():
        for name, value in given.items():
            model.parameters[name].copy_(value)
    if not input_feeding:
        copy_weights({name.removeprefix(STACK): parameters[name] for name in parameters.keys() - given}, m0.decoder.rnn)
    return model


def draw_batches(case: Case, settings: DecoderSettings, count: int, seed: int) -> list[Batch]:
    """`count` batches of the case's size; `InputError` where the file does not hold them."""
    shape = case.sequence_length, case.batch_size, count, seed
    if settings.file is None:
        return drawn_batches(_city(settings.vocabulary, settings.cells), *shape)
    return file_batches(_read(settings.file, settings.on_bad_line).tokens, *shape, name=settings.file)


def make_loss(case: Case, settings: DecoderSettings) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of log-probabilities (T, B, V) and wanted tokens (T, B)."""
    if settings.loss == "nll":
        return nll_loss
    nearest, weights = proximity(settings)
    nearest, weights = nearest.to(case.device), weights.to(case.device, getattr(torch, case.dtype))
    return lambda log_probabilities, wanted: spatial_loss(log_probabilities, wanted, nearest, weights)


def proximity(settings: DecoderSettings) -> tuple[Tensor, Tensor]:
    """Per token those near it and their weights, in float64; `InputError` where the data say nothing of places."""
    if settings.file is None:
        return _city(settings.vocabulary, settings.cells).proximity()
    cells = _read(settings.file, settings.on_bad_line).cells
    if cells is None:
        raise InputError(
            "workloads.decoder.loss: holds 'spatial', but tokens alone have no places; expected nll, or a GPS file"
        )
    return cells.proximity()


def with_vocabulary(settings: DecoderSettings) -> DecoderSettings:
    """The settings with the vocabulary that the file's GPS points make; `InputError` where its tokens exceed it."""
    if settings.file is None:
        return settings
    found = _read(settings.file, settings.on_bad_line)
    if found.cells is not None:
        return settings.model_copy(update={"vocabulary": found.vocabulary})
    if found.vocabulary > settings.vocabulary:
        largest = found.vocabulary - 1
        raise InputError(
            f"workloads.decoder.vocabulary: holds {settings.vocabulary}, but {settings.file} has the token {largest}"
        )
    return settings


def skipped_lines(settings: DecoderSettings) -> int:
    """How many bad lines of the file are left out."""
    return len(_read(settings.file, settings.on_bad_line).bad) if settings.file else 0


@cache
def _city(vocabulary: int, kind: Shape) -> Cells:
    return city(vocabulary - SPECIAL_TOKENS, kind)


@cache
def _read(file: str, on_bad_line: OnBadLine) -> Trajectories:
    found = read_trajectories(Path(file), on_bad_line)
    if found.bad:
        log.warning("%s: %s", file, found.describe_bad())
    return found
