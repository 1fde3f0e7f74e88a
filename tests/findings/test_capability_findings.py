"""What is lost follows the table of capabilities."""

import pandas as pd

from rnn_parity.capabilities.probing import CAPABILITIES
from rnn_parity.findings.capabilities import CONDITIONS, capability_rows, lost_capabilities, wrong_capabilities
from synthetic import capability_rows as made_up_rows


def test_kinds_of_one_title_are_rows_of_their_own():
    gru = made_up_rows(["old", "new"])
    table = pd.DataFrame([*gru, *(row | {"cell": "lstm", "outcome": "works"} for row in gru)])
    rows = capability_rows(table)
    assert [(row["cell"], row["differs"]) for row in rows] == [
        ("gru", False),
        ("gru", True),
        ("lstm", False),
        ("lstm", False),
    ]
    elsewhere = [*gru, *(row | {"cell": "lstm"} for row in made_up_rows(["old", "another"]))]
    assert lost_capabilities(capability_rows(pd.DataFrame(elsewhere)), "old", "new") == ["`vmap`"]


def test_what_is_lost_is_what_the_baseline_can_do_and_the_candidate_cannot():
    table = pd.DataFrame(made_up_rows(["old", "new"]))
    rows = capability_rows(table)
    assert [row["differs"] for row in rows] == [False, True]
    assert lost_capabilities(rows, "old", "new") == ["`vmap`"]
    assert lost_capabilities(rows, "new", "old") == []
    table.loc[(table["implementation"] == "new") & (table["capability"] == "repeatable"), "agrees"] = False
    assert lost_capabilities(capability_rows(table), "old", "new") == ["Repeatable", "`vmap`"]


def test_wrong_numbers_are_a_condition_and_no_loss():
    table = pd.DataFrame(made_up_rows(["old", "new"]))
    assert wrong_capabilities(table, "new") == ()
    table.loc[(table["implementation"] == "new") & (table["capability"] == "vmap"), "outcome"] = "wrong"
    assert wrong_capabilities(table, "new") == ("it is not called under `torch.func.vmap`",)
    assert wrong_capabilities(table, "old") == ()
    assert lost_capabilities(capability_rows(table), "old", "new") == []


def test_every_condition_is_of_a_capability():
    assert CONDITIONS.keys() <= CAPABILITIES.keys()
