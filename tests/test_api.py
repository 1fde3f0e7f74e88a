"""One candidate against one baseline without a config: what holds, what does not, and what is said of it."""

import dataclasses
import functools
import io
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

import rnn_parity
from conftest import PROJECT
from faults import Crash, HiddenDropout, OutOfMemory, Unrepeatable, Unsupported, WrongShape
from rnn_parity.api import check
from rnn_parity.capabilities import probing
from rnn_parity.capabilities.probing import CAPABILITIES
from rnn_parity.commands.cli import app
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.names import REGISTRY
from rnn_parity.experiment.presets import PRESETS
from rnn_parity.layers.stepwise import StackingGRUCellLoop
from rnn_parity.report.terminal import Screen
from rnn_parity.steps import Steps
from rnn_parity.trust import faults as mutants
from rnn_parity.trust import gru_faults

LOOP = "stacking_gru_cell"
QUICK = {"device": "cpu", "seeds": [0], "life": False, "capabilities": False, "timing_seconds": 0.0}
FEW = ("missing_states", "packed_sequence", "vmap", "non_contiguous", "carried_state")


@pytest.fixture(autouse=True)
def _registry_as_before():
    before = dict(REGISTRY)
    yield
    assert before == REGISTRY


@pytest.fixture
def few_capabilities(monkeypatch):
    """Without the compiler's, which take seconds."""
    monkeypatch.setattr(probing, "CAPABILITIES", {name: CAPABILITIES[name] for name in FEW})


def quick(candidate, baseline=LOOP, **options):
    return check(baseline, candidate, **QUICK | options)


def test_where_nothing_was_compared_it_is_not_shown():
    report = quick("stacking_gru", regimes=["train_distribution"], num_layers=1)
    assert report.conclusion().endswith(", because nothing was compared: the case draws no dropout")
    assert report.explain().startswith(report.conclusion())
    assert (report.as_dict()["answer"], report.equivalent) == ("not shown", False)


def printed(report, is_terminal=False):
    console = Console(file=io.StringIO(), width=80, force_terminal=is_terminal, color_system=None)
    Screen(console).show(report)
    return console.file.getvalue()


def sentence(text):
    return " ".join(text.split())


def test_the_package_offers_check_without_importing_torch():
    assert rnn_parity.check is check
    assert rnn_parity.InputError is InputError
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = rnn_parity.absent
    code = "import sys, rnn_parity; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_fused_layer_holds():
    report = quick("torch.nn:GRU")
    assert report.equivalent, report.explain()
    assert (report.answer.word, report.answer.verdict) == ("yes, when", "equivalent")
    held = report.equivalence[report.equivalence["regime"] != "train_same_seed"]
    assert report.answer.deciding["ratio"] == held["ratio"].max()
    assert report.capabilities is None
    assert report.timing is None
    assert report.speedups().empty
    assert report.capability_differences().empty
    assert report.answer.same_seed.differing == 1
    assert report.conclusion() == (
        "yes: torch.nn:GRU may replace stacking_gru_cell, because every quantity, forward and backward, is within its "
        "limit; note that the same seed gives other dropout masks"
    )


def test_the_same_layer_is_identical_and_there_is_nothing_to_mind():
    report = quick(StackingGRUCellLoop)
    assert report.answer.verdict == "identical"
    assert report.conclusion().endswith(", because every quantity, forward and backward, is bit for bit the same")


def test_one_quantity_that_is_not_identical_makes_the_verdict_and_the_nearest_to_its_limit_is_named():
    report = quick(StackingGRUCellLoop)
    rows = report.equivalence.assign(ratio=0.5)
    rows.loc[3, ["verdict", "ratio"]] = "equivalent", 0.1
    rows.loc[5, "ratio"] = 0.6
    report = dataclasses.replace(report, equivalence=rows)
    assert (report.answer.verdict, report.answer.deciding["quantity"]) == ("equivalent", rows["quantity"][5])
    assert "is within its limit" in report.conclusion()
    assert f"  eval: equivalent\n    {rows['quantity'][5]}: " in report.explain()


