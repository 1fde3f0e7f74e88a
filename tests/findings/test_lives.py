"""A life speaks for the answer where a first call says nothing: faults, conditions, and what is to be minded."""

import pandas as pd
import pytest

from project import SMOKE
from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings.answer import answer_for
from rnn_parity.findings.lives import remarks
from rnn_parity.report.check import MOST_LINES, Report
from rnn_parity.report.gate import gate
from rnn_parity.tables import LEFT_OUT
from synthetic import equivalence_rows, life_rows

GRID = make_grid(SMOKE)
CASE = GRID.cases[0]
STALE = {"when": "after its weights change", "quantity": "output", "reason": "is what it was before"}
SECOND = {"condition": "no second derivatives are taken", "quantity": "grad_h0", "reason": "error is 7× its limit"}


def table(**changes):
    return pd.DataFrame(equivalence_rows(GRID, **changes))


def check(equivalence, life):
    return Report("stacking_gru_cell", "stacking_gru", CASE, equivalence, life, None, None)


def lived(**faults):
    return pd.DataFrame(life_rows(CASE, **faults))


def test_a_fault_of_its_life_alone_is_a_no_that_names_its_trigger():
    report = check(table(), lived(written=STALE))
    assert report.answer.word == "no"
    assert not report.equivalent
    assert report.answer.failing == 0  # no case fails
    assert report.conclusion().endswith(", because after its weights change, output is what it was before")
    holds, text = gate(table(), lived(written=STALE))
    assert not holds
    assert text == "gate: stacking_gru: after its weights change, output is what it was before\n"


def test_a_life_in_which_all_holds_or_is_refused_changes_nothing():
    report = check(table(), lived())
    assert report.answer.word == answer_for(table(), "stacking_gru").word == "yes, when"
    assert report.answer.conditions == ()
    assert gate(table(), lived()) == gate(table())
    assert "over 9 calls: 2 of 3 points hold" in report.explain()
    assert "unsupported: No states:" in report.explain()


def test_what_many_points_say_is_said_once_and_not_without_end():
    raised = {"verdict": "failed", "reason": "ValueError: needs a GPU"}
    lines = check(table(), lived(**{f"p{n}": raised for n in range(5)})).grounds()
    assert [line for line in lines if "ValueError" in line] == [
        "    failed: at 'P0', it fails: ValueError: needs a GPU (and at 4 more)"
    ]
    each = {f"p{n}": {"quantity": "output", "reason": f"error is {n + 2} × its limit"} for n in range(20)}
    lines = check(table(), lived(**each)).grounds()
    assert len([line for line in lines if " different: at " in line]) == MOST_LINES
    assert f"    and {20 + 1 - MOST_LINES} more: --json lists all" in lines  # with the one that is refused


def test_what_a_condition_excuses_leaves_a_yes_that_says_so():
    report = check(table(), lived(second_derivatives=SECOND))
    assert report.answer.word == "yes, when"
    assert report.equivalent
    assert "but only when no second derivatives are taken" in report.conclusion()
    assert gate(table(), lived(second_derivatives=SECOND))[0]


@pytest.mark.parametrize(
    ("fault", "speaks"),
    [
        ({"same_seed": STALE}, True),  # equal calls part: the case fails for what came before it
        ({"dropout_of": STALE}, False),  # which says nothing of a case
        ({"first_call": STALE | {"when": "now and then, in train"}}, True),
        ({"first_call": STALE | {"when": "at its first call in train"}}, False),
    ],
)
def test_where_a_case_fails_too_the_life_speaks_if_a_first_call_was_right(fault, speaks):
    answer = answer_for(table(wrong="stacking_gru"), "stacking_gru", lived(**fault))
    assert answer.word == "no"
    assert bool(answer.fault) is speaks
    assert bool(answer.deciding) is not speaks


def test_a_life_of_another_candidate_says_nothing():
    other = lived(written=STALE).assign(implementation="torch.nn:GRU")
    assert answer_for(table(), "stacking_gru", other).word == "yes, when"


def test_a_point_that_holds_may_have_a_word_to_say():
    slow = {"verdict": "equivalent", "reason": "takes 0.5 s longer at the first call of every new shape"}
    life = lived(first_at_shape=slow)
    assert remarks(life) == [slow["reason"]]
    report = check(table(), life)
    assert report.equivalent
    assert f"note that it {slow['reason']}" in report.conclusion()


def test_a_yes_says_which_part_of_the_life_was_left_out():
    report = check(table(), lived(kept={"verdict": "not judged", "reason": f"{LEFT_OUT} 20 s before"}))
    assert report.equivalent
    assert (
        f"note that it is so slow that 1 of {len(report.life)} points of its life were left out" in report.conclusion()
    )
