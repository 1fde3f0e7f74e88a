"""The plugin, as pytest runs it: its items, what they come to, its options, and what programs read of it."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from contextlib import suppress
from xml.etree import ElementTree

import pytest

from project import PROJECT
from rnn_parity.testing import judging
from rnn_parity.testing.checks import checks_of
from rnn_parity.testing.options import OPTIONS

pytest_plugins = ["pytester"]

LAYERS = """
import os, signal, sys
import torch
from torch import nn


class Right(nn.GRU):
    pass


class WrongState(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output, hn.flip(0)


class WrongGradient(nn.GRU):
    def forward(self, input, h0):
        return super().forward(input.detach(), h0)


class Crashes(nn.GRU):
    def forward(self, input, h0):
        os.kill(os.getpid(), signal.SIGSEGV)


class Hangs(nn.GRU):
    def forward(self, input, h0):
        signal.pause()


class Counts(nn.GRU):
    def __init__(self, *sizes, **more):
        super().__init__(*sizes, **more)
        with open("built", "a") as file:
            print(os.getpid(), file=file)
"""
QUICK = "rnn_seeds = 0\nrnn_life = false\n"
GROUPS = ("outputs", "input_gradients", "parameter_gradients")


@pytest.fixture
def run(pytester, monkeypatch):
    """A function that runs pytest with this plugin and no other: here, or `apart`, in a process of its own.

    Only a process that has used no threads of torch yet can run layers in others: this one may have, in other tests.
    """
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT / "src"), str(pytester.path)]))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    pytester.syspathinsert()
    pytester.makepyfile(layers=LAYERS)

    def run(*arguments, test="", ini=QUICK, apart=False):
        pytester.makeini(f"[pytest]\n{ini}")
        if test:
            pytester.makepyfile(test_mine=f"import rnn_parity\nfrom layers import *\n\n\n{test}")
        command = ["-p", "rnn_parity.testing.plugin", "-p", "no:cacheprovider", *map(str, arguments)]
        runs = pytester.runpytest_subprocess if apart or "xdist" in arguments else pytester.runpytest_inprocess
        return runs(*command)

    return run


def decorated(arguments, body="check(layer)"):
    return f"@rnn_parity.parametrize_with_checks({arguments})\ndef test_it(layer, check):\n    {body}\n"


def collected(result):
    return [line.partition("[")[2].rstrip("]") for line in result.outlines if line.startswith("test_mine.py::")]


def test_one_item_for_each_layer_case_regime_and_group_that_k_finds(run):
    test = decorated("[Right, 'layers:WrongState'], like=['small', 'article'], life=True")
    names = collected(run("--collect-only", "-q", test=test))
    regimes = ("eval", "train_matched_masks")
    of_case = [*(f"{regime}-{group}" for regime in regimes for group in GROUPS), "life"]
    assert names == [
        f"{who}-{like}-{c}" for who in ("Right", "WrongState") for like in ("small", "article") for c in of_case
    ]
    chosen = collected(run("--collect-only", "-q", "-k", "WrongState and small and gradients and not train"))
    assert chosen == [f"WrongState-small-eval-{group}" for group in GROUPS[1:]]


def test_collecting_imports_no_torch(run):
    code = """
import sys, pytest
code = pytest.main(["-p", "rnn_parity.testing.plugin", "--collect-only", "-q", *sys.argv[1:]])
print(int(code), {"torch", "numpy", "pandas", "filelock"} & set(sys.modules))
"""
    run("--version")
    done = subprocess.run(
        [sys.executable, "-c", code, "--rnn-layer", "layers:Right"], capture_output=True, text=True, check=True
    )
    assert "rnn-parity::Right-small-eval-outputs" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 set()"


@pytest.mark.slow
def test_each_item_fails_for_its_own_rows_and_a_crash_costs_its_own_layer(run, pytester):
    layers = "[Crashes, Right, WrongState, WrongGradient]"
    result = run("-rA", "--junitxml=found.xml", test=decorated(layers, "check(layer)"), apart=True)
    failed = set(re.findall(r"^FAILED .*\[(.*?)\]", result.stdout.str(), re.MULTILINE))
    expected = {f"Crashes-small-{regime}-{group}" for regime in ("eval", "train_matched_masks") for group in GROUPS}
    expected |= {f"WrongState-small-{regime}-{group}" for regime in ("eval", "train_matched_masks") for group in GROUPS}
    expected |= {f"WrongGradient-small-{regime}-input_gradients" for regime in ("eval", "train_matched_masks")}
    assert failed == expected
    result.assert_outcomes(failed=14, passed=10)
    result.stdout.fnmatch_lines_random(
        [
            "WrongState may not replace stacking_gru_cell: hn in eval with seed 0 is different: it has its layers*",
            "rnn-parity: no: Crashes may not replace *: it crashes its process: SIGSEGV (small, 6 checks)",
            "rnn-parity: yes: Right may replace stacking_gru_cell, because every quantity,*(small, 6 checks)",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert "PytestUnknownMark" not in result.stdout.str()
    assert "test_mine.py:" not in result.stdout.str().partition("short test summary")[0]  # no frames: they say nothing
    cases = ElementTree.parse(pytester.path / "found.xml").iter("testcase")
    told = {case.get("name"): {p.get("name"): p.get("value") for p in case.iter("property")} for case in cases}
    wrong = told["test_it[WrongGradient-small-eval-input_gradients]"]
    assert (wrong["rnn_parity_verdict"], wrong["rnn_parity_quantity"]) == ("different", "grad_input")
    right = told["test_it[Right-small-eval-outputs]"]
    assert (right["rnn_parity_verdict"], float(right["rnn_parity_ratio"]) <= 1) == ("identical", True)


@pytest.mark.slow
def test_a_layer_that_never_returns_is_not_shown(run):
    result = run(test=decorated("[Hangs, Right], regimes=['eval'], time_limit=15, sequence_length=2"), apart=True)
    result.assert_outcomes(failed=3, passed=3)
    result.stdout.fnmatch_lines(["Hangs: not shown: output in eval with seed 0 is not judged: time limit: *15 s"])


@pytest.mark.slow
def test_a_layer_of_the_command_line_needs_no_code(run, pytester):
    result = run("--rnn-layer=layers:Right", "--rnn-layer=layers:WrongState", "-k", "outputs", "--rnn-bundle=no")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*to run it again elsewhere: rnn-parity replay no/WrongState-small"])
    assert sorted(path.name for path in pytester.path.glob("no/*/*")) == ["bundle.json", "tensors.safetensors"]
    bad = run("--rnn-layer=layers:Absent")
    bad.stderr.fnmatch_lines(["ERROR: --rnn-layer: layers:Absent: cannot be imported (AttributeError*"])
    assert bad.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in bad.stderr.str() + bad.stdout.str()
    apart = run("--rnn-layer=layers:Absent", "-k", "outputs", "-p", "xdist", "-n", "1")
    apart.stdout.fnmatch_lines(["candidate: layers:Absent: cannot be imported (AttributeError*"])


@pytest.mark.slow
def test_tests_of_one_layer_have_a_bundle_and_a_line_each(run, pytester):
    wide = decorated("[WrongState], hidden_size=24, regimes=['eval']")
    narrow = decorated("[WrongState], num_layers=1, regimes=['eval']").replace("test_it", "test_other")
    result = run("--rnn-bundle=no", test=wide.replace("test_it", "test_one") + wide + narrow)
    result.assert_outcomes(failed=6, passed=3)
    result.stdout.fnmatch_lines_random(["*rnn-parity replay no/WrongState-small", "*replay no/WrongState-2-small"])
    assert {path.name for path in pytester.path.glob("no/*")} == {"WrongState-small", "WrongState-2-small"}
    lines = [line.split(":")[1].strip() for line in result.outlines if line.startswith("rnn-parity: ")]
    assert sorted(lines) == ["no", "no", "yes"]


@pytest.mark.slow
def test_it_may_be_in_the_current_folder(pytester):
    pytester.makepyfile(beside="from torch.nn import GRU as Layer")
    command = [sys.executable, "-P", "-m", "pytest", "-q", "--rnn-layer=beside:Layer", "-k", "eval and outputs"]
    result = pytester.run(*command)  # -P: as the command `pytest`, which does not look there by itself
    result.assert_outcomes(passed=1)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n", "2"]], ids=["one process", "xdist"])
def test_a_case_is_judged_once_and_in_a_process_of_its_own(run, pytester, workers):
    body = "assert not (check(layer) or __import__('pathlib').Path('built').read_text().count(str(os.getpid())))"
    run(*workers, test=decorated("[Counts]", body), apart=True).assert_outcomes(passed=6)
    together = (pytester.path / "built").read_text().splitlines()
    (pytester.path / "built").unlink()
    run("-k", "eval and outputs", apart=True).assert_outcomes(passed=1, deselected=5)
    assert len(together) == len((pytester.path / "built").read_text().splitlines())


@pytest.mark.slow
def test_expected_failures_are_strict_and_have_names_and_reasons(run):
    expected = {"WrongState-small-*": "the order", "small-eval-outputs": "none"}
    ini = QUICK + "rnn_expected_failures =\n    WrongGradient-*-input_gradients: detached\n"
    layers = "[Right, WrongState, WrongGradient]"
    result = run("-rxX", test=decorated(f"{layers}, expected_failures={expected}, regimes=['eval']"), ini=ini)
    result.assert_outcomes(xfailed=4, failed=2, passed=3)
    result.stdout.fnmatch_lines(["XFAIL *WrongGradient-small-eval-input_gradients* - detached"])
    result.stdout.fnmatch_lines_random(["[[]XPASS(strict)[]] none"])
    unknown = run(test=decorated("[Right], expected_failures={'Right-small-eval-output': 'none'}"))
    unknown.stdout.fnmatch_lines(
        ["expected_failures: 'Right-small-eval-output' names no check; did you mean Right-small-eval-outputs[?]"]
    )
    unknown = run(test=decorated("[Right], expected_failures={'Right-*': ''}"))
    unknown.stdout.fnmatch_lines(["expected_failures: Right-[*] has no reason; expected `NAME: reason`"])


def test_an_argument_goes_before_a_marker_that_before_the_command_line_and_that_before_the_file(run):
    test = """
import pytest

def told(check):
    (asked,) = [a for a in check.judged.func.__self__.asked.values() if a.layer is {layer}]
    return [asked.options[name] for name in ("hidden_size", "num_layers", "batch_size", "dropout")]

@pytest.mark.rnn_parity(hidden_size=12, num_layers=2)
@rnn_parity.parametrize_with_checks([Right], hidden_size=11, like=None)
def test_right(layer, check):
    assert told(check) == [11, 2, 3, 0.4]
    check(layer)
"""
    ini = QUICK + "rnn_hidden_size = 14\nrnn_num_layers = 4\nrnn_batch_size = 4\nrnn_dropout = 0.4\n"
    given = "--rnn-hidden-size=13", "--rnn-num-layers=3", "--rnn-batch-size=3"
    run(*given, test=test.replace("{layer}", "Right"), ini=ini).assert_outcomes(passed=6)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("[Right], hiden_size=8", "hiden_size: is not an option of rnn-parity; did you mean hidden_size[?]"),
        ("[Right], hidden_size=0", "hidden_size: holds 0, expected at least 1"),
        ("[Right], hidden_size='24'", "hidden_size: holds *, expected *integer"),
        ("[Right], dropout=1.5", "dropout: holds 1.5, expected *"),
        ("[Right], dtype='float31'", "dtype: holds *float31*, expected *"),
        ("[Right], device='gpu'", "device: holds 'gpu', expected one of auto, cpu, cuda"),
        ("[Right], life='no'", "life: holds 'no', expected True or False"),
        ("[Right], baseline='nope'", "baseline: holds *nope*, expected *"),
        (
            "[Right], expected_failures=['Right-life']",
            "expected_failures: Right-life has no reason; expected `NAME: reason`",
        ),
        (
            "[Right], expected_failures='Right-life'",
            "expected_failures: holds 'Right-life', expected a dict of names *",
        ),
        ("[Right], regimes=['train_same_seed']", "regimes: holds 'train_same_seed', expected one of eval, *"),
        ("[Right], regimes='evil'", "regimes: holds 'evil', expected one of eval, *"),
        ("[Right], like='foo'", "like: holds 'foo', expected one of small, article, t2vec"),
        ("[Right], like=[]", "like: holds nothing, expected at least one value"),
        ("[3]", "layers: holds 3, expected a class, another callable, or package.module:Class"),
        ("['Right']", "layers: holds 'Right', expected one of stacking_gru_cell, *, or package.module:Class*"),
        ("[]", "layers: holds [[][]], expected a list of at least one layer, such as [[]FastGRU[]]"),
        ("nn.GRU", "layers: holds <class 'torch.nn.*GRU'>, expected a list of at least one layer, *"),
        ("'layers:Right'", "layers: holds 'layers:Right', expected a list of at least one layer, *"),
        ("[Right], expected_failures={'Wrong': 'why'}", "expected_failures: 'Wrong' names no check"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused_in_one_line(run, test, message):
    result = run(test=decorated(test))
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([message])
    assert "UsageError" not in result.stdout.str()
    assert "exception" not in result.stdout.str()


@pytest.mark.parametrize(
    ("argument", "ini", "message"),
    [
        ("", "rnn_hidden_size = big\n", "rnn_hidden_size: holds 'big', expected an integer"),
        ("", "rnn_hidden_size = 3,4\n", "rnn_hidden_size: holds '3,4', expected an integer"),
        ("", "rnn_hidden_size = ,\n", "rnn_hidden_size: holds ',', expected an integer"),
        ("", "rnn_life = maybe\n", "rnn_life: holds 'maybe', expected true or false"),
        ("", "rnn_seeds = a\n", "rnn_seeds: holds [[]'a'[]], expected an integer, or several with commas"),
        ("", "rnn_like = foo\n", "rnn_like: holds 'foo', expected one of small, article, t2vec"),
        ("", "rnn_regimes = eval evall\n", "rnn_regimes: holds 'evall', expected one of eval, *"),
        ("", "rnn_expected_failures = Right-*\n", "expected_failures: Right-[*] has no reason; expected *"),
        ("--rnn-hidden-size=big", QUICK, "--rnn-hidden-size: holds 'big', expected an integer"),
        ("--rnn-like=", QUICK, "--rnn-like: holds nothing, expected at least one value"),
        ("--rnn-seeds=,", QUICK, "--rnn-seeds: holds nothing, expected at least one value"),
        ("--rnn-like=tiny", QUICK, "--rnn-like: holds 'tiny', expected one of small, article, t2vec"),
        ("--rnn-regimes=evall", QUICK, "--rnn-regimes: holds 'evall', expected one of eval, *"),
        (
            "--rnn-layer=",
            QUICK,
            "--rnn-layer: holds '', expected one of stacking_gru_cell, *, or package.module:Class*",
        ),
    ],
)
@pytest.mark.parametrize("layer", [["--rnn-layer=layers:Right"], []], ids=["no code", "decorator"])
def test_options_that_cannot_be_used_are_one_usage_error(run, layer, argument, ini, message):
    result = run(*layer, *filter(None, [argument]), test=decorated("[Right]"), ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert "Error:" not in result.stdout.str() + result.stderr.str()


def test_an_expected_failure_of_the_file_that_names_no_check_is_a_usage_error_of_the_command_line(run):
    result = run("--rnn-layer=layers:Right", ini=QUICK + "rnn_expected_failures = Wrong: why\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: expected_failures: 'Wrong' names no check"])


def test_a_test_that_never_calls_its_check_fails(run):
    result = run(test=decorated("[Right], regimes=['eval']", "pass"))
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        ["test_it[[]Right-small-eval-outputs[]]: never calls check, so that nothing is judged;*"]
    )


@pytest.mark.slow
def test_github_gets_an_annotation_beside_the_test(run, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = run("-p", "xdist", "-n", "1", test=decorated("[WrongState, Right], regimes=['eval']"))
    notes = [line for line in result.outlines if line.startswith("::error")]
    assert len(notes) == 3
    start = "::error file=test_mine.py,line=5,title=test_it[[]WrongState-small-eval-outputs[]]::WrongState may not*%0A*"
    result.stdout.fnmatch_lines_random([start])
    assert "linux --" not in "".join(notes)


def test_the_three_lines_of_the_readme_are_a_test(run):
    (block,) = re.findall(r"^```python\n(.*?)^```", (PROJECT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert block.count("\n") == 3
    run(test=f"FastGRU = Right\n{block}").assert_outcomes(passed=6)


def test_a_row_that_fails_under_a_condition_alone_decides_nothing_and_one_without_a_ratio_is_the_worst():
    row = {"title": "", "verdict": "equivalent", "quantity": "hn", "ratio": 0.5, "reason": "", "cut_short": False}
    wrong = row | {"verdict": "different", "ratio": 1.2}

    def properties(*rows):
        judged = {"conclusion": "", "bundle": "", "life": rows, "cause": "", "baseline": "", "rows": []}
        (check,) = checks_of("Right", "small", {"regimes": [], "life": True}, lambda: judged, "Right small")
        with suppress(pytest.fail.Exception):
            check()
        return check.properties

    assert properties(row, wrong | {"condition": "x"})["verdict"] == "equivalent"
    assert properties(row, wrong, wrong | {"ratio": None, "quantity": "output"})["quantity"] == "output"


def test_where_what_judges_was_killed_one_check_is_an_error_and_the_next_starts_another(monkeypatch):
    monkeypatch.setattr(judging, "judge", lambda asked: {"pid": os.getpid()})
    judge = judging.Judge(asked={key: judging.Asked(None, "small", {}, None) for key in "ab"})
    pid = judge.result("a")["pid"]
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(BrokenPipeError):
        judge.result("b")
    assert judge.result("b")["pid"] != pid
    judge.close()


def test_every_option_is_documented():
    said = (PROJECT / "docs/pytest.md").read_text()
    assert not [name for name in OPTIONS if f"`{name}`" not in said]


def test_the_package_brings_the_plugin():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"rnn_parity": "rnn_parity.testing.plugin"}
