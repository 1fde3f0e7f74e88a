"""What is lost follows the table of capabilities."""

import pandas as pd

from rnn_parity.findings.capabilities import capability_rows, lost_capabilities
from synthetic import capability_rows as made_up_rows


def test_what_is_lost_is_what_the_baseline_can_do_and_the_candidate_cannot():
    table = pd.DataFrame(made_up_rows(["old", "new"]))
    rows = capability_rows(table)
    assert [row["differs"] for row in rows] == [False, True]
    assert lost_capabilities(rows, "old", "new") == ["`vmap`"]
    assert lost_capabilities(rows, "new", "old") == []
    table.loc[(table["implementation"] == "new") & (table["capability"] == "repeatable"), "agrees"] = False
    assert lost_capabilities(capability_rows(table), "old", "new") == ["Repeatable", "`vmap`"]