@pytest.mark.slow
def test_a_fault_of_the_forward_pass_is_named_by_what_it_does_to_it():
    report = quick(mutants.FinalStatesReversed)
    assert (report.equivalent, report.answer.verdict) == (False, "different")
    assert report.conclusion() == (
        "no: FinalStatesReversed may not replace stacking_gru_cell, because hn in eval is different: it has its "
        "layers 0 and 2 swapped; its numbers are those of a layer with this fault: hn with its layers in reverse order"
    )
    assert "at fault: all but output" in report.explain()


@pytest.mark.slow
def test_a_fault_of_the_backward_pass_is_named_by_its_gradients():
    report = quick(gru_faults.BiasGradientCopied)
    assert not report.equivalent
    assert report.answer.deciding["quantity"].startswith("grad_bias_hh_l")
    assert "at fault: grad_bias_hh_l0, grad_bias_hh_l1, grad_bias_hh_l2\n" in report.explain()


def test_a_wrong_baseline_gets_the_cause():
    report = quick("torch.nn:GRU", baseline=gru_faults.ResetBeforeProduct)
    assert report.conclusion().endswith(
        "; the baseline's numbers are those of a layer with this fault: reset gate applied before the recurrent product"
    )


@pytest.mark.slow
def test_where_no_fault_is_known_another_quantity_may_tell():
    class CutAtFive(StackingGRUCellLoop):
        def forward(self, input, h0):
            first, h = super().forward(input[:5], h0)
            rest, hn = super().forward(input[5:], h + 0.5 * (h.detach() - h))
            return torch.cat([first, rest]), hn

    report = quick(CutAtFive, regimes=["eval"])
    assert report.answer.deciding["reason"].startswith("error is")
    assert re.search(
        r"× its limit; grad_input is wrong only up to step 4 of 12, by [\d.e+]+× its limit$", report.conclusion()
    )


def test_a_yes_looks_for_no_cause(monkeypatch):
    monkeypatch.setattr(Steps, "cause", pytest.fail)
    assert quick("torch.nn:GRU").cause == ""


def test_a_fault_of_dropout_is_not_blamed_on_eval():
    report = quick(mutants.DropoutNotRescaled)
    assert "because output in train_matched_masks is different" in report.conclusion()
    assert "eval: different" not in report.explain()


def test_classes_and_callables_need_no_import_path():
    class Layer(nn.GRU):
        pass

    for candidate, name in [
        (nn.GRU, "GRU"),
        (Layer, "Layer"),
        (functools.partial(Layer, batch_first=False), "Layer"),
        (lambda **sizes: Layer(**sizes), "<lambda>"),
    ]:
        report = quick(candidate, regimes=["eval"])
        assert report.equivalent, report.explain()
        assert report.candidate == name
    assert set(report.equivalence["implementation"]) == {"<lambda>"}


def test_the_baseline_may_be_an_object_too_even_of_the_same_name():
    mine = type("GRU", (nn.GRU,), {})
    report = quick(mine, baseline=nn.GRU)
    assert report.equivalent
    assert (report.baseline, report.candidate) == ("GRU", "GRU-2")
    assert report.answer.verdict == "identical"


