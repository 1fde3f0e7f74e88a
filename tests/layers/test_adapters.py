"""Layers as people have them: right ones get a yes, wrong ones of the same kind a no, and what is done is said."""

import functools
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnn_parity
from rnn_parity.capabilities.probing import probe, tiny_subject
from rnn_parity.experiment.errors import InputError
from rnn_parity.layers.adapters import find_adapter
from rnn_parity.layers.kinds import infer_kind, require_kind
from rnn_parity.layers.registry import adapter_of, build, named
from rnn_parity.life.live import live
from rnn_parity.trust.lives import draw_life

SIZES = {"input_size": 5, "hidden_size": 6, "num_layers": 3, "sequence_length": 4, "batch_size": 7, "dropout": 0.0}


def check(layer, cell="gru", **changes):
    baseline = {"gru": "stacking_gru_cell", "lstm": "stacking_lstm_cell"}.get(cell, "stacking_gru_reset_before_cell")
    asked = {"cell": cell, "seeds": [0], "life": False, "capabilities": False, "timing_seconds": 0, "device": "cpu"}
    return rnn_parity.check(baseline, layer, **SIZES | asked | changes)


class GRUs(nn.Module):
    """A stack of cells with the constructor of `nn.GRU`."""

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__()
        self.dropout = dropout
        widths = [input_size] + [hidden_size] * (num_layers - 1)
        self.cells = nn.ModuleList(nn.GRUCell(width, hidden_size) for width in widths)

    def step(self, x, h):
        new = []
        for k, cell in enumerate(self.cells):
            new.append(cell(x, h[k]))
            x = F.dropout(new[-1], self.dropout, self.training) if k < len(self.cells) - 1 else new[-1]
        return x, new

    def over_time(self, input, h):
        outputs = []
        for x in input:
            output, h = self.step(x, h)
            outputs.append(output)
        return torch.stack(outputs), h


class LSTMs(GRUs):
    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__(input_size, hidden_size, num_layers, dropout)
        widths = [input_size] + [hidden_size] * (num_layers - 1)
        self.cells = nn.ModuleList(nn.LSTMCell(width, hidden_size) for width in widths)

    def step(self, x, pairs):
        new = []
        for k, cell in enumerate(self.cells):
            new.append(cell(x, pairs[k]))
            x = new[-1][0]
        return x, new


def layer(base, forward):
    return type("Mine", (base,), {"forward": forward})


def of_pairs(self, x, pairs):
    for h, c in pairs:
        assert h.dim() == c.dim() == 2
    return self.over_time(x, pairs)


def needs_list(self, x, h):
    assert isinstance(h, list)
    return self.step(x, h)


def separate(self, x, h0, c0):
    output, pairs = self.over_time(x, list(zip(h0, c0, strict=True)))
    return output, *map(torch.stack, zip(*pairs, strict=True))


def reversed_pairs(self, x, h0, c0):
    output, h, c = separate(self, x, h0, c0)
    return output, h.flip(0), c


def batch_first(self, x, h):
    output, h = self.over_time(x.transpose(0, 1), h)
    return output.transpose(0, 1), torch.stack(h)


def backwards(self, x, h):
    output, h = batch_first(self, x, h)
    return output.flip(1), h


def by_keyword(self, x, lengths=None, h0=None):
    assert lengths is None
    output, h = self.over_time(x, h0)
    return output, torch.stack(h)


class PackedByLengths(nn.GRU):
    """Batch first, as masked encoders are: called with time first it gives results of other sizes, and no error."""

    def __init__(self, *sizes, **named):
        super().__init__(*sizes, **named, batch_first=True)

    def forward(self, input, states=None, lengths=None):
        lengths = torch.full((len(input),), input.shape[1]) if lengths is None else lengths
        packed = pack_padded_sequence(input, lengths, batch_first=True, enforce_sorted=False)
        output, last = super().forward(packed, states)
        return pad_packed_sequence(output, batch_first=True)[0], last


