"""A candidate that misbehaves costs its own verdict only: the check goes on, and says what it did."""

import os
import subprocess
import sys

import pytest

from conftest import PROJECT
from rnn_parity import steps
from rnn_parity.api import check
from rnn_parity.capabilities import probing
from rnn_parity.capabilities.probing import CAPABILITIES
from rnn_parity.experiment.errors import InputError
from rnn_parity.life.live import POINTS

pytestmark = pytest.mark.contained

QUICK = {"device": "cpu", "seeds": [0], "life": False, "capabilities": False, "timing_seconds": 0.0, "hidden_size": 8}


def quick(candidate, **options):
    return check(None, f"faults:{candidate}", **QUICK | {"time_limit": 60.0} | options)


@pytest.mark.parametrize(
    ("candidate", "answer", "reason"),
    [
        ("Segfaults", "no: faults:Segfaults may not", "it crashes its process: SIGSEGV"),
        ("SegfaultsAtOnce", "no: faults:SegfaultsAtOnce may not", "it crashes its process: SIGSEGV"),
        ("Exits", "no: faults:Exits may not", "it ends its process: SystemExit: enough"),
        ("ExitsAtOnce", "no: faults:ExitsAtOnce may not", "it ends its process: exit code 0"),
        ("Interrupts", "no: faults:Interrupts may not", "it ends its process: KeyboardInterrupt"),
        ("Killed", "not shown: whether faults:Killed may", "its process was killed by SIGKILL"),
        ("NeverReturns", "not shown: whether faults:NeverReturns may", "time limit: it took more than 6 s"),
    ],
)
def test_what_ends_the_process_is_the_answer(candidate, answer, reason):
    report = quick(candidate, time_limit=6.0 if candidate == "NeverReturns" else 60.0)
    assert report.conclusion().startswith(f"{answer} replace stacking_gru_cell, because output")
    assert reason in report.conclusion()
    assert set(report.equivalence["regime"]) == {"eval", "train_matched_masks"}


@pytest.mark.slow
@pytest.mark.parametrize("life", [False, True])
@pytest.mark.parametrize("baseline", ["Segfaults", "SegfaultsAtOnce"])
def test_a_baseline_that_ends_the_process_is_named_and_says_nothing_of_the_candidate(baseline, life):
    report = check(f"faults:{baseline}", "torch.nn:GRU", **QUICK | {"timing_seconds": 0.01, "life": life})
    said = "because output could not be judged: baseline: it crashes its process: SIGSEGV"
    assert report.conclusion() == f"not shown: whether torch.nn:GRU may replace faults:{baseline}, {said}"
    assert report.timing is None or set(report.timing["conclusion"]) == {"not judged"}


@pytest.mark.parametrize("key", ["candidate", "baseline"])
def test_a_module_that_ends_the_process_when_it_is_imported_is_bad_input(tmp_path, monkeypatch, key):
    (tmp_path / "ends_at_import.py").write_text("import os\nos._exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    names = {"baseline": None, "candidate": "torch.nn:GRU"} | {key: "ends_at_import:Layer"}
    said = f"^{key}: ends_at_import:Layer: cannot be imported .it ends its process: exit code 0.; expected package"
    with pytest.raises(InputError, match=said):
        check(**names, **QUICK)


@pytest.mark.slow
def test_the_seeds_before_the_end_are_kept(monkeypatch):
    right = steps.compare_case

    def compare(workload, case, baseline, candidates, seeds, *given):
        if seeds == [1] and candidates != [baseline]:
            os._exit(7)
        return right(workload, case, baseline, candidates, seeds, *given)

    monkeypatch.setattr(steps, "compare_case", compare)
    rows = quick("Wrong", seeds=[0, 1, 2]).equivalence
    assert "different" in set(rows.loc[rows["seed"] == 0, "verdict"])
    assert set(rows.loc[rows["seed"] == 1, "reason"]) == {"it ends its process: exit code 7"}
    assert 2 not in set(rows["seed"])


def test_a_life_that_ends_the_process_is_told_by_its_point():
    report = quick("ExitsInLife", life=True)
    first = next(iter(POINTS.values())).title
    said = f"at {first!r}, it fails: it ends its process: SystemExit: enough"
    assert report.conclusion() == f"no: faults:ExitsInLife may not replace stacking_gru_cell, because {said}"


def test_a_life_that_comes_to_no_end_is_no_yes():
    report = quick("NeverReturnsInLife", life=True, time_limit=15.0)
    assert not report.equivalent
    assert report.conclusion().endswith("could not be judged: time limit: it took more than 15 s")


def test_one_that_ends_the_process_while_it_is_timed_may_not(monkeypatch):
    monkeypatch.setattr(steps, "time_case", lambda *given, **_: given[3] and os._exit(7))
    told = []
    report = quick("Segfaults", hidden_size=16, timing_seconds=0.01, known=told.append)
    assert [one.equivalent for one in told] == [True, False]
    assert report.conclusion().endswith("in inference, while it was timed, it fails: it ends its process: exit code 7")


def test_a_capability_that_crashes_is_refused_and_the_others_are_probed(monkeypatch):
    few = "missing_states", "vmap", "non_contiguous", "carried_state"
    monkeypatch.setattr(probing, "CAPABILITIES", {name: CAPABILITIES[name] for name in few})
    report = quick("SegfaultsUnderVmap", capabilities=True)
    found = report.capabilities.set_index(["implementation", "capability"])
    crashed = found.loc["faults:SegfaultsUnderVmap", "vmap"]
    assert (crashed["outcome"], crashed["detail"]) == ("refuses", "it crashes its process: SIGSEGV")
    assert found.loc[("stacking_gru_cell", "vmap"), "outcome"] == "works"
    assert len(found) == 8
    assert set(found["outcome"]) == {"works", "refuses"}
    assert found.loc[("faults:SegfaultsUnderVmap", "carried_state"), "outcome"] == "works"
    assert "note what would be lost: torch.func.vmap" in report.conclusion()


@pytest.mark.slow
def test_threads_and_words_that_a_layer_leaves_behind_keep_nothing_from_ending():
    options = ["--no-life", "--no-capabilities", "--no-timing", "--seed", "0", "--device", "cpu"]
    run = [sys.executable, "-m", "rnn_parity", "check", "faults:LeavesThread", *options]
    done = subprocess.run(run, cwd=PROJECT / "tests", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("yes: faults:LeavesThread may replace")
    assert "left behind" in done.stderr
    assert "left behind" not in done.stdout


@pytest.mark.slow
def test_here_means_in_this_process_and_with_the_same_rows():
    apart, here = (quick("Wrong", life=True, contain=contain) for contain in (True, False))
    assert here.equivalence.equals(apart.equivalence)
    points = [report.life.set_index("point")["verdict"].to_dict() for report in (here, apart)]
    assert points[0] == points[1] | {key: "not judged" for key in points[0].keys() - points[1].keys()}
