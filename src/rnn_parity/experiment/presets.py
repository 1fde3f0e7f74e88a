"""The cases of a check that names no sizes of its own. Imports no torch."""

from __future__ import annotations

from typing import Any

SIZES = ("input_size", "hidden_size", "num_layers", "sequence_length", "batch_size", "dropout")

PRESETS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "small": (dict(zip(SIZES, (7, 16, 3, 12, 4, 0.2), strict=True)), (0, 1, 2)),
    "article": (dict(zip(SIZES, (5, 10, 3, 10, 7, 0.1), strict=True)), (1215,)),
    "t2vec": (dict(zip(SIZES, (256, 256, 3, 30, 128, 0.2), strict=True)), (0,)),
}
"""Sizes and seeds by name. `small` shows every planted fault: I ≠ H, L = 3, steps and dropout enough."""
