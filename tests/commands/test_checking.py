"""The commands `check` and `replay`: what is on the screen, in which order, and what programs read."""

import dataclasses
import io
import json
import os
import subprocess
import sys

import pytest
from rich.console import Console
from typer.testing import CliRunner

from project import PROJECT
from rnn_parity.api import check
from rnn_parity.capabilities import probing
from rnn_parity.capabilities.probing import CAPABILITIES
from rnn_parity.commands.cli import app
from rnn_parity.report.terminal import Screen

QUICK = ["--device", "cpu", "--seed", "0", "--no-life", "--no-capabilities", "--no-timing"]


@pytest.mark.slow
def test_a_bundle_is_written_although_nobody_reads_on(tmp_path):
    """As `check … | head -1` ends."""
    command = [sys.executable, "-m", "rnn_parity", "check", "faults:Wrong", *QUICK, "--bundle", str(tmp_path / "b")]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), str(PROJECT / "tests")])}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, cwd=tmp_path, env=variables, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == 141, done.stderr
    assert (tmp_path / "b/bundle.json").exists()


@pytest.mark.slow
def test_what_a_layer_prints_is_read_once_and_is_no_part_of_the_answer(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\nprint('compiled by hand')\n"
        "class Chatty(torch.nn.GRU):\n"
        "    def forward(self, *given):\n        print('called')\n        return super().forward(*given)\n"
    )
    command = [sys.executable, "-m", "rnn_parity", "check", "mine:Chatty", *QUICK, "--json"]
    variables = os.environ | {"PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["answer"]) == (0, "yes")
    assert done.stderr.count("compiled by hand") == 1
    assert 1 <= done.stderr.count("called") < 20


def test_a_no_for_programs_and_its_bundle_replayed(tmp_path):
    bundle, runner = str(tmp_path / "bundle"), CliRunner()
    done = runner.invoke(app, ["check", "faults:Wrong", *QUICK, "--json", "--bundle", bundle])
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert (found["answer"], found["candidate"], found["bundle"]) == ("no", "faults:Wrong", bundle)
    assert found["case"]["hidden_size"] == 16
    verdicts = {row["regime"]: row["verdict"] for row in found["equivalence"]}
    assert verdicts["eval"] == verdicts["train_matched_masks"] == "different"
    assert found["timing"] is found["capabilities"] is found["life"] is None
    again = runner.invoke(app, ["replay", bundle])
    assert (again.exit_code, again.stdout.splitlines()[0].endswith(", as it was")) == (1, True)
    mended = runner.invoke(app, ["replay", bundle, "--candidate", "torch.nn:GRU"])
    assert (mended.exit_code, mended.stdout.startswith("yes: ")) == (0, True)


@pytest.fixture(scope="module")
def told():
    """The reports of one check, as each became known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing, "CAPABILITIES", {name: CAPABILITIES[name] for name in ("vmap", "non_contiguous")})
        reports = []
        check(None, "torch.nn:GRU", device="cpu", seeds=[0], life=False, timing_seconds=0.01, known=reports.append)
    return reports


def shown(*reports):
    console = Console(file=io.StringIO(), width=200)
    screen = Screen(console)
    parts = []
    for report in reports:
        before = len(console.file.getvalue())
        screen.show(report)
        parts.append(console.file.getvalue()[before:])
    return parts


@pytest.mark.slow
def test_the_verdict_comes_first_then_times_then_capabilities_each_once(told):
    verdict, times, capabilities = shown(*told)
    assert verdict.startswith("yes: torch.nn:GRU may replace stacking_gru_cell, because")
    assert "  eval: " in verdict
    assert [line.partition(":")[0] for line in times.splitlines()] == ["  inference", "  step"]
    assert capabilities.startswith("  lost: torch.func.vmap: the baseline works, the candidate refuses")
    assert capabilities.endswith("  the same in 1 of 2 capabilities\n")
    assert shown(told[-1], told[-1])[1] == ""


def test_a_yes_that_timing_takes_back_is_taken_back_on_the_screen(told):
    timing = told[1].timing.assign(conclusion="different", reason="its result changed while it was being timed: output")
    _, after = shown(told[0], dataclasses.replace(told[1], timing=timing))
    assert after.startswith("after timing:\nno: torch.nn:GRU may not replace stacking_gru_cell, because in inference")


@pytest.mark.slow
def test_wrong_numbers_of_a_capability_make_the_answer_conditional_on_the_screen(told):
    capabilities = told[2].capabilities.copy()
    theirs = capabilities["implementation"] == told[2].candidate
    capabilities.loc[theirs, ["capability", "title", "outcome"]] = ["vmap", "`torch.func.vmap`", "wrong"]
    _, _, after = shown(told[0], told[1], dataclasses.replace(told[2], capabilities=capabilities))
    first, conclusion, *_ = after.splitlines()
    assert first == "after its capabilities were probed:"
    assert "; but only when it is not called under `torch.func.vmap`" in conclusion
    assert "would be lost" not in conclusion


def test_the_shell_completes_commands():
    asked = {"_RNN_PARITY_COMPLETE": "complete_bash", "COMP_WORDS": "rnn-parity che", "COMP_CWORD": "1"}
    assert CliRunner(env=asked).invoke(app, [], prog_name="rnn-parity").stdout.split() == ["check"]
    assert "--show-completion" in CliRunner().invoke(app, ["--help"]).stdout
