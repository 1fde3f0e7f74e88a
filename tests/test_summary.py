"""The facts of the report follow the tables."""

import numpy as np
import pandas as pd
import pytest
import yaml

from conftest import PROJECT
from rnn_parity import summary
from rnn_parity.grid import make_grid
from synthetic import capability_rows, equivalence_rows, timing_rows

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())


@pytest.fixture(scope="module")
def grid():
    return make_grid(SMOKE)


def equivalence(grid, **changes):
    return pd.DataFrame(equivalence_rows(grid, **changes))


def test_a_correct_candidate_that_draws_other_masks_is_a_yes_with_a_condition(grid):
    answer = summary.answer(equivalence(grid), "stacking_gru")
    assert answer.word == "yes, when"
    assert (answer.cases, answer.judged, answer.broken) == (5, 5, 0)
    assert (answer.same_seed.drawing, answer.same_seed.differing) == (5, 4)
    assert (answer.same_seed.first_length, answer.same_seed.first_layers) == (2, 3)
    assert answer.same_seed.always
    assert answer.same_seed.masks_differ == pytest.approx(0.18)


def test_without_the_seed_regime_the_yes_has_no_condition(grid):
    table = equivalence(grid)
    answer = summary.answer(table[table["regime"] != "train_same_seed"], "stacking_gru")
    assert answer.word == "yes"
    assert answer.same_seed is None


def test_the_seed_regime_alone_answers_nothing(grid):
    table = equivalence(grid)
    assert summary.answer(table[table["regime"] == "train_same_seed"], "stacking_gru").word == "open"


def test_not_every_deep_and_long_case_differs(grid):
    table = equivalence(grid)
    lucky = (table["sweep"] == "width") & (table["hidden_size"] == 8) & (table["regime"] == "train_same_seed")
    table.loc[lucky, ["verdict", "mask_agreement"]] = ["identical", 1.0]
    assert not summary.answer(table, "stacking_gru").same_seed.always


def test_a_wrong_candidate_is_a_no_and_its_worst_row_is_named(grid):
    table = equivalence(grid, wrong="stacking_gru")
    answer = summary.answer(table, "stacking_gru")
    assert answer.word == "no"
    assert answer.regimes == ("eval", "train_matched_masks")
    held = table[table["regime"] == "eval"]
    assert answer.fault["ratio"] == held["ratio"].max()


def test_one_failed_gradient_in_one_case_is_a_no_that_says_what_sets_the_case_apart(grid):
    table = equivalence(grid)
    at = table.index[(table["hidden_size"] == 16) & (table["regime"] == "eval") & (table["quantity"] == "grad_h0")]
    table.loc[at, "verdict"], table.loc[at, "reason"], table.loc[at, "ratio"] = "failed", "RuntimeError: x", np.nan
    answer = summary.answer(table, "stacking_gru")
    assert (answer.word, answer.broken, answer.judged) == ("no", 1, 4)
    assert answer.fault["quantity"] == "grad_h0"
    assert answer.apart == "hidden_size ≥ 16"
    assert len(summary.unmet(table)) == 1


def test_unmet_looks_only_where_agreement_is_expected(grid):
    table = equivalence(grid)
    assert (table["verdict"] == "different").any()
    assert summary.unmet(table).empty
    wrong = summary.unmet(equivalence(grid, wrong="stacking_gru"))
    assert set(wrong["regime"]) == {"eval", "train_matched_masks"}


def test_unsupported_is_neither_yes_nor_no(grid):
    table = equivalence(grid)
    rows = table["quantity"].isin(["grad_h0", "grad_input"]) & (table["regime"] == "eval") & (table["sweep"] == "width")
    table.loc[rows, "verdict"], table.loc[rows, "reason"] = "unsupported", "ill-conditioned: by 1.0e-01"
    answer = summary.answer(table, "stacking_gru")
    assert (answer.word, answer.cases, answer.judged, answer.broken) == ("yes, when", 5, 3, 0)
    [row] = summary.not_judged(table).to_dict("records")
    assert (row["quantities"], row["cases"]) == (["grad_h0", "grad_input"], 2)
    table["verdict"], table["reason"] = "unsupported", "its masks cannot be set"
    assert summary.answer(table, "stacking_gru").word == "open"


def test_the_verdict_table_counts_the_cases_that_pass_in_full(grid):
    table = summary.verdict_table(equivalence(grid)).set_index(["sweep", "regime"])
    assert len(table) == 2 * 3
    assert table.loc[("article", "eval"), "verdict"] == "equivalent"
    seeded = table.loc[("article", "train_same_seed")]
    assert (seeded["verdict"], seeded["cases"], seeded["cases_passing"]) == ("different", 3, 1)
    assert "t1-" not in seeded["worst_case_id"]


def test_the_quoted_case_is_the_largest_of_t2vec_where_there_is_one(grid):
    table = pd.DataFrame(timing_rows(grid))
    quoted = summary.quoted_speedups(table, "stacking_gru")
    assert list(quoted["phase"]) == ["inference", "step"]
    assert set(quoted["case_id"]) == {table.loc[table["flops"].idxmax(), "case_id"]}
    small = table.loc[table["flops"].idxmin()]
    table.loc[table["case_id"] == small["case_id"], "sweep"] = "t2vec"
    assert set(summary.quoted_speedups(table, "stacking_gru")["case_id"]) == {small["case_id"]}


def test_conclusions_count_every_case_once(grid):
    table = pd.DataFrame(timing_rows(grid))
    ours = table["implementation"] == "stacking_gru"
    first, second = table.index[ours & (table["phase"] == "step")][:2]
    table.loc[first, "conclusion"] = "within noise"
    table.loc[second, ["conclusion", "speedup"]] = ["unsupported", np.nan]
    step = summary.conclusions(table, "stacking_gru").set_index("phase").loc["step"]
    counts = [step[name] for name in ("faster", "within_noise", "slower", "not_timed")]
    assert counts == [3, 1, 0, 1]
    assert sum(counts) == step["cases"]


def test_default_tolerances_are_held_against_the_verdicts(grid):
    table = equivalence(grid)
    held = len(summary.expected(table))
    assert summary.tolerance_checks(table)["torch.allclose"] == {
        "equal": held,
        "false_alarms": held,
        "faults": 0,
        "missed": 0,
    }
    wrong = equivalence(grid, wrong="stacking_gru").assign(allclose_default=True)
    assert summary.tolerance_checks(wrong)["torch.allclose"]["missed"] == held


def test_the_articles_protocol_is_told_by_sequence_length(grid):
    assert summary.protocol(equivalence(grid)) == {"stacking_gru": {"equivalent": [1], "different": [2, 10]}}


def test_what_is_lost_is_what_the_baseline_can_do_and_the_candidate_cannot():
    table = pd.DataFrame(capability_rows(["old", "new"]))
    rows = summary.capability_rows(table)
    assert [row["part"] for row in rows] == [False, True]
    assert summary.lost_capabilities(rows, "old", "new") == ["`vmap`"]
    assert summary.lost_capabilities(rows, "new", "old") == []
    table.loc[(table["implementation"] == "new") & (table["capability"] == "repeatable"), "agrees"] = False
    assert summary.lost_capabilities(summary.capability_rows(table), "old", "new") == ["Repeatable", "`vmap`"]
