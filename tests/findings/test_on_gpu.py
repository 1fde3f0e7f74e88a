"""What is told of a run on a GPU follows its tables."""

import pandas as pd
import pytest

from project import SMOKE
from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings import on_gpu
from rnn_parity.findings.speedups import untimed
from synthetic import equivalence_rows, timing_rows

GRID = make_grid(SMOKE)
U = 2.0**-24


@pytest.fixture
def timing():
    known = {"device": "cuda", "clock_limits": "", "throttled_rounds": 0, "other_gpu_processes": 0}
    table = pd.DataFrame(timing_rows(GRID)).assign(**known)
    return table.assign(device_busy_s=0.2 * table["median_s"])


@pytest.fixture
def errors():
    """A candidate as near to the equations as its baseline: 5 and 4 unit roundoffs."""
    table = pd.DataFrame(equivalence_rows(GRID)).assign(device="cuda", tf32=False, dtype="float32", hidden_size=256)
    return table.assign(error_2=5 * U, baseline_error_2=4 * U)


def test_errors_far_above_the_baselines_are_told_with_their_hidden_sizes(errors):
    assert on_gpu.float32_errors(errors, "stacking_gru") == {}
    narrow = errors["sweep"] == "article"
    errors.loc[narrow, ["hidden_size", "error_2"]] = [192, 130 * U]
    told = on_gpu.float32_errors(errors, "stacking_gru")
    cases, of = errors.loc[narrow, "case_id"].nunique(), errors["case_id"].nunique()
    assert told == {
        "cases": cases, "of": of, "largest": 130, "baseline": 4, "narrowest": 192, "widest": 192, "whole": True,
        "elsewhere": 5, "fast_tanh": True,
    }  # fmt: skip
    one = errors["case_id"] == errors.loc[narrow, "case_id"].iloc[0]
    assert not on_gpu.float32_errors(errors.assign(error_2=errors["error_2"].mask(one, 5 * U)), "stacking_gru")["whole"]
    wide = on_gpu.float32_errors(errors.assign(hidden_size=errors["hidden_size"].mask(narrow, 512)), "stacking_gru")
    assert not wide["fast_tanh"]  # not the kernels whose tanh is known


@pytest.mark.parametrize("other", [{"device": "cpu"}, {"dtype": "float64"}, {"tf32": True}])
def test_only_float32_on_a_gpu_without_tf32_is_told_of(errors, other):
    assert on_gpu.float32_errors(errors.assign(error_2=130 * U, **other), "stacking_gru") == {}


def test_an_idle_gpu_is_counted_by_its_calls(timing):
    timing.loc[timing.index[:3], "device_busy_s"] = 0.8 * timing["median_s"]
    found = on_gpu.occupancy(timing)
    assert (found["calls"], found["idle"]) == (len(timing), len(timing) - 3)
    assert (found["lowest"], found["median"], found["highest"]) == pytest.approx((0.2, 0.2, 0.8))
    assert on_gpu.occupancy(timing.assign(device_busy_s=float("nan"))) == {}


@pytest.mark.parametrize(
    ("column", "value"),
    [("clock_limits", "power cap"), ("clock_limits", None), ("throttled_rounds", 1), ("other_gpu_processes", 1)],
)
def test_undisturbed_is_said_only_of_what_was_watched_throughout(timing, column, value):
    assert on_gpu.undisturbed(timing)
    timing[column] = timing[column].astype(object)
    timing.loc[timing.index[5], column] = value
    assert not on_gpu.undisturbed(timing)
    assert not on_gpu.undisturbed(timing.iloc[:0])


def test_a_library_is_told_once_with_all_that_it_ran_in(timing):
    own = timing["implementation"] == "stacking_gru"
    first = timing["case_id"] == timing["case_id"].iloc[0]
    timing["path"] = own.map({True: "cuDNN", False: ""})
    timing.loc[first, "tf32"] = True
    assert {"implementation": "stacking_gru", "path": "cuDNN", "settings": ["float32 with TF32", "float32"]} in (
        on_gpu.libraries(timing)
    )
    assert len(on_gpu.libraries(timing)) == 2


def test_a_sweep_that_no_machine_timed_is_told_with_its_reason(timing):
    assert untimed(timing) == {}
    article = timing["sweep"] == "article"
    timing.loc[article, ["conclusion", "reason"]] = ["not judged", "the GPU is lost"]
    assert untimed(timing) == {"the GPU is lost": ["article"]}
    one = timing.index[article & (timing["implementation"] != timing["baseline"])][0]
    timing.loc[one, "conclusion"] = "faster"
    assert untimed(timing) == {}
