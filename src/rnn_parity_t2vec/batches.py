"""Trajectories into the tensors that the model reads: buckets by length, padded, with beginning and end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from rnn_parity.experiment.errors import InputError
from rnn_parity_t2vec.model import BOS, EOS, PAD
from rnn_parity_t2vec.trajectories import thinned, walks

BUCKETS = (30, 50, 70, 100)
"""The published lengths to which targets are padded."""

KEPT = 0.7
"""The share of a target's points that its source keeps."""


@dataclass(frozen=True)
class Batch:
    """B pairs. The decoder reads `target[:-1]`, T steps, and shall say `target[1:]`.

    Attributes:
        source: (S, B). lengths: of the sources, (B,). target: (T + 1, B), from BOS to EOS. Both padded with PAD.
    """

    source: Int[Tensor, "S B"]
    lengths: Int[Tensor, " B"]
    target: Int[Tensor, "T1 B"]

    def to(self, device: str) -> Batch:
        """The batch on a device; the lengths stay on the CPU, where packing wants them."""
        return Batch(self.source.to(device), self.lengths, self.target.to(device))


def make_batch(trajectories: Sequence[list[int]], steps: int, random: np.random.Generator) -> Batch:
    """Targets padded to `steps` decoder steps, each a trajectory and EOS; sources are thinned targets.

    With one step there is no room for EOS; else a trajectory has at most `steps` − 1 tokens.
    """
    sources = [thinned(trajectory, KEPT, random) for trajectory in trajectories]
    lengths = torch.tensor([len(source) for source in sources])
    targets = [[BOS, *trajectory, EOS][: steps + 1] for trajectory in trajectories]
    return Batch(_padded(sources, int(lengths.max())), lengths, _padded(targets, steps + 1))


def drawn_batches(vocabulary: int, steps: int, batch_size: int, count: int, seed: int) -> Iterator[Batch]:
    """Yield `count` batches of walks with lengths spread over the bucket that ends with `steps`; one fills it."""
    random = np.random.default_rng([seed, steps, batch_size])
    low, high = _lengths_of(steps)
    for _ in range(count):
        lengths = random.integers(low, high + 1, batch_size)
        lengths[0] = high
        yield make_batch(walks(vocabulary, lengths, int(random.integers(2**31))), steps, random)


def file_batches(
    trajectories: Sequence[list[int]], steps: int, batch_size: int, count: int, seed: int, name: str = "the file"
) -> Iterator[Batch]:
    """Yield `count` batches of those trajectories whose length is in the bucket, each taken once before any twice.

    Raises `InputError` where fewer than `batch_size` are.
    """
    low, high = _lengths_of(steps)
    fitting = [trajectory for trajectory in trajectories if low <= len(trajectory) <= high]
    if len(fitting) < batch_size:
        raise InputError(
            f"{name}: {len(fitting)} trajectories have {low} to {high} tokens, expected a batch of {batch_size}"
        )
    random = np.random.default_rng([seed, steps, batch_size])
    order = _shuffled(len(fitting), random)
    for _ in range(count):
        yield make_batch([fitting[index] for index in islice(order, batch_size)], steps, random)


def _lengths_of(steps: int) -> tuple[int, int]:
    """The lengths of trajectories, BOS and EOS not counted, whose targets are padded to `steps`."""
    below = max((bucket for bucket in BUCKETS if bucket < steps), default=0)
    return max(1, below if steps in BUCKETS and below else steps // 2), max(1, steps - 1)


def _shuffled(size: int, random: np.random.Generator) -> Iterator[int]:
    """Yield indices in random order, begun anew when all are used up."""
    while True:
        yield from reversed(random.permutation(size).tolist())


def _padded(sequences: Sequence[Sequence[int]], length: int) -> Tensor:
    padded = torch.full((length, len(sequences)), PAD)
    for column, sequence in enumerate(sequences):
        padded[: len(sequence), column] = torch.tensor(sequence)
    return padded
