"""What is gained follows the timing table."""

import numpy as np
import pandas as pd
import pytest

from project import SMOKE
from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings.efficiency import efficiency_table
from rnn_parity.findings.speedups import conclusions, quoted_speedups, shares_of_peak, timing_effort
from synthetic import environment, timing_rows

GRID = make_grid(SMOKE)


def test_the_quoted_case_is_the_largest_of_t2vec_where_there_is_one():
    table = pd.DataFrame(timing_rows(GRID))
    quoted = quoted_speedups(table, "stacking_gru")
    assert list(quoted["phase"]) == ["inference", "step"]
    assert set(quoted["case_id"]) == {table.loc[table["flops"].idxmax(), "case_id"]}
    small = table.loc[table["flops"].idxmin()]
    table.loc[table["case_id"] == small["case_id"], "sweep"] = "t2vec"
    assert set(quoted_speedups(table, "stacking_gru")["case_id"]) == {small["case_id"]}


def test_conclusions_count_every_case_once():
    table = pd.DataFrame(timing_rows(GRID))
    ours = table["implementation"] == "stacking_gru"
    first, second = table.index[ours & (table["phase"] == "step")][:2]
    table.loc[first, "conclusion"] = "within noise"
    table.loc[second, ["conclusion", "speedup"]] = ["unsupported", np.nan]
    step = conclusions(table, "stacking_gru").set_index("phase").loc["step"]
    counts = [step[name] for name in ("faster", "within_noise", "slower", "not_timed")]
    assert counts == [3, 1, 0, 1]
    assert sum(counts) == step["cases"]


def test_the_effort_counts_each_measurement_once_and_what_was_saved():
    table = pd.DataFrame(timing_rows(GRID))
    table["clock_limits"] = table["clock_limits"].astype(object)
    table["rounds_s"] = 4.0
    first, second = (table["case_id"] == name for name in table["case_id"].unique()[:2])
    table.loc[first & (table["phase"] == "step"), ["rounds_s", "other_busy_cores", "clock_limits"]] = [
        1.0,
        0.9,
        "power cap",
    ]
    table.loc[second & (table["phase"] == "step"), "rounds_s"] = 5.0  # the least number of rounds took longer
    effort = timing_effort(table, 4.0)
    assert effort["measurements"] == 4 * len(GRID.cases)
    assert (effort["stopped_early"], effort["saved_s"]) == (1, 3.0)
    assert effort["allowed_s"] == 4.0 * effort["measurements"]
    assert (effort["loaded"], effort["clock_limited"], effort["shared"]) == (1, 1, False)
    table["exclusive"] = False
    assert timing_effort(table, 4.0)["shared"]


def test_shares_of_the_peak_are_of_the_case_that_is_asked_for():
    timing = pd.DataFrame(timing_rows(GRID))
    table = efficiency_table(timing, environment(GRID)["peaks"])
    case_id = GRID.cases[1].case_id
    shares = shares_of_peak(table, case_id, ["stacking_gru", "stacking_gru_cell"])
    ours, theirs = shares["step"]
    assert ours == pytest.approx(1.5 * theirs)
    mine = timing.query("case_id == @case_id and phase == 'step' and implementation == 'stacking_gru'").iloc[0]
    assert ours == pytest.approx(mine["flops"] / mine["median_s"] / 1e11)
    assert shares_of_peak(efficiency_table(timing, []), case_id, ["stacking_gru", "stacking_gru_cell"]) == {}
