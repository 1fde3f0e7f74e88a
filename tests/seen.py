"""A fault of a life held against what is told of it."""

from dataclasses import replace

from rnn_parity.life.live import live
from rnn_parity.trust.lives import draw_life


def assert_seen_and_named(name, cell, point, when, reason):
    """The layer of this name is right at its first call, and its point says when and by what it is wrong."""
    case = replace(draw_life("cpu", "float32", 3, cell), sequence_length=5, batch_size=4, num_layers=3, dropout=0.3)
    *first, found = live(case, name, seed=3, points=["first_call", point])
    assert [row["verdict"] for row in first] in ([], ["identical"], ["equivalent"])
    assert found["verdict"] == "different"
    assert found["when"].startswith(when)
    assert reason in found["reason"]
