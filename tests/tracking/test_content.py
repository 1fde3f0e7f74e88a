"""What the run of a case says is what its rows say: nothing infinite, nothing that MLflow rejects, nothing mixed up."""

import dataclasses
import math

import pytest

from rnn_parity.tracking.content import case_content, run_name, safe_name, storable
from synthetic import MACHINE, equivalence_rows, timing_rows
from tracked import ENVIRONMENT, request_of, small_grid


def rows_of(grid, case_id, **kwargs):
    return [[row for row in rows(grid) if row["case_id"] == case_id] for rows in (equivalence_rows, timing_rows)]


@pytest.fixture
def grid():
    return small_grid()


@pytest.fixture
def rows(grid):
    """The rows of the case that the article's protocol fails: T = 2, dropout between three layers."""
    return rows_of(grid, next(case.case_id for case in grid.cases if case.sequence_length == 2))


def content(grid, rows, environment=ENVIRONMENT):
    return case_content(request_of(grid, rows[0][0]["sweep"]), rows[0][0], *rows, environment)


def test_the_run_name_carries_what_varies_in_its_sweep():
    grid = small_grid(
        sweeps={
            "width": {"hidden_size": [8, 16], "sequence_length": 8},
            "mixed": {"dtype": ["float32", "float64"], "dropout": [0.0, 0.1], "sequence_length": [4]},
            "one": {"batch_size": 3},
        }
    )
    names = [run_name(request_of(grid, case.sweep)["varied"], case.columns) for case in grid.cases]
    assert names[:2] == ["width H=8", "width H=16"]
    assert set(names[2:6]) == {f"mixed dtype={dtype} p={p}" for dtype in ("float32", "float64") for p in (0.0, 0.1)}
    assert names[6] == "one"
    both = dataclasses.replace(grid, config=grid.config | {"device": ["cpu", "cuda"]})
    assert run_name(request_of(both, "width")["varied"], grid.cases[0].columns) == "width device=cpu H=8"


def test_params_are_the_axes_and_who_is_compared(grid, rows):
    params = content(grid, rows).params
    assert params["sequence_length"] == "2"
    assert params["dropout"] == "0.1"
    assert params["tf32"] == "false"
    assert (params["baseline"], params["candidates"]) == ("stacking_gru_cell", "stacking_gru")


def test_metrics_are_the_numbers_of_the_rows(grid, rows):
    metrics = content(grid, rows).metrics
    step = {row["implementation"]: row for row in rows[1] if row["phase"] == "step"}
    assert metrics["time_ms/step stacking_gru_cell"] == 1e3 * step["stacking_gru_cell"]["median_s"]
    assert metrics["time_ms/step stacking_gru"] == 1e3 * step["stacking_gru"]["median_s"]
    assert metrics["speedup/step stacking_gru"] == 1.5
    assert metrics["speedup_interval/step stacking_gru low"] == 1.5 * 0.97
    assert metrics["speedup_interval/step stacking_gru high"] == 1.5 * 1.03
    assert not any("speedup" in key and "stacking_gru_cell" in key for key in metrics)
    held = [row for row in rows[0] if row["regime"] == "eval"]
    assert metrics["worst_error_over_limit/eval stacking_gru"] == max(row["ratio"] for row in held)
    assert metrics["worst_error_log10/eval stacking_gru"] == round(math.log10(max(row["error_2"] for row in held)), 2)
    assert metrics["worst_error_log10/eval stacking_gru_cell"] == round(
        math.log10(max(row["baseline_error_2"] for row in held)), 2
    )


def test_the_verdict_is_of_the_regimes_that_must_hold_and_a_failed_one_has_its_reason(grid, rows):
    tags = content(grid, rows).tags
    assert tags["verdict/eval/stacking_gru"] == "equivalent"
    assert tags["verdict/train_same_seed/stacking_gru"] == "different"
    assert "its limit" in tags["reason/train_same_seed/stacking_gru"]
    assert tags["verdict"] == "equivalent"
    assert tags["timing/step/stacking_gru"] == "faster"
    assert (tags["kind"], tags["sweep"], tags["commit"]) == ("case", "article", ENVIRONMENT["commit"])
    wrong = [row | {"verdict": "failed"} if row["quantity"] == "hn" else row for row in rows[0]]
    assert content(grid, [wrong, rows[1]]).tags["verdict"] == "failed"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_not_a_number_is_not_logged_and_does_not_hide_behind_the_rest(grid, rows, value):
    broken = rows[0][0] | {"ratio": value, "error_2": value}
    empty = {name: value for name in ("median_s", "speedup", "speedup_ci_low", "speedup_ci_high", "device_median_s")}
    timing = [row | empty if row["phase"] == "step" else row for row in rows[1]]
    metrics = content(grid, [[*rows[0][1:], broken], timing]).metrics
    assert all(math.isfinite(number) for number in metrics.values())
    assert not any("/step " in key for key in metrics)
    assert "speedup/forward stacking_gru" in metrics
    hidden = value is not None and value != -math.inf
    assert ("worst_error_over_limit/eval stacking_gru" in metrics) is not hidden


