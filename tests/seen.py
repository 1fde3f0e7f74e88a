"""A fault of a life held against what is told of it."""

from dataclasses import replace
from functools import partial

from rnn_parity.life.live import live
from rnn_parity.trust.lives import draw_life


def in_turn(faults, names, of_two_states=()):
    """Pairs of a fault and a kind, GRU and LSTM in turn but where a fault needs two states; each gets a name there."""
    kinds = ("gru", "lstm")
    cases = [(fault, kinds[place % 2 or fault in of_two_states]) for place, fault in enumerate(faults)]
    names.update({f"{fault.__name__}_{cell}": partial(fault, cell=cell) for fault, cell in cases})
    return cases


def assert_seen_and_named(name, cell, point, when, reason):
    """The layer of this name is right at its first call, and its point says when and by what it is wrong."""
    case = replace(draw_life("cpu", "float32", 3, cell), sequence_length=5, batch_size=4, num_layers=3, dropout=0.3)
    *first, found = live(case, name, seed=3, points=["first_call", point])
    assert [row["verdict"] for row in first] in ([], ["identical"], ["equivalent"])
    assert found["verdict"] == "different"
    assert found["when"].startswith(when)
    assert reason in found["reason"]
