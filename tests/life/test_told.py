"""What a life tells of a layer that is right: time, memory and generators that it takes, and what it left out."""

import random
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from rnn_parity.findings.lives import remarks
from rnn_parity.life.live import MAX_SECONDS, _Budget, _cpu_seconds, live
from rnn_parity.tables import LEFT_OUT
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


class SeedsInTraining(torch.nn.GRU):
    def forward(self, input, states=None):
        if self.training:
            random.seed(1)
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
        (
            SeedsInTraining,
            "other_generators",
            "sets the global generator of Python to one fixed state when it is called",
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


def test_a_point_ends_where_its_time_does(monkeypatch):
    asked = iter([False] * 4 + [True] * 9)  # before each of both points, then after the calls of the second
    monkeypatch.setattr(_Budget, "is_spent", property(lambda budget: next(asked)))
    first, cut = lived(Slow, "shapes_in_turn")
    assert first["verdict"] == "equivalent"
    assert (cut["verdict"], cut["calls"]) == ("not judged", 3)
    assert cut["reason"].startswith(LEFT_OUT)


def test_a_busy_machine_cuts_no_life_short():
    long_ago, longer_ago = (time.monotonic() - share * MAX_SECONDS for share in (5, 11))
    assert not _Budget(MAX_SECONDS, long_ago, _cpu_seconds()).is_spent
    assert _Budget(MAX_SECONDS, longer_ago, _cpu_seconds()).is_spent


def test_what_a_layer_lets_other_processes_do_is_its_time_too():
    budget = _Budget(1.0)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        while sum(psutil.Process(busy.pid).cpu_times()[:2]) < 1.5:
            time.sleep(0.1)
        assert _cpu_seconds() - budget.spent_s > 1.0
        assert budget.is_spent
        busy.kill()
