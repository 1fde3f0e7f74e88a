"""A compiled layer is checked without the compiler reading the code that watches it, and the report says how it ran."""

import torch
from torch import nn

import rnn_parity
from rnn_parity.dropout.masks import DropoutRecorder
from rnn_parity.layers.registry import adapter_of, named
from rnn_parity.layers.running import LightDispatchMode


class Watching(LightDispatchMode):
    """Watches as the recorder does."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def test_the_compiler_reads_no_code_of_a_mode():
    from torch._dynamo.testing import CompileCounter

    for mode in (Watching(), DropoutRecorder()):
        torch._dynamo.reset()
        counter = CompileCounter()
        with mode:
            torch.compile(nn.Dropout(0.5), backend=counter)(torch.ones(4, 5))
        assert counter.frame_count == 0
    torch._dynamo.reset()
    torch.compile(nn.Dropout(0.5), backend=counter)(torch.ones(4, 5))
    assert counter.frame_count == 1  # else nothing is compiled anyway
    torch._dynamo.reset()


def Compiled(**sizes):
    return torch.compile(nn.GRU(**sizes), backend="eager")


def test_the_report_says_that_a_layer_is_compiled_and_where_it_is_not():
    report = rnn_parity.check(
        "stacking_gru_cell", Compiled, capabilities=False, timing_seconds=0, life=False, seeds=[0]
    )
    assert report.equivalent, report.explain()
    assert report.adapted == {"Compiled": "compiled, but run as it was where its dropout masks are seen"}
    torch._dynamo.reset()


def test_a_compiled_layer_that_fits_is_called_as_it_is():
    with named(Compiled, "candidate") as name:
        how = adapter_of(name, "gru")
        assert (how.compiled, how == how.plain) == (True, True)