def test_a_name_is_given_back_after_an_error():
    given = []

    def fail(step):
        given.append(REGISTRY["GRU"])
        raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        quick(nn.GRU, progress=fail)
    assert given == [nn.GRU]
    assert "GRU" not in REGISTRY


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [HiddenDropout, Unrepeatable])
def test_a_layer_as_cudnns_is_judged_by_its_own_masks_or_without_dropout_and_by_the_law_of_its_outputs(hidden):
    class Fused(hidden):
        def forward(self, input, h0):
            output, hn = super().forward(input, h0)
            if not self.training and output.requires_grad:
                output.register_hook(Unsupported._refuse)
            return output, hn

    report = quick(Fused)
    assert report.equivalent, report.explain()
    assert report.explain().startswith(
        "yes: Fused may replace stacking_gru_cell, because every quantity, forward and backward, is within its limit, "
        "dropout by the distribution of many draws"
    )
    assert "  eval: unsupported\n    grad_input: cudnn RNN backward can only" in report.explain()
    if hidden is Unrepeatable:
        assert "  train_matched_masks: not judged\n" in report.explain()
        assert "  train_matched_masks (p=0): identical\n" in report.explain()
    else:
        assert "  train_matched_masks: equivalent\n" in report.explain()
    assert "  train_distribution: equivalent\n" in report.explain()

    class TooMuch(hidden):
        def __init__(self, *, dropout, **sizes):
            super().__init__(dropout=1.5 * dropout, **sizes)

    report = quick(TooMuch)
    assert report.answer.word == "no"
    assert "different" in set(report.equivalence.query("regime == 'train_distribution'")["verdict"])


def test_what_one_regime_cannot_judge_another_may():
    assert quick(Unsupported).equivalent
    report = quick(Unsupported, regimes=["eval"])
    assert (report.answer.word, report.equivalent, report.answer.verdict) == ("open", False, "unsupported")
    assert "because grad_input could not be judged: cudnn RNN" in report.conclusion()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (Crash, "output in eval failed: ValueError: it went wrong"),
        (OutOfMemory, "because output could not be judged: out of memory: CUDA out of memory."),
        (WrongShape, "hn in eval is different: gives (1, 4, 16) torch.float32, expected (3, 4, 16) torch.float32"),
    ],
)
def test_a_layer_that_fails_is_a_result(candidate, reason):
    report = quick(candidate, timing_seconds=0.01)
    assert not report.equivalent
    assert reason in report.conclusion()
    assert reason in sentence(printed(report))
    assert "Traceback" not in report.explain()


def test_a_layer_that_fails_when_it_is_built_is_a_result():
    def broken(**sizes):
        raise RuntimeError("no such kernel")

    assert "failed: RuntimeError: no such kernel" in quick(broken).conclusion()


@pytest.mark.usefixtures("few_capabilities")
def test_what_the_layers_can_do_besides():
    report = quick("torch.nn:GRU", capabilities=True, regimes=["eval"])
    differences = report.capability_differences().set_index("capability")
    assert list(differences.index) == ["vmap", "missing_states", "packed_sequence"]  # what would be lost comes first
    assert list(differences["lost"]) == [True, False, False]
    gained = differences.loc["missing_states"]
    assert (gained["baseline"], gained["candidate"]) == ("refuses", "works")
    assert "argument: 'states'" in gained["detail"]
    assert "note what would be lost: torch.func.vmap" in report.conclusion()
    assert "Input without states: the baseline refuses, the candidate works (TypeError" in report.explain()
    assert "the same in 2 of 5 capabilities" in printed(report)


@pytest.mark.usefixtures("few_capabilities")
def test_other_numbers_are_a_difference_though_both_work():
    report = quick(mutants.StateIgnored, capabilities=True, regimes=["eval"])
    carried = report.capability_differences().set_index("capability").loc["non_contiguous"]
    assert (carried["baseline"], carried["candidate"], carried["lost"]) == ("works", "works", True)
    assert "differs from that of the baseline" in carried["detail"]


def test_what_is_gained():
    report = quick("torch.nn:GRU", timing_seconds=0.01, regimes=["eval"])
    assert list(report.speedups()["phase"]) == ["inference", "step"]
    low, high = report.speedups().iloc[0][["speedup_ci_low", "speedup_ci_high"]]
    assert f"× [{low:.2f}, {high:.2f}], " in report.explain()
    assert f"× [{low:.2f}, {high:.2f}], " in printed(report)


