"""The loop compiled is the loop, and was compiled; the loop as a CUDA graph is for GPUs alone."""

import pytest
import torch

from rnn_parity.compare.case import compare_case
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.faster_loops import CompiledLoop, GraphedLoop
from rnn_parity.workloads.layer import Layer

pytestmark = pytest.mark.filterwarnings("ignore")  # where it imports its compiler

CASE = Case("test", "cpu", "float32", False, 5, 8, 2, 3, 4, 0.2, 1)
SIZES = {"input_size": 5, "hidden_size": 8, "num_layers": 2, "dropout": 0.2}


def rows(candidate, regimes=("eval",)):
    return list(compare_case(Layer(), CASE, "stacking_gru_cell", [candidate], [0], regimes))


@pytest.mark.slow
def test_a_cuda_graph_is_unsupported_on_a_cpu():
    found = [row for row in rows("graphed_loop") if row["quantity"] == "output"]
    assert [(row["verdict"], row["reason"]) for row in found] == [
        ("unsupported", "a CUDA graph is not supported on a CPU")
    ]
    assert GraphedLoop(**SIZES).state_dict().keys() == CompiledLoop(**SIZES).state_dict().keys()


def test_the_compiler_gets_one_step_whatever_the_length(monkeypatch):
    compiled = []

    def compiler(call, **_):
        compiled.append(call)
        return call

    monkeypatch.setattr(torch, "compile", compiler)
    layer = CompiledLoop(**SIZES)
    assert len(compiled) == 1
    for steps in (1, 5):
        assert layer(torch.randn(steps, 4, 5), torch.randn(2, 4, 8))[0].shape == (steps, 4, 8)


@pytest.mark.slow
def test_compiled_it_agrees_with_the_loop_forward_and_backward():
    found = rows("compiled_loop", ("eval", "train_matched_masks"))
    assert {(row["verdict"], row["reason"]) for row in found} <= {("identical", ""), ("equivalent", "")}
    torch.compiler.reset()
