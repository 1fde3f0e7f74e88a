"""Random cases, wide in every axis: what the checker is tried on."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np

from rnn_parity.experiment.grid import Case
from rnn_parity.layers.stimulus import Stimulus, draw_stimulus
from rnn_parity.trust.right import right_layers


@dataclass(frozen=True)
class Sample:
    """A random case, the scales of its stimulus, and the right layer that is its baseline."""

    case: Case
    seed: int
    baseline: str
    weight_scale: float
    input_scale: float
    state_scale: float

    def stimulus(self) -> Stimulus:
        """Draw what every layer is given."""
        return draw_stimulus(self.case, self.seed, self.weight_scale, self.input_scale, self.state_scale)


def draw_sample(device: str, dtype: str, seed: int, cell: str = "gru") -> Sample:
    """Draw sizes and scales evenly on a log scale, every sample from its own seed: a longer run holds the shorter.

    T 1-64, B 1-16, I 1-64, H 1-96, L 1-4, dropout 0, .1, .2 or .5; weights uniform within ±s/√H with s .5-4, inputs of
    standard deviation .1-10; one h0 in eight is zero.
    """
    rng = random.Random(seed)

    def between(low: float, high: float) -> float:
        return math.exp(rng.uniform(math.log(low), math.log(high)))

    def size(largest: int) -> int:
        return int(between(1.0, largest + 1.0))

    case = Case(
        sweep="self_test",
        device=device,
        dtype=dtype,
        tf32=False,
        input_size=size(64),
        hidden_size=size(96),
        num_layers=rng.randint(1, 4),
        sequence_length=size(64),
        batch_size=size(16),
        dropout=_held_exactly(rng.choice([0.0, 0.1, 0.2, 0.5]), device),
        threads=1,
        cell=cell,
    )
    scales = between(0.5, 4.0), between(0.1, 10.0), float(rng.random() >= 1 / 8)
    return Sample(case, seed, rng.choice(right_layers(cell)), *scales)


def _held_exactly(dropout: float, device: str) -> float:
    """On a GPU the nearest number of float32: cuDNN's layers, right ones, keep their dropout probability as one."""
    return float(np.float32(dropout)) if device == "cuda" else dropout
