"""Facts of the stacked equations that hold for every shape: autograd agrees, and relations no wrong index satisfies."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from rnn_parity.cells.base import PARAMETERS, load_cell
from rnn_parity.cells.stack import run_stack
from rnn_parity.experiment.names import CELLS
from rnn_parity.layers.parameters import canonical_shapes

SIZES = st.fixed_dictionaries(
    {name: st.integers(1, 5) for name in ("steps", "batch", "inputs", "hidden")} | {"layers": st.integers(1, 3)}
)
KIND = st.sampled_from(sorted(CELLS))
DROPOUT = st.sampled_from([0.0, 0.25, 0.5, 0.9])


def draw(kind, sizes, dropout, seed, side_by_side=()):
    """Everything that the equations are given, with K sequences side by side."""
    generator = torch.Generator().manual_seed(seed)
    steps, batch, hidden, layers = (sizes[name] for name in ("steps", "batch", "hidden", "layers"))

    def normal(*shape):
        return torch.randn((*side_by_side, *shape), generator=generator, dtype=torch.float64)

    cell = load_cell(kind)
    shapes = canonical_shapes(sizes["inputs"], hidden, layers, kind)
    masks = torch.rand(layers - 1, steps, batch, hidden, generator=generator, dtype=torch.float64) >= dropout
    return {
        "cell": cell,
        "input": normal(steps, batch, sizes["inputs"]),
        "states": tuple(normal(layers, batch, hidden) for _ in cell.states),
        "weights": {name: normal(*shape) for name, shape in shapes.items()},
        "cotangents": (normal(steps, batch, hidden), *(normal(layers, batch, hidden) for _ in cell.states)),
        "masks": masks.double() if dropout else None,
        "dropout": dropout,
    }


def gru(x, h_sums, states):
    (h,) = states
    (x_r, x_z, x_n), (h_r, h_z, h_n) = x.chunk(3, -1), h_sums(h).chunk(3, -1)
    update = torch.sigmoid(x_z + h_z)
    return ((1 - update) * torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n) + update * h,)


def gru_reset_before(x, h_sums, states):
    (h,) = states
    (x_r, x_z, x_n), (h_r, h_z, _) = x.chunk(3, -1), h_sums(h).chunk(3, -1)
    update, (_, _, reset) = torch.sigmoid(x_z + h_z), h_sums(torch.sigmoid(x_r + h_r) * h).chunk(3, -1)
    return ((1 - update) * torch.tanh(x_n + reset) + update * h,)


def lstm(x, h_sums, states):
    h, c = states
    i, f, g, o = (x + h_sums(h)).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


STEPS = {"gru": gru, "gru_reset_before": gru_reset_before, "lstm": lstm}


def write_out(kind, input, states, weights, masks, dropout):
    """The papers' equations for autograd, one sequence; the next layer reads what its mask leaves."""
    last = []
    for layer, of_layer in enumerate(zip(*states, strict=True)):
        w_ih, w_hh, b_ih, b_hh = (weights[f"{name}_l{layer}"] for name in PARAMETERS)
        outputs = []
        for x in input:
            of_layer = STEPS[kind](x @ w_ih.T + b_ih, lambda h, w=w_hh, b=b_hh: h @ w.T + b, of_layer)
            outputs.append(of_layer[0])
        last.append(of_layer)
        output = torch.stack(outputs)
        input = output if masks is None or layer == len(states[0]) - 1 else output * masks[layer] / (1 - dropout)
    return output, *map(torch.stack, zip(*last, strict=True))


