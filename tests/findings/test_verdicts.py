"""Verdicts and counts follow the equivalence table."""

import pandas as pd

from project import SMOKE
from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings.verdicts import (
    article_lengths,
    deciding_row,
    deciding_rows,
    draw_dropout,
    failing,
    is_withheld,
    must_hold,
    not_judged,
    seed_table,
    tolerance_checks,
    verdict_table,
    withheld_rows,
)
from rnn_parity.tables import CASE_COLUMNS
from synthetic import equivalence_rows

GRID = make_grid(SMOKE)
COMPARED = {"sweep": "width", "regime": "eval", "implementation": "ours", "case_id": "a", "quantity": "output"}
COMPARED |= {"verdict": "equivalent", "reason": "", "ratio": 0.5}


def equivalence(**changes):
    return pd.DataFrame(equivalence_rows(GRID, **changes))


def compared(*changes):
    return pd.DataFrame([COMPARED | change for change in changes])


def test_unmet_looks_only_where_agreement_is_expected():
    table = equivalence()
    assert (table["verdict"] == "different").any()
    assert failing(table).empty
    wrong = failing(equivalence(wrong="stacking_gru"))
    assert set(wrong["regime"]) == {"eval", "train_matched_masks"}


def test_the_verdict_table_counts_the_cases_that_pass_in_full():
    table = verdict_table(equivalence()).set_index(["sweep", "regime"])
    assert len(table) == 2 * 3
    assert table.loc[("article", "eval"), "verdict"] == "equivalent"
    seeded = table.loc[("article", "train_same_seed")]
    assert (seeded["verdict"], seeded["cases"], seeded["cases_passing"]) == ("different", 3, 1)
    assert "t1-" not in seeded["worst_case_id"]


def test_the_verdict_table_names_the_worst_of_each_sweep_candidate_and_regime():
    wrong = {"verdict": "different", "reason": "error is 3× its limit", "ratio": 3.0}
    table = verdict_table(
        compared(
            {"ratio": 0.7},
            {"case_id": "b", "quantity": "grad_input"} | wrong,
            {"case_id": "c", "ratio": 0.9},
            {"implementation": "another", "quantity": "hn", "verdict": "identical", "ratio": 0.1},
            {"sweep": "depth", "regime": "train_matched_masks", "case_id": "d"},
        )
    )
    assert list(table) == [
        "sweep", "implementation", "regime", "verdict", "cases", "cases_passing",
        "worst_ratio", "worst_case_id", "worst_quantity", "reason", "withheld",
    ]  # fmt: skip
    assert table.to_numpy().tolist() == [
        ["width", "ours", "eval", "different", 3, 2, 3.0, "b", "grad_input", "error is 3× its limit", ""],
        ["width", "another", "eval", "identical", 1, 1, 0.1, "a", "hn", "", ""],
        ["depth", "ours", "train_matched_masks", "equivalent", 1, 1, 0.5, "d", "output", "", ""],
    ]


def test_what_a_layer_does_not_support_hides_nothing_that_it_gives():
    refused = {"verdict": "unsupported", "reason": "no backward in eval mode", "ratio": float("nan")}
    table = compared(
        {},
        {"quantity": "grad_input"} | refused,
        {"regime": "train_matched_masks", "quantity": "grad_input", "ratio": 0.7},
        {"case_id": "b"},
        {"case_id": "b", "quantity": "grad_input"} | refused,
        {"case_id": "c", "sweep": "dtype"} | refused,  # nothing at all is given here
    )
    assert list(is_withheld(table)) == [False, True, False, False, True, False]
    rows = verdict_table(table)[["sweep", "regime", "verdict", "cases", "cases_passing", "worst_ratio", "withheld"]]
    assert rows.iloc[:2].to_numpy().tolist() == [
        ["width", "eval", "equivalent", 2, 2, 0.5, "gradients"],
        ["width", "train_matched_masks", "equivalent", 1, 1, 0.7, ""],
    ]
    assert list(rows.iloc[2])[:5] == ["dtype", "eval", "unsupported", 1, 0]
    told = {"regime": "eval", "kind": "gradients", "cases": 2, "reason": "no backward in eval mode"}
    assert withheld_rows(table) == [told]
    wrong = table.assign(verdict=table["verdict"].mask(table.index == 0, "different"))
    assert verdict_table(wrong)["verdict"].iloc[0] == "different"


def test_what_was_not_judged_is_told_once_a_kind_of_reason():
    rounding, masks = "ill-conditioned: by {}", "its masks cannot be set"
    table = not_judged(
        compared(
            {"case_id": "e", "regime": "train_matched_masks", "verdict": "unsupported", "reason": masks},
            {"quantity": "hn", "verdict": "not judged", "reason": rounding.format(1)},
            {},
            {"quantity": "grad_input", "verdict": "not judged", "reason": rounding.format(2)},
            {"case_id": "b", "quantity": "hn", "verdict": "not judged", "reason": rounding.format(3)},
            {"case_id": "b"},
            {"case_id": "c", "quantity": "hn", "verdict": "not judged", "reason": masks},
            {"case_id": "c", "verdict": "not judged", "reason": masks},
            {"case_id": "d", "verdict": "not judged", "reason": "its states cannot be set"},
            {"case_id": "d", "implementation": "another", "verdict": "failed", "reason": "RuntimeError: x"},
        )
    )
    columns = ["implementation", "regime", "verdict", "quantities", "cases", "reason", "regime_words", "whole"]
    assert list(table) == columns
    whole, off, same = "every quantity", "dropout off", "dropout on and the same masks"
    assert table.to_numpy().tolist() == [
        ["ours", "train_matched_masks", "unsupported", [], 1, masks, same, whole],
        ["ours", "eval", "not judged", ["grad_input", "hn"], 2, "ill-conditioned: by 1", off, "every gradient"],
        ["ours", "eval", "not judged", [], 1, masks, off, whole],
        ["ours", "eval", "not judged", [], 1, "its states cannot be set", off, whole],
    ]
    assert list(not_judged(compared({}))) == list(table)


