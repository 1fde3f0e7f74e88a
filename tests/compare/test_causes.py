"""What is said of a wrong tensor is what was done to it, and nothing is said of what was done in another way."""

import dataclasses

import pytest
import torch

from rnn_parity.compare.case import compare_case
from rnn_parity.compare.causes import describe
from rnn_parity.compare.reference import run_oracle
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.stimulus import draw_stimulus
from rnn_parity.workloads.layer import Layer

CASE = Case("test", "cpu", "float32", False, 5, 6, 3, 7, 4, 0.0, 1)
REFERENCE = run_oracle(CASE, draw_stimulus(CASE, 0), None, 0)
LIMIT, GATES = 1e-6, ("r", "z", "n")
NAN, INFINITY = float("nan"), float("inf")


def said(quantity, change, limit=LIMIT):
    """What is said of the right tensor after a change, with the rounding that is allowed."""
    truth = REFERENCE.values[quantity]
    noise = torch.empty_like(truth).uniform_(-0.1 * limit, 0.1 * limit, generator=torch.Generator().manual_seed(0))
    return describe(quantity, change(truth.clone()) * (1 + noise), REFERENCE, limit, GATES)


def filled(number, *at):
    return lambda x: x.index_put([torch.as_tensor(i) for i in at], torch.tensor(number, dtype=x.dtype))


def times(factor, dim, *at):
    return lambda x: x.index_copy(dim, torch.tensor(at), factor * x.index_select(dim, torch.tensor(at)))


def permuted(dim, *order):
    return lambda x: x.index_select(dim, torch.tensor(order))


def of_gate(change, *at):
    return lambda x: change(x.reshape(3, -1, *x.shape[1:])).reshape(x.shape)


@pytest.mark.parametrize(
    ("quantity", "change", "words"),
    [
        ("output", filled(NAN, 0, 2), "holds NaN at step 0 of 7"),
        ("hn", filled(-INFINITY, 1, 2, 3), "holds infinity at layer 1 of 3"),
        ("grad_bias_hh_l0", filled(NAN, 8), "holds NaN in the rows of gate z"),
        ("output", lambda x: x * NAN, "holds NaN"),
        ("output", torch.zeros_like, "is zero"),
        ("hn", times(0, 0, 2), "is zero at layer 2 of 3"),
        ("grad_h0", torch.zeros_like, "is zero: no gradient arrives"),
        ("grad_input", times(0, 0, 0, 1), "is zero up to step 1 of 7: no gradient arrives"),
        ("grad_weight_hh_l1", of_gate(times(0, 0, 0)), "is zero in the rows of gate r: no gradient arrives"),
        ("output", lambda x: 0.8 * x, "is 0.8× what it should be"),
        ("output", lambda x: 1.0001 * x, "is 1.0001× what it should be"),
        ("grad_weight_ih_l0", lambda x: 4 * x, "is 4× what it should be"),
        ("grad_bias_ih_l2", of_gate(times(0.5, 0, 2)), "is 0.5× what it should be in the rows of gate n"),
        ("grad_input", lambda x: -x, "is right but for its sign"),
        ("output", times(-1, 0, 5, 6), "is right but for its sign from step 5 of 7 on"),
        ("hn", lambda x: x.flip(0), "has its layers 0 and 2 swapped"),
        ("hn", permuted(0, 1, 2, 0), "has its layers shifted by one"),
        ("output", permuted(1, 1, 0, 2, 3), "has its rows 0 and 1 swapped"),
        ("grad_h0", permuted(1, 3, 0, 1, 2), "has its rows shifted by one"),
        ("output", lambda x: x.flip(1), "has its rows in reverse order"),
        ("grad_input", lambda x: x.flip(0), "has its steps in reverse order"),
        ("grad_weight_hh_l0", of_gate(permuted(0, 1, 0, 2)), "has its gates r and z swapped"),
        ("grad_bias_hh_l2", of_gate(permuted(0, 2, 0, 1)), "has its gates shifted by one"),
        ("output", lambda x: torch.cat([x[:1] * 0.3, x[:-1]]), "is one step late"),
        ("output", lambda x: torch.cat([x[1:], x[:1] * 0.3]), "is one step early"),
        ("output", lambda x: x.transpose(0, 1).reshape(x.shape), "has its first two axes exchanged"),
        ("hn", lambda x: x.reshape(4, 3, 6).transpose(0, 1), "has its first two axes exchanged"),
        ("grad_weight_ih_l0", lambda x: x.T.reshape(x.shape), "is transposed"),
        ("grad_bias_hh_l1", lambda x: REFERENCE.values["grad_bias_ih_l1"], "is what grad_bias_ih_l1 should be"),
        ("hn", lambda x: REFERENCE.values["grad_h0"], "is what grad_h0 should be"),
    ],
)  # fmt: skip
def test_a_cause_is_named(quantity, change, words):
    assert said(quantity, change) == words


