"""Each capability is found where it is, probes leave nothing behind, and numbers are compared."""

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
from typing import ClassVar

import pytest
import torch

from conftest import PROJECT
from rnn_parity import api as checking
from rnn_parity.capabilities import export, probing
from rnn_parity.capabilities.probing import CAPABILITIES, probe, probe_capabilities, tiny_subject
from rnn_parity.capabilities.subject import NotProbed, ProbeResult, Subject, Support, disagreement, one_line
from rnn_parity.cells.gru import GRU
from rnn_parity.experiment.errors import InputError
from rnn_parity.steps import Steps
from rnn_parity.tables import CAPABILITIES as TABLE
from rnn_parity.tables import read_table

CHEAP = [name for name in CAPABILITIES if name != "torch_compile"]

PROBE_ALL = """
import sys, pathlib
from rnn_parity.capabilities.probing import probe_capabilities
from rnn_parity.tables import CAPABILITIES, write_rows
cell, baseline, *candidates = sys.argv[2:]
rows = probe_capabilities(baseline, candidates, "cpu", cell=cell)
write_rows(pathlib.Path(sys.argv[1]), CAPABILITIES, list(rows))
"""


@pytest.fixture(scope="module", params=["gru", "lstm"])
def cell(request):
    return request.param


@pytest.fixture(scope="module")
def names(cell):
    """A loop over cells, the fused layer wrapped, and the fused layer itself."""
    return f"stacking_{cell}_cell", f"stacking_{cell}", f"torch.nn:{cell.upper()}"


@pytest.fixture(scope="module")
def probed(tmp_path_factory, cell, names):
    """The rows of the default implementations, from a process in which no annotation is checked, and what it said."""
    path = tmp_path_factory.mktemp("capabilities") / "capabilities.parquet"
    command = [sys.executable, "-W", "error", "-c", PROBE_ALL, str(path), cell, *names]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return read_table(path, TABLE).to_pylist()


@pytest.fixture(scope="module")
def outcomes(probed):
    return {(row["implementation"], row["capability"]): row["outcome"] for row in probed}


def found(capability, fault):
    return probe(capability, tiny_subject(f"lacking:{fault}", "cpu"))


@pytest.mark.slow
def test_every_implementation_has_a_row_for_every_capability_the_baselines_first(probed, names):
    assert [(r["implementation"], r["capability"]) for r in probed] == [(n, c) for n in names for c in CAPABILITIES]
    assert {row["baseline"] for row in probed} == {names[0]}
    assert {row["outcome"] for row in probed} <= set(Support)
    assert all(row["agrees"] is None for row in probed[: len(CAPABILITIES)])


@pytest.mark.parametrize(
    ("capability", "loop", "wrapped", "fused"),
    [
        ("missing_states", "refuses", "refuses", "works"),
        ("packed_sequence", "refuses", "works", "works"),
        ("batch_first", "refuses", "works", "works"),
        ("bidirectional", "refuses", "refuses", "works"),
        ("no_bias", "refuses", "refuses", "works"),
        ("vmap", "works", "refuses", "refuses"),
        ("torch_compile_fullgraph", "works", "refuses", "refuses"),
        ("empty_sequence", "refuses", "refuses", "refuses"),
    ],
)
def test_where_the_loop_and_the_fused_layer_part(outcomes, cell, names, capability, loop, wrapped, fused):
    if (cell, capability) == ("lstm", "vmap"):
        loop = "refuses"  # aten::lstm_cell has no batching rule
    assert tuple(outcomes[name, capability] for name in names) == (loop, wrapped, fused)


def lacks_primitive(row):
    """Whether it is nn.LSTM in bfloat16 on a CPU without AVX-512, for which oneDNN has no kernel."""
    return row["capability"] == "autocast" and "could not create a primitive descriptor" in row["detail"]


