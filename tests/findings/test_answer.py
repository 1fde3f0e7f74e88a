"""The answer follows the equivalence table."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from project import SMOKE
from rnn_parity.experiment.grid import make_grid
from rnn_parity.experiment.vocabulary import AXES, Verdict
from rnn_parity.findings.answer import SameSeed, answer_for, answers, distinguishing_axes, same_seed
from rnn_parity.findings.verdicts import failing, not_judged
from rnn_parity.report.check import Report
from rnn_parity.report.gate import gate
from synthetic import equivalence_rows, life_rows, timing_rows

GRID = make_grid(SMOKE)


def equivalence(**changes):
    return pd.DataFrame(equivalence_rows(GRID, **changes))


def test_a_correct_candidate_that_draws_other_masks_is_a_yes_with_a_condition():
    answer = answer_for(equivalence(), "stacking_gru")
    assert answer.word == "yes, when"
    assert (answer.cases, answer.passing, answer.failing) == (5, 5, 0)
    assert (answer.same_seed.drawing, answer.same_seed.differing) == (5, 4)
    assert (answer.same_seed.first_length, answer.same_seed.first_layers) == (2, 3)
    assert answer.same_seed.always
    assert answer.same_seed.masks_differ == pytest.approx(0.18)


def test_it_says_in_how_many_cases_each_regime_was_compared():
    table = equivalence()
    table.loc[table["hidden_size"] == 8, "dropout"] = 0.0
    compared = answer_for(table, "stacking_gru").compared
    assert compared == {"eval": 5, "train_matched_masks": 4}
    dry = table[table["hidden_size"] == 8]
    assert answer_for(dry, "stacking_gru").compared == {"eval": 1}


def test_without_the_seed_regime_the_yes_has_no_condition():
    table = equivalence()
    answer = answer_for(table[table["regime"] != "train_same_seed"], "stacking_gru")
    assert answer.word == "yes"
    assert answer.same_seed is None


def test_the_seed_regime_alone_answers_nothing():
    table = equivalence()
    assert answer_for(table[table["regime"] == "train_same_seed"], "stacking_gru").word == "open"


def test_not_every_deep_and_long_case_differs():
    table = equivalence()
    lucky = (table["sweep"] == "width") & (table["hidden_size"] == 8) & (table["regime"] == "train_same_seed")
    table.loc[lucky, ["verdict", "mask_agreement"]] = ["identical", 1.0]
    assert not answer_for(table, "stacking_gru").same_seed.always


def test_a_wrong_candidate_is_a_no_and_its_worst_row_is_named():
    table = equivalence(wrong="stacking_gru")
    table.loc[table["regime"] == "train_matched_masks", "ratio"] *= 10  # worse, and of a later regime
    answer = answer_for(table, "stacking_gru")
    assert answer.word == "no"
    assert answer.failing_regimes == ("eval", "train_matched_masks")
    forward = table[(table["regime"] == "eval") & table["quantity"].isin(["output", "hn"])]
    assert answer.deciding["ratio"] == forward["ratio"].max()
    assert answer.deciding["regime"] == "eval"
    assert answer.never_judged == ()


def test_one_failed_gradient_in_one_case_is_a_no_that_says_what_sets_the_case_apart():
    table = equivalence()
    at = table.index[(table["hidden_size"] == 16) & (table["regime"] == "eval") & (table["quantity"] == "grad_h0")]
    table.loc[at, "verdict"], table.loc[at, "reason"], table.loc[at, "ratio"] = "failed", "RuntimeError: x", np.nan
    answer = answer_for(table, "stacking_gru")
    assert (answer.word, answer.failing, answer.passing) == ("no", 1, 4)
    assert answer.deciding["quantity"] == "grad_h0"
    assert answer.failing_axes == "hidden_size ≥ 16"
    assert len(failing(table)) == 1


def test_not_judged_is_neither_yes_nor_no():
    table = equivalence()
    rows = table["quantity"].isin(["grad_h0", "grad_input"]) & (table["regime"] == "eval") & (table["sweep"] == "width")
    table.loc[rows, "verdict"], table.loc[rows, "reason"] = "not judged", "ill-conditioned: by 1.0e-01"
    answer = answer_for(table, "stacking_gru")
    assert (answer.word, answer.cases, answer.passing, answer.failing) == ("yes, when", 5, 3, 0)
    [row] = not_judged(table).to_dict("records")
    assert (row["quantities"], row["cases"]) == (["grad_h0", "grad_input"], 2)
    table["verdict"], table["reason"] = "not judged", "its masks cannot be set"
    assert answer_for(table, "stacking_gru").word == "open"


def test_a_quantity_that_was_judged_nowhere_leaves_the_answer_open_for_the_check_and_the_gate_alike():
    table = equivalence()
    table = table[table["regime"] != "train_same_seed"]
    never = table["quantity"] == "grad_h0"
    in_part = never & (table["hidden_size"] == 16)
    for rows, word in ((in_part, "yes"), (never, "open")):
        changed = table.copy()
        changed.loc[rows, ["verdict", "reason"]] = ["not judged", "ill-conditioned: by 3e-02"]
        report = Report("stacking_gru_cell", "stacking_gru", GRID.cases[0], changed, None, None, None)
        holds, text = gate(changed)
        assert report.answer.word == word
        assert report.equivalent is holds is (word == "yes")
    assert report.answer.never_judged == ("grad_h0",)
    assert "because grad_h0 could not be judged: ill-conditioned: by 3e-02" in report.conclusion()
    assert text == "gate: stacking_gru: grad_h0 could be judged in no case: ill-conditioned: by 3e-02\n"


def test_one_layer_draws_no_dropout_whatever_its_probability():
    table = equivalence()
    table.loc[table["hidden_size"] == 16, "num_layers"] = 1
    answer = answer_for(table, "stacking_gru")
    assert answer.compared == {"eval": 5, "train_matched_masks": 4}
    assert answer.same_seed.drawing == 4


def test_every_candidate_has_an_answer_from_its_own_rows():
    table, timing = equivalence(), pd.DataFrame(timing_rows(GRID))
    wrong = equivalence(wrong="stacking_gru").assign(implementation="a_wrong_one")
    life = pd.DataFrame(life_rows(GRID.cases[0], written={"when": "after its weights change"}))
    both = pd.concat([table, wrong])
    assert [(answer.candidate, answer.word) for answer in answers(both)] == [
        ("stacking_gru", "yes, when"),
        ("a_wrong_one", "no"),
    ]
    assert [answer.word for answer in answers(table, life)] == ["no"]
    timing.loc[timing["implementation"] == "stacking_gru", ["conclusion", "reason"]] = ["different", "its result x"]
    [answer] = answers(table, timing=timing)
    assert (answer.word, answer.verdict, answer.deciding, answer.failing) == ("no", Verdict.DIFFERENT, None, 0)
    assert answer.fault["point"] == "timed"
    assert (answer.cases, answer.passing, answer.never_judged) == (5, 5, ())
    assert answer.same_seed_differs
    assert [answer.holds for answer in answers(both)] == [True, False]


def test_the_answer_has_the_worst_verdict_of_what_it_rests_on():
    table = equivalence()
    at_best = table.assign(verdict=table["verdict"].where(table["quantity"] != "output", "identical"))
    answer = answer_for(at_best, "stacking_gru")
    assert (answer.word, answer.verdict) == ("yes, when", Verdict.EQUIVALENT)
    assert answer.deciding["ratio"] == table.query("regime != 'train_same_seed'")["ratio"].max()
    assert answer.conditions == answer.failing_regimes == answer.never_judged == ()
    assert (answer.failing_axes, answer.fault) == ("", None)
    later = table["regime"] == "train_matched_masks"
    table.loc[later, "verdict"], table.loc[later, "reason"] = "failed", "RuntimeError: x"
    answer = answer_for(table, "stacking_gru")
    assert (answer.word, answer.verdict, answer.failing, answer.passing) == ("no", Verdict.FAILED, 5, 0)
    assert answer.failing_regimes == ("train_matched_masks",)
    assert answer.deciding["regime"] == "train_matched_masks"
    nothing = answer_for(table, "unheard_of")
    assert (nothing.word, nothing.verdict, nothing.deciding, nothing.cases) == ("open", None, None, 0)
    assert nothing.compared == {}


def test_conditions_of_its_life_are_conditions_of_the_yes():
    table = equivalence().query("regime != 'train_same_seed'")
    life = pd.DataFrame(life_rows(GRID.cases[0], second_derivatives={"condition": "no second derivatives are taken"}))
    answer = answer_for(table, "stacking_gru", life)
    assert (answer.word, answer.conditions) == ("yes, when", ("no second derivatives are taken",))


def test_a_point_of_its_life_that_never_ended_leaves_the_answer_open_and_is_named():
    table = equivalence()
    cut = {"verdict": "not judged", "reason": "time limit of 60 s"}
    life = pd.DataFrame(life_rows(GRID.cases[0], many_calls=cut, first_call={"verdict": "not judged", "reason": "x"}))
    answer = answer_for(table, "stacking_gru", life)
    assert (answer.word, answer.verdict, answer.never_judged) == ("open", None, ("'Many calls'",))
    assert (
        answer.deciding.items() >= {"point": "many_calls", "quantity": "'Many calls'", "reason": cut["reason"]}.items()
    )
    never = table.assign(verdict=table["verdict"].where(table["quantity"] != "grad_h0", "not judged"))
    both = answer_for(never, "stacking_gru", life)
    assert (both.word, both.never_judged, both.deciding["quantity"]) == ("open", ("grad_h0",), "grad_h0")
    for wrong in (
        answer_for(equivalence(wrong="stacking_gru"), "stacking_gru", life),
        answer_for(table, "stacking_gru"),
    ):
        assert wrong.never_judged == ()
        assert "quantity" in wrong.deciding
    stale = {"when": "after its weights change"}
    faulty = answer_for(table, "stacking_gru", pd.DataFrame(life_rows(GRID.cases[0], many_calls=cut, written=stale)))
    assert (faulty.word, faulty.deciding, faulty.never_judged) == ("no", None, ())


def seeded(case, length, layers, verdict, agreement, **change):
    row = {"case_id": case, "sequence_length": length, "num_layers": layers, "dropout": 0.2, "verdict": verdict}
    return row | {"regime": "train_same_seed", "mask_agreement": agreement} | change


def test_the_same_seed_is_told_by_the_cases_that_draw():
    alike = [seeded("a", 1, 2, "equivalent", 0.1), seeded("b", 5, 1, "different", 0.2), seeded("b", 5, 1, "failed", 0)]
    alike += [seeded("c", 0, 2, "different", 0.3, dropout=0.0), seeded("d", 0, 2, "different", 0.4, regime="eval")]
    assert same_seed(pd.DataFrame(alike[1:])) is None
    found = same_seed(pd.DataFrame(alike))
    assert (found.drawing, found.differing, found.first_length, found.first_layers) == (1, 0, None, None)
    assert (found.always, found.out_of_sight, bool(np.isnan(found.masks_differ))) == (False, False, True)
    part = [seeded("e", 30, 3, "different", 0.7), seeded("e", 30, 3, "different", 0.6)]
    part += [seeded("f", 10, 4, "different", 0.9), seeded("f", 10, 4, "equivalent", 0.5)]
    seen = same_seed(pd.DataFrame([*alike, *part]))
    assert seen == SameSeed(3, 2, 10, 3, always=True, masks_differ=0.4, out_of_sight=False)
    short, flat = seeded("g", 9, 9, "identical", 1.0), seeded("g", 99, 2, "identical", 1.0)
    for beside in (short, flat):
        assert same_seed(pd.DataFrame([*alike, *part, beside])) == dataclasses.replace(seen, drawing=4)
    lucky, blind = seeded("h", 10, 3, "identical", 1.0), seeded("h", 10, 3, "different", np.nan)
    assert same_seed(pd.DataFrame([*alike, *part, lucky])) == dataclasses.replace(seen, drawing=4, always=False)
    unseen = dataclasses.replace(seen, drawing=4, differing=3, out_of_sight=True)
    assert same_seed(pd.DataFrame([*alike, *part, blind])) == unseen
    under_the_same = seeded("h", 10, 3, "different", 1.0)  # it is wrong, and not for its masks
    assert same_seed(pd.DataFrame([*alike, *part, under_the_same])) == dataclasses.replace(
        seen, drawing=4, always=False
    )


@pytest.mark.parametrize(
    ("these", "others", "words"),
    [
        ({"hidden_size": [16, 32]}, {"hidden_size": [4, 8]}, "hidden_size ≥ 16"),
        ({"hidden_size": [8, 4]}, {"hidden_size": [32, 16]}, "hidden_size ≤ 8"),
        ({"hidden_size": [4]}, {"hidden_size": [16]}, "hidden_size ≤ 4"),
        ({"hidden_size": [32]}, {"hidden_size": [8]}, "hidden_size ≥ 32"),
        ({"hidden_size": [4, 16]}, {"hidden_size": [8]}, "hidden_size 4 or 16"),
        ({"hidden_size": [4, 16]}, {"hidden_size": [8, 32]}, "hidden_size 4 or 16"),
        ({"hidden_size": [8, 32]}, {"hidden_size": [4, 16]}, "hidden_size 8 or 32"),
        ({"hidden_size": [4, 16]}, {"hidden_size": [16, 32]}, ""),
        ({"dtype": ["float16", "bfloat16"]}, {"dtype": ["float32"]}, "dtype bfloat16 or float16"),
        ({"tf32": [True, True]}, {"tf32": [False, False]}, "tf32 True"),
        (
            {"dropout": [0.2, 0.5], "dtype": ["b", "b"]},
            {"dropout": [0.0, 0.1], "dtype": ["a", "a"]},
            "dtype b, dropout ≥ 0.2",
        ),
    ],
)
def test_axes_set_cases_apart_by_a_bound_or_by_their_values(these, others, words):
    same = {axis: known.default for axis, known in AXES.items()}
    these, others = pd.DataFrame(same | these), pd.DataFrame(same | others)
    assert distinguishing_axes(these, others) == words
    assert distinguishing_axes(these[:0], others) == distinguishing_axes(these, others[:0]) == ""


def test_the_gate_is_shut_for_a_table_of_nothing():
    assert gate(equivalence().iloc[:0]) == (False, "gate: the table has no comparison\n")
    holds, text = gate(equivalence().query("regime == 'train_same_seed'"))
    assert (holds, text) == (False, "gate: stacking_gru: no case was run in a regime that must hold\n")
