"""Trajectories: trips through a made-up city of square cells, and those of a file."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np

from rnn_parity.experiment.errors import InputError
from rnn_parity_t2vec.model import SPECIAL_TOKENS

_STRAIGHTNESS = 2.0
"""The weight of a turn by angle a is exp(this · cos a)."""

_MOVES = np.array([(0, -1), (-1, 0), (1, 0), (0, 1)])
"""To the cell above, left, right and below, as (column, row)."""


def walks(vocabulary: int, lengths: np.ndarray, seed: int) -> list[list[int]]:
    """One walk per length, which would rather go straight on; each cell has a side in common with the one before it.

    The cells of the vocabulary stand in rows, about as many rows as columns. Trips begin at popular cells: the weight
    of the k-th is 1 / k (Zipf).
    """
    random, cells = np.random.default_rng(seed), vocabulary - SPECIAL_TOKENS
    columns = math.ceil(math.sqrt(cells))
    popularity = 1.0 / (1 + random.permutation(cells))
    cell = random.choice(cells, size=len(lengths), p=popularity / popularity.sum())
    angle = random.uniform(0, 2 * np.pi, len(lengths))
    heading, steps = np.stack([np.cos(angle), np.sin(angle)], axis=1), [cell]
    for _ in range(int(lengths.max()) - 1):
        places = np.stack([cell % columns, cell // columns], axis=1)[:, None] + _MOVES  # (walks, moves, 2)
        options = places @ [1, columns]
        inside = (places >= 0).all(axis=2) & (places[..., 0] < columns) & (options < cells)
        weights = np.exp(_STRAIGHTNESS * heading @ _MOVES.T) * inside
        shares = (weights / weights.sum(axis=1, keepdims=True)).cumsum(axis=1)
        chosen = (random.random((len(cell), 1)) > shares[:, :-1]).sum(axis=1)
        cell, heading = options[np.arange(len(cell)), chosen], _MOVES[chosen]
        steps.append(cell)
    paths = np.stack(steps, axis=1) + SPECIAL_TOKENS
    return [path[:length].tolist() for path, length in zip(paths, lengths, strict=True)]


def thinned(trajectory: list[int], keep: float, random: np.random.Generator) -> list[int]:
    """A sparser recording of the same trip: its ends, and every other point with probability `keep`."""
    kept = random.random(len(trajectory)) < keep
    kept[[0, -1]] = True
    return [token for token, stays in zip(trajectory, kept, strict=True) if stays]


@cache
def read_trajectories(path: Path, vocabulary: int) -> list[list[int]]:
    """The trajectories of a file in t2vec's format: one per line, its tokens separated by spaces.

    `InputError` names the first line that has less than two tokens, or one that is no cell's.
    """
    cells, trajectories = set(map(str, range(SPECIAL_TOKENS, vocabulary))), []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                words = line.split()
                if len(words) < 2:
                    raise InputError(f"{path}: line {number}: has {len(words)} tokens, expected at least 2")
                if odd := [word for word in words if word not in cells]:
                    raise InputError(
                        f"{path}: line {number}: holds {odd[0][:20]!r}, expected tokens from {SPECIAL_TOKENS} to "
                        f"{vocabulary - 1}, since workloads.decoder.vocabulary is {vocabulary}"
                    )
                trajectories.append([int(word) for word in words])
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected lines of tokens, in UTF-8") from error
    return trajectories
