"""Trips through a city that are made up: walks over its cells that would rather go straight on."""

from __future__ import annotations

import numpy as np

from rnn_parity_t2vec.data.city import Cells
from rnn_parity_t2vec.model import SPECIAL_TOKENS

_STRAIGHTNESS = 2.0
"""How much rather: the weight of a turn by angle a is exp(this · cos a)."""

_POPULAR = 1.0
"""Trips begin at popular cells: the weight of the k-th is 1 / k to this power (Zipf)."""


def walks(cells: Cells, lengths: np.ndarray, seed: int) -> list[list[int]]:
    """One trajectory of tokens per length; each cell is next to the one before it."""
    random = np.random.default_rng(seed)
    neighbours, centres = cells.neighbours, cells.centres_m
    popularity = 1.0 / (1 + random.permutation(len(centres))) ** _POPULAR
    cell = random.choice(len(centres), size=len(lengths), p=popularity / popularity.sum())
    angle = random.uniform(0, 2 * np.pi, len(lengths))
    heading, steps = np.stack([np.cos(angle), np.sin(angle)], axis=1), [cell]
    for _ in range(int(lengths.max()) - 1):
        options = neighbours[cell]
        moves = centres[options] - centres[cell][:, None]
        moves /= np.maximum(np.linalg.norm(moves, axis=2, keepdims=True), 1e-9)
        weights = np.exp(_STRAIGHTNESS * (moves * heading[:, None]).sum(axis=2)) * (options >= 0)
        shares = (weights / weights.sum(axis=1, keepdims=True)).cumsum(axis=1)
        chosen = (random.random((len(cell), 1)) > shares[:, :-1]).sum(axis=1)
        rows = np.arange(len(cell))
        cell, heading = options[rows, chosen], moves[rows, chosen]
        steps.append(cell)
    paths = np.stack(steps, axis=1) + SPECIAL_TOKENS
    return [path[:length].tolist() for path, length in zip(paths, lengths, strict=True)]


def thinned(trajectory: list[int], keep: float, random: np.random.Generator) -> list[int]:
    """What a sparser recording of the same trip holds: its ends, and every other point with probability `keep`."""
    kept = random.random(len(trajectory)) < keep
    kept[[0, -1]] = True
    return [token for token, stays in zip(trajectory, kept, strict=True) if stays]
