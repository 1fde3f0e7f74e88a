"""Facts of the stacked equations that hold for every shape: autograd agrees, and relations no wrong index satisfies."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rnn_parity.cells.stack import stacked_gru
from rnn_parity.layers.parameters import canonical_shapes

SIZES = st.fixed_dictionaries(
    {name: st.integers(1, 5) for name in ("steps", "batch", "inputs", "hidden")} | {"layers": st.integers(1, 3)}
)
DROPOUT = st.sampled_from([0.0, 0.25, 0.5, 0.9])


def draw(sizes, dropout, seed, side_by_side=()):
    """Everything that the equations are given, with K sequences side by side."""
    generator = torch.Generator().manual_seed(seed)
    steps, batch, hidden, layers = (sizes[name] for name in ("steps", "batch", "hidden", "layers"))

    def normal(*shape):
        return torch.randn((*side_by_side, *shape), generator=generator, dtype=torch.float64)

    shapes = canonical_shapes(sizes["inputs"], hidden, layers)
    masks = torch.rand(layers - 1, steps, batch, hidden, generator=generator, dtype=torch.float64) >= dropout
    return {
        "input": normal(steps, batch, sizes["inputs"]),
        "h0": normal(layers, batch, hidden),
        "weights": {name: normal(*shape) for name, shape in shapes.items()},
        "cotangents": (normal(steps, batch, hidden), normal(layers, batch, hidden)),
        "masks": masks.double() if dropout else None,
        "dropout": dropout,
    }


def write_out(input, h0, weights, masks, dropout):
    """The paper's equations for autograd, one sequence; the next layer reads what its mask leaves."""
    hn = []
    for layer, h in enumerate(h0):
        w_ih, w_hh, b_ih, b_hh = (weights[f"{k}_l{layer}"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        states = []
        for x in input:
            (x_r, x_z, x_n), (h_r, h_z, h_n) = (x @ w_ih.T + b_ih).chunk(3, -1), (h @ w_hh.T + b_hh).chunk(3, -1)
            update = torch.sigmoid(x_z + h_z)
            h = (1 - update) * torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n) + update * h
            states.append(h)
        hn.append(h)
        output = torch.stack(states)
        input = output if masks is None or layer == len(h0) - 1 else output * masks[layer] / (1 - dropout)
    return output, torch.stack(hn)


def of_autograd(input, h0, weights, cotangents, masks, dropout):
    given = {"input": input, "h0": h0, **weights}
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}
    results = write_out(leaves["input"], leaves["h0"], {n: leaves[n] for n in weights}, masks, dropout)
    gradients = torch.autograd.grad(results, list(leaves.values()), cotangents)
    return dict(zip(("output", "hn"), results, strict=True)) | {
        f"grad_{name}": gradient for name, gradient in zip(leaves, gradients, strict=True)
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value.detach(), rtol=1e-10, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}"
        )


def is_of_parameter(name):
    return name.removeprefix("grad_").startswith(("weight", "bias"))


def take(drawn, dim, part):
    """A part of the sequence or of the batch: `dim` is that of the input."""

    def cut(tensor):
        if tensor is None:
            return None
        start, stop, _ = part.indices(tensor.shape[dim])
        return tensor.narrow(dim, start, stop - start)

    of_output, of_hn = drawn["cotangents"]
    of_batch = dim == -2
    return drawn | {
        "input": cut(drawn["input"]),
        "masks": cut(drawn["masks"]),
        "h0": cut(drawn["h0"]) if of_batch else drawn["h0"],
        "cotangents": (cut(of_output), cut(of_hn) if of_batch else of_hn),
    }


@settings(max_examples=30)
@given(sizes=SIZES, dropout=DROPOUT, seed=st.integers(0, 2**32), side_by_side=st.integers(0, 3))
def test_every_value_and_gradient_is_that_of_autograd(sizes, dropout, seed, side_by_side):
    drawn = draw(sizes, dropout, seed, (side_by_side,) if side_by_side else ())
    found = stacked_gru(**drawn)
    if not side_by_side:
        assert_same(found, of_autograd(**drawn))
    for k in range(side_by_side):
        one = drawn | {name: drawn[name][k] for name in ("input", "h0")}
        one["weights"] = {name: weight[k] for name, weight in drawn["weights"].items()}
        one["cotangents"] = tuple(cotangent[k] for cotangent in drawn["cotangents"])
        assert_same({name: value[k] for name, value in found.items()}, of_autograd(**one))