def of_autograd(kind, input, states, weights, cotangents, masks, dropout):
    cell = load_cell(kind)
    given = {"input": input, **{f"{name}0": state for name, state in zip(cell.states, states, strict=True)}, **weights}
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}
    first = tuple(leaves[f"{name}0"] for name in cell.states)
    results = write_out(kind, leaves["input"], first, {n: leaves[n] for n in weights}, masks, dropout)
    gradients = torch.autograd.grad(results, list(leaves.values()), cotangents)
    return dict(zip(("output", *(f"{name}n" for name in cell.states)), results, strict=True)) | {
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

    of_output, *of_states = drawn["cotangents"]
    of_batch = dim == -2
    return drawn | {
        "input": cut(drawn["input"]),
        "masks": cut(drawn["masks"]),
        "states": tuple(map(cut, drawn["states"])) if of_batch else drawn["states"],
        "cotangents": (cut(of_output), *(map(cut, of_states) if of_batch else of_states)),
    }


@settings(max_examples=60)
@given(kind=KIND, sizes=SIZES, dropout=DROPOUT, seed=st.integers(0, 2**32), side_by_side=st.integers(0, 3))
def test_every_value_and_gradient_is_that_of_autograd(kind, sizes, dropout, seed, side_by_side):
    drawn = draw(kind, sizes, dropout, seed, (side_by_side,) if side_by_side else ())
    found = run_stack(**drawn)
    del drawn["cell"]
    if not side_by_side:
        assert_same(found, of_autograd(kind, **drawn))
    for k in range(side_by_side):
        one = drawn | {"input": drawn["input"][k], "states": tuple(state[k] for state in drawn["states"])}
        one["weights"] = {name: weight[k] for name, weight in drawn["weights"].items()}
        one["cotangents"] = tuple(cotangent[k] for cotangent in drawn["cotangents"])
        assert_same({name: value[k] for name, value in found.items()}, of_autograd(kind, **one))


@settings(max_examples=15)
@given(kind=KIND, sizes=SIZES, dropout=DROPOUT, seed=st.integers(0, 2**32))
def test_permuted_hidden_units_permute_every_quantity(kind, sizes, dropout, seed):
    drawn = draw(kind, sizes, dropout, seed)
    hidden = sizes["hidden"]
    units = torch.randperm(hidden, generator=torch.Generator().manual_seed(seed))
    rows = torch.cat([units + gate * hidden for gate in range(len(load_cell(kind).gates))])

    def permute(name, value):
        if not is_of_parameter(name):
            return value if name.endswith("input") else value[..., units]
        value = value[rows]
        reads_hidden = "weight_hh" in name or ("weight_ih" in name and not name.endswith("_l0"))
        return value[:, units] if reads_hidden else value

    moved = drawn | {
        "states": tuple(state[..., units] for state in drawn["states"]),
        "weights": {name: permute(name, weight) for name, weight in drawn["weights"].items()},
        "cotangents": tuple(cotangent[..., units] for cotangent in drawn["cotangents"]),
        "masks": None if drawn["masks"] is None else drawn["masks"][..., units],
    }
    found = run_stack(**drawn)
    assert_same(run_stack(**moved), {name: permute(name, value) for name, value in found.items()})


@settings(max_examples=15)
@given(kind=KIND, sizes=SIZES, dropout=DROPOUT, seed=st.integers(0, 2**32))
def test_a_batch_is_its_rows(kind, sizes, dropout, seed):
    drawn = draw(kind, sizes, dropout, seed)
    of_rows = [run_stack(**take(drawn, -2, slice(row, row + 1))) for row in range(sizes["batch"])]
    joined = {
        name: sum(row[name] for row in of_rows)
        if is_of_parameter(name)
        else torch.cat([row[name] for row in of_rows], dim=-2)
        for name in of_rows[0]
    }
    assert_same(run_stack(**drawn), joined)


@settings(max_examples=15)
@given(kind=KIND, sizes=SIZES, dropout=DROPOUT, seed=st.integers(0, 2**32), data=st.data())
def test_a_sequence_is_its_pieces(kind, sizes, dropout, seed, data):
    """The second piece starts where the first ends, and sends its gradient back there."""
    sizes = sizes | {"steps": sizes["steps"] + 1}
    drawn = draw(kind, sizes, dropout, seed)
    cut = data.draw(st.integers(1, sizes["steps"] - 1))
    names, (of_output, *of_states) = drawn["cell"].states, drawn["cotangents"]
    early = take(drawn, -3, slice(0, cut)) | {"states": drawn["states"], "cotangents": (of_output[:cut], *of_states)}
    late = take(drawn, -3, slice(cut, None)) | {"cotangents": (of_output[cut:], *of_states)}
    second = run_stack(**late | {"states": tuple(run_stack(**early)[f"{name}n"] for name in names)})
    sent_back = (second[f"grad_{name}0"] for name in names)
    first = run_stack(**early | {"cotangents": (of_output[:cut], *sent_back)})
    joined = {name: first[name] + second[name] for name in first if is_of_parameter(name)}
    joined |= {name: torch.cat([first[name], second[name]]) for name in ("output", "grad_input")}
    joined |= {f"{name}n": second[f"{name}n"] for name in names}
    assert_same(run_stack(**drawn), joined | {f"grad_{name}0": first[f"grad_{name}0"] for name in names})


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("scale", [-1.0, 0.0, 8.0])
def test_scaled_cotangents_scale_the_gradients_and_nothing_else(kind, scale):
    drawn = draw(kind, {"steps": 4, "batch": 3, "inputs": 2, "hidden": 5, "layers": 3}, 0.5, 0)
    found = run_stack(**drawn)
    scaled = run_stack(**drawn | {"cotangents": tuple(scale * cotangent for cotangent in drawn["cotangents"])})
    for name, value in found.items():
        assert torch.equal(scaled[name], scale * value if name.startswith("grad_") else value)


def test_shapes_that_do_not_fit_are_refused_as_the_tests_run():
    given = draw("gru", {"steps": 2, "batch": 3, "inputs": 4, "hidden": 5, "layers": 2}, 0.5, 0)
    run_stack(**given)
    with pytest.raises(TypeCheckError, match="masks"):
        run_stack(**given | {"masks": given["masks"][:, :1]})
    with pytest.raises(TypeCheckError, match="states"):
        run_stack(**given | {"states": tuple(state[:, :1] for state in given["states"])})