def test_a_case_is_grouped_by_the_machine_that_it_was_timed_on(grid, rows):
    environment = {"cpu": {"model": "that of the head"}}
    assert content(grid, rows, environment).tags["machine"] == MACHINE
    not_timed = [row | {"machine": None} for row in rows[1]]
    assert content(grid, [rows[0], not_timed], environment).tags["machine"] == "that of the head"


def test_no_error_at_all_has_no_logarithm(grid, rows):
    exact = [row | {"error_2": 0.0, "error_inf": 0.0} for row in rows[0]]
    metrics = content(grid, [exact, rows[1]]).metrics
    assert "worst_error_log10/eval stacking_gru" not in metrics
    assert "worst_error_log10/eval stacking_gru_cell" in metrics


def test_an_unsupported_timing_keeps_its_reason(grid, rows):
    none = dict.fromkeys(("median_s", "speedup", "speedup_ci_low", "speedup_ci_high", "started_at", "ended_at"))
    timing = [row | none | {"conclusion": "unsupported", "reason": "out of memory"} for row in rows[1]]
    run = content(grid, [rows[0], timing])
    assert run.tags["timing/step/stacking_gru"] == "unsupported"
    assert run.tags["reason/step/stacking_gru"] == "out of memory"
    assert run.start_ms is None
    assert not any(key.startswith(("time_ms", "speedup")) for key in run.metrics)


def test_a_result_that_changed_while_it_was_timed_is_the_verdict(grid, rows):
    timing = [
        {**row, "conclusion": "different"} if row["implementation"] != row["baseline"] else row for row in rows[1]
    ]
    assert content(grid, rows).tags["verdict"] == "equivalent"
    assert content(grid, [rows[0], timing]).tags["verdict"] == "different"


def test_times_are_those_of_the_measurement(grid, rows):
    timing = [row | {"started_at": 1000.0 + i, "ended_at": 1001.5 + i} for i, row in enumerate(rows[1])]
    run = content(grid, [rows[0], timing])
    assert (run.start_ms, run.end_ms) == (1_000_000, 1_000_500 + 1000 * len(timing))


def test_the_digest_is_of_the_results_and_of_what_is_shown(grid, rows):
    same = content(grid, [[dict(row) for row in table] for table in rows])
    assert same.digest == content(grid, rows).digest
    again = [row | {"q75_s": row["q75_s"] * 1.01} for row in rows[1]]
    assert content(grid, [rows[0], again]).digest != same.digest
    assert content(grid, rows, {"commit": "other"}).digest != same.digest
    assert content(grid, rows, {"commit": None}).tags["commit"] == "unknown"


def test_names_are_kept_where_mlflow_takes_them_and_told_apart_where_not():
    assert safe_name("stacking_gru") == "stacking_gru"
    assert safe_name("torch.nn:GRU") == "torch.nn:GRU"
    hostile = [
        "pkg.é:X",
        "pkg.è:X",
        "a/b",
        "a_b",
        "a//b",
        "../x",
        "..",
        ".",
        "",
        "x'y",
        "<script>",
        "100%",
        "😀",
        "x" * 300,
    ]
    safe = [safe_name(name) for name in hostile]
    assert len(set(safe)) == len(hostile)
    from mlflow.utils.validation import _validate_metric_name, _validate_tag_name

    for name in safe:
        _validate_metric_name(f"speedup_interval/inference {name} high")
        _validate_tag_name(f"verdict/train_matched_masks/{name}")


def test_what_no_store_holds_is_said_and_not_lost_in_silence(grid, rows):
    names = [f"package.module:{'C' * 97}{number:03}" for number in range(60)]
    request = request_of(grid, "article") | {"candidates": names}
    whole = case_content(request, rows[0][0], *rows, ENVIRONMENT).params["candidates"]
    assert whole == ", ".join(names)
    stored = storable(whole)
    assert len(stored) == 5000
    assert stored.endswith(f" … ({len(whole):,} characters)")
    assert whole.startswith(stored.partition(" … ")[0])
    assert storable("it's ../ <script> % 😀 \0 \ud800") == "it's ../ <script> % 😀 � ?"