@pytest.mark.parametrize(
    ("quantity", "at", "words"),
    [
        ("output", (slice(5, None),), "from step 5 of 7 on"),
        ("output", (slice(None), slice(0, 2)), "up to row 1 of 4"),
        ("hn", (1,), "at layer 1 of 3"),
        ("grad_input", (slice(None, None, 3),), "at 3 of 7 steps"),
        ("grad_weight_hh_l0", (slice(6, 12),), "in the rows of gate z"),
        ("grad_bias_hh_l0", (slice(5, 12),), "in the rows of gates r and z"),
    ],
)
def test_what_is_wrong_in_no_known_way_is_named_by_its_place(quantity, at, words):
    def change(x):
        x[at] += torch.linspace(0.1, 1, x[at].numel()).double().view(x[at].shape) ** 2
        return x

    assert said(quantity, change).startswith(f"is wrong only {words}, by ")
    assert said(quantity, change).endswith("× its limit")


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x + 0.1 * x.abs(),
        lambda x: 0.8 * x + 0.01 * x.roll(1, -1),
        lambda x: x.flip(0) + 1e-3,
        lambda x: x.sin(),
        lambda x: x,
    ],
)
@pytest.mark.parametrize("quantity", ["output", "hn", "grad_weight_hh_l0"])
def test_what_only_resembles_a_cause_is_none(quantity, change):
    assert said(quantity, change) == ""


def test_what_may_match_by_chance_is_no_cause():
    """A single number is a multiple of any other, and two of two digits are soon."""
    one = dataclasses.replace(REFERENCE, values={"loss": torch.tensor(2.0, dtype=torch.float64)})
    assert describe("loss", torch.tensor(3.0), one, LIMIT) == ""
    two = dataclasses.replace(REFERENCE, values={"q": torch.tensor([2.0, 1.0], dtype=torch.float64)})
    assert describe("q", torch.tensor([3.0, 1.5]), two, 0.1) == ""
    assert describe("q", torch.tensor([3.0, 1.5]), two, 1e-7) == "is 1.5× what it should be"


def test_the_reason_of_a_row_is_the_cause():
    def reasons(candidate, baseline="stacking_gru_cell"):
        rows = compare_case(Layer(), CASE, baseline, [candidate], [0], ["eval"])
        return {row["quantity"]: row["reason"] for row in rows if row["verdict"] == "different"}

    assert reasons("faults:NotANumber")["output"] == "it holds NaN at row 0 of 4"
    faults = "rnn_parity.trust.faults"
    assert reasons(f"{faults}:FinalStatesReversed")["hn"] == "it has its layers 0 and 2 swapped"
    assert reasons(f"{faults}:StateDetached") == {"grad_h0": "it is zero: no gradient arrives"}
    assert reasons("faults:Wrong")["output"] == "it is 1.01× what it should be"
    assert reasons(f"{faults}:StateIgnored")["output"].startswith("error is ")
    by_baseline = reasons("stacking_gru_cell", f"{faults}:StateDetached")
    assert by_baseline == {"grad_h0": "the baseline itself is zero: no gradient arrives"}
