"""The two layers are what the paper and the article say, and a layer of one's own is taken by its import path."""

import pytest
import torch
from torch import nn

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.names import REGISTRY
from rnn_parity.layers.fused import StackingGRU
from rnn_parity.layers.parameters import canonical_parameters, copy_weights
from rnn_parity.layers.registry import build, named
from rnn_parity.layers.running import call_layer
from rnn_parity.layers.stepwise import StackingGRUCell, StackingGRUCellLoop

SIZES = {"input_size": 5, "hidden_size": 10, "num_layers": 3, "dropout": 0.1}


ORDINARY = [name for name in REGISTRY if name not in ("compiled_loop", "graphed_loop")]  # they have tests of their own


@pytest.mark.parametrize("name", [*ORDINARY, "torch.nn:GRU", "torch.nn:LSTM"])
def test_every_implementation_has_the_same_shapes(name):
    states = [torch.randn(3, 7, 10)] * (2 if "lstm" in name.lower() else 1)
    output, *last = call_layer(build(name, **SIZES), torch.randn(4, 7, 5), states)
    assert output.shape == (4, 7, 10)
    assert [state.shape for state in last] == [(3, 7, 10)] * len(states)


def test_the_loop_over_lstm_cells_is_the_fused_layer():
    loop, fused = build("stacking_lstm_cell", **SIZES).eval(), build("stacking_lstm", **SIZES).eval()
    copy_weights({k: v.detach() for k, v in canonical_parameters(loop).items()}, fused)
    input, states = torch.randn(4, 7, 5), (torch.randn(3, 7, 10), torch.randn(3, 7, 10))
    for ours, theirs in zip(call_layer(loop, input, states), call_layer(fused, input, states), strict=True):
        torch.testing.assert_close(theirs, ours)


def test_a_factory_that_asks_for_the_kind_of_cell_is_told():
    assert build("rnn_parity.trust.right:WrittenOut", **SIZES, cell="lstm").equations.words == "an LSTM"


def test_states_that_are_lost_are_named():
    with pytest.raises(TypeError, match="gives 1 last states, expected a tensor and a tuple of 2"):
        call_layer(lambda input, states: (input, states[0]), torch.zeros(1), [torch.zeros(1), torch.ones(1)])


def test_the_articles_experiment():
    """Weights copied, both seeded with 1215, one step: `allclose` on both results, and here bit-equal."""
    cell, fused = StackingGRUCell(**SIZES), StackingGRU(**SIZES)
    copy_weights({k: v.detach() for k, v in canonical_parameters(cell).items()}, fused)
    input, h0 = torch.randn(7, 5), torch.randn(3, 7, 10)
    torch.manual_seed(1215)
    output, hn = cell(input, h0)
    torch.manual_seed(1215)
    fused_output, fused_hn = fused(input.unsqueeze(0), h0)
    assert torch.equal(output, fused_output.squeeze(0))
    assert torch.equal(hn, fused_hn)
    fused_output, _ = fused(input.unsqueeze(0), h0)  # not seeded again
    assert not torch.allclose(output, fused_output.squeeze(0))


def test_the_loop_is_the_cell_step_by_step():
    loop = StackingGRUCellLoop(**SIZES).eval()
    input, h = torch.randn(6, 2, 5), torch.randn(3, 2, 10)
    output, hn = loop(input, h)
    for step in range(6):
        step_output, h = loop.cell(input[step], h)
        assert torch.equal(output[step], step_output)
    assert torch.equal(hn, h)


def test_dropout_stands_between_the_layers_and_not_after_the_last():
    cell = StackingGRUCell(5, 10, 2, dropout=1.0).train()
    input, h0 = torch.randn(7, 5), torch.randn(2, 7, 10)
    output, hn = cell(input, h0)
    assert torch.equal(hn[1], cell.grus[1](torch.zeros(7, 10), h0[1]))  # the second layer sees nothing
    assert torch.equal(hn[0], cell.grus[0](input, h0[0]))
    assert torch.equal(output, hn[1])


def test_batch_first_swaps_batch_and_time_of_input_and_output_only():
    one, other = StackingGRU(**SIZES).eval(), StackingGRU(**SIZES, batch_first=True).eval()
    other.load_state_dict(one.state_dict())
    input, h0 = torch.randn(4, 7, 5), torch.randn(3, 7, 10)
    output, hn = one(input, h0)
    swapped, same_hn = other(input.transpose(0, 1).contiguous(), h0)
    torch.testing.assert_close(swapped.transpose(0, 1), output)
    torch.testing.assert_close(same_hn, hn)


def test_one_layer_with_dropout_warns_of_nothing_and_drops_nothing():
    module = build("torch.nn:GRU", input_size=3, hidden_size=4, num_layers=1, dropout=0.9)
    input, h0 = torch.randn(2, 2, 3), torch.zeros(1, 2, 4)
    assert torch.equal(module.train()(input, h0)[0], module.eval()(input, h0)[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stacking_grus", "did you mean stacking_gru"),
        ("torch.nn.GRU", r"did you mean torch\.nn:GRU\?"),
        ("no_such_package:Layer", "no_such_package:Layer: cannot be imported .ModuleNotFoundError"),
        ("torch.nn:NoSuchLayer", "cannot be imported .AttributeError"),
        ("torch.nn:GRUU", "expected package.module:Class; did you mean GRU.$"),
        ("torch.nn:Linear", "cannot be called with input_size, hidden_size, num_layers, dropout"),
        ("../layer.py:Layer", "expected one of stacking_gru_cell"),
    ],
)
def test_what_cannot_be_built_gets_one_line(name, message):
    with pytest.raises(InputError, match=message) as caught:
        build(name, **SIZES)
    assert "\n" not in str(caught.value)


def test_a_type_error_of_a_layers_own_code_is_its_refusal_of_a_size():
    class EvenWidths(nn.GRU):
        def __init__(self, input_size, hidden_size, num_layers, dropout):
            if hidden_size % 2:
                raise TypeError(f"hidden_size must be an even int, got {hidden_size}")
            super().__init__(input_size, hidden_size, num_layers, dropout=dropout)

    with named(EvenWidths, "candidate") as name:
        build(name, **SIZES | {"hidden_size": 4})
        with pytest.raises(TypeError, match="^hidden_size must be an even int, got 5$"):
            build(name, **SIZES | {"hidden_size": 5})


@pytest.mark.parametrize("kind", ["RuntimeError", "SystemExit", "BaseException"])
def test_a_module_that_raises_while_it_is_imported_gets_one_line(tmp_path, monkeypatch, kind):
    name = f"broken_layer_{kind}"
    (tmp_path / f"{name}.py").write_text(f"raise {kind}('first\\nsecond')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=f"{kind}: first second"):
        build(f"{name}:Layer", **SIZES)


def test_a_layer_that_is_built_already_is_nothing_to_build(tmp_path, monkeypatch):
    (tmp_path / "built_layer.py").write_text("import torch\nlayer = torch.nn.GRU(3, 4)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        InputError, match="^built_layer:layer: holds a GRU already built, expected something that builds one"
    ):
        build("built_layer:layer", **SIZES)


def test_a_layer_of_ones_own_is_a_module_factory(tmp_path, monkeypatch):
    (tmp_path / "own_layer.py").write_text("import torch\nclass Outer:\n    Layer = torch.nn.GRU\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(build("own_layer:Outer.Layer", **SIZES), nn.GRU)
