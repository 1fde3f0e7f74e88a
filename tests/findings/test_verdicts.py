"""Verdicts and counts follow the equivalence table."""

import pandas as pd

from project import SMOKE
from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings.verdicts import (
    article_lengths,
    deciding_row,
    deciding_rows,
    failing,
    must_hold,
    tolerance_checks,
    verdict_table,
)
from synthetic import equivalence_rows

GRID = make_grid(SMOKE)


def equivalence(**changes):
    return pd.DataFrame(equivalence_rows(GRID, **changes))


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