def test_default_tolerances_are_held_against_the_verdicts():
    table = equivalence()
    held = len(must_hold(table))
    assert tolerance_checks(table)["torch.allclose"] == {
        "equal": held,
        "false_alarms": held,
        "different": 0,
        "missed": 0,
    }
    wrong = equivalence(wrong="stacking_gru").assign(allclose_default=True)
    assert tolerance_checks(wrong)["torch.allclose"]["missed"] == held


def test_each_tolerance_is_counted_by_itself_where_both_verdicts_are_known():
    held = [("equivalent", True, False), ("identical", True, False), ("equivalent", False, True)]
    wrong = [("different", True, False), ("different", False, False), ("different", True, True)]
    rows = [*held, *wrong, ("failed", True, True), ("equivalent", None, None)]
    words = [dict(zip(("verdict", "allclose_default", "assert_close_default"), row, strict=True)) for row in rows]
    assert tolerance_checks(compared(*words, words[0] | {"regime": "train_same_seed"})) == {
        "torch.allclose": {"equal": 3, "false_alarms": 1, "different": 3, "missed": 2},
        "torch.testing.assert_close": {"equal": 3, "false_alarms": 2, "different": 3, "missed": 1},
    }


def seeded(**change):
    axes = {name: kind(1) for name, kind in CASE_COLUMNS.items()} | {"num_layers": 2, "dropout": 0.2}
    row = {"regime": "train_same_seed", "max_abs_diff": 0.1, "mask_agreement": None}
    return axes | COMPARED | row | change


def test_one_layer_and_no_probability_draw_no_dropout():
    rows = pd.DataFrame({"dropout": [0.2, 0.0, 0.2, 0.01], "num_layers": [2, 2, 1, 3]})
    assert list(draw_dropout(rows)) == [True, False, False, True]


def test_the_table_of_the_seed_has_the_worst_of_each_case_that_draws():
    rows = [
        seeded(),
        seeded(quantity="hn", verdict="different", max_abs_diff=0.3, mask_agreement=0.9),
        seeded(quantity="cn", mask_agreement=0.8),
        seeded(quantity="grad_hn", verdict="identical", max_abs_diff=7.0),
        seeded(regime="eval", verdict="failed", max_abs_diff=9.0),
        seeded(implementation="another", quantity="grad_input"),
        seeded(num_layers=1),
    ]
    ours, another = seed_table(pd.DataFrame(rows)).to_dict("records")
    keys = [*CASE_COLUMNS, "implementation"]
    expected = {key: rows[0][key] for key in keys}
    assert ours == expected | {"verdict": "different", "max_abs_diff": 0.3, "mask_agreement": 0.8}
    assert type(ours["verdict"]) is str
    assert (another["implementation"], another["verdict"]) == ("another", "equivalent")
    assert pd.isna([another["max_abs_diff"], another["mask_agreement"]]).all()
    article = pd.DataFrame([*rows, seeded(sweep="article", case_id="b")])
    assert list(seed_table(article)["case_id"]) == ["b"]


def test_lengths_of_the_article_stand_from_the_shortest_by_verdict():
    of = [(30, "different"), (1, "equivalent"), (10, "different"), (30, "different")]
    rows = [
        seeded(sweep="article", case_id=str(n), sequence_length=length, verdict=verdict)
        for n, (length, verdict) in enumerate(of)
    ]
    lengths = article_lengths(pd.DataFrame(rows))
    assert [list(of.items()) for of in lengths.values()] == [[("equivalent", [1]), ("different", [10, 30])]]
    assert article_lengths(pd.DataFrame([seeded()])) == {}


def test_the_articles_protocol_is_told_by_sequence_length():
    assert article_lengths(equivalence()) == {"stacking_gru": {"equivalent": [1], "different": [2, 10]}}


def test_the_row_that_decides_has_the_worst_verdict_the_forward_pass_first_and_the_largest_ratio():
    verdicts = ["identical", "equivalent", "not judged", "different", "different", "failed"]
    table = pd.DataFrame({"verdict": verdicts, "ratio": [0.9, 0.2, float("nan"), 2.0, 3.0, float("nan")], "group": "a"})
    table["quantity"] = ["output", "hn", "grad_input", "hn", "output", "grad_h0"]
    decided = [deciding_row(table[:count]).name for count in range(1, 7)]
    assert decided == [0, 0, 2, 3, 4, 4]
    backward = table.assign(quantity="grad_h0")
    assert deciding_row(backward).name == 5
    for count, word in ((2, "equivalent"), (3, "not judged"), (6, "failed")):
        [row] = deciding_rows(table[:count], ["group"]).to_dict("records")
        assert row["verdict"] == word
        assert row["quantity"] == table.loc[decided[count - 1], "quantity"]


def test_rows_of_several_groups_are_decided_in_the_order_in_which_the_groups_appear():
    table = equivalence()
    keys = ["sweep", "case_id", "regime"]
    decided = deciding_rows(table, keys)
    assert decided[keys].equals(table[keys].drop_duplicates().reset_index(drop=True))
    for row in decided.to_dict("records"):
        rows = table[(table[keys] == pd.Series({key: row[key] for key in keys})).all(axis=1)]
        assert deciding_row(rows)["quantity"] == row["quantity"]