@pytest.mark.slow
def test_the_printed_report_fits_and_needs_no_colour():
    report = quick(HiddenDropout)
    text = printed(report, is_terminal=True)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "faults" not in text.lower()
    assert sentence(text).startswith(sentence(report.conclusion()))
    assert report.conclusion() in printed(report).splitlines(), "for `grep`, a sentence is one line"


def test_sizes_come_from_a_preset_and_what_is_given_goes_before():
    report = quick(nn.GRU, like="article", seeds=None, hidden_size=6, regimes=["eval"])
    sizes, seeds = PRESETS["article"]
    assert seeds == (1215,)
    assert set(report.equivalence["seed"]) == {1215}
    expected = {**sizes, "hidden_size": 6, "device": "cpu", "dtype": "float32"}
    assert {key: getattr(report.case, key) for key in expected} == expected
    assert dataclasses.replace(report.case, **PRESETS["t2vec"][0]).batch_size == 128


def test_other_dtypes():
    assert quick(nn.GRU, dtype="bfloat16", regimes=["eval"]).equivalent
    assert set(quick(nn.GRU, dtype="float64", regimes=["eval"]).equivalence["dtype"]) == {"float64"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"like": "tvec"}, "like: holds 'tvec', expected one of small, article, t2vec"),
        ({"hidden_size": 0}, "hidden_size: holds 0, expected at least 1"),
        ({"batch_size": -3}, "batch_size: holds -3, expected at least 1"),
        ({"dropout": 1.5}, "dropout: holds 1.5, expected at most 1"),
        ({"dropout": -0.1}, "dropout: holds -0.1, expected at least 0"),
        ({"dtype": "int8"}, 'dtype: holds "int8", expected one of float64, float32, bfloat16, float16'),
        ({"device": "tpu"}, 'device: holds "tpu", expected one of auto, cpu, cuda'),
        ({"threads": 0}, "threads: holds 0, expected at least 1"),
        ({"threads": 100_000}, "threads: holds 100000, expected at most 1024"),
        ({"seeds": []}, "seeds: holds [], expected at least 1 value"),
        ({"seeds": [-1]}, "seeds[0]: holds -1, expected at least 0"),
        ({"regimes": ["train_same_seed"]}, "regimes: holds train_same_seed, expected at least one of eval"),
        ({"regimes": "eval"}, "regimes: holds 'eval', expected a list"),
        ({"seeds": 3}, "seeds: holds 3, expected a list"),
        ({"regimes": ["eval", "evil"]}, 'regimes[1]: holds "evil", expected one of'),
        ({"time_limit": 0.0}, "time_limit: holds 0.0, expected more than 0 and at most 1000000"),
        ({"time_limit": float("inf")}, "time_limit: holds inf, expected more than 0 and at most 1000000"),
        ({"time_limit": 1e300}, "time_limit: holds 1e+300, expected more than 0 and at most 1000000"),
        ({"life": "no"}, "life: holds 'no', expected True or False"),
        ({"timing_seconds": -1.0}, "timing_seconds: holds -1.0, expected at least 0"),
        ({"baseline": "stacking_grucell"}, "baseline: holds 'stacking_grucell', expected one of stacking_gru_cell"),
        ({"candidate": "stacking_grus"}, "candidate: holds 'stacking_grus', expected one of stacking_gru_cell"),
        ({"candidate": "no_such:Layer"}, "candidate: no_such:Layer: cannot be imported (ModuleNotFoundError"),
        ({"candidate": LOOP}, "candidate: holds 'stacking_gru_cell', the baseline itself, expected another"),
        ({"candidate": nn.Linear}, "candidate: Linear: cannot be called with input_size, hidden_size"),
        ({"candidate": nn.GRU(1, 1)}, "candidate: holds a GRU already built, expected something that builds one"),
        ({"candidate": lambda **sizes: len(sizes)}, "candidate: <lambda>: gives int 4, expected a torch.nn.Module"),
        ({"cell": "rnn"}, "cell: holds 'rnn', expected one of gru, gru_reset_before, lstm, or package.module:Class"),
        ({"cell": "no_such:Kind"}, "cell: no_such:Kind cannot be imported (ModuleNotFoundError"),
        ({"cell": "torch.nn:GRU"}, "cell: torch.nn:GRU is not a kind of cell, expected a subclass of rnn_parity."),
        ({"cell": "rnn", "baseline": None}, "cell: holds 'rnn', expected one of gru"),
        ({"candidate": "torch.nn:LSTM"}, "baseline: stacking_gru_cell: this is a GRU, and the candidate an LSTM"),
    ],
)
def test_what_cannot_be_checked_gets_one_line(arguments, message):
    with pytest.raises(InputError) as caught:
        quick(**{"candidate": "torch.nn:GRU"} | arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_sizes_and_settings_may_be_objects_of_numpy_and_torch():
    given = {
        "hidden_size": np.int64(8),
        "dropout": np.float32(0.5),
        "dtype": torch.float64,
        "device": torch.device("cpu"),
    }
    case = quick(nn.GRU, regimes=["eval"], **given).case
    assert (case.hidden_size, case.dropout, case.dtype, case.device) == (8, 0.5, "float64", "cpu")


def test_a_report_prints_as_it_is_explained():
    report = quick(nn.GRU, regimes=["eval"])
    assert str(report) == report.explain()


def test_a_state_may_have_any_letter():
    report = quick(nn.GRU, regimes=["eval"])
    renamed = report.equivalence.replace({"quantity": {"hn": "sn", "grad_h0": "grad_s0"}})
    assert "zero states" not in dataclasses.replace(report, equivalence=renamed).conclusion()
    without = report.equivalence[report.equivalence["quantity"] != "grad_h0"]
    assert "zero states only" in dataclasses.replace(report, equivalence=without).conclusion()


def test_parameters_without_counterpart_are_named():
    class Mine(nn.Module):
        def __init__(self, **sizes):
            super().__init__()
            self.kernel = nn.Parameter(torch.zeros(3))

    with pytest.raises(
        InputError, match="candidate: Mine: no counterpart in PyTorch's layers for kernel; expected their names"
    ):
        quick(Mine)


@pytest.mark.parametrize(("base", "code"), [("torch.nn.GRU", 0), ("faults.Crash", 1)])
def test_the_command_takes_a_layer_from_the_current_folder(tmp_path, monkeypatch, base, code):
    name = f"my_layer_{code}"
    module = base.rpartition(".")[0]
    (tmp_path / f"{name}.py").write_text(f"import {module}\n\n\nclass Mine({base}):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = ["--device", "cpu", "--seed", "0", "--no-life", "--no-capabilities", "--no-timing"]
    done = CliRunner().invoke(app, ["check", f"{name}:Mine", *options])
    assert done.exit_code == code
    said = f"no: {name}:Mine may not" if code else f"yes: {name}:Mine may"
    assert sentence(done.stdout).startswith(f"{said} replace stacking_gru_cell, because")
    assert done.stderr == ""  # how far it is, is for terminals


def test_the_command_leaves_bad_input_to_its_caller():
    with pytest.raises(InputError, match="--hidden-size: holds 0"):
        app(["check", "torch.nn:GRU", "--hidden-size", "0"], standalone_mode=False)


def test_the_measuring_side_knows_nothing_of_the_terminal():
    code = "import sys, rnn_parity.api; print({'rich', 'typer', 'mlflow', 'matplotlib'} & set(sys.modules))"
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


class NeverBuilt(torch.nn.GRU):
    def __init__(self, **sizes):
        raise ValueError("no such size")


def test_of_a_layer_that_does_not_run_nothing_is_timed_or_lost():
    report = check("stacking_gru_cell", f"{__name__}:NeverBuilt", life=False, contain=False)
    assert (report.timing, report.capabilities) == (None, None)
    assert "ValueError: no such size" in report.conclusion()
