"""Settings of the process: read and put back in both generations, and told of the layer that changes them."""

import gc
import itertools
import sys
import time
from functools import partial

import pytest
import torch
from torch import _C, nn

import rnn_parity
from rnn_parity import steps
from rnn_parity.compare.run import run_implementation
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.registry import load_factory, named
from rnn_parity.layers.running import numerics
from rnn_parity.layers.settings import OTHERS, PRECISIONS, REDUCED, REPLACEABLE, Settings, put_back, settings_changed_by
from rnn_parity.layers.stimulus import draw_stimulus

CASE = Case("settings", "cpu", "float32", False, 5, 6, 1, 3, 2, 0.0, 1, "gru")
OLDER = tuple(itertools.product((True, False), ("highest", "high", "medium")))
NEWER = [
    (name, value)
    for name, (backend, _) in PRECISIONS.items()
    for value in ("none", "ieee", "tf32", "bf16")
    if (backend, value) != ("cuda", "bf16")  # PyTorch refuses it
]
CHANGES = {
    "torch.get_num_threads()": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "torch.get_default_dtype()": lambda: torch.set_default_dtype(torch.float64),
    "torch.get_default_device()": lambda: torch.set_default_device("meta"),
    "torch.is_grad_enabled()": lambda: torch.set_grad_enabled(False),
    "torch.is_anomaly_enabled()": lambda: torch.autograd.set_detect_anomaly(True),
    "torch.are_deterministic_algorithms_enabled()": lambda: torch.use_deterministic_algorithms(True),
    "torch.is_deterministic_algorithms_warn_only_enabled()": lambda: torch.use_deterministic_algorithms(
        False, warn_only=True
    ),
    "torch.set_flush_denormal()": lambda: torch.set_flush_denormal(True),
    "gc.isenabled()": gc.disable,
    "torch.backends.cudnn.enabled": lambda: setattr(torch.backends.cudnn, "enabled", False),
    "torch.backends.cudnn.benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "torch.backends.cudnn.deterministic": lambda: setattr(torch.backends.cudnn, "deterministic", True),
    "torch.backends.mkldnn.enabled": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "torch.is_autocast_enabled('cpu')": lambda: torch.autocast("cpu").__enter__(),
    "torch.get_autocast_dtype('cpu')": lambda: torch.set_autocast_dtype("cpu", torch.float16),
    "torch.is_autocast_enabled('cuda')": lambda: torch.set_autocast_enabled("cuda", True),
    "torch.get_autocast_dtype('cuda')": lambda: torch.set_autocast_dtype("cuda", torch.bfloat16),
    "torch.backends.cudnn.allow_tf32": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "torch.get_float32_matmul_precision()": lambda: torch.set_float32_matmul_precision("medium"),
    "torch.backends.fp32_precision": lambda: setattr(torch.backends, "fp32_precision", "ieee"),
    "torch.backends.cuda.matmul.fp32_precision": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "torch.backends.cudnn.rnn.fp32_precision": lambda: setattr(torch.backends.cudnn.rnn, "fp32_precision", "ieee"),
}
CHANGES |= {
    f"torch.backends.cuda.matmul.{name}": partial(setattr, torch.backends.cuda.matmul, name, False) for name in REDUCED
}
CLOCKS = [name for name in OTHERS if name.startswith("time.")]
CHANGES |= {name: partial(setattr, time, name.removeprefix("time."), float) for name in CLOCKS}
FUNCTIONS = {f"{place}.{name}": (owner, name) for place, (owner, names) in REPLACEABLE.items() for name in names}
CHANGES |= {name: partial(setattr, *place, float) for name, place in FUNCTIONS.items() if name in OTHERS}


@pytest.fixture(autouse=True)
def before():
    """The settings that a test begins with, which it also leaves behind."""
    settings = Settings.read()
    yield settings
    settings.restore()


def mix(older, newer=("torch.backends.fp32_precision", "none")):
    torch.backends.cudnn.allow_tf32 = older[0]
    torch.set_float32_matmul_precision(older[1])
    _C._set_fp32_precision_setter(*PRECISIONS[newer[0]], newer[1])


def older_getters():
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()


def test_both_generations_are_read_and_put_back_whatever_was_mixed(before):
    refused = 0
    for older, newer in itertools.product(OLDER, NEWER):
        before.restore()
        mix(older, newer)
        try:
            older_getters()
        except RuntimeError:
            refused += 1
        mixed = Settings.read()
        values = mixed.values
        assert (values["torch.backends.cudnn.allow_tf32"], values["torch.get_float32_matmul_precision()"]) == older
        assert values[newer[0]] == newer[1]
        with numerics(1, False):
            pass
        assert Settings.read() == mixed
        before.restore()
        assert Settings.read() == before
    assert refused > 40  # else nothing was mixed


def test_what_a_place_inherits_is_not_written_to_it():
    torch.backends.fp32_precision = "ieee"
    with numerics(1, True):
        pass
    torch.backends.fp32_precision = "tf32"
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("name", PRECISIONS)
def test_code_under_test_finds_one_precision_in_every_place(name, tf32):
    mix((not tf32, "medium"), (name, "ieee" if tf32 else "tf32"))
    with numerics(1, tf32):
        assert older_getters() == (tf32, tf32, "high" if tf32 else "highest")
        for place in ("matmul", "conv", "rnn"):
            assert (_C._get_fp32_precision_getter("cuda", place) == "tf32") is tf32
        assert _C._get_fp32_precision_getter("generic", "all") == "none"


