"""The same start, data and masks give the same training but for rounding; a fault parts further than the floor."""

import dataclasses

import pandas as pd
import pytest
import torch

from faults import refuse_as_cudnn_does
from rnn_parity.experiment.grid import Case
from rnn_parity_t2vec.generation import agreement, generation_rows
from rnn_parity_t2vec.inputs import build_model, draw_batches
from rnn_parity_t2vec.model import EOS, PAD
from rnn_parity_t2vec.tables import GENERATION, TRAINING
from rnn_parity_t2vec.training import PERTURBATIONS, initial, perturbed, train, training_rows
from rnn_parity_t2vec.workload import Decoder

CASE = Case("decoder", "cpu", "float32", False, 6, 8, 3, 7, 4, 0.3, 1)
DECODER = Decoder(vocabulary=23)
SETTINGS = DECODER.settings


def run(candidate="stacking_gru", steps=6, case=CASE, seeds=(0, 1)):
    names = "stacking_gru_cell", [candidate]
    rows = list(training_rows(DECODER, case, *names, steps=steps, seeds=seeds))
    generation = list(generation_rows(DECODER, case, *names))
    assert {name for row in rows for name in row} <= set(TRAINING.names)
    assert {name for row in generation for name in row} <= set(GENERATION.names)
    return pd.DataFrame(rows), pd.DataFrame(generation)


@pytest.fixture(scope="module")
def right():
    return run()


def distance(rows, mode, role):
    """The largest distance of a loss from the baseline's, in that mode."""
    rows = rows[rows["mode"] == mode]
    ours = rows[rows["role"] == "baseline"].set_index("step")["loss"]
    theirs = rows[rows["role"] == role].pivot_table(index="step", columns="seed", values="loss")
    return theirs.sub(ours, axis=0).abs().max().max()


@pytest.mark.slow
def test_replaced_the_training_is_the_same_down_to_the_floor(right):
    rows, _ = right
    for mode in ("no_dropout", "matched_masks"):
        assert 0 < distance(rows, mode, "perturbed") < 1e-4
        assert distance(rows, mode, "candidate") < 10 * distance(rows, mode, "perturbed")
    counts = rows.groupby(["mode", "role"])["seed"].nunique().to_dict()
    assert counts["own_masks", "baseline"] == counts["own_masks", "candidate"] == 2
    assert counts["no_dropout", "perturbed"] == PERTURBATIONS
    assert set(rows.groupby(["mode", "role", "seed", "implementation"]).size()) == {6}


def test_own_masks_are_the_seeds_and_other_ones_for_the_candidate(right):
    rows, _ = right
    own = rows[rows["mode"] == "own_masks"].pivot_table(index="step", columns=["role", "seed"], values="loss")
    assert abs(own["baseline", 0] - own["baseline", 1]).max() > 1e-3
    assert abs(own["baseline", 0] - own["candidate", 0]).max() > 1e-3
    again = run(steps=2)[0]
    first = again[again["mode"] == "own_masks"].pivot_table(index="step", columns=["role", "seed"], values="loss")
    pd.testing.assert_frame_equal(first, own[:2])


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["GradientTruncated", "StateDetached"])
def test_a_fault_of_the_backward_pass_parts_further_than_the_floor(mutant):
    rows, _ = run(f"rnn_parity.trust.faults:{mutant}", seeds=[0])
    assert distance(rows, "no_dropout", "candidate") > 10 * distance(rows, "no_dropout", "perturbed")


@pytest.mark.slow
def test_masks_that_are_not_those_given_part_further_than_the_floor():
    rows, _ = run("rnn_parity.trust.faults:OneMaskForAllSteps", seeds=[0])
    assert distance(rows, "matched_masks", "candidate") > 10 * distance(rows, "matched_masks", "perturbed")
    assert distance(rows, "no_dropout", "candidate") < 10 * distance(rows, "no_dropout", "perturbed")


def test_what_cannot_be_trained_says_why():
    rows, generation = run("faults:Crash", steps=2, seeds=[0])
    failed = rows[rows["role"] == "candidate"]
    assert failed["reason"].str.startswith("ValueError: it went wrong").all()
    assert failed["loss"].isna().all()
    assert generation["reason"].str.startswith("ValueError").all()
    hidden, _ = run("faults:HiddenDropout", steps=2, seeds=[0])
    reasons = hidden[(hidden["role"] == "candidate") & (hidden["reason"] != "")]
    assert reasons["mode"].tolist() == ["matched_masks"]
    assert "drawn out of sight" in reasons["reason"].iloc[0]


def test_without_dropout_it_is_trained_where_eval_mode_has_no_backward_pass(monkeypatch):
    refuse_as_cudnn_does(monkeypatch)
    rows, _ = run(steps=3, seeds=[0])
    assert set(rows["reason"]) == {""}
    assert distance(rows, "no_dropout", "candidate") < 10 * distance(rows, "no_dropout", "perturbed")


def test_in_float16_the_published_training_is_said_to_be_none():
    rows, generation = run(case=dataclasses.replace(CASE, dtype="float16"), steps=3, seeds=[0])
    assert rows["loss"].isna().all()
    assert set(rows["verdict"]) == {"unsupported"}
    assert rows["reason"].str.contains("Adam's eps of 1e-8 is 0 in float16").all()
    assert (generation["reason"] == "").all()


def test_the_loss_falls():
    batches = draw_batches(CASE, SETTINGS, 1, 0) * 60
    model = build_model(CASE, "stacking_gru", "all_steps", initial(CASE, SETTINGS.vocabulary)).eval()
    losses = list(train(model, CASE, batches, matched=False))
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_a_perturbation_is_about_one_unit_in_the_last_place(dtype):
    value = torch.linspace(0.5, 1.99, 999, dtype=torch.float64).to(getattr(torch, dtype))
    case = Case("x", "cpu", dtype, False, 1, 2, 1, 1, 1, 0.0, 1)
    moved = perturbed({"a": value}, case, 0)["a"].double() - value.double()
    spacing = torch.finfo(value.dtype).eps * torch.where(value.double() >= 1, 1.0, 0.5)
    assert set((moved.abs() / spacing).round().tolist()) <= {1.0, 2.0}
    assert (moved > 0).any()
    assert (moved < 0).any()


def test_both_say_the_same_tokens(right):
    found = right[1]
    assert found["agreement"].tolist() == [1.0]
    assert (found["different_tokens"] >= 3).all()
    wrong = list(generation_rows(DECODER, CASE, "stacking_gru_cell", ["rnn_parity.trust.faults:StateIgnored"]))
    assert wrong[0]["agreement"] < 0.9


def test_agreement_counts_what_is_said_up_to_the_end():
    ours = torch.tensor([[5, 6, 7], [8, EOS, 9], [9, PAD, EOS], [9, PAD, PAD]])
    theirs = torch.tensor([[5, 6, 7], [8, EOS, EOS], [9, PAD, PAD], [4, 5, PAD]])
    found = agreement(ours, theirs)
    assert found["tokens"] == 4 + 2 + 3
    assert found["agreement"] == pytest.approx(6 / 9)
    assert found["sequences_alike"] == 1