def test_all_else_works_in_all_of_them_or_says_what_it_lacks_here(probed):
    parting = {"missing_states", "packed_sequence", "batch_first", "bidirectional", "no_bias", "vmap", "empty_sequence"}
    rest = [row for row in probed if row["capability"] not in parting | {"torch_compile_fullgraph"}]
    rest = [row for row in rest if not lacks_primitive(row)]
    assert {(r["capability"], r["outcome"], r["detail"]) for r in rest if r["outcome"] != "works"} <= {
        ("cuda_graph", "not probed", "needs a CUDA device"),
        ("onnx_export", "not probed", "not installed: onnx, onnxscript"),
        *((r["capability"], "not probed", r["detail"]) for r in rest if r["capability"] == "torch_compile"),
    }


def test_where_both_work_their_numbers_agree(probed, cell):
    apart = {row["capability"] for row in probed if row["agrees"] is False}
    lacking = {row["capability"] for row in probed if lacks_primitive(row)}
    # nn.LSTMCell gives float32 there, nn.LSTM bfloat16
    assert apart == ({"autocast"} - lacking if cell == "lstm" else set())
    agreeing = {row["capability"] for row in probed if row["agrees"]}
    assert {"double_backward", "forward_ad", "half_precision", "nan_propagation", "torch_export"} <= agreeing


def test_details_are_short_lines_for_people(probed, cell, names):
    for row in probed:
        assert len(row["detail"]) <= 200
        assert "\n" not in row["detail"]
        assert (row["detail"] == "") <= (row["outcome"] == "works")
    details = {(row["implementation"], row["capability"]): row["detail"] for row in probed}
    assert details[names[2], "vmap"].startswith(f"RuntimeError: Batching rule not implemented for aten::{cell}")
    assert details[names[2], "torch_compile"].startswith(("nothing of it is compiled", "torch.compile fails here"))


def test_numbers_that_are_not_the_baselines_are_said_to_differ(monkeypatch):
    chosen = {name: CAPABILITIES[name] for name in ("backward_twice", "autocast", "missing_states")}
    monkeypatch.setattr(probing, "CAPABILITIES", chosen)
    candidates = ["lacking:NarrowsUnderAutocast", "rnn_parity.trust.faults:StatesReversed"]
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
    assert found[candidates[1], "missing_states"]["agrees"] is None


@pytest.mark.slow
def test_torch_compile_says_how_much_is_compiled_and_what_is_wrong(monkeypatch):
    compiled = export._compiled
    monkeypatch.setattr(export, "_compiled", lambda subject, _, fullgraph: compiled(subject, "aot_eager", fullgraph))
    layers = ("CellLoop", "BreaksTheGraph", "OtherWhenCompiled")
    whole, parts, other = (found("torch_compile", layer) for layer in layers)
    assert (whole.outcome, whole.detail) == ("works", "one graph")
    assert (parts.outcome, parts.detail) == ("works", "2 graphs")
    assert other.outcome == "wrong"
    assert "that of the layer uncompiled" in other.detail


def test_a_compiler_that_compiles_nothing_says_nothing_of_the_layer(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("cannot compile this")

    monkeypatch.setattr(export, "compiler_error", lambda device: "InductorError: no compiler")
    monkeypatch.setattr(export, "_compiled", fail)
    finding = probe("torch_compile", tiny_subject("torch.nn:GRU", "cpu"))
    assert (finding.outcome, finding.numbers) == ("not probed", {})
    assert finding.detail.endswith("InductorError: no compiler")
    monkeypatch.setattr(export, "compiler_error", lambda device: "")
    finding = probe("torch_compile", tiny_subject("torch.nn:GRU", "cpu"))
    assert (finding.outcome, finding.detail) == ("refuses", "RuntimeError: cannot compile this")


class Pretended(Subject):
    """On a GPU that is not there: it computes on the CPU."""

    def construct(self, **keywords):
        return tiny_subject(self.name, "cpu").construct(**keywords)

    @property
    def stimulus(self):
        return tiny_subject(self.name, "cpu").stimulus


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

    monkeypatch.setattr(probing, "probe", spy)
    rows = list(probe_capabilities(names[0], names[1:], "cpu"))
    every = list(itertools.product(names, CAPABILITIES))
    assert [(row["implementation"], row["capability"]) for row in rows] == every
    assert sorted(tried) == sorted(every)
    assert tried[-2:] == [(name, "cuda_graph") for name in names]


def test_a_check_times_before_it_probes(monkeypatch):
    done = []
    monkeypatch.setattr(Steps, "probe", lambda *_: done.append("probe") or [])
    monkeypatch.setattr(Steps, "time", lambda *_: done.append("time") or [])
    checking.check("stacking_gru_cell", "stacking_gru", seeds=[0], regimes=["eval"], life=False)
    assert done == ["time", "probe"]


def test_deterministic_algorithms_are_probed_on_a_gpu_where_the_workspace_allows_it(monkeypatch):
    command = (PROJECT / "src/rnn_parity/commands/rules.py").read_text()
    (set_by_the_rule,) = re.findall(r'"CUBLAS_WORKSPACE_CONFIG", "([:\w]+)"', command)
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


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="onnxscript is not installed")
def test_an_export_to_onnx_that_computes_another_thing_is_wrong():
    finding = found("onnx_export", "OtherWhenCompiled")
    assert (finding.outcome, finding.detail.split(" by ")[0]) == ("wrong", "output differs from that of the layer")


