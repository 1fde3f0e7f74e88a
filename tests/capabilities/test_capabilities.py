"""Each capability is found where it is, and each planted lack of it is found and named; nothing leaks."""

import dataclasses
import importlib.util
import itertools
import logging
import os
import re
import subprocess
import sys
import warnings
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from conftest import PROJECT
from rnn_parity import api as checking
from rnn_parity import capabilities
from rnn_parity.capabilities import CAPABILITIES, ProbeResult, Support, graphs, probe, probe_capabilities, tiny_subject
from rnn_parity.capabilities.isolation import one_line
from rnn_parity.capabilities.subject import NotProbed, Subject, disagreement
from rnn_parity.experiment.errors import InputError
from rnn_parity.tables import CAPABILITIES as TABLE
from rnn_parity.tables import read_table
from rnn_parity.trust.right import WrittenOut

CHEAP = [name for name in CAPABILITIES if name != "torch_compile"]

PROBE_ALL = """
import sys, pathlib
from rnn_parity.capabilities import probe_capabilities
from rnn_parity.tables import CAPABILITIES, write_rows
rows = probe_capabilities("stacking_gru_cell", ["stacking_gru", "torch.nn:GRU"], "cpu")
write_rows(pathlib.Path(sys.argv[1]), CAPABILITIES, list(rows))
"""


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """The rows of the default implementations, from a process in which no annotation is checked, and what it said."""
    path = tmp_path_factory.mktemp("capabilities") / "capabilities.parquet"
    command = [sys.executable, "-W", "error", "-c", PROBE_ALL, str(path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return read_table(path, TABLE).to_pylist()


@pytest.fixture(scope="module")
def outcomes(probed):
    return {(row["implementation"], row["capability"]): row["outcome"] for row in probed}


def found(capability, fault):
    return probe(capability, tiny_subject(f"test_capabilities:{fault}", "cpu"))


def test_every_implementation_has_a_row_for_every_capability_the_baselines_first(probed):
    names = ["stacking_gru_cell", "stacking_gru", "torch.nn:GRU"]
    assert [(r["implementation"], r["capability"]) for r in probed] == [(n, c) for n in names for c in CAPABILITIES]
    assert {row["baseline"] for row in probed} == {"stacking_gru_cell"}
    assert {row["outcome"] for row in probed} <= set(Support)
    assert all(row["agrees"] is None for row in probed[: len(CAPABILITIES)])


@pytest.mark.parametrize(
    ("capability", "loop", "wrapped", "fused"),
    [
        ("missing_h0", "refuses", "refuses", "works"),
        ("packed_sequence", "refuses", "works", "works"),
        ("batch_first", "refuses", "works", "works"),
        ("bidirectional", "refuses", "refuses", "works"),
        ("no_bias", "refuses", "refuses", "works"),
        ("vmap", "works", "refuses", "refuses"),
        ("torch_compile_fullgraph", "works", "refuses", "refuses"),
        ("empty_sequence", "refuses", "refuses", "refuses"),
    ],
)
def test_where_the_loop_and_the_fused_layer_part(outcomes, capability, loop, wrapped, fused):
    names = ("stacking_gru_cell", "stacking_gru", "torch.nn:GRU")
    assert tuple(outcomes[name, capability] for name in names) == (loop, wrapped, fused)


def test_all_else_works_in_all_of_them_or_says_what_it_lacks_here(probed):
    parting = {"missing_h0", "packed_sequence", "batch_first", "bidirectional", "no_bias", "vmap", "empty_sequence"}
    rest = [row for row in probed if row["capability"] not in parting | {"torch_compile_fullgraph"}]
    assert {(r["capability"], r["outcome"], r["detail"]) for r in rest if r["outcome"] != "works"} <= {
        ("cuda_graph", "not probed", "needs a CUDA device"),
        ("onnx_export", "not probed", "not installed: onnx, onnxscript"),
        *((r["capability"], "not probed", r["detail"]) for r in rest if r["capability"] == "torch_compile"),
    }


def test_where_both_work_their_numbers_agree(probed):
    assert {row["agrees"] for row in probed} == {True, None}
    agreeing = {row["capability"] for row in probed if row["agrees"]}
    assert {"double_backward", "forward_ad", "half_precision", "nan_propagation", "torch_export"} <= agreeing


def test_details_are_short_lines_for_people(probed):
    for row in probed:
        assert len(row["detail"]) <= 200
        assert "\n" not in row["detail"]
        assert (row["detail"] == "") <= (row["outcome"] == "works")
    details = {(row["implementation"], row["capability"]): row["detail"] for row in probed}
    assert details["torch.nn:GRU", "vmap"].startswith("RuntimeError: Batching rule not implemented for aten::gru")
    assert details["torch.nn:GRU", "torch_compile"].startswith(
        ("nothing of it is compiled", "torch.compile fails here")
    )


def test_every_capability_has_a_title_and_says_what_is_done():
    assert all(capability.title and capability.description.endswith(".") for capability in CAPABILITIES.values())
    assert len({capability.title for capability in CAPABILITIES.values()}) == len(CAPABILITIES)


# Planted faults: right layers, but for one thing each.


class OnesForMissingH0(nn.GRU):
    def forward(self, input, h0=None):
        return super().forward(input, torch.ones(2, 3, 6).to(input) if h0 is None else h0)


class RunsOverPadding(nn.GRU):
    def forward(self, input, h0):
        if not isinstance(input, PackedSequence):
            return super().forward(input, h0)
        return input, super().forward(pad_packed_sequence(input)[0], h0)[1]


class PadsPacked(nn.GRU):
    def forward(self, input, h0):
        return super().forward(pad_packed_sequence(input)[0] if isinstance(input, PackedSequence) else input, h0)


class ReversesUnbatched(nn.GRU):
    def forward(self, input, h0):
        return super().forward(input.flip(0) if input.dim() == 2 else input, h0)


class TransposesStates(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output, hn.transpose(0, 1) if self.batch_first else hn


class ForwardTwice(nn.GRU):
    def __init__(self, bidirectional=False, **sizes):
        super().__init__(**sizes)
        self.twice = bidirectional

    def forward(self, input, h0):
        if not self.twice:
            return super().forward(input, h0)
        output, hn = super().forward(input, h0[:1])
        return torch.cat([output, output], -1), torch.cat([hn, hn])


class KeepsBias(nn.GRU):
    def __init__(self, bias=True, **sizes):
        super().__init__(**sizes)


class ReadsStorage(nn.GRU):
    def forward(self, input, h0):
        return super().forward(input.as_strided(input.shape, input.new_empty(input.shape).stride()), h0)


class OneRowForNone(nn.GRU):
    def forward(self, input, h0):
        if not input.shape[1]:
            input, h0 = input.new_zeros(len(input), 1, 5), h0.new_zeros(2, 1, 6)
        return super().forward(input, h0)


class ZerosForNoSteps(nn.GRU):
    def forward(self, input, h0):
        return super().forward(input, h0) if len(input) else (h0.new_zeros(0, 3, 6), torch.zeros_like(h0))


class DetachesState(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output, hn.detach() + 0 * hn


class MakesFit(nn.GRU):
    def forward(self, input, h0):
        h0 = h0 if h0.shape[-1] > 1 else h0.expand(-1, -1, 6)
        return super().forward(input[..., :5].double(), h0[..., :6].double())


class RefusesAll(nn.GRU):
    def forward(self, input, h0):
        raise ValueError("not\ntoday")


class WrongInEval(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output if self.training else 2 * output.detach() - output, hn


class Once(torch.autograd.Function):
    """The identity, with a backward pass and nothing more."""

    @staticmethod
    def forward(ctx, input):
        return input.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient


class DifferentiableOnce(nn.GRU):
    def forward(self, input, h0):
        return super().forward(Once.apply(input), h0)


class UsesUpItsGraph(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        left = [1.0, 0.0]
        output.register_hook(lambda gradient: gradient * left.pop(0) if left else gradient)
        return output, hn


class NeedsInputGradient(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output if input.requires_grad else 2 * output - output.detach(), hn


class OwnGenerator(nn.GRU):
    generator = torch.Generator()

    def forward(self, input, h0):
        noise = torch.rand(input.shape, generator=self.generator, dtype=input.dtype)
        return super().forward(input * (noise if self.dropout else 1), h0)


class ReadsNumbers(nn.GRU):
    def forward(self, input, h0):
        return super().forward(input * float(input.detach().abs().max() > 0), h0)


class TangentOfAnother(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input):
        return input.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient

    @staticmethod
    def jvp(ctx, tangent):
        return 2 * tangent


class WrongTangent(nn.GRU):
    def forward(self, input, h0):
        return super().forward(TangentOfAnother.apply(input), h0)


class HidesNaN(nn.GRU):
    def forward(self, input, h0):
        return super().forward(input.nan_to_num(), h0)


class SpreadsNaN(nn.GRU):
    def forward(self, input, h0):
        return super().forward(input + 0 * input.sum(1, keepdim=True), h0)


class Overflows(WrittenOut):
    def sigmoid(self, x):
        return x.exp() / (1 + x.exp())


class SumsInAnyOrder(nn.GRU):
    def forward(self, input, h0):
        copy = torch.zeros_like(input).put_(torch.arange(input.numel()).view(input.shape), input)
        return super().forward(copy, h0)


class KeepsStateOnItself(WrittenOut):
    def carried(self, h, step, steps):
        self.state = h
        torch.linalg.inv(torch.eye(40))  # time for another thread
        return self.state


class WidensOutput(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output.to(torch.promote_types(output.dtype, torch.float32)), hn


class NarrowsUnderAutocast(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output.bfloat16() if torch.is_autocast_enabled("cpu") else output, hn


class WrongUnderAutocast(nn.GRU):
    def forward(self, input, h0):
        return super().forward(-input if torch.is_autocast_enabled("cpu") else input, h0)


class ScaleNotSaved(nn.GRU):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.scale = 1 + torch.rand(()).item()

    def forward(self, input, h0):
        return super().forward(self.scale * input, h0)


class HoldsALambda(nn.GRU):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.change = lambda tensor: tensor


class CopiesToItself(nn.GRU):
    def __deepcopy__(self, memo):
        return self


class StaysOnTheCpu(nn.GRU):
    def forward(self, input, h0):
        return (torch.zeros(4, 3, 6), torch.zeros(2, 3, 6)) if input.is_meta else super().forward(input, h0)


class CellLoop(nn.Module):
    """Right; and not annotated, as the compiler cannot see through the checks of annotations."""

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__()
        self.grus = nn.ModuleList(nn.GRUCell(width, hidden_size) for width in (input_size, hidden_size))

    def forward(self, input, h0):
        output, states = [], list(h0.unbind())
        for step in input.unbind():
            for layer, gru in enumerate(self.grus):
                step = states[layer] = gru(step, states[layer])
            output.append(step)
        return torch.stack(output), torch.stack(states)


class OtherWhenCompiled(CellLoop):
    def forward(self, input, h0):
        return super().forward(-input if torch.compiler.is_compiling() else input, h0)


class BreaksTheGraph(CellLoop):
    def forward(self, input, h0):
        input = 1.0 * input
        torch._dynamo.graph_break()
        return super().forward(input, h0)


FAULTS = [
    ("missing_h0", "OnesForMissingH0", "wrong", "output differs from that of a call with h0 = 0 by"),
    ("packed_sequence", "RunsOverPadding", "wrong", "output is float64 (4, 3, 5), that of each sequence alone"),
    ("packed_sequence", "PadsPacked", "wrong", "gives a Tensor, expected a PackedSequence"),
    ("unbatched", "ReversesUnbatched", "wrong", "output differs from that of the same row in a batch"),
    ("batch_first", "TransposesStates", "wrong", "gives hn (3, 2, 6), expected (2, 3, 6)"),
    ("bidirectional", "ForwardTwice", "wrong", "the second half of the output does not come from"),
    ("no_bias", "KeepsBias", "wrong", "it still has bias_hh_l0, bias_hh_l1"),
    ("non_contiguous", "ReadsStorage", "wrong", "output differs from that of a contiguous copy"),
    ("empty_batch", "OneRowForNone", "wrong", "gives output (4, 1, 6), expected (4, 0, 6)"),
    ("empty_sequence", "ZerosForNoSteps", "wrong", "hn differs from that of h0 by"),
    ("carried_state", "DetachesState", "wrong", "grad_input differs from that of the sequence at once"),
    ("rejects_wrong_input_size", "MakesFit", "wrong", "accepts input (4, 3, 6) with h0 (2, 3, 6)"),
    ("rejects_wrong_hidden_size", "MakesFit", "wrong", "accepts input (4, 3, 5) with h0 (2, 3, 7)"),
    ("rejects_wrong_layer_count", "Overflows", "wrong", "accepts input (4, 3, 5) with h0 (3, 3, 6)"),
    ("rejects_wrong_batch_size", "Overflows", "wrong", "accepts input (4, 3, 5) with h0 (2, 1, 6)"),
    ("rejects_wrong_dtype", "MakesFit", "wrong", "accepts input (4, 3, 5) with h0 (2, 3, 6), of torch.float32"),
    ("rejects_wrong_dtype", "RefusesAll", "refuses", "ValueError: not"),
    ("eval_backward", "WrongInEval", "wrong", "grad_input differs from that of training without dropout"),
    ("double_backward", "DifferentiableOnce", "refuses", "RuntimeError: trying to differentiate twice"),
    ("backward_twice", "UsesUpItsGraph", "wrong", "grad_input differs from that of the first backward pass"),
    ("some_gradients", "NeedsInputGradient", "wrong", "grad_h0 differs from that of a pass where all ask for one"),
    ("gradient_checkpointing", "OwnGenerator", "wrong", "differs from that of the plain pass"),
    ("forward_ad", "DifferentiableOnce", "refuses", "RuntimeError: "),
    ("vmap", "ReadsNumbers", "refuses", "RuntimeError: vmap"),
    ("per_sample_gradients", "DifferentiableOnce", "refuses", "RuntimeError: "),
    ("nan_propagation", "HidesNaN", "wrong", "output is NaN in other places"),
    ("nan_propagation", "SpreadsNaN", "wrong", "output is NaN in other places"),
    ("large_input", "Overflows", "wrong", "output is not finite"),
    ("repeatable", "OwnGenerator", "wrong", "output differs from that of the call before"),
    ("deterministic", "SumsInAnyOrder", "refuses", "RuntimeError: put_ does not have a deterministic"),
    ("multi_threading", "KeepsStateOnItself", "wrong", "thread"),  # a race: other numbers, or an error
    ("half_precision", "WidensOutput", "wrong", "gives output in torch.float32 where all is in torch.bfloat16"),
    ("autocast", "WrongUnderAutocast", "wrong", "output differs from that of float64"),
    ("state_dict", "ScaleNotSaved", "wrong", "output differs from that of the layer saved"),
    ("pickled", "HoldsALambda", "refuses", "local object 'HoldsALambda"),
    ("deepcopy", "CopiesToItself", "wrong", "output differs from that of the original before its copy was changed"),
    ("meta_device", "StaysOnTheCpu", "wrong", "gives a tensor on another device"),
    ("torch_export", "OtherWhenCompiled", "wrong", "output differs from that of the layer by"),
    ("torch_compile_fullgraph", "OtherWhenCompiled", "wrong", "output differs from that of the layer uncompiled"),
    ("torch_compile_fullgraph", "BreaksTheGraph", "refuses", "Unsupported: "),
]


@pytest.mark.parametrize(("capability", "fault", "outcome", "detail"), FAULTS)
def test_a_planted_fault_is_found_and_named(capability, fault, outcome, detail):
    finding = found(capability, fault)
    assert finding.outcome == outcome, finding.detail
    assert detail in finding.detail


def test_every_probe_finds_a_planted_fault():
    elsewhere = {"torch_compile", "onnx_export", "cuda_graph"}  # below, and where there is a GPU
    assert {capability for capability, *_ in FAULTS} | elsewhere == set(CAPABILITIES)


def test_the_planted_faults_are_right_otherwise():
    wrong_otherwise = {fault for _, fault, *_ in FAULTS if found("carried_state", fault).outcome != "works"}
    assert wrong_otherwise == {"DetachesState", "RefusesAll"}


def test_a_layer_that_refuses_everything_works_nowhere():
    outcomes = {name: found(name, "RefusesAll").outcome for name in CHEAP}
    assert set(outcomes.values()) <= {"refuses", "not probed"}


def test_numbers_that_are_not_the_baselines_are_said_to_differ(monkeypatch):
    chosen = {name: CAPABILITIES[name] for name in ("backward_twice", "autocast", "missing_h0")}
    monkeypatch.setattr(capabilities, "CAPABILITIES", chosen)
    candidates = ["test_capabilities:NarrowsUnderAutocast", "rnn_parity.trust.faults:StatesReversed"]
    rows = list(probe_capabilities("torch.nn:GRU", candidates, "cpu"))
    found = {(row["implementation"], row["capability"]): row for row in rows}
    assert found[candidates[0], "backward_twice"]["agrees"] is True
    narrow = found[candidates[0], "autocast"]
    assert (narrow["outcome"], narrow["agrees"]) == ("works", False)
    wanted = "output is bfloat16 (4, 3, 6), that of the baseline float32 (4, 3, 6)"
    assert narrow["detail"] == f"gives bfloat16 and float32; {wanted}"
    reversed_states = found[candidates[1], "backward_twice"]
    assert (reversed_states["outcome"], reversed_states["agrees"]) == ("works", False)
    assert "differs from that of the baseline by" in reversed_states["detail"]
    assert found[candidates[1], "missing_h0"]["agrees"] is None


def test_torch_compile_says_how_much_is_compiled_and_what_is_wrong(monkeypatch):
    compiled = graphs._compiled
    monkeypatch.setattr(graphs, "compiler_fault", lambda device: "")
    monkeypatch.setattr(graphs, "_compiled", lambda subject, _, fullgraph: compiled(subject, "aot_eager", fullgraph))
    layers = ("CellLoop", "BreaksTheGraph", "OtherWhenCompiled")
    whole, parts, other = (found("torch_compile", layer) for layer in layers)
    assert (whole.outcome, whole.detail) == ("works", "one graph")
    assert (parts.outcome, parts.detail) == ("works", "2 graphs")
    assert other.outcome == "wrong"
    assert "that of the layer uncompiled" in other.detail


def test_a_compiler_that_compiles_nothing_says_nothing_of_the_layer(monkeypatch):
    monkeypatch.setattr(graphs, "compiler_fault", lambda device: "InductorError: no compiler")
    finding = probe("torch_compile", tiny_subject("torch.nn:GRU", "cpu"))
    assert (finding.outcome, finding.numbers) == ("not probed", {})
    assert finding.detail.endswith("InductorError: no compiler")
    monkeypatch.setattr(graphs, "compiler_fault", lambda device: 200 * "x")
    assert len(probe("torch_compile", tiny_subject("torch.nn:GRU", "cpu")).detail) == 200


class Pretended(Subject):
    """On a GPU that is not there: it computes on the CPU."""

    def construct(self, **keywords):
        return tiny_subject(self.name, "cpu").construct(**keywords)

    def arguments(self):
        return tiny_subject(self.name, "cpu").arguments()

    def cotangents(self):
        return tiny_subject(self.name, "cpu").cotangents()


def pretended(name="torch.nn:GRU"):
    subject = tiny_subject(name, "cpu")
    return Pretended(name, dataclasses.replace(subject.case, device="cuda"))


def test_a_graph_that_cannot_be_captured_leaves_the_stream_as_it_was(monkeypatch):
    """As torch.cuda.graph does: it enters a stream of its own, and where the capture cannot end, stays there."""

    class Stream:
        def wait_stream(self, stream):
            pass

    default = Stream()
    current = [default]

    @contextmanager
    def stream(other):
        before, current[0] = current[0], other
        yield
        current[0] = before

    @contextmanager
    def graph(_):
        current[0] = Stream()
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    fakes = {"Stream": Stream, "stream": stream, "CUDAGraph": object, "graph": graph}
    fakes |= {"current_stream": lambda: current[0], "set_stream": lambda other: current.__setitem__(0, other)}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    with pytest.raises(RuntimeError, match="during capture"):
        CAPABILITIES["cuda_graph"].probe(pretended())
    assert current == [default]


def test_a_graph_is_captured_after_all_else_and_shown_in_its_place(monkeypatch):
    tried, names = [], ["torch.nn:GRU", "stacking_gru"]

    def spy(capability, subject):
        tried.append((subject.name, capability))
        return ProbeResult()

    monkeypatch.setattr(capabilities, "probe", spy)
    rows = list(probe_capabilities(names[0], names[1:], "cpu"))
    every = list(itertools.product(names, CAPABILITIES))
    assert [(row["implementation"], row["capability"]) for row in rows] == every
    assert sorted(tried) == sorted(every)
    assert tried[-2:] == [(name, "cuda_graph") for name in names]


def test_a_check_times_before_it_probes(monkeypatch):
    steps = []
    monkeypatch.setattr(checking, "probe_capabilities", lambda *_: steps.append("probe") or iter([]))
    monkeypatch.setattr(checking, "time_case", lambda *_, **__: steps.append("time") or ([], []))
    checking.check("stacking_gru_cell", "stacking_gru", seeds=[0], regimes=["eval"])
    assert steps == ["time", "probe"]


def test_deterministic_algorithms_are_probed_on_a_gpu_where_the_workspace_allows_it(monkeypatch):
    (set_by_the_rule,) = re.findall(
        r"CUBLAS_WORKSPACE_CONFIG=(\S+?)\"", (PROJECT / "workflow/rules/trust.smk").read_text()
    )
    deterministic = CAPABILITIES["deterministic"].probe
    for allowed in (set_by_the_rule, ":16:8"):
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", allowed)
        assert deterministic(pretended()).outcome == "works"
    for other in (":4096:2:16:8", "1", ""):
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", other)
        with pytest.raises(NotProbed, match=":4096:8"):
            deterministic(pretended())
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with pytest.raises(NotProbed, match=":4096:8"):
        deterministic(pretended())


def test_onnx_is_not_needed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    finding = probe("onnx_export", tiny_subject("torch.nn:GRU", "cpu"))
    assert (finding.outcome, finding.detail) == ("not probed", "not installed: onnx, onnxscript")


@pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="onnxscript is not installed")
def test_an_export_to_onnx_that_computes_another_thing_is_wrong():
    finding = found("onnx_export", "OtherWhenCompiled")
    assert (finding.outcome, finding.detail.split(" by ")[0]) == ("wrong", "output differs from that of the layer")


def test_nothing_is_left_changed():
    def settings():
        return [
            torch.get_rng_state().tolist(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
            logging.root.manager.disable,
            warnings.filters[:],
            dict(os.environ),
            sys.stdout,
            sys.stderr,
        ]

    torch.manual_seed(7)
    before = settings()
    for name in CHEAP:
        found(name, "SumsInAnyOrder")
        found(name, "RefusesAll")
        assert settings() == before, name


def test_what_cannot_be_built_at_all_is_the_users_to_mend():
    with pytest.raises(InputError, match="cannot be imported"):
        next(probe_capabilities("torch.nn:GRU", ["nowhere:Class"], "cpu"))
    with pytest.raises(InputError, match="cannot be called with"):
        list(probe_capabilities("torch.nn:Conv1d", [], "cpu"))


def test_a_layer_whose_weights_do_not_fit_refuses():
    finding = probe("non_contiguous", tiny_subject("torch.nn:LSTM", "cpu"))
    assert finding.outcome == "refuses"
    assert finding.detail.startswith("WeightError: LSTM: weight_ih_l0 is (24, 5)")


def test_an_error_is_one_line_without_folders_and_addresses():
    error = RuntimeError("\n  <f at 0x7f00deadbeef> in /home/me/lib/torch/x.py, see https://a.org/b/c\nand more")
    assert one_line(error) == "RuntimeError: <f at 0x…> in x.py, see https://a.org/b/c"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line(ValueError("y" * 1000))) == 200


def test_results_are_the_same_only_where_every_entry_is():
    one, nan, inf = torch.ones(2), torch.tensor([1.0, torch.nan]), torch.tensor([1.0, torch.inf])
    for value in (one, nan, inf, torch.zeros(2), torch.zeros(0)):
        assert disagreement({"x": value}, {"x": value.clone()}, "y", tolerance=0.0) == ""
    others = [
        (one, nan),
        (one, inf),
        (inf, -inf),
        (inf, one),
        (one, torch.zeros(2)),
        (one, one.double()),
        (one, one[:1]),
    ]
    for value, like in others:
        assert disagreement({"x": value}, {"x": like}, "y").startswith("x ")
