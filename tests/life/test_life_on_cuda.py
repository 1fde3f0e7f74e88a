"""Faults of layers that work on streams and in graphs of their own. Skipped, and shown as skipped, without a GPU."""

import pytest
import torch

from rnn_parity.compare.case import compare_case
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.faster_loops import GraphedLoop
from rnn_parity.layers.stepwise import StackingGRUCellLoop
from rnn_parity.life.live import live
from rnn_parity.timing.rounds import time_case
from rnn_parity.workloads.layer import Layer

pytestmark = pytest.mark.cuda

CASE = Case("cuda", "cuda", "float32", False, 5, 12, 3, 8, 4, 0.0, 1)
CYCLES = 50_000_000  # some 30 ms
TIMING = {"phases": ["inference"], "precision": 0.5, "min_rounds": 4, "max_seconds": 0.5, "confidence": 0.95}


class OnStreamOfItsOwn(StackingGRUCellLoop):
    """Right: what was given is waited for, and so is what it gives."""

    waits = True

    def forward(self, input, h0):
        stream = vars(self).setdefault("stream", torch.cuda.Stream())
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(CYCLES)
            results = super().forward(input, h0)
        if self.waits:
            torch.cuda.current_stream().wait_stream(stream)
        return results


class NotWaitedFor(OnStreamOfItsOwn):
    """Hands on what is still to be computed."""

    waits = False


class Overwritten(GraphedLoop):
    """What a call gives is written over by the next."""

    def forward(self, input, h0):
        return self._replay(input, h0)


def name(layer):
    return f"{__name__}:{layer.__name__}"


def verdicts(layer):
    rows = compare_case(Layer(), CASE, "stacking_gru_cell", [name(layer)], [0], ["eval"], 1000)
    return {row["verdict"] for row in rows if row["implementation"] == name(layer)}


def test_a_layer_on_a_stream_of_its_own_is_judged_by_whether_it_is_waited_for():
    assert verdicts(OnStreamOfItsOwn) <= {"identical", "equivalent"}
    assert "different" in verdicts(NotWaitedFor)


@pytest.mark.parametrize("layer", [OnStreamOfItsOwn, NotWaitedFor])
def test_the_clock_waits_for_every_stream(layer):
    """What is not waited for is no time: it is refused, or the time has all that the stream did."""
    row = time_case(Layer(), CASE, "stacking_gru_cell", [name(layer)], exclusive=True, **TIMING)[1]
    least_s = CYCLES / 4e9  # no GPU has so fast a clock
    assert row.get("median_s", least_s) >= least_s, row
    assert layer is NotWaitedFor or row["reason"] in ("", "another process computed on the GPU"), row


def test_results_of_a_graph_that_are_overwritten_are_seen_in_its_life():
    rows = {row["point"]: row for row in live(CASE, name(Overwritten), seed=0)}
    assert rows["first_call"]["verdict"] == "equivalent"
    assert "different" in {row["verdict"] for row in rows.values()}