@settings(max_examples=15)
@given(sizes=SIZES, dropout=DROPOUT, seed=st.integers(0, 2**32))
def test_permuted_hidden_units_permute_every_quantity(sizes, dropout, seed):
    drawn = draw(sizes, dropout, seed)
    hidden = sizes["hidden"]
    units = torch.randperm(hidden, generator=torch.Generator().manual_seed(seed))
    rows = torch.cat([units + gate * hidden for gate in range(3)])

    def permute(name, value):
        if not is_of_parameter(name):
            return value if name.endswith("input") else value[..., units]
        value = value[rows]
        reads_hidden = "weight_hh" in name or ("weight_ih" in name and not name.endswith("_l0"))
        return value[:, units] if reads_hidden else value

    moved = drawn | {
        "h0": drawn["h0"][..., units],
        "weights": {name: permute(name, weight) for name, weight in drawn["weights"].items()},
        "cotangents": tuple(cotangent[..., units] for cotangent in drawn["cotangents"]),
        "masks": None if drawn["masks"] is None else drawn["masks"][..., units],
    }
    found = stacked_gru(**drawn)
    assert_same(stacked_gru(**moved), {name: permute(name, value) for name, value in found.items()})


@settings(max_examples=15)
@given(sizes=SIZES, dropout=DROPOUT, seed=st.integers(0, 2**32))
def test_a_batch_is_its_rows(sizes, dropout, seed):
    drawn = draw(sizes, dropout, seed)
    of_rows = [stacked_gru(**take(drawn, -2, slice(row, row + 1))) for row in range(sizes["batch"])]
    joined = {
        name: sum(row[name] for row in of_rows)
        if is_of_parameter(name)
        else torch.cat([row[name] for row in of_rows], dim=-2)
        for name in of_rows[0]
    }
    assert_same(stacked_gru(**drawn), joined)


@settings(max_examples=15)
@given(sizes=SIZES, dropout=DROPOUT, seed=st.integers(0, 2**32), data=st.data())
def test_a_sequence_is_its_pieces(sizes, dropout, seed, data):
    """The second piece starts where the first ends, and sends its gradient back there."""
    sizes = sizes | {"steps": sizes["steps"] + 1}
    drawn = draw(sizes, dropout, seed)
    cut = data.draw(st.integers(1, sizes["steps"] - 1))
    of_output, of_hn = drawn["cotangents"]
    early = take(drawn, -3, slice(0, cut)) | {"h0": drawn["h0"], "cotangents": (of_output[:cut], of_hn)}
    late = take(drawn, -3, slice(cut, None)) | {"cotangents": (of_output[cut:], of_hn)}
    second = stacked_gru(**late | {"h0": stacked_gru(**early)["hn"]})
    first = stacked_gru(**early | {"cotangents": (of_output[:cut], second["grad_h0"])})
    joined = {name: first[name] + second[name] for name in first if is_of_parameter(name)}
    joined |= {name: torch.cat([first[name], second[name]]) for name in ("output", "grad_input")}
    assert_same(stacked_gru(**drawn), joined | {"hn": second["hn"], "grad_h0": first["grad_h0"]})


@pytest.mark.parametrize("scale", [-1.0, 0.0, 8.0])
def test_scaled_cotangents_scale_the_gradients_and_nothing_else(scale):
    drawn = draw({"steps": 4, "batch": 3, "inputs": 2, "hidden": 5, "layers": 3}, 0.5, 0)
    found = stacked_gru(**drawn)
    scaled = stacked_gru(**drawn | {"cotangents": tuple(scale * cotangent for cotangent in drawn["cotangents"])})
    for name, value in found.items():
        assert torch.equal(scaled[name], scale * value if name.startswith("grad_") else value)