@pytest.mark.slow
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


def test_a_detail_is_no_longer_than_a_table_shows(monkeypatch):
    monkeypatch.setattr(probing, "probe", lambda *_: ProbeResult(detail=201 * "y"))
    assert {row["detail"] for row in probe_capabilities("torch.nn:GRU", [], "cpu")} == {199 * "y" + "…"}


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


def test_what_the_system_refuses_is_not_probed(monkeypatch):
    def probe_of_a_full_disk(subject):
        raise RuntimeError("backend failed") from OSError(28, "No space left on device")

    for name, capability in CAPABILITIES.items():
        monkeypatch.setitem(CAPABILITIES, name, dataclasses.replace(capability, probe=probe_of_a_full_disk))
        assert probe(name, tiny_subject("stacking_gru", "cpu")).outcome == Support.NOT_PROBED


@pytest.mark.parametrize("elsewhere", [True, False])
def test_the_compiler_writes_elsewhere_where_its_cache_takes_no_file(monkeypatch, tmp_path, elsewhere):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/proc/none" if elsewhere else str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    probing._find_room_for_compiler()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"].startswith(
        str(tmp_path / ("torchinductor_" if elsewhere else "cache"))
    )


class StateOfAnotherLetter(GRU):
    """A kind of cell whose state is not h."""

    states = ("s",)
    bounds: ClassVar = {"s": 1.0}


@pytest.mark.parametrize("name", CHEAP)
def test_a_probe_asks_for_no_letter_of_a_state(name):
    found, usual = (
        probe(name, tiny_subject("torch.nn:GRU", "cpu", cell=cell))
        for cell in (f"{__name__}:StateOfAnotherLetter", "gru")
    )
    assert (found.outcome, found.detail) == (usual.outcome, usual.detail)


def test_what_is_tried_on_a_lost_device_is_not_probed(monkeypatch):
    def lost(subject):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setitem(CAPABILITIES, "lost", probing.Capability("is lost", lost))
    found = probe("lost", tiny_subject("stacking_gru", "cpu"))
    assert found.outcome == Support.NOT_PROBED
    assert found.detail.startswith("the device is lost: ")


class DrawnAsNormal(torch.nn.GRU):
    """Draws its first weights fourteen times as large."""

    def reset_parameters(self):
        for weight in self.parameters():
            torch.nn.init.normal_(weight)


@pytest.mark.parametrize(("candidate", "agrees"), [("stacking_gru", True), (f"{__name__}:DrawnAsNormal", False)])
def test_first_weights_are_compared_by_their_size(candidate, agrees, monkeypatch):
    monkeypatch.setattr(probing, "CAPABILITIES", {"initial_weights": CAPABILITIES["initial_weights"]})
    ours, theirs = probe_capabilities("stacking_gru_cell", [candidate], "cpu")
    assert (ours["outcome"], theirs["outcome"], theirs["agrees"]) == ("works", "works", agrees)
    assert theirs["detail"].startswith(
        "" if agrees else "the size of weight_ih_l0 differs from that of the baseline by "
    )
