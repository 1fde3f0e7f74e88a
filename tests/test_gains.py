"""What is gained follows the timing table."""

import numpy as np
import pandas as pd
import pytest
import yaml

from conftest import PROJECT
from rnn_parity import gains
from rnn_parity.grid import make_grid
from synthetic import timing_rows

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())


@pytest.fixture(scope="module")
def grid():
    return make_grid(SMOKE)


def test_the_quoted_case_is_the_largest_of_t2vec_where_there_is_one(grid):
    table = pd.DataFrame(timing_rows(grid))
    quoted = gains.quoted_speedups(table, "stacking_gru")
    assert list(quoted["phase"]) == ["inference", "step"]
    assert set(quoted["case_id"]) == {table.loc[table["flops"].idxmax(), "case_id"]}
    small = table.loc[table["flops"].idxmin()]
    table.loc[table["case_id"] == small["case_id"], "sweep"] = "t2vec"
    assert set(gains.quoted_speedups(table, "stacking_gru")["case_id"]) == {small["case_id"]}


def test_conclusions_count_every_case_once(grid):
    table = pd.DataFrame(timing_rows(grid))
    ours = table["implementation"] == "stacking_gru"
    first, second = table.index[ours & (table["phase"] == "step")][:2]
    table.loc[first, "conclusion"] = "within noise"
    table.loc[second, ["conclusion", "speedup"]] = ["unsupported", np.nan]
    step = gains.conclusions(table, "stacking_gru").set_index("phase").loc["step"]
    counts = [step[name] for name in ("faster", "within_noise", "slower", "not_timed")]
    assert counts == [3, 1, 0, 1]
    assert sum(counts) == step["cases"]
