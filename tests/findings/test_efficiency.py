"""Shares are of the machine's own rates, each case in its own setting."""

import pandas as pd
import pytest

from project import SMOKE
from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings.efficiency import efficiency_table
from rnn_parity.tables import TIMING
from synthetic import environment, timing_rows

GRID = make_grid(SMOKE | {"sweeps": {"precision": {"dtype": ["float32", "float64"], "threads": [1, 2]}}})


@pytest.fixture
def timing():
    return pd.DataFrame(timing_rows(GRID), columns=TIMING.names)


def test_each_case_is_held_against_the_peaks_of_its_own_setting(timing):
    peaks = environment(GRID)["peaks"]
    for factor, peak in enumerate(peaks, start=1):
        peak["gemm_flops_per_s"] *= factor
    table = efficiency_table(timing, peaks)
    assert len(table) == len(timing)
    assert table["gemm_flops_per_s"].nunique() == 4
    row = table[(table["dtype"] == "float64") & (table["threads"] == 2) & (table["phase"] == "step")].iloc[0]
    assert row["gemm_flops_per_s"] == 4e11
    assert row["share_of_peak"] == pytest.approx(row["flops"] / row["median_s"] / 4e11)
    assert row["floor_s"] == pytest.approx(max(row["flops"] / 4e11, row["least_bytes"] / 1e10))
    sequential_s = row["sequential_flops"] / 5e10
    assert row["step_floor_s"] == pytest.approx(sequential_s + (row["flops"] - row["sequential_flops"]) / 4e11)


def test_no_peaks_leave_shares_open_and_what_was_not_timed_is_left_out(timing):
    timing.loc[0, "median_s"] = None
    table = efficiency_table(timing, environment(GRID)["peaks"][:1])
    assert len(table) == len(timing) - 1
    known = (table["dtype"] == "float32") & (table["threads"] == 1)
    assert table.loc[known, "share_of_peak"].notna().all()
    assert table.loc[~known, ["share_of_peak", "floor_s"]].isna().all().all()
    assert efficiency_table(timing, [])["share_of_peak"].isna().all()
