"""The judge is right: held against the equations in plain Python, finite differences, and nn.GRU in float64."""

import math

import pytest
import torch
from torch import nn

from rnn_parity.oracle import stacked_gru
from rnn_parity.weights import canonical_shapes


def drawn(steps=3, batch=2, inputs=3, hidden=2, layers=2):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = {name: normal(*shape) for name, shape in canonical_shapes(inputs, hidden, layers).items()}
    return normal(steps, batch, inputs), normal(layers, batch, hidden), weights


def one_cell(x, h, weights, layer):
    """One step of one layer in plain Python floats, unit by unit, straight from the paper's formulas."""
    hidden = len(h)
    w_ih, w_hh = weights[f"weight_ih_l{layer}"].tolist(), weights[f"weight_hh_l{layer}"].tolist()
    b_ih, b_hh = weights[f"bias_ih_l{layer}"].tolist(), weights[f"bias_hh_l{layer}"].tolist()

    def from_input(row):
        return sum(w * v for w, v in zip(w_ih[row], x, strict=True)) + b_ih[row]

    def from_state(row):
        return sum(w * v for w, v in zip(w_hh[row], h, strict=True)) + b_hh[row]

    new = []
    for unit in range(hidden):
        reset = 1 / (1 + math.exp(-from_input(unit) - from_state(unit)))
        update = 1 / (1 + math.exp(-from_input(hidden + unit) - from_state(hidden + unit)))
        candidate = math.tanh(from_input(2 * hidden + unit) + reset * from_state(2 * hidden + unit))
        new.append((1 - update) * candidate + update * h[unit])
    return new


def test_it_is_the_equations():
    input, h0, weights = drawn()
    masks = torch.tensor([[[[1, 0], [0, 1]], [[1, 1], [0, 0]], [[0, 1], [1, 1]]]], dtype=torch.float64)
    output, hn = stacked_gru(input, h0, weights, masks, dropout=0.75)
    for row in range(2):
        first, second = h0[0, row].tolist(), h0[1, row].tolist()
        for step in range(3):
            first = one_cell(input[step, row].tolist(), first, weights, 0)
            passed = [value * keep * 4 for value, keep in zip(first, masks[0, step, row].tolist(), strict=True)]
            second = one_cell(passed, second, weights, 1)
            assert output[step, row].tolist() == pytest.approx(second, rel=1e-12)
        assert hn[:, row].tolist() == [pytest.approx(first, rel=1e-12), pytest.approx(second, rel=1e-12)]


def test_its_gradients_are_those_of_finite_differences():
    input, h0, weights = drawn()
    names = list(weights)
    tensors = [input, h0, *weights.values()]
    for tensor in tensors:
        tensor.requires_grad_()
    masks = torch.ones(1, 3, 2, 2, dtype=torch.float64)
    masks[0, 1, 0, 1] = 0

    def run(input, h0, *weights):
        return stacked_gru(input, h0, dict(zip(names, weights, strict=True)), masks, dropout=0.5)

    assert torch.autograd.gradcheck(run, tensors)


def test_it_agrees_with_nn_gru_in_float64():
    input, h0, weights = drawn(steps=20, batch=4, inputs=7, hidden=9, layers=3)
    gru = nn.GRU(7, 9, 3).double()
    gru.load_state_dict(weights)
    output, hn = stacked_gru(input, h0, weights)
    expected, expected_hn = gru(input, h0)
    torch.testing.assert_close(output, expected, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(hn, expected_hn, rtol=1e-11, atol=1e-13)


def test_a_dropout_of_one_lets_nothing_through():
    input, h0, weights = drawn()
    masks = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    output, _ = stacked_gru(input, h0, weights, masks, dropout=1.0)
    other, _ = stacked_gru(input + 1, h0, weights, masks, dropout=1.0)
    assert torch.equal(output, other)
