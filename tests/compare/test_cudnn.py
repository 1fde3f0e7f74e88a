"""A fused layer as it is on a GPU, its masks out of sight, is judged rightly: a real GRU behind the operator."""

import dataclasses

import pytest
import torch

import fake_cudnn
from fake_cudnn import CudnnGRU
from rnn_parity.compare.case import compare_case
from rnn_parity.experiment.grid import Case
from rnn_parity.workloads.layer import Layer

pytestmark = pytest.mark.usefixtures("cudnn")

CASE = Case("cudnn", "cpu", "float32", False, 5, 12, 3, 8, 6, 0.3, 1)
LOOPS = {"gru": ("stacking_gru_cell", "fake_cudnn:CudnnGRU"), "lstm": ("stacking_lstm_cell", "fake_cudnn:CudnnLSTM")}


def rows(cell="gru", regimes=("eval", "train_matched_masks", "train_same_seed"), **changes):
    baseline, candidate = LOOPS[cell]
    case = dataclasses.replace(CASE, cell=cell, **changes)
    return list(compare_case(Layer(), case, baseline, [candidate], [0], regimes, 2000))


def verdicts(found, regime):
    return {row["quantity"]: row["verdict"] for row in found if row["regime"] == regime}


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_its_masks_are_recovered_and_its_backward_pass_in_eval_mode_is_unsupported(cell):
    found = rows(cell)
    in_eval = verdicts(found, "eval")
    assert {in_eval["output"], in_eval["hn"]} <= {"identical", "equivalent"}
    assert {word for name, word in in_eval.items() if name.startswith("grad_")} == {"unsupported"}
    matched = verdicts(found, "train_matched_masks")
    assert set(matched.values()) <= {"identical", "equivalent"}
    assert "different" in verdicts(found, "train_same_seed").values()
    assert set(verdicts(found, "train_distribution").values()) == {"equivalent"}  # nobody asked: the masks are its own


def test_a_wrong_gradient_behind_the_operator_is_seen(monkeypatch):
    monkeypatch.setattr(fake_cudnn, "_stack", fake_cudnn.with_half_the_gradient_of_states)
    assert "different" in verdicts(rows(regimes=["train_matched_masks"]), "train_matched_masks").values()


def test_masks_that_are_seldom_drawn_again_are_seen_by_the_law(monkeypatch):
    """One mask for all gaps and steps passes where masks are recovered, and not in the distribution."""
    right = fake_cudnn._stack

    def wrong(input, weights, states, masks, mode):
        return right(input, weights, states, masks if masks is None else masks[:1, :1].expand_as(masks), mode)

    monkeypatch.setattr(fake_cudnn, "_stack", wrong)
    found = rows(regimes=["train_matched_masks"])
    assert set(verdicts(found, "train_matched_masks").values()) <= {"identical", "equivalent"}
    assert "different" in verdicts(found, "train_distribution").values()


def test_a_state_that_is_not_contiguous_is_refused_in_pytorchs_words():
    layer = CudnnGRU(input_size=5, hidden_size=6, num_layers=2)
    with pytest.raises(RuntimeError, match="rnn: hx is not contiguous"):
        layer(torch.randn(4, 1, 5), torch.randn(2, 3, 6)[:, :1])


def test_a_dropout_probability_that_cudnn_keeps_in_float32_is_named_as_the_cause():
    matched = [row for row in rows(dtype="float64", regimes=["train_matched_masks"]) if "ratio" in row]
    assert {(row["verdict"], row["reason"]) for row in matched if row["regime"] == "train_matched_masks"} == {
        ("different", "it is what a dropout probability in float32 gives")
    }
    exact = rows(dtype="float64", dropout=0.25, regimes=["train_matched_masks"])
    assert set(verdicts(exact, "train_matched_masks").values()) <= {"identical", "equivalent"}
