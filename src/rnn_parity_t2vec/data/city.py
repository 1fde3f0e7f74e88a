"""The cells of a city: where they are, which are next to each other, and which are nearest to each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from rnn_parity_t2vec.model import SPECIAL_TOKENS
from rnn_parity_t2vec.settings import Shape

CELL_M = 100.0
"""The published cell size, in metres."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells by their centres, (N, 2) in metres; the token of cell k is k + `SPECIAL_TOKENS`."""

    centres_m: np.ndarray

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(self.centres_m)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are, the special ones among them."""
        return len(self.centres_m) + SPECIAL_TOKENS

    @cached_property
    def neighbours(self) -> np.ndarray:
        """Per cell those that touch it, (N, ≤6), −1 where there are fewer."""
        found = self._tree.query_ball_point(self.centres_m, 1.01 * CELL_M, return_sorted=True)
        lists = [[other for other in others if other != cell] for cell, others in enumerate(found)]
        most = max(map(len, lists))
        return np.array([others + [-1] * (most - len(others)) for others in lists])

    def nearest_token(self, points_m: np.ndarray) -> np.ndarray:
        """The token of the cell nearest to each of the points, (M, 2) in metres."""
        return self._tree.query(points_m)[1] + SPECIAL_TOKENS

    def proximity(self, nearest: int = 10, scale_m: float = CELL_M) -> tuple[Tensor, Tensor]:
        """Per token the `nearest` tokens and their weights, proportional to exp(−distance / `scale_m`).

        Two (V, K), as `model.spatial_loss` takes them; a special token stands for itself alone.
        """
        distances, cells = self._tree.query(self.centres_m, k=list(range(1, min(nearest, len(self.centres_m)) + 1)))
        weights = np.exp(-distances / scale_m)
        tokens = torch.arange(self.vocabulary)[:, None].repeat(1, cells.shape[1])
        shares = torch.zeros(tokens.shape, dtype=torch.float64)
        shares[:SPECIAL_TOKENS, 0] = 1
        tokens[SPECIAL_TOKENS:] = torch.from_numpy(cells + SPECIAL_TOKENS)
        shares[SPECIAL_TOKENS:] = torch.from_numpy(weights / weights.sum(axis=1, keepdims=True))
        return tokens, shares


def city(count: int, kind: Shape = "square") -> Cells:
    """`count` cells of 100 m in rows, about as many rows as columns."""
    row, column = np.divmod(np.arange(count), math.ceil(math.sqrt(count)))
    if kind == "square":
        return Cells(CELL_M * np.stack([column, row], axis=1).astype(float))
    return Cells(CELL_M * np.stack([column + 0.5 * (row % 2), row * math.sqrt(0.75)], axis=1))
