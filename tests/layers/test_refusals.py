"""A layer that cannot be called as PyTorch's is refused in one line: the call, what came back, where, what would do."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import rnn_parity
from rnn_parity.experiment.errors import InputError
from rnn_parity.layers.kinds import infer_kind

QUICK = {"seeds": [0], "capabilities": False, "life": False, "timing_seconds": 0, "device": "cpu", "regimes": ["eval"]}
LINE = r"^candidate: {name}: {why}; {name} \(.*test_refusals\.py:\d+\) fits with three lines: class Mine\({name}\): / "
LINE += r"def forward\(self, input, {argument}\): / {body}$"


class Loop(nn.Module):
    """A right GRU of cells, called and answering otherwise in each class below."""

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__()
        widths = [input_size] + [hidden_size] * (num_layers - 1)
        self.cells = nn.ModuleList(nn.GRUCell(width, hidden_size) for width in widths)
        self.dropout = dropout

    def run(self, input, h0):
        h, outputs = list(h0), []
        for x in input:
            for k, cell in enumerate(self.cells):
                h[k] = cell(x, h[k])
                x = F.dropout(h[k], self.dropout, self.training) if k < len(h) - 1 else h[k]
            outputs.append(x)
        return torch.stack(outputs), torch.stack(h)


class OnlyOutput(Loop):
    def forward(self, input, h0):
        return self.run(input, h0)[0]


class NoState(Loop):
    def forward(self, input, h0):
        output, _ = self.run(input, h0)
        return output, output.mean(-1)


class Swapped(Loop):
    def forward(self, input, h0):
        return self.run(input, h0)[::-1]


@dataclass
class Found:
    sequence: torch.Tensor
    state: torch.Tensor


class InDataclass(Loop):
    def forward(self, input, h0):
        return Found(*self.run(input, h0))


class StateFirst(Loop):
    def forward(self, hidden, x):
        return self.run(x, hidden)


class LengthsFirst(Loop):
    def forward(self, x, lengths, hidden=None):
        return self.run(x[:lengths], hidden)


class ByNameAlone(Loop):
    def forward(self, *, input, hx=None):
        return self.run(input, hx)


class InDict(Loop):
    def forward(self, input, h0):
        return dict(zip(("sequence", "state"), self.run(input, h0), strict=True))


class Nothing(Loop):
    def forward(self, input, h0):
        self.run(input, h0)


class ThirdArgument(Loop):
    def forward(self, input, h0, mask, *, scale=1):
        return self.run(input, h0)


class Flat(Loop):
    """Takes h0 as (B, L·H)."""

    def forward(self, input, h0):
        batch_size, _ = h0.shape
        return self.run(input, h0.view(batch_size, len(self.cells), -1).unbind(1))


class TwoDicts(nn.LSTM):
    def forward(self, input, states):
        output, (hn, cn) = super().forward(input, states)
        return {"output": output, "hn": hn, "cn": cn}


CALLED = r"called with input \(2, 7, 8\) and h0 \(3, 7, 16\)"
EXPECTED = r", expected output \(2, 7, 16\) and hn \(3, 7, 16\)"
REFUSED = {
    OnlyOutput: (rf"{CALLED} it gives \(2, 7, 16\){EXPECTED}", "…; return output, hn"),
    NoState: (rf"{CALLED} it gives \(\(2, 7, 16\), \(2, 7\)\){EXPECTED}", "…; return output, hn"),
    Swapped: (
        rf"{CALLED} it gives \(\(3, 7, 16\), \(2, 7, 16\)\){EXPECTED}",
        r"found = super\(\)\.forward\(input, h0\); return found\[1\], found\[0\]",
    ),
    InDataclass: (
        rf"{CALLED} it gives a Found of sequence \(2, 7, 16\), state \(3, 7, 16\){EXPECTED}",
        r"found = super\(\)\.forward\(input, h0\); return found\.sequence, found\.state",
    ),
    StateFirst: (
        rf"{CALLED}, or in any other way, it raises .*",
        r"return super\(\)\.forward\(h0, input\)",
    ),
    LengthsFirst: (
        rf"{CALLED}, or in any other way, it raises TypeError: .* missing 1 required positional argument: 'lengths'",
        r"return super\(\)\.forward\(input, lengths=…, hidden=h0\)",
    ),
    ByNameAlone: (
        r"its forward takes \(\*, input, hx=None\), expected \(input, h0\)",
        r"return super\(\)\.forward\(input=input, hx=h0\)",
    ),
    InDict: (
        rf"{CALLED} it gives a dict of sequence \(2, 7, 16\), state \(3, 7, 16\){EXPECTED}",
        r"found = super\(\)\.forward\(input, h0\); return found\['sequence'\], found\['state'\]",
    ),
    Nothing: (rf"{CALLED} it gives None{EXPECTED}", "…; return output, hn"),
    ThirdArgument: (
        r"its forward takes \(input, h0, mask, \*, scale=1\), expected \(input, h0\)",
        r"return super\(\)\.forward\(input, h0, mask=…\)",
    ),
    Flat: (
        rf"{CALLED}, or in any other way, it raises ValueError: too many values to unpack .*",
        r"return super\(\)\.forward\(…\)",
    ),
}


@pytest.mark.parametrize("layer", REFUSED)
def test_what_cannot_be_adapted_is_refused_in_one_line_that_ends_with_its_wrapper(layer):
    why, body = REFUSED[layer]
    with pytest.raises(InputError, match=LINE.format(name=layer.__name__, why=why, argument="h0", body=body)) as caught:
        rnn_parity.check("stacking_gru_cell", layer, **QUICK)
    assert "\n" not in str(caught.value)


def test_an_lstm_is_refused_with_both_its_states():
    why = r"called with input \(2, 7, 8\) and \(h0, c0\) \(\(4, 7, 16\), \(4, 7, 16\)\) it gives a dict .*, "
    why += r"expected output \(2, 7, 16\) and \(hn, cn\) \(4, 7, 16\) each"
    line = LINE.format(name="TwoDicts", why=why, argument="states", body=r"…; return output, \(hn, cn\)")
    with pytest.raises(InputError, match=line):
        rnn_parity.check("stacking_lstm_cell", TwoDicts, cell="lstm", **QUICK)


def test_the_wrapper_that_is_proposed_does():
    class Mine(InDict):
        def forward(self, input, h0):
            found = super().forward(input, h0)
            return found["sequence"], found["state"]

    assert rnn_parity.check("stacking_gru_cell", Mine, **QUICK).equivalent


class OneWidth(nn.GRU):
    """Raises at every size but its own."""

    def forward(self, input, h0=None):
        assert self.input_size == 7
        return super().forward(input, h0)


class OneWidthWrong(OneWidth):
    def forward(self, input, h0=None):
        output, hn = super().forward(input, h0)
        return output, hn.flip(0)


def test_a_layer_that_raises_at_other_sizes_than_the_case_has_is_compared():
    assert rnn_parity.check("stacking_gru_cell", OneWidth, **QUICK).equivalent
    assert rnn_parity.check("stacking_gru_cell", OneWidthWrong, **QUICK).answer.word == "no"
    with pytest.raises(InputError, match="or in any other way, it raises AssertionError"):
        rnn_parity.check("stacking_gru_cell", OneWidth, input_size=8, **QUICK)


class WidthsOf8(nn.LSTM):
    """Can be built at multiples of 8 alone."""

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        if input_size % 8 or hidden_size % 8:
            raise ValueError("widths must be multiples of 8")
        super().__init__(input_size, hidden_size, num_layers, dropout=dropout)


def test_the_kind_of_a_layer_whose_widths_are_multiples_of_8_is_told():
    assert infer_kind(f"{__name__}:WidthsOf8") == "lstm"
    with pytest.raises(InputError, match="this is an LSTM, not a GRU: --cell lstm"):
        rnn_parity.check("stacking_gru_cell", WidthsOf8, cell="gru", input_size=8, **QUICK)


class NotHere(nn.GRU):
    def forward(self, input, h0=None):
        raise NotImplementedError("no kernel for this machine")


def test_a_layer_that_says_what_it_cannot_do_has_its_verdict():
    report = rnn_parity.check("stacking_gru_cell", NotHere, **QUICK)
    assert set(report.equivalence["verdict"]) == {"unsupported"}


class Crash(nn.GRU):
    def forward(self, input, h0=None):
        raise ValueError("it went wrong")


def test_a_layer_that_crashes_has_its_verdict():
    report = rnn_parity.check("stacking_gru_cell", Crash, **QUICK)
    assert set(report.equivalence["verdict"]) == {"failed"}
    assert report.conclusion().endswith("output in eval failed: ValueError: it went wrong")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["OnlyOutput", "ThirdArgument", "Swapped"])
def test_the_commands_say_it_in_one_line_and_exit_with_2(name):
    for command in (["check", "--no-timing", "--no-capabilities"], ["validate"]):
        run = [sys.executable, "-m", "rnn_parity", *command, f"{__name__}:{name}"]
        done = subprocess.run(run, capture_output=True, text=True, check=False, env={"PYTHONPATH": ":".join(sys.path)})
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert " fits with three lines: class Mine(" in done.stderr
