"""Every trick on the clock loses its gain or its verdict, and the documentation says of each what is said."""

import re

import pytest
from typer.testing import CliRunner

from project import PROJECT
from rnn_parity.commands.cli import app
from rnn_parity.statistics import Conclusion
from rnn_parity.tables import TRICKS as COLUMNS
from rnn_parity.tables import read_table
from rnn_parity.trust.examine import fault_title
from rnn_parity.trust.tricks import run as tricks_run
from rnn_parity.trust.tricks.planted import CHANGED, NO_GAIN, THREADS, TRICKS, UNFINISHED, UNMOVED
from rnn_parity.trust.tricks.run import examine_tricks, holds
from rnn_parity.workloads.layer import Layer


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_loses_its_gain_or_its_verdict(monkeypatch, name):
    monkeypatch.setattr(tricks_run, "TRICKS", {name: TRICKS[name]})
    (row,) = examine_tricks(Layer())
    assert row["held"], row
    assert (row["conclusion"] == Conclusion.DIFFERENT) == (TRICKS[name].said in (CHANGED, UNMOVED))
    assert ("time.perf_counter to" in row["settings"]) == name.endswith("SlowClock")


def test_a_trick_that_keeps_its_gain_or_is_refused_for_another_reason_does_not_hold():
    stale, sized = (TRICKS[f"rnn_parity.trust.tricks.planted:{name}"] for name in ("RightForAWhile", "VersionCache"))
    gain = {"conclusion": "faster", "reason": "", "speedup": 9.0, "speedup_ci_low": 8.9}
    none = {"conclusion": "within noise", "reason": "", "speedup": 1.0, "speedup_ci_low": 0.9}
    refused = {"conclusion": "different", "reason": f"{CHANGED}: output"}
    assert [holds(stale, row) for row in (gain, none, refused, refused | {"reason": "no memory"})] == [0, 0, 1, 0]
    assert [holds(sized, row) for row in (gain, none)] == [False, True]


def found(held):
    row = {"implementation": "a:B", "trick": "A cache", "phase": "step", "believed": 400.0, "conclusion": "faster"}
    return row | {"reason": "", "speedup": 300.0, "speedup_ci_low": 299.0, "settings": "", "held": held}


@pytest.mark.parametrize(("held", "code"), [(True, 0), (False, 1)])
def test_the_command_writes_what_it_found_and_exits_by_it(monkeypatch, tmp_path, held, code):
    monkeypatch.setattr(tricks_run, "examine_tricks", lambda *_: [found(held)])
    ended = CliRunner().invoke(app, ["self-test", "--tricks", "--output", str(tmp_path / "tricks.parquet")])
    assert ended.exit_code == code
    assert ("does not hold: a:B:" in ended.stdout) is not held
    assert len(read_table(tmp_path / "tricks.parquet", COLUMNS)) == 1


def test_what_is_said_of_every_trick_is_documented():
    rows = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", (PROJECT / "docs/timing.md").read_text(), re.MULTILINE)
    words = {CHANGED: "no", UNMOVED: "no", UNFINISHED: "not judged", THREADS: "not judged", NO_GAIN: "no gain"}
    assert rows[1:] == [(fault_title(trick), words[trick.said]) for trick in TRICKS.values()]
