"""What a life tells of a layer that is right: time, memory and generators that it takes, and what it left out."""

import random
import time

import numpy as np
import pandas as pd
import pytest
import torch

from rnn_parity.findings.lives import remarks
from rnn_parity.life.live import MAX_SECONDS, _Stopwatch, live
from rnn_parity.trust.lives import draw_life


class KeepsOutputs(torch.nn.GRU):
    """Both results are kept, and with their graph what they were made of."""

    def forward(self, input, states=None):
        results = super().forward(input, states)
        self.__dict__.setdefault("results", []).append(results)
        return results


class KeepsWhatIsGone(torch.nn.GRU):
    """A cache of two outputs, and rings of garbage: neither grows."""

    def forward(self, input, states=None):
        results = super().forward(input, states)
        self.__dict__["results"] = [*self.__dict__.get("results", [])[-1:], results]
        ring = [results[0]]
        ring.append(ring)
        return results


class Seeds(torch.nn.GRU):
    def forward(self, input, states=None):
        random.seed(1)
        np.random.seed(1)
        return super().forward(input, states)


class SeedsWhenBuilt(torch.nn.GRU):
    def __init__(self, **sizes):
        torch.manual_seed(42)
        super().__init__(**sizes)


class Draws(torch.nn.GRU):
    def forward(self, input, states=None):
        random.random()
        np.random.random()
        return super().forward(input, states)


class Slow(torch.nn.GRU):
    """Slower than what a life is given."""


def lived(layer, *points, **options):
    case = draw_life("cpu", "float32", 3, "gru")
    rows = list(live(case, f"{__name__}:{layer.__name__}", seed=3, points=["first_call", *points], **options))
    assert {row["verdict"] for row in rows} <= {"equivalent", "not judged"}
    return rows


@pytest.mark.parametrize(
    ("layer", "point", "words"),
    [
        (KeepsOutputs, "kept", "keeps 4 more tensors after every call, in train"),
        (KeepsWhatIsGone, "kept", ""),
        (
            Seeds,
            "other_generators",
            "sets the global generator of Python and NumPy to one fixed state when it is called",
        ),
        (SeedsWhenBuilt, "other_generators", "sets the global generator of torch to one fixed state when it is built"),
        (Draws, "other_generators", ""),
    ],
)
def test_what_a_right_layer_leaves_behind_is_told(layer, point, words):
    _, row = lived(layer, point)
    assert (row["verdict"], row["reason"]) == ("equivalent", words)


def test_the_generators_are_left_as_they_were():
    before = repr(np.random.get_state(legacy=False))
    lived(Seeds, "kept")
    after = repr(np.random.get_state(legacy=False))
    lived(KeepsOutputs, "other_generators")
    assert before != after == repr(np.random.get_state(legacy=False))


def test_what_a_slow_layer_was_spared_is_told():
    rows = lived(Slow, "kept", "other_generators", max_seconds=0.0)
    assert remarks(pd.DataFrame(rows)) == ["is so slow that 3 of 3 points of its life were left out"]


def test_a_busy_machine_cuts_no_life_short():
    started = _Stopwatch(time.process_time(), time.monotonic() - 5 * MAX_SECONDS)
    assert started.worked_s < MAX_SECONDS
    started = _Stopwatch(time.process_time(), time.monotonic() - 11 * MAX_SECONDS)
    assert started.worked_s > MAX_SECONDS