RIGHT = {
    "a step": (layer(GRUs, GRUs.step), "gru", "called step by step"),
    "a step that takes a list": (layer(GRUs, needs_list), "gru", "states per layer, (B, H)"),
    "a step of the states alone": (
        layer(GRUs, lambda self, x, h: torch.stack(self.step(x, h)[1])),
        "gru",
        "called step by step",
    ),
    "batch first": (layer(GRUs, batch_first), "gru", "called with (B, T, ·)"),
    "partial": (functools.partial(nn.GRU, batch_first=True), "gru", "called with (B, T, ·)"),
    "batch first, packed": (PackedByLengths, "gru", "called with (B, T, ·)"),
    "states batch first": (
        layer(GRUs, lambda self, x, h: (lambda o, n: (o, n.transpose(0, 1)))(*batch_first(self, x, h.transpose(0, 1)))),
        "gru",
        "states (B, L, H)",
    ),
    "a list": (layer(GRUs, lambda self, x, h: GRUs.over_time(self, x, h)), "gru", "states stacked"),
    "a list of (1, B, H)": (
        layer(GRUs, lambda self, x, h: (lambda o, n: (o, [s[None] for s in n]))(*self.over_time(x, h))),
        "gru",
        "states stacked",
    ),
    "a third result": (
        layer(GRUs, lambda self, x, h: (lambda o, n: (o, torch.stack(n), {}))(*self.over_time(x, h))),
        "gru",
        "1 further result ignored",
    ),
    "states by keyword": (layer(GRUs, by_keyword), "gru", ""),
    "pairs": (layer(LSTMs, of_pairs), "lstm", "states per layer, (B, H)"),
    "a step of pairs": (layer(LSTMs, LSTMs.step), "lstm", "called step by step"),
    "separate states": (layer(LSTMs, separate), "lstm", "each state an argument"),
}
WRONG = {
    "a step, layers reversed": (layer(GRUs, lambda self, x, h: (self.step(x, h)[0], self.step(x, h)[1][::-1])), "gru"),
    "a list, reversed": (layer(GRUs, lambda self, x, h: (lambda o, n: (o, n[::-1]))(*self.over_time(x, h))), "gru"),
    "batch first, time reversed": (layer(GRUs, backwards), "gru"),
    "pairs, h and c swapped": (
        layer(LSTMs, lambda self, x, p: (lambda o, n: (o, [(c, h) for h, c in n]))(*of_pairs(self, x, p))),
        "lstm",
    ),
    "separate, h reversed": (layer(LSTMs, reversed_pairs), "lstm"),
    "gradient of a state cut": (
        layer(GRUs, lambda self, x, h: GRUs.over_time(self, x, [s.detach() for s in h])),
        "gru",
    ),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_a_right_layer_of_each_kind_may_replace_the_loop_and_what_is_done_is_said(kind):
    mine, cell, words = RIGHT[kind]
    report = check(mine, cell)
    assert report.equivalent, report.explain()
    assert words in report.explain()


@pytest.mark.parametrize("kind", WRONG)
def test_an_adapter_hides_no_fault(kind):
    mine, cell = WRONG[kind]
    report = check(mine, cell)
    assert report.answer.word == "no", report.explain()


def test_dropout_between_the_steps_of_an_adapted_layer_is_matched():
    report = check(RIGHT["a step"][0], dropout=0.3)
    assert report.equivalent
    assert set(report.equivalence["regime"]) == {"eval", "train_matched_masks", "train_same_seed"}


def test_a_layer_that_fits_is_not_touched():
    for name in ("torch.nn:GRU", "stacking_gru_cell"):
        assert "adapted_layer" not in dir(build(name, input_size=5, hidden_size=6, num_layers=2, dropout=0.0))
        assert adapter_of(name, "gru").words == ""


def test_trying_a_layer_leaves_no_trace_in_the_generator():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    find_adapter(lambda **sizes: nn.GRU(**sizes), "gru")
    assert torch.equal(torch.rand(1), expected)


class NoStates(GRUs):
    def forward(self, x):
        output, h = self.over_time(x, x.new_zeros(len(self.cells), x.shape[1], self.cells[0].hidden_size))
        return output, torch.stack(h)


class NoStatesWrong(NoStates):
    def forward(self, x):
        output, hn = super().forward(x)
        return output, hn.flip(0)


def test_without_h0_it_is_compared_from_states_of_zero_and_the_answer_says_so():
    report = check(NoStates)
    assert report.equivalent
    assert "from zero states only" in report.conclusion()
    assert "grad_h0" not in set(report.equivalence["quantity"])
    assert check(NoStatesWrong).answer.word == "no"


def test_a_layer_that_fails_with_its_states_is_not_called_without():
    def forward(self, x, h0=None):
        if h0 is not None:
            raise RuntimeError("no states yet")
        return NoStates.forward(self, x)

    report = check(layer(GRUs, forward))
    assert report.answer.word == "no"
    assert "no states yet" in report.conclusion()


class OneLayer(nn.GRU):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)


