"""Probes are made at a size that the layer takes: tiny where it can be, else that of the case."""

import pandas as pd
import pytest
from torch import nn

import rnn_parity
from rnn_parity.capabilities import probing
from rnn_parity.capabilities.probing import TINY, probe, probe_capabilities, tiny_subject
from rnn_parity.layers.registry import named

FEW = ("carried_state", "bidirectional", "no_bias", "vmap", "empty_batch", "rejects_wrong_hidden_size", "unbatched")
OWN = (16, 24, 1)


class OneLayer(nn.Module):
    """One layer, whatever num_layers says."""

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__()
        self.gru = nn.GRU(input_size, hidden_size)

    def forward(self, input, h0):
        return self.gru(input, h0)


class OneLayerStrict(OneLayer):
    """As OneLayer, and says so."""

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        if num_layers != 1:
            raise ValueError("one layer only")
        super().__init__(input_size, hidden_size, num_layers, dropout)


class WidthsOf8(nn.GRU):
    """Widths are multiples of 8; says so when it is built."""

    def __init__(self, input_size, hidden_size, num_layers, dropout=0.0, **options):
        if input_size % 8 or hidden_size % 8:
            raise ValueError("widths must be multiples of 8")
        super().__init__(input_size, hidden_size, num_layers, dropout=dropout, **options)


class WidthsOf8TypeError(nn.GRU):
    """The same, as an error that says that it cannot be called so."""

    def __init__(self, input_size, hidden_size, num_layers, dropout=0.0, **options):
        if input_size % 8 or hidden_size % 8:
            raise TypeError("widths must be multiples of 8")
        super().__init__(input_size, hidden_size, num_layers, dropout=dropout, **options)


class RunsWidthsOf8(nn.GRU):
    """Can be built at any width, and runs at multiples of 8 alone."""

    def forward(self, input, h0=None):
        assert self.hidden_size % 8 == 0
        return super().forward(input, h0)


class ThreeLayers(nn.GRU):
    """Three layers and no other number of them."""

    def __init__(self, input_size, hidden_size, num_layers, dropout=0.0, **options):
        if num_layers != 3:
            raise ValueError("three layers")
        super().__init__(input_size, hidden_size, num_layers, dropout=dropout, **options)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(probing, "CAPABILITIES", {name: probing.CAPABILITIES[name] for name in FEW})


def lost(layer, own, baseline="torch.nn:GRU"):
    """The capabilities that PyTorch's layer has and this one has not."""
    with named(layer, "candidate") as name:
        rows = pd.DataFrame(probe_capabilities(baseline, [name], "cpu", own=own))
    outcomes = rows.pivot_table(index="capability", columns="implementation", values="outcome", aggfunc="first")
    assert set(rows["cell"]) == {"gru"}
    return set(outcomes.index[(outcomes[baseline] == "works") & (outcomes[name] != "works")])


@pytest.mark.parametrize("layer", [WidthsOf8, WidthsOf8TypeError, RunsWidthsOf8])
def test_a_layer_that_takes_no_tiny_width_is_probed_at_that_of_the_case(layer):
    assert lost(layer, (16, 24, 3)) == set()
    assert lost(layer, TINY) >= {"carried_state", "empty_batch"} if layer is not WidthsOf8TypeError else True


@pytest.mark.parametrize("layer", [OneLayer, OneLayerStrict])
def test_a_layer_that_is_one_alone_is_probed_as_one(layer):
    assert lost(layer, (7, 16, 1)) == {"bidirectional", "no_bias"}  # its constructor takes neither


def test_a_layer_that_is_never_one_alone_is_probed_as_it_is():
    assert lost(ThreeLayers, (7, 16, 3)) == set()
    name = f"{__name__}:ThreeLayers"
    assert probe("bidirectional", tiny_subject(name, "cpu", sizes=(7, 16, 3))).outcome == "works"


class WrongShape(ThreeLayers):
    """Takes `bidirectional=True` and forgets it."""

    def __init__(self, *arguments, bidirectional=False, **options):
        super().__init__(*arguments, **options)

    def forward(self, input, h0=None):
        return super().forward(input, h0[:3])


def test_one_of_several_layers_that_is_not_bidirectional_is_found():
    found = probe("bidirectional", tiny_subject(f"{__name__}:WrongShape", "cpu", sizes=(7, 16, 3)))
    assert (found.outcome, found.detail) == ("wrong", "gives output (4, 3, 16), expected (4, 3, 32)")


def test_where_all_take_the_tiny_size_it_is_tiny(monkeypatch):
    seen = set()
    probed = probing.probe
    monkeypatch.setattr(
        probing, "probe", lambda capability, subject: seen.add(subject.case) or probed(capability, subject)
    )
    list(probe_capabilities("torch.nn:GRU", ["stacking_gru"], "cpu", own=(256, 512, 3)))
    assert {(case.input_size, case.hidden_size, case.num_layers) for case in seen} == {TINY}
    seen.clear()
    list(probe_capabilities("torch.nn:GRU", [f"{__name__}:WidthsOf8"], "cpu", own=OWN))
    assert {(case.input_size, case.hidden_size, case.num_layers) for case in seen} == {OWN}
    assert {(case.sequence_length, case.batch_size) for case in seen} == {(4, 3)}


@pytest.mark.slow
def test_check_probes_one_layer_where_one_is_asked_for():
    report = rnn_parity.check(
        "torch.nn:GRU", OneLayerStrict, num_layers=1, seeds=[0], timing_seconds=0, regimes=["eval"]
    )
    differences = report.capability_differences()
    assert set(differences.loc[differences["lost"], "capability"]) == {"bidirectional", "no_bias"}
