"""What is asked of Slurm, and what its answers mean; a real one answers in `workflow/test_slurm_nodes.py`."""

import json
import os

import pytest

from rnn_parity.commands import rules
from rnn_parity.commands.processes import on_this_machine
from rnn_parity.commands.slurm import end_orphans, is_alone_on_node

SQUEUE = """#!/bin/sh
case "$*" in *%h*) cat shared;; *) cat queue;; esac
"""
SCANCEL = """#!/bin/sh
for job; do sed -i "/^$job|/d" queue; done
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder whose files `queue` and `shared` are what `squeue` answers."""
    for name, text in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_a_dead_run_of_this_folder_left_is_cancelled_and_nothing_else(slurm):
    rest = f"3|{slurm}/other|rule_timing\n4|{slurm}|(null)\n5|{slurm}|\n"
    (slurm / "queue").write_text(f"1|{slurm}|rule_timing\n2|{slurm}|rule_equivalence_wildcards_a|x\n{rest}")
    said = []
    end_orphans(slurm, said.append)
    assert (slurm / "queue").read_text() == rest
    assert said == ["cancels 2 jobs of a dead run of this folder"]


def test_without_slurm_nothing_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    end_orphans(tmp_path, pytest.fail)


@pytest.mark.parametrize(("shared", "alone"), [("NO\n", True), ("OK\n", False), ("USER\n", False), ("", False)])
def test_a_timing_is_alone_only_where_slurm_says_that_its_node_is_not_shared(slurm, monkeypatch, shared, alone):
    monkeypatch.setattr("rnn_parity.commands.processes.MACHINE_LOCK", slurm / "lock")
    (slurm / "shared").write_text(shared)
    assert is_alone_on_node()  # it is no job of Slurm
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    said = []
    with on_this_machine(True, 1.0, said.append) as granted:
        assert granted is alone
    assert bool(said) is not alone
    with on_this_machine(False, 1.0, pytest.fail) as granted:  # who needs not be alone asks nobody
        assert granted


@pytest.mark.parametrize("why", [None, "the GPU: no driver"])
def test_a_node_whose_gpu_does_not_work_is_described_without_it(tmp_path, monkeypatch, capsys, why):
    """The machine that plans cannot know; what is measured there is not judged, and the run goes on."""
    monkeypatch.setattr(rules, "why_no_gpu", lambda: why)
    described = "rnn_parity.timing.environment.describe_environment"
    monkeypatch.setattr(described, lambda asked: {"devices": [setting["device"] for setting in asked]})
    asked = json.dumps([{"device": "cpu"}, {"device": "cuda"}])
    rules.environment(asked, tmp_path / "environment.json")
    found = json.loads((tmp_path / "environment.json").read_text())["devices"]
    assert found == (["cpu"] if why else ["cpu", "cuda"])
    assert bool(why) == ("no driver" in capsys.readouterr().err)