def test_every_setting_has_a_change_here():
    assert OTHERS.keys() <= CHANGES.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_told_by_its_name_and_put_back(name, before):
    with put_back("layer"):
        CHANGES[name]()
        changed = Settings.read().changed_since(before)
    assert list(changed) == [name]
    assert settings_changed_by("layer").endswith(
        f"{name} to {'float' if changed[name] is float else repr(changed[name])}"
    )
    assert Settings.read() == before


def test_a_change_is_put_back_also_where_the_layer_raises(before):
    def change_and_raise():
        torch.set_default_dtype(torch.float64)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), put_back("raising"):
        change_and_raise()
    assert Settings.read() == before
    assert settings_changed_by("raising") == "torch.get_default_dtype() to torch.float64"


class SetsWhenBuilt(nn.GRU):
    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        torch.backends.cudnn.conv.fp32_precision = "ieee"
        torch.backends.cuda.matmul.fp32_precision = "tf32"


class SetsWhenCalled(nn.GRU):
    def forward(self, *arguments):
        torch.set_grad_enabled(True)
        torch.backends.fp32_precision = "ieee"
        torch.set_num_threads(3)
        return super().forward(*arguments)


class SetsReductions(nn.GRU):
    def forward(self, *arguments):
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        return super().forward(*arguments)


class SetsInBackward(nn.GRU):
    def forward(self, *arguments):
        output, hn = super().forward(*arguments)
        output.register_hook(lambda gradient: torch.set_default_dtype(torch.float64))
        return output, hn


IN_WORDS = {
    SetsWhenBuilt: "torch.backends.cuda.matmul.fp32_precision to 'tf32', "
    "torch.backends.cudnn.conv.fp32_precision to 'ieee'",
    SetsWhenCalled: "torch.backends.fp32_precision to 'ieee', torch.get_num_threads() to 3",
    SetsReductions: "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction to False",
    SetsInBackward: "torch.get_default_dtype() to torch.float64",
}


@pytest.mark.parametrize("layer", IN_WORDS)
def test_what_a_layer_changes_when_built_or_run_is_told_and_put_back(layer):
    with named(layer, "candidate") as name:
        with numerics(1, False):
            inside = Settings.read()
            found = run_implementation(CASE, name, draw_stimulus(CASE, 0), 0, "train_matched_masks", None)
            assert Settings.read() == inside
        assert (settings_changed_by(name), found.missing) == (IN_WORDS[layer], {})
    assert settings_changed_by(name) == ""  # the name may be another's next


@pytest.mark.parametrize("change", ["torch.backends.fp32_precision = 'ieee'", "torch.set_default_dtype(torch.float64)"])
def test_a_layer_that_changes_settings_when_imported_is_still_a_yes_that_says_so(tmp_path, monkeypatch, before, change):
    module = f"importing_{abs(hash(change))}"
    (tmp_path / f"{module}.py").write_text(f"import torch\n{change}\nclass Layer(torch.nn.GRU):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    name = f"{module}:Layer"
    report = rnn_parity.check("torch.nn:GRU", name, life=False, capabilities=False, timing_seconds=0, seeds=[0])
    setting, _, value = settings_changed_by(name).partition(" to ")
    assert setting in ("torch.backends.fp32_precision", "torch.get_default_dtype()")
    assert value in change
    assert report.equivalent
    assert report.conclusion().endswith(f"; note that it sets {settings_changed_by(name)}")
    assert (
        f"\n  {name}: sets {settings_changed_by(name)}, for the whole process; restored each time" in report.explain()
    )
    assert Settings.read() == before
    again = rnn_parity.check("torch.nn:GRU", name, life=False, capabilities=False, timing_seconds=0, seeds=[0])
    assert again.conclusion() == report.conclusion()  # it is imported no second time


class SetsOnce(nn.GRU):
    """Sets the threads at the very first call that it is given a batch of its own."""

    done = False

    def forward(self, input, h0=None):
        if not SetsOnce.done and input.requires_grad:
            SetsOnce.done = True
            torch.set_num_threads(3)
        return super().forward(input, h0)


@pytest.mark.slow
def test_what_only_the_first_of_many_calls_changes_is_told_and_put_back(before):
    report = rnn_parity.check("torch.nn:GRU", SetsOnce, capabilities=False, timing_seconds=0, seeds=[0])
    assert report.settings == {"SetsOnce": "torch.get_num_threads() to 3"}
    assert Settings.read() == before


class SetsAtSevenSteps(nn.GRU):
    """Sets the threads at a length that is not the case's."""

    def forward(self, input, h0=None):
        if len(input) == 7:
            torch.set_num_threads(3)
        return super().forward(input, h0)


def test_what_a_layer_changes_at_a_point_of_its_life_is_told(monkeypatch):
    monkeypatch.setattr(steps, "lived_together", lambda: [["first_call", "first_at_shape"]])
    report = rnn_parity.check("torch.nn:GRU", SetsAtSevenSteps, capabilities=False, timing_seconds=0, seeds=[0])
    assert report.settings == {"SetsAtSevenSteps": "torch.get_num_threads() to 3"}


def test_a_report_says_nothing_of_a_layer_that_changes_nothing():
    report = rnn_parity.check(
        "torch.nn:GRU", "stacking_gru", life=False, capabilities=False, timing_seconds=0, seeds=[0]
    )
    assert "sets" not in report.explain()


def test_a_module_that_ends_the_process_when_imported_is_bad_input(tmp_path, monkeypatch):
    (tmp_path / "a_script.py").write_text("import sys\nsys.exit(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="a_script:Layer: cannot be imported .SystemExit: 1.; expected package"):
        load_factory("a_script:Layer")
    assert "a_script" not in sys.modules


def test_sums_of_half_precision_are_pytorchs_own_whatever_was_set_before(before):
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    with numerics(1, False):
        assert torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
