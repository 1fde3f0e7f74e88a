"""The judge is right: held against the equations in plain Python, finite differences, and nn.GRU in float64."""

import math

import pytest
import torch
from torch import nn

from rnn_parity.cells.base import Arithmetic, load_cell
from rnn_parity.cells.gru import GRU
from rnn_parity.cells.lstm import LSTM
from rnn_parity.cells.stack import run_forward, run_stack
from rnn_parity.experiment.names import CELLS
from rnn_parity.layers.parameters import canonical_shapes


def drawn(kind="gru", steps=3, batch=2, inputs=3, hidden=2, layers=2, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = {name: normal(*shape) for name, shape in canonical_shapes(inputs, hidden, layers, kind).items()}
    states = tuple(normal(layers, batch, hidden) for _ in load_cell(kind).states)
    return normal(steps, batch, inputs), states, weights


def drawn_like(*tensors):
    generator = torch.Generator().manual_seed(9)
    return tuple(torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in tensors)


def run(input, states, weights, cotangents=None, masks=None, dropout=0.0, rounding=None, kind="gru"):
    if cotangents is None:
        of_output = torch.ones(*input.shape[:-1], states[0].shape[-1], dtype=torch.float64)
        cotangents = of_output, *map(torch.zeros_like, states)
    return run_stack(load_cell(kind), input, states, weights, cotangents, masks, dropout, Arithmetic(rounding))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def one_cell(kind, x, states, weights, layer):
    """One step of one layer in plain Python floats, unit by unit, straight from the papers' formulas."""
    h, hidden = states[0], len(states[0])
    w_ih, w_hh = weights[f"weight_ih_l{layer}"].tolist(), weights[f"weight_hh_l{layer}"].tolist()
    b_ih, b_hh = weights[f"bias_ih_l{layer}"].tolist(), weights[f"bias_hh_l{layer}"].tolist()

    def from_input(gate, unit):
        row = gate * hidden + unit
        return sum(w * v for w, v in zip(w_ih[row], x, strict=True)) + b_ih[row]

    def from_state(gate, unit, read=h):
        row = gate * hidden + unit
        return sum(w * v for w, v in zip(w_hh[row], read, strict=True)) + b_hh[row]

    def gate(index, unit):
        return sigmoid(from_input(index, unit) + from_state(index, unit))

    new = []
    for unit in range(hidden):
        if kind == "lstm":
            g = math.tanh(from_input(2, unit) + from_state(2, unit))
            c = gate(1, unit) * states[1][unit] + gate(0, unit) * g
            new.append((gate(3, unit) * math.tanh(c), c))
            continue
        if kind == "gru":
            from_reset = gate(0, unit) * from_state(2, unit)
        else:
            from_reset = from_state(2, unit, [gate(0, other) * h[other] for other in range(hidden)])
        update, candidate = gate(1, unit), math.tanh(from_input(2, unit) + from_reset)
        new.append(((1 - update) * candidate + update * h[unit],))
    return [list(state) for state in zip(*new, strict=True)]


@pytest.mark.parametrize("kind", CELLS)
def test_it_is_the_equations(kind):
    input, states, weights = drawn(kind)
    masks = torch.tensor([[[[1, 0], [0, 1]], [[1, 1], [0, 0]], [[0, 1], [1, 1]]]], dtype=torch.float64)
    values = run(input, states, weights, masks=masks, dropout=0.75, kind=kind)
    for row in range(2):
        first, second = ([state[layer, row].tolist() for state in states] for layer in (0, 1))
        for step in range(3):
            first = one_cell(kind, input[step, row].tolist(), first, weights, 0)
            passed = [value * keep * 4 for value, keep in zip(first[0], masks[0, step, row].tolist(), strict=True)]
            second = one_cell(kind, passed, second, weights, 1)
            assert values["output"][step, row].tolist() == pytest.approx(second[0], rel=1e-12)
        for name, *expected in zip(load_cell(kind).states, first, second, strict=True):
            last = values[f"{name}n"][:, row].tolist()
            assert last == [pytest.approx(of_layer, rel=1e-12) for of_layer in expected]


@pytest.mark.parametrize("kind", CELLS)
def test_its_gradients_are_those_of_finite_differences(kind):
    """Every entry is moved up and down in a run of its own, all of them side by side."""
    input, states, weights = drawn(kind)
    masks = torch.ones(1, 3, 2, 2, dtype=torch.float64)
    masks[0, 1, 0, 1] = 0
    cotangents = drawn_like(torch.zeros(3, 2, 2), *states)
    values = run(input, states, weights, cotangents, masks, dropout=0.5, kind=kind)
    first = {f"{name}0": state for name, state in zip(load_cell(kind).states, states, strict=True)}
    given = {"input": input, **first, **weights}
    for name, tensor in given.items():
        entries = 1e-6 * torch.eye(tensor.numel(), dtype=torch.float64).unflatten(1, tensor.shape)
        moves = torch.cat([entries, -entries])
        moved = {other: still.expand(len(moves), *still.shape) for other, still in given.items()}
        moved[name] = tensor + moves
        forward = run_forward(load_cell(kind), moved["input"], tuple(moved[h] for h in first), moved, masks, 0.5)
        found = forward.output, *forward.states
        losses = sum((c * value).flatten(1).sum(1) for c, value in zip(cotangents, found, strict=True))
        up, down = losses.chunk(2)
        torch.testing.assert_close(values[f"grad_{name}"].flatten(), (up - down) / 2e-6, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("kind", "layer"), [("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_it_agrees_with_pytorch_in_float64_forward_and_backward(kind, layer):
    input, states, weights = drawn(kind, steps=20, batch=4, inputs=7, hidden=9, layers=3)
    module = layer(7, 9, 3).double()
    module.load_state_dict(weights)
    given = [tensor.requires_grad_() for tensor in (input, *states)]
    output, last = module(input, states[0] if kind == "gru" else states)
    expected = output, *([last] if kind == "gru" else last)
    cotangents = drawn_like(*expected)
    gradients = torch.autograd.grad(expected, [*given, *module.parameters()], cotangents)
    values = run(input.detach(), tuple(state.detach() for state in states), weights, cotangents, kind=kind)
    assert list(values) == load_cell(kind).quantities(3)
    for value, right in zip(values.values(), (*expected, *gradients), strict=True):
        torch.testing.assert_close(value, right.detach(), rtol=1e-12, atol=1e-12)


class ForgetsC(LSTM):
    """Gives back its first state alone."""

    @staticmethod
    def forward(x, states, w_hh, b_hh, arithmetic):
        new, saved = LSTM.forward(x, (*states, torch.zeros_like(states[0]))[:2], w_hh, b_hh, arithmetic)
        return new[:1], saved


class ForgetsItsGradient(LSTM):
    """Gives back the gradient of its first state alone."""

    @staticmethod
    def backward(saved, gradients, w_hh):
        of_x, of_states, grouped = LSTM.backward(saved, (*gradients, torch.zeros_like(gradients[0]))[:2], w_hh)
        return of_x, of_states[:1], grouped


@pytest.mark.parametrize("cell", [ForgetsC, ForgetsItsGradient])
def test_a_kind_that_forgets_a_state_or_its_gradient_is_refused(cell):
    input, states, weights = drawn("lstm")
    cotangents = drawn_like(torch.zeros(3, 2, 2), *states)
    with pytest.raises(ValueError, match="shorter"):
        run_stack(cell, input, states, weights, cotangents)


def test_cotangents_of_more_steps_than_there_are_are_refused():
    input, states, weights = drawn()
    with pytest.raises(ValueError, match="longer"):
        run(input, states, weights, drawn_like(torch.zeros(4, 2, 2), *states))


@pytest.mark.parametrize("kind", CELLS)
def test_a_kind_names_the_shapes_and_tensors_of_a_layer(kind):
    cell, rows = load_cell(kind), {"gru": 15, "gru_reset_before": 15, "lstm": 20}[kind]
    assert cell.shapes(3, 5) == {"weight_ih": (rows, 3), "weight_hh": (rows, 5), "bias_ih": (rows,), "bias_hh": (rows,)}
    of_states = ["h", "c"] if kind == "lstm" else ["h"]
    assert cell.inputs() == ["input", *(f"{state}0" for state in of_states)]
    assert cell.outputs() == ["output", *(f"{state}n" for state in of_states)]


def test_runs_side_by_side_are_the_runs_one_by_one():
    runs = [drawn(seed=seed) for seed in (0, 1)]
    masks = torch.ones(1, 3, 2, 2, dtype=torch.float64)
    masks[0, 0] = 0
    weights = {name: torch.stack([run[2][name] for run in runs]) for name in runs[0][2]}
    input, h0 = torch.stack([run[0] for run in runs]), torch.stack([run[1][0] for run in runs])
    cotangents = drawn_like(torch.zeros(2, 3, 2, 2), h0)
    together = run(input, (h0,), weights, cotangents, masks, dropout=0.5)
    for k, alone in enumerate(runs):
        values = run(*alone, tuple(c[k] for c in cotangents), masks, dropout=0.5)
        assert all(torch.allclose(together[name][k], value, rtol=1e-12) for name, value in values.items())


def test_a_dropout_of_one_lets_nothing_through():
    input, states, weights = drawn()
    masks = torch.ones(1, 3, 2, 2, dtype=torch.float64)  # whatever is drawn
    one, other = (run(x, states, weights, masks=masks, dropout=1.0) for x in (input, input + 1))
    assert torch.equal(one["output"], other["output"])
    assert (one["grad_input"] == 0).all()


def test_masks_without_a_dropout_scale_nothing():
    input, states, weights = drawn()
    cotangents, ones = drawn_like(torch.zeros(3, 2, 2), *states), torch.ones(1, 3, 2, 2, dtype=torch.float64)
    unmasked = run_stack(GRU, input, states, weights, cotangents)
    masked = run_stack(GRU, input, states, weights, cotangents, ones)
    assert all(torch.equal(masked[name], value) for name, value in unmasked.items())
    assert torch.equal(run_forward(GRU, input, states, weights, ones).output, unmasked["output"])


@pytest.mark.parametrize("kind", CELLS)
def test_a_rounding_that_changes_nothing_leaves_every_quantity(kind):
    """Values and slopes are then those of the exact equations, but for the digits of float64."""
    drawn_once = drawn(kind, steps=4)
    exact, rounded = run(*drawn_once, kind=kind), run(*drawn_once, kind=kind, rounding=lambda tensor, **_: tensor)
    for name, value in exact.items():
        torch.testing.assert_close(rounded[name], value, rtol=1e-10, atol=1e-12)


def test_where_a_gate_saturates_the_slope_keeps_its_digits():
    """1 − tanh² of a rounded tanh is 0 from 19 on; the slope is 4·exp(−2x)."""
    input, states, weights = drawn(steps=1, batch=1, inputs=1, hidden=1, layers=1)
    zero = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    zero["bias_ih_l0"][2], zero["bias_ih_l0"][1] = 25.0, -40.0  # n ≈ 1, z ≈ 0
    values = run(input, states, zero)
    assert values["grad_bias_ih_l0"][2].item() == pytest.approx(4 * math.exp(-50), rel=1e-9)
    expected = (states[0].item() - 1) * math.exp(-40)
    assert values["grad_bias_ih_l0"][1].item() == pytest.approx(expected, rel=1e-9)
    kept = run(input, states, zero, rounding=lambda t, **_: t.float().double())
    assert kept["grad_bias_ih_l0"][2].item() == 0


def test_a_rounding_reaches_every_gate_state_and_product():
    """Five times a step and layer, and once more for all inputs; what is left is what is gone on with."""
    input, states, weights = drawn(steps=5, layers=2)
    seen = []

    def halved(tensor, **_):
        seen.append(tensor)
        return tensor / 2

    values = run(input, states, weights, rounding=halved)
    assert len(seen) == (5 * 5 + 1) * 2
    assert torch.equal(values["output"][-1], seen[-1] / 2)
    assert torch.equal(values["hn"][1], seen[-1] / 2)
    exact = run(input, states, weights)
    assert all(not torch.allclose(values[name], value) for name, value in exact.items())


@pytest.mark.parametrize(("kind", "functions", "kept"), [("gru", 3, 1), ("gru_reset_before", 3, 2), ("lstm", 5, 2)])
def test_what_a_function_gave_is_told_from_what_is_kept(kind, functions, kept):
    """σ and tanh may be coarser than the dtype: of a step's values those, and no others, are theirs."""
    of_functions, others, summed = [], [], []

    def rounding(tensor, function=False, terms=0):
        assert terms in (0, tensor.shape[-1])
        (of_functions if function else summed if terms else others).append(tensor)
        return tensor

    input, states, weights = drawn(kind, steps=1, layers=1)
    values = run(input, states, weights, kind=kind, rounding=rounding)
    assert len(of_functions) == functions
    assert len(others) == kept
    assert torch.equal(summed[0], input)
    assert torch.equal(others[-1], values["hn"][0])
