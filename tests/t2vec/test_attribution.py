"""Where the gain comes from, and what a training does: made-up seconds give the shares that they must."""

import dataclasses

import numpy as np
import pytest
import torch

from rnn_parity.experiment.grid import Case
from rnn_parity.tables import TIMING
from rnn_parity.timing.calls import Calls
from rnn_parity.timing.rounds import Contender, time_case
from rnn_parity_t2vec import attribution as timing
from rnn_parity_t2vec import phases
from rnn_parity_t2vec.attribution import ATTRIBUTED, VARIANTS, attribute, attribution_rows, share_of_gain
from rnn_parity_t2vec.tables import ATTRIBUTION
from rnn_parity_t2vec.workload import Decoder

CASE = Case("decoder", "cpu", "float32", False, 6, 8, 2, 5, 4, 0.2, 1)
PROTOCOL = {"precision": 0.5, "min_rounds": 6, "max_seconds": 0.01, "confidence": 0.95}
DECODER = Decoder(vocabulary=23)
PHASES = ["inference", "forward", "backward", "step"]


def timed(name, seconds):
    return Contender(name, Calls(lambda _: None), seconds=list(seconds))


def ways(**medians_s):
    """Seconds with a drift that slows each round's all alike, and some noise of their own."""
    random, drift = np.random.default_rng(0), np.linspace(1, 3, 40)
    return {way: timed(way, medians_s[way] * drift * random.uniform(0.99, 1.01, 40)) for way in VARIANTS}


def test_shares_are_of_the_time_that_both_changes_save():
    rows = {row["way"]: row for row in attribute(ways(original=10, attention_once=4, layer_replaced=8, both=2), 0.95)}
    assert rows["both"]["speedup"] == pytest.approx(5, rel=0.02)
    assert rows["attention_once"]["share"] == pytest.approx(0.75, abs=0.01)
    assert rows["layer_replaced"]["share"] == pytest.approx(0.25, abs=0.01)
    for way in ("attention_once", "layer_replaced"):
        assert rows[way]["share_ci_low"] < rows[way]["share"] < rows[way]["share_ci_high"]
        assert rows[way]["share_ci_high"] - rows[way]["share_ci_low"] < 0.02
    assert rows["original"]["speedup"] == 1
    assert "share" not in rows["original"]
    assert rows["both"]["share"] == 1


def test_a_training_step_in_float16_is_not_timed_as_its_weights_are_no_numbers():
    half = dataclasses.replace(CASE, dtype="float16")
    names = "stacking_gru_cell", ["stacking_gru"]
    rows = time_case(DECODER, half, *names, phases=["step"], **PROTOCOL, exclusive=True)
    said = {row["phase"]: (row["conclusion"], row["reason"]) for row in rows if row["implementation"] == "stacking_gru"}
    assert said["step"][1] == ""
    assert said["train_step"][0] in ("unsupported", "no baseline")
    # In this dtype one step makes weights that are no numbers.
    task = DECODER.draw(half, 0)
    model = task.build("stacking_gru", "all_steps")
    phases.take_step(model, torch.optim.Adam(model.parameters(), phases.LEARNING_RATE), task.batch)
    assert not all(parameter.isfinite().all() for parameter in model.parameters())


def test_of_a_gain_within_noise_there_are_no_shares():
    rows = attribute(ways(original=10, attention_once=9.99, layer_replaced=10, both=9.99), 0.95)
    assert all("share" not in row for row in rows[1:3])
    assert share_of_gain([10.0, 11, 10] * 5, [9.0, 12, 9] * 5, [9.0, 12, 11] * 5, 0.95) is None


def test_shares_and_speedups_say_the_same_however_rounds_scatter():
    random = np.random.default_rng(3)
    seconds = {
        way: 10 * left * random.lognormal(0, 0.1, 41) for way, left in zip(VARIANTS, (1, 0.9, 0.9, 0.8), strict=True)
    }
    rows = {row["way"]: row for row in attribute({way: timed(way, s) for way, s in seconds.items()}, 0.95)}
    saved = {way: 1 - 1 / row["speedup"] for way, row in rows.items()}
    for way in ("attention_once", "layer_replaced"):
        assert rows[way]["share"] == pytest.approx(saved[way] / saved["both"])


@pytest.mark.slow
def test_the_interval_of_a_share_holds_the_true_one_about_as_often_as_it_says():
    random = np.random.default_rng(4)
    held = []
    for _ in range(300):
        drift = random.lognormal(0, 0.2, 60)  # slows all of a round alike
        noise = random.lognormal(0, 0.03, (3, 60)) * np.where(random.random((3, 60)) < 0.05, 1.5, 1)
        share = share_of_gain(*(np.array([[1.0], [0.86], [0.8]]) * drift * noise), 0.95)
        held.append(share.low <= 0.7 <= share.high)
    assert 0.92 <= np.mean(held) <= 0.995


