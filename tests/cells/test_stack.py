"""The judge is right: held against the equations in plain Python, finite differences, and nn.GRU in float64."""

import itertools
import math

import pytest
import torch
from torch import nn

from rnn_parity.cells.stack import stacked_gru
from rnn_parity.layers.parameters import canonical_shapes


def drawn(steps=3, batch=2, inputs=3, hidden=2, layers=2, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = {name: normal(*shape) for name, shape in canonical_shapes(inputs, hidden, layers).items()}
    return normal(steps, batch, inputs), normal(layers, batch, hidden), weights


def drawn_like(*tensors):
    generator = torch.Generator().manual_seed(9)
    return tuple(torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in tensors)


def run(input, h0, weights, cotangents=None, masks=None, dropout=0.0, rounding=None):
    if cotangents is None:
        cotangents = torch.ones(*input.shape[:-1], h0.shape[-1], dtype=torch.float64), torch.zeros_like(h0)
    return stacked_gru(input, h0, weights, cotangents, masks, dropout, rounding)


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
    values = run(input, h0, weights, masks=masks, dropout=0.75)
    output, hn = values["output"], values["hn"]
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
    masks = torch.ones(1, 3, 2, 2, dtype=torch.float64)
    masks[0, 1, 0, 1] = 0
    cotangents = drawn_like(torch.zeros(3, 2, 2), h0)
    values = run(input, h0, weights, cotangents, masks, dropout=0.5)

    def loss():
        moved = run(input, h0, weights, cotangents, masks, dropout=0.5)
        return sum((c * moved[name]).sum().item() for c, name in zip(cotangents, ("output", "hn"), strict=True))

    for name, tensor in {"input": input, "h0": h0, **weights}.items():
        for index in itertools.product(*map(range, tensor.shape)):
            before, losses = tensor[index].item(), []
            for moved in (before + 1e-6, before - 1e-6):
                tensor[index] = moved
                losses.append(loss())
            tensor[index] = before
            slope = (losses[0] - losses[1]) / 2e-6
            assert values[f"grad_{name}"][index].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_it_agrees_with_nn_gru_in_float64_forward_and_backward():
    input, h0, weights = drawn(steps=20, batch=4, inputs=7, hidden=9, layers=3)
    gru = nn.GRU(7, 9, 3).double()
    gru.load_state_dict(weights)
    given = [input.requires_grad_(), h0.requires_grad_(), *gru.parameters()]
    expected = gru(input, h0)
    cotangents = drawn_like(*expected)
    gradients = torch.autograd.grad(expected, given, cotangents)
    names = ["output", "hn", "grad_input", "grad_h0", *(f"grad_{name}" for name, _ in gru.named_parameters())]
    values = run(input.detach(), h0.detach(), weights, cotangents)
    assert set(values) == set(names)
    for name, value in zip(names, (*expected, *gradients), strict=True):
        torch.testing.assert_close(values[name], value.detach(), rtol=1e-11, atol=1e-12)


def test_runs_side_by_side_are_the_runs_one_by_one():
    runs = [drawn(seed=seed) for seed in (0, 1)]
    masks = torch.ones(1, 3, 2, 2, dtype=torch.float64)
    masks[0, 0] = 0
    weights = {name: torch.stack([run[2][name] for run in runs]) for name in runs[0][2]}
    input, h0 = (torch.stack([run[i] for run in runs]) for i in (0, 1))
    cotangents = drawn_like(torch.zeros(2, 3, 2, 2), h0)
    together = run(input, h0, weights, cotangents, masks, dropout=0.5)
    for k, alone in enumerate(runs):
        values = run(*alone, tuple(c[k] for c in cotangents), masks, dropout=0.5)
        assert all(torch.allclose(together[name][k], value, rtol=1e-12) for name, value in values.items())


def test_a_dropout_of_one_lets_nothing_through():
    input, h0, weights = drawn()
    masks = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    one, other = (run(x, h0, weights, masks=masks, dropout=1.0) for x in (input, input + 1))
    assert torch.equal(one["output"], other["output"])
    assert (one["grad_input"] == 0).all()


def test_where_a_gate_saturates_the_slope_keeps_its_digits():
    """1 − tanh² of a rounded tanh is 0 from 19 on; the slope is 4·exp(−2x)."""
    input, h0, weights = drawn(steps=1, batch=1, inputs=1, hidden=1, layers=1)
    zero = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    zero["bias_ih_l0"][2], zero["bias_ih_l0"][1] = 25.0, -40.0  # n ≈ 1, z ≈ 0
    values = run(input, h0, zero)
    assert values["grad_bias_ih_l0"][2].item() == pytest.approx(4 * math.exp(-50), rel=1e-9)
    expected = (h0.item() - 1) * math.exp(-40)
    assert values["grad_bias_ih_l0"][1].item() == pytest.approx(expected, rel=1e-9)
    kept = run(input, h0, zero, rounding=lambda t: t.float().double())
    assert kept["grad_bias_ih_l0"][2].item() == 0


def test_a_rounding_reaches_every_gate_and_state():
    """Four times a step and layer, and what is left is what is gone on with."""
    input, h0, weights = drawn(steps=5, layers=2)
    seen = []

    def halved(tensor):
        seen.append(tensor)
        return tensor / 2

    values = run(input, h0, weights, rounding=halved)
    assert len(seen) == 4 * 5 * 2
    assert torch.equal(values["output"][-1], seen[-1] / 2)
    assert torch.equal(values["hn"][1], seen[-1] / 2)
    exact = run(input, h0, weights)
    assert all(not torch.allclose(values[name], value) for name, value in exact.items())