class Strict(nn.GRU):
    def __init__(self, input_size, hidden_size, num_layers, dropout):
        if num_layers > 1:
            raise ValueError("one layer")
        super().__init__(input_size, hidden_size)


@pytest.mark.parametrize(
    ("mine", "message"),
    [
        (OneLayer, "candidate: OneLayer: has one layer only, expected --num-layers 1"),
        (Strict, "candidate: Strict: has one layer only, expected --num-layers 1"),
    ],
)
def test_several_layers_of_what_has_one_are_refused(mine, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        check(mine)


@pytest.mark.parametrize("mine", [OneLayer, Strict])
def test_one_layer_is_compared_as_one_layer(mine):
    report = check(mine, num_layers=1, dropout=0.3)
    assert report.equivalent
    assert report.adapted == {mine.__name__: "one layer only"}


def test_a_factory_without_dropout_is_refused_where_there_is_some():
    def Mine(input_size, hidden_size, num_layers):
        return nn.GRU(input_size, hidden_size, num_layers)

    assert check(Mine).equivalent
    with pytest.raises(InputError, match="has no parameter dropout; works only with --dropout 0"):
        check(Mine, dropout=0.3)


@pytest.mark.parametrize(("cell", "mine"), [("gru", nn.GRUCell), ("lstm", nn.LSTMCell)])
def test_a_single_cell_is_a_layer(cell, mine):
    report = check(mine, cell, num_layers=1)
    assert report.equivalent, report.explain()
    assert adapter_of(f"torch.nn:{mine.__name__}", cell).carried


class Sequence(nn.Module):
    """Layers of one, numbered 0, 2, 4 with dropout between, as in an `nn.Sequential`."""

    order = slice(None)

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__()
        self.net = nn.ModuleList()
        for k in range(num_layers):
            self.net.append(nn.GRU(hidden_size if k else input_size, hidden_size))
            self.net.append(nn.Dropout(dropout if k < num_layers - 1 else 0.0))

    def forward(self, x, h0):
        hn = []
        for k, h in enumerate(h0.split(1)):
            x, last = self.net[2 * k](x, h)
            x = self.net[2 * k + 1](x)
            hn.append(last)
        return x, hn[self.order]


class SequenceReversed(Sequence):
    order = slice(None, None, -1)


def test_layers_of_one_in_any_list():
    report = check(Sequence, dropout=0.3)
    assert report.equivalent, report.explain()
    assert check(SequenceReversed, dropout=0.3).answer.word == "no"


class GateByGate(nn.Module):
    """One transposed matrix per gate, z as 1 − z, and gradients by PyTorch's names."""

    sign = -1

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__()
        self.own = nn.ParameterDict()
        for k in range(num_layers):
            for gate in "zrn":
                self.own[f"ih{k}{gate}"] = nn.Parameter(
                    torch.zeros((hidden_size if k else input_size) + 1, hidden_size)
                )
                self.own[f"hh{k}{gate}"] = nn.Parameter(torch.zeros(hidden_size + 1, hidden_size))
        self.num_layers = num_layers

    def forward(self, input, h0):
        h, outputs, o = list(h0), [], self.own

        def product(x, w):
            return x @ w[:-1] + w[-1]

        for x in input:
            for k in range(self.num_layers):
                r, u = (torch.sigmoid(product(x, o[f"ih{k}{g}"]) + product(h[k], o[f"hh{k}{g}"])) for g in "rz")
                n = torch.tanh(product(x, o[f"ih{k}n"]) + r * product(h[k], o[f"hh{k}n"]))
                h[k] = x = u * n + (1 - u) * h[k]
            outputs.append(x)
        return torch.stack(outputs), torch.stack(h)

    def load_canonical(self, weights):
        for k in range(self.num_layers):
            for side in ("ih", "hh"):
                rows = weights[f"weight_{side}_l{k}"].chunk(3), weights[f"bias_{side}_l{k}"].chunk(3)
                for gate, weight, bias in zip("rzn", *rows, strict=True):
                    self.own[f"{side}{k}{gate}"].copy_(self._sign(gate) * torch.cat([weight.T, bias[None]]))

    def canonical_gradients(self):
        found = {}
        for k in range(self.num_layers):
            for side in ("ih", "hh"):
                of_gates = [self._back(gate) * self.own[f"{side}{k}{gate}"].grad for gate in "rzn"]
                found[f"weight_{side}_l{k}"] = torch.cat([g[:-1].T for g in of_gates])
                found[f"bias_{side}_l{k}"] = torch.cat([g[-1] for g in of_gates])
        return found

    def _sign(self, gate):
        return -1 if gate == "z" else 1

    _back = _sign


class GateByGateWrong(GateByGate):
    def _back(self, gate):
        return 1


class GateByGateForgetful(GateByGate):
    def canonical_gradients(self):
        return {name: found for name, found in super().canonical_gradients().items() if name != "bias_hh_l0"}


class GateByGateHalf(GateByGate):
    canonical_gradients = property()  # there is none


def test_a_gradient_that_the_layer_does_not_name_is_told_as_that():
    report = check(GateByGateForgetful)
    assert (report.answer.word, report.answer.deciding["quantity"]) == ("no", "grad_bias_hh_l0")
    assert report.answer.deciding["reason"] == "canonical_gradients() names none"
    with pytest.raises(InputError, match=r"GateByGateHalf has load_canonical\(\) without canonical_gradients\(\)"):
        check(GateByGateHalf)


def test_parameters_that_are_not_pytorchs_are_loaded_and_their_gradients_named_by_the_layer():
    report = check(GateByGate)
    assert report.equivalent, report.explain()
    with named(GateByGate, "x") as name:
        for capability in ("eval_backward", "backward_twice", "some_gradients", "carried_state"):
            found = probe(capability, tiny_subject(name, "cpu"))
            assert found.outcome == "works", (capability, found.detail)
    wrong = check(GateByGateWrong)
    assert wrong.answer.word == "no"
    failing = wrong.equivalence.query("verdict == 'different'")["quantity"]
    assert set(failing) <= {f"grad_{p}_{s}_l{k}" for p in ("weight", "bias") for s in ("ih", "hh") for k in range(3)}


def test_while_some_of_its_parameters_are_frozen_the_gradients_of_the_others_are_judged():
    found = {}
    for factory in (GateByGate, GateByGateWrong):
        with named(factory, "x") as name:
            lived = live(draw_life("cpu", "float32", 3, "gru"), name, points=["frozen", "some_tensors"])
            found[factory] = {row["point"]: row for row in lived}
    assert {row["verdict"] for row in found[GateByGate].values()} == {"equivalent"}
    assert found[GateByGateWrong]["frozen"]["when"] == "with some parameters frozen, in eval"


class OutwardLSTM(nn.Module):
    """An LSTM of one layer whose weights are (in, out), in a matrix for input and state together, with one bias."""

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(input_size + hidden_size, 4 * hidden_size))
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))

    def forward(self, input, states):
        (h,), (c,) = states
        outputs = []
        for x in input:
            i, f, g, o = (torch.cat([x, h], 1) @ self.kernel + self.bias).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs), (h[None], c[None])

    def load_canonical(self, weights):
        self.kernel.copy_(torch.cat([weights["weight_ih_l0"], weights["weight_hh_l0"]], 1).T)
        self.bias.copy_(weights["bias_ih_l0"] + weights["bias_hh_l0"])

    def canonical_gradients(self):
        ih, hh = self.kernel.grad.T.split([len(self.kernel) - len(self.bias) // 4, len(self.bias) // 4], 1)
        biases = dict.fromkeys(("bias_ih_l0", "bias_hh_l0"), self.bias.grad)
        return {"weight_ih_l0": ih, "weight_hh_l0": hh, **biases}


class ForgetsOneLess(OutwardLSTM):
    """It adds one to the sum of its forget gate, as other libraries do, and loads weights accordingly."""

    def load_canonical(self, weights):
        super().load_canonical(weights)
        self.bias.sub_(self.one(self.bias))

    def forward(self, input, states):
        outputs, bias, ((h,), (c,)) = [], self.bias, states
        for x in input:
            i, f, g, o = (torch.cat([x, h], 1) @ self.kernel + bias + self.one(bias)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs), (h[None], c[None])

    def one(self, bias):
        return (torch.arange(len(bias)) // (len(bias) // 4) == 1).to(bias)


def test_weights_that_are_loaded_by_the_layer_are_not_taken_for_its_parameters():
    """Twice its bias is not twice the bias that it was given."""
    case = replace(draw_life("cpu", "float32", 3, "lstm"), num_layers=1, dropout=0.0)
    with named(ForgetsOneLess, "x") as name:
        first, hooked = live(case, name, points=["first_call", "hooked"])
    assert {first["verdict"], hooked["verdict"]} <= {"identical", "equivalent"}


def test_the_kind_of_a_layer_with_names_of_its_own_is_told_by_what_it_loads_and_is_called_with():
    with named(OutwardLSTM, "x") as name:
        assert infer_kind(name) == "lstm"
    assert check(OutwardLSTM, "lstm", num_layers=1).equivalent
    with pytest.raises(InputError, match="OutwardLSTM: this is an LSTM, not a GRU: --cell lstm"):
        check(OutwardLSTM, "gru", num_layers=1)
    with named(GateByGate, "x") as name:
        assert infer_kind(name) == "gru"


class OneBias(nn.Module):
    """An LSTM, or a GRU, with one bias."""

    gates = 4

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__()
        self.layers = nn.ModuleList()
        for k in range(num_layers):
            one = nn.Module()
            one.weight_ih = nn.Parameter(torch.zeros(self.gates * hidden_size, hidden_size if k else input_size))
            one.weight_hh = nn.Parameter(torch.zeros(self.gates * hidden_size, hidden_size))
            one.bias = nn.Parameter(torch.zeros(self.gates * hidden_size))
            self.layers.append(one)

    def forward(self, input, states):
        h, c = map(list, states)
        outputs = []
        for x in input:
            for k, one in enumerate(self.layers):
                i, f, g, o = (F.linear(x, one.weight_ih, one.bias) + F.linear(h[k], one.weight_hh)).chunk(4, 1)
                c[k] = torch.sigmoid(f) * c[k] + torch.sigmoid(i) * torch.tanh(g)
                h[k] = x = torch.sigmoid(o) * torch.tanh(c[k])
            outputs.append(x)
        return torch.stack(outputs), (torch.stack(h), torch.stack(c))


class OneBiasHalf(OneBias):
    def forward(self, input, states):
        for one in self.layers:
            one.bias.register_hook(lambda gradient: gradient / 2)
        return super().forward(input, states)


class OneBiasGRU(OneBias):
    gates = 3

    def forward(self, input, h0):
        return input.new_zeros(*input.shape[:2], h0.shape[-1]), h0


@pytest.mark.slow
def test_one_bias_is_given_the_sum_and_its_gradient_is_that_of_both():
    report = check(OneBias, "lstm")
    assert report.equivalent, report.explain()
    assert "its one bias gets the sum of the two" in report.explain()
    assert check(OneBiasHalf, "lstm").answer.word == "no"
    with pytest.raises(InputError, match="has one bias where a GRU has two that do not add up"):
        check(OneBiasGRU)


class Lazy(nn.Module):
    def __init__(self, hidden_size, num_layers, dropout, **_):
        super().__init__()
        self.sizes, self.gru = (hidden_size, num_layers, dropout), None

    def forward(self, x, h0):
        if self.gru is None:
            self.gru = nn.GRU(x.shape[-1], *self.sizes[:2], dropout=self.sizes[2]).train(self.training)
        output, hn = self.gru(x, h0)
        return output, hn


def test_parameters_made_at_the_first_call():
    report = check(Lazy, dropout=0.3)
    assert report.equivalent, report.explain()
    assert report.adapted == {"Lazy": "called once to create its parameters"}


class OfNoKind(nn.Module):
    """An LSTM whose parameters have names and a layout of their own."""

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(input_size + hidden_size, 4 * hidden_size))

    def forward(self, x, states):
        return x, (states[0][0], states[1][0])


class OfAnotherKind(OfNoKind):
    def load_canonical(self, weights):
        self.kernel[:, 0] = weights["weight_of_another_kind"]

    def canonical_gradients(self):
        return {}


def test_a_layer_whose_parameters_tell_no_kind_is_told_that_it_was_taken_for_a_gru():
    with pytest.raises(InputError, match=r"KeyError: .* it was taken for a GRU: name another kind with --cell$"):
        check(OfAnotherKind, None)
    with pytest.raises(InputError, match=r"or load_canonical\(weights\) with canonical_gradients\(\)$"):
        check(OfNoKind, None)  # under its names no kind would fit


def test_the_commands_say_what_is_done(capsys):
    from rnn_parity.commands.rules import validate

    validate(["torch.nn:GRU", "lstm=torch.nn:LSTMCell"])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "torch.nn:GRU: ok"
    assert told[1].startswith("torch.nn:LSTMCell: ok (called step by step; ")


def test_capabilities_of_an_adapted_layer_are_probed_through_the_adapter():
    with named(RIGHT["a step"][0], "x") as name:
        for capability in ("carried_state", "empty_batch", "double_backward", "non_contiguous", "rejects_wrong_dtype"):
            found = probe(capability, tiny_subject(name, "cpu"))
            assert found.outcome == "works", (capability, found.detail)
    with named(NoStates, "x") as name:
        assert probe("missing_states", tiny_subject(name, "cpu")).outcome == "works"
        assert probe("carried_state", tiny_subject(name, "cpu")).outcome == "wrong"


def test_a_kind_that_does_not_fit_is_named_before_how_it_is_called():
    with named(RIGHT["pairs"][0], "x") as name, pytest.raises(InputError, match="this is an LSTM, not a GRU"):
        require_kind(name, "gru")


class ByNameAlone(nn.GRU):
    def forward(self, input, *, hx=None):
        return super().forward(input, hx)


class IgnoredByName(nn.GRU):
    """Wrong: it takes its state by name, and ignores it."""

    def forward(self, input, *, hx=None):
        return super().forward(input)


class BehindAMask(nn.GRU):
    def forward(self, x, mask=None, prev_state=None):
        return super().forward(x, prev_state)


class IgnoresItsSecond(nn.GRU):
    """Wrong: what it takes as its second argument changes nothing."""

    def forward(self, x, bias=None):
        return super().forward(x)


class InATuple(nn.GRU):
    def forward(self, input, states):
        (h0,) = states
        output, hn = super().forward(input, h0)
        return output, (hn,)


@pytest.mark.parametrize(
    ("layer", "right", "words"),
    [
        (ByNameAlone, True, "states given as hx="),
        (IgnoredByName, False, "states given as hx="),
        (BehindAMask, True, "states given as prev_state="),
        (IgnoresItsSecond, False, "states given as its second argument, bias, which ignores them"),
        (InATuple, True, "its state in a tuple"),
    ],
)
def test_states_go_to_the_argument_that_heeds_them(layer, right, words):
    report = check(layer)
    assert report.equivalent == right, report.explain()
    assert words in report.adapted[layer.__name__]
    assert right or "h0 ignored" in report.explain()
