"""Parameters are matched by name and shape, and nothing is left over silently."""

import pytest
import torch
from torch import nn

from rnn_parity.experiment.names import REGISTRY
from rnn_parity.layers.parameters import WeightError, canonical_parameters, canonical_shapes, copy_weights
from rnn_parity.layers.registry import build

SIZES = {"input_size": 5, "hidden_size": 4, "num_layers": 2}


def weights(cell="gru"):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator) for name, shape in canonical_shapes(**SIZES, cell=cell).items()
    }


@pytest.mark.parametrize("name", [*REGISTRY, "torch.nn:GRU", "torch.nn:LSTM"])
def test_every_weight_arrives_where_it_belongs(name):
    module, given = build(name, **SIZES, dropout=0.0), weights("lstm" if "lstm" in name.lower() else "gru")
    copy_weights(given, module)
    arrived = canonical_parameters(module)
    assert arrived.keys() == given.keys()
    assert all(torch.equal(arrived[key], value) for key, value in given.items())
    assert len({id(p) for p in arrived.values()}) == len(list(module.parameters()))


def test_the_canonical_shapes_are_those_of_pytorch():
    for cell, layer in (("gru", nn.GRU), ("lstm", nn.LSTM)):
        named = {name: tuple(p.shape) for name, p in layer(**SIZES).named_parameters()}
        assert canonical_shapes(**SIZES, cell=cell) == named


class Renamed(nn.Module):
    """An `nn.GRU` whose parameters have names of their own."""

    def __init__(self, mapping=None):
        super().__init__()
        for name, shape in canonical_shapes(**SIZES).items():
            self.register_parameter(f"own_{name}", nn.Parameter(torch.zeros(shape)))
        if mapping:
            self.canonical_parameters = lambda: mapping(self)


def own(module):
    return {name: getattr(module, f"own_{name}") for name in canonical_shapes(**SIZES)}


def test_a_layer_may_say_itself_what_its_parameters_are_called():
    module = Renamed(own)
    copy_weights(weights(), module)
    assert torch.equal(module.own_weight_hh_l1, weights()["weight_hh_l1"])


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Renamed(), "no counterpart in PyTorch's layers for own_weight_ih_l0, own_weight_hh_l0"),
        (Renamed(lambda m: {k: v for k, v in own(m).items() if k != "bias_ih_l1"}), "left out: own_bias_ih_l1"),
        (Renamed(lambda m: {**own(m), "bias_ih_l1": m.own_bias_hh_l1}), "left out: own_bias_ih_l1"),
        (Renamed(lambda m: {**own(m), "more": m.own_bias_hh_l1}), "one parameter has two names"),
        (Renamed(lambda m: {**own(m), "bias_ih_l1": torch.zeros(12)}), "not parameters of the module: bias_ih_l1"),
        (nn.GRU(**{**SIZES, "num_layers": 1}), "lacks bias_hh_l1, bias_ih_l1, weight_hh_l1, weight_ih_l1"),
        (nn.GRU(**{**SIZES, "num_layers": 3}), "unknown names: bias_hh_l2"),
        (nn.GRU(**SIZES, bias=False), "GRU: it has no biases, and every kind of cell has them"),
        (
            nn.GRU(**SIZES, bidirectional=True),
            "GRU: it is bidirectional, and only one direction .*: weight_ih_l0_reverse",
        ),
        (nn.LSTM(**SIZES, proj_size=2), r"LSTM: it projects its state \(proj_size\), .*: weight_hr_l0"),
        (nn.GRU(**{**SIZES, "input_size": 6}), r"weight_ih_l0 is \(12, 6\), not \(12, 5\)"),
        (nn.LSTM(**SIZES), r"weight_ih_l0 is \(16, 5\), not \(12, 5\)"),
        (
            nn.ModuleDict({"a": nn.GRU(5, 4), "b": nn.GRU(5, 4)}),
            "no counterpart in PyTorch's layers for a.weight_ih_l0",
        ),
    ],
)
def test_what_does_not_fit_is_listed_and_nothing_is_copied(module, message):
    before = {name: p.clone() for name, p in module.named_parameters()}
    with pytest.raises(WeightError, match=message):
        copy_weights(weights(), module)
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())
