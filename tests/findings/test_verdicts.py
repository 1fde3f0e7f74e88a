"""Verdicts and counts follow the equivalence table."""

import pandas as pd
import pytest
import yaml

from conftest import PROJECT
from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings import verdicts as summary
from synthetic import equivalence_rows

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())


@pytest.fixture(scope="module")
def grid():
    return make_grid(SMOKE)


def equivalence(grid, **changes):
    return pd.DataFrame(equivalence_rows(grid, **changes))


def test_unmet_looks_only_where_agreement_is_expected(grid):
    table = equivalence(grid)
    assert (table["verdict"] == "different").any()
    assert summary.unmet(table).empty
    wrong = summary.unmet(equivalence(grid, wrong="stacking_gru"))
    assert set(wrong["regime"]) == {"eval", "train_matched_masks"}


def test_the_verdict_table_counts_the_cases_that_pass_in_full(grid):
    table = summary.verdict_table(equivalence(grid)).set_index(["sweep", "regime"])
    assert len(table) == 2 * 3
    assert table.loc[("article", "eval"), "verdict"] == "equivalent"
    seeded = table.loc[("article", "train_same_seed")]
    assert (seeded["verdict"], seeded["cases"], seeded["cases_passing"]) == ("different", 3, 1)
    assert "t1-" not in seeded["worst_case_id"]


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