def test_a_way_that_fails_has_a_reason_and_the_others_their_numbers():
    contenders = ways(original=10, attention_once=4, layer_replaced=8, both=2)
    contenders["layer_replaced"].not_timed = ("failed", "out of memory")
    rows = {row["way"]: row for row in attribute(contenders, 0.95)}
    assert rows["layer_replaced"]["reason"] == "out of memory"
    assert rows["attention_once"]["share"] == pytest.approx(0.75, abs=0.01)


@pytest.mark.slow
def test_a_case_is_timed_both_ways():
    names = "stacking_gru_cell", ["stacking_gru", "faults:Crash"]
    rows = time_case(DECODER, CASE, *names, phases=PHASES, **PROTOCOL, exclusive=True)
    assert {name for row in rows for name in row} <= set(TIMING.names)
    assert [row["phase"] for row in rows] == [phase for phase in [*PHASES, "train_step"] for _ in range(3)]
    by_name = {(row["implementation"], row["phase"]): row for row in rows}
    for phase in [*PHASES, "train_step"]:
        assert by_name["stacking_gru", phase]["speedup"] > 0
        assert by_name["faults:Crash", phase]["conclusion"] == "failed"
        original, replaced = (by_name[name, phase] for name in ("stacking_gru_cell", "stacking_gru"))
        if phase != "backward":
            assert replaced["operator_calls"] < original["operator_calls"]


def test_the_ways_between_are_timed_too():
    names = "stacking_gru_cell", ["stacking_gru", "faults:Crash"]
    rows = list(attribution_rows(DECODER, CASE, *names, **PROTOCOL))
    assert {name for row in rows for name in row} <= set(ATTRIBUTION.names)
    found = {(row["implementation"], row["phase"], row["way"]): row for row in rows}
    assert len(found) == len(rows) == 2 * (len(ATTRIBUTED) * len(VARIANTS) + 1)
    fed = found["stacking_gru", "train_step", "input_feeding"]
    assert "attention is fed back" in fed["reason"]
    assert fed["speedup"] > 0
    assert found["faults:Crash", "train_step", "input_feeding"]["reason"].startswith("ValueError")


def test_every_way_is_timed_as_it_is_called(monkeypatch):
    seconds = {("a", "each_step"): 12.0, ("a", "all_steps"): 6.0, ("b", "each_step"): 4.0, ("b", "all_steps"): 3.0}

    def contender_of(name, build):
        return timed(name, [seconds[build.args[:2]]] * 6)

    monkeypatch.setattr(timing, "contender_of", contender_of)
    monkeypatch.setattr(timing, "run_rounds", lambda *_, **__: 0.0)
    rows = list(attribution_rows(DECODER, CASE, "a", ["b"], **PROTOCOL))
    found = {row["way"]: row["speedup"] for row in rows if row["phase"] == "step"}
    assert found == {"original": 1, "attention_once": 2, "layer_replaced": 3, "both": 4}
    (fed,) = (row for row in rows if row["way"] == "input_feeding")
    assert (fed["speedup"], fed["conclusion"]) == (3, "faster")


def test_the_ways_are_what_they_are_called(monkeypatch):
    """Per step of the decoder: how often the layer is called, and over how many steps attention runs at once."""
    seen = {}
    for way, (which, attending) in VARIANTS.items():
        name = {"baseline": "stacking_gru_cell", "candidate": "stacking_gru"}[which]
        task = DECODER.draw(CASE, 0)
        model, batch = task.build(name, attending), task.batch
        steps = []
        model.decoder.attention.register_forward_hook(lambda _, given, __, steps=steps: steps.append(len(given[0])))
        model(batch.source, batch.lengths, batch.target[:-1])
        seen[way] = type(model.decoder.rnn).__name__, steps
    assert seen == {
        "original": ("StackingGRUCellLoop", [1] * 5),
        "attention_once": ("StackingGRUCellLoop", [5]),
        "layer_replaced": ("StackingGRU", [1] * 5),
        "both": ("StackingGRU", [5]),
    }


def test_a_training_step_has_loss_clipping_and_adam_in_it(monkeypatch):
    task = DECODER.draw(CASE, 0)
    model, norms = task.build("stacking_gru", "all_steps"), []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(phases.nn.utils, "clip_grad_norm_", lambda p, most: norms.append(clip(p, most)))
    calls = phases.training_step_calls(model, task.batch)
    calls.prepare(0, 1)
    calls.call(None)
    assert len(norms) == 1
    for name, parameter in model.canonical_parameters().items():
        moved = (parameter.detach() - task.parameters[name]).abs().max().item()
        assert moved == pytest.approx(phases.LEARNING_RATE, rel=0.01)
    assert torch.cat([p.grad.flatten() for p in model.parameters()]).norm() <= phases.CLIP * 1.001
    calls.prepare(1, 1)
    assert all(p.grad is None for p in model.parameters())
