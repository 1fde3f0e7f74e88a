"""Layers of two directions: held against PyTorch's own, and against layers that read one sequence and its reverse."""

import itertools

import pytest
import torch
from torch import nn

from rnn_parity.cells.base import load_cell
from rnn_parity.cells.directions import run_both_directions
from rnn_parity.cells.stack import run_stack
from rnn_parity.experiment.names import CELLS
from rnn_parity.layers.running import pack_states, unpack_states

T, B, I, H = 4, 3, 5, 2  # noqa: E741 letters of axes


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def drawn(kind, layers):
    torch.manual_seed(layers)
    cell = load_cell(kind)
    weights = {
        f"{name}_l{layer}{end}": normal(*shape)
        for layer, end in itertools.product(range(layers), ("", "_reverse"))
        for name, shape in cell.shapes(2 * H if layer else I, H).items()
    }
    states, of_states = (tuple(normal(2 * layers, B, H) for _ in cell.states) for _ in range(2))
    return cell, normal(T, B, I), states, weights, (normal(T, B, 2 * H), *of_states)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("kind", "layer"), [("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_it_is_pytorchs_forward_and_backward(kind, layer, layers):
    cell, input, states, weights, cotangents = drawn(kind, layers)
    module = layer(I, H, layers, bidirectional=True).double()
    module.load_state_dict(weights)
    given = dict(zip(cell.inputs(), (input, *states), strict=True))
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}
    output, last = module(leaves["input"], pack_states(list(leaves.values())[1:]))
    values = dict(zip(cell.outputs(), (output, *unpack_states(last)), strict=True))
    wanted = leaves | dict(module.named_parameters())
    gradients = torch.autograd.grad(list(values.values()), list(wanted.values()), cotangents)
    expected = values | {f"grad_{name}": gradient for name, gradient in zip(wanted, gradients, strict=True)}
    found = run_both_directions(cell, input, states, weights, cotangents)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name].detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", CELLS)
def test_the_other_direction_is_the_first_of_the_reversed_sequence(kind):
    cell, input, states, weights, cotangents = drawn(kind, 1)
    both = run_both_directions(cell, input, states, weights, cotangents)
    for place, (end, read) in enumerate((("", lambda x: x), ("_reverse", lambda x: x.flip(0)))):
        own = {name: weights[f"{name}{end}"] for name in weights if not name.endswith("_reverse")}
        of_one = (read(cotangents[0].chunk(2, -1)[place]), *(one[[place]] for one in cotangents[1:]))
        alone = run_stack(cell, read(input), tuple(one[[place]] for one in states), own, of_one)
        assert torch.equal(read(both["output"].chunk(2, -1)[place]), alone["output"])
        for name in own:
            assert torch.equal(both[f"grad_{name}{end}"], alone[f"grad_{name}"])
        for name in (*cell.outputs()[1:], *(f"grad_{state}" for state in cell.inputs()[1:])):
            assert torch.equal(both[name][[place]], alone[name])


def test_sequences_side_by_side_are_each_alone():
    cell, *tensors = drawn("gru", 2)
    _, *others = drawn("gru", 3)
    others[2] = {name: others[2][name] for name in tensors[2]}
    others[1], others[3] = (others[1][0][:4],), (others[3][0], others[3][1][:4])
    found = run_both_directions(cell, *(together(one, other) for one, other in zip(tensors, others, strict=True)))
    for place, given in enumerate((tensors, others)):
        for name, value in run_both_directions(cell, *given).items():
            torch.testing.assert_close(found[name][place], value, rtol=1e-12, atol=1e-12)


def together(one, other):
    if isinstance(one, dict):
        return {name: torch.stack([one[name], other[name]]) for name in one}
    if isinstance(one, tuple):
        return tuple(torch.stack(pair) for pair in zip(one, other, strict=True))
    return torch.stack([one, other])
