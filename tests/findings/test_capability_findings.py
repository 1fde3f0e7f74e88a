"""What is lost follows the table of capabilities."""

import pandas as pd

from rnn_parity.findings import capabilities as losses
from synthetic import capability_rows


def test_what_is_lost_is_what_the_baseline_can_do_and_the_candidate_cannot():
    table = pd.DataFrame(capability_rows(["old", "new"]))
    rows = losses.capability_rows(table)
    assert [row["part"] for row in rows] == [False, True]
    assert losses.lost_capabilities(rows, "old", "new") == ["`vmap`"]
    assert losses.lost_capabilities(rows, "new", "old") == []
    table.loc[(table["implementation"] == "new") & (table["capability"] == "repeatable"), "agrees"] = False
    assert losses.lost_capabilities(losses.capability_rows(table), "old", "new") == ["Repeatable", "`vmap`"]
