"""What is gained follows the timing table."""

import numpy as np
import pandas as pd
import pytest

from project import SMOKE
from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings.efficiency import efficiency_table
from rnn_parity.findings.speedups import (
    conclusions,
    quoted_speedups,
    result_changed,
    shares_of_peak,
    speedup_table,
    timing_effort,
)
from rnn_parity.tables import CASE_COLUMNS
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


def quotable(case, sweep, flops, phase="step", candidate="ours"):
    return {"case_id": case, "sweep": sweep, "flops": flops, "phase": phase, "implementation": candidate}


def test_the_sweep_that_is_asked_for_is_quoted_else_t2vec_else_the_whole_grid():
    rows = [quotable("a", "width", 0.3), quotable("b", "depth", 0.5), quotable("c", "depth", 5e9, candidate="another")]
    rows += [quotable("d", "depth", None, phase) for phase in ("forward", "step")]

    def quoted(*more, sweep=None):
        return list(quoted_speedups(pd.DataFrame([*rows, *more]), "ours", sweep)["case_id"])

    assert quoted() == quoted(sweep="unheard_of") == ["b"]
    assert quoted(sweep="width") == ["a"]
    t2vec = quotable("e", "t2vec", 1.0, "inference"), quotable("e", "t2vec", 1.0, "forward")
    assert quoted(*t2vec) == ["e"]
    assert quoted(*t2vec, sweep="depth") == ["b"]
    assert quoted_speedups(pd.DataFrame(rows), "unheard_of").empty
    unknown = pd.DataFrame([quotable("f", "t2vec", None, phase) for phase in ("step", "inference")])
    assert list(quoted_speedups(unknown, "ours")["phase"]) == ["inference", "step"]


def test_the_table_of_speedups_has_the_candidates_alone():
    timing = pd.DataFrame(timing_rows(GRID))
    timing["reason"] = [f"row {n}" for n in range(len(timing))]
    table = speedup_table(timing)
    assert list(table) == [
        *CASE_COLUMNS, "implementation", "phase", "machine", "median_s", "speedup", "speedup_ci_low", "speedup_ci_high",
        "control_ci_low", "control_ci_high", "conclusion", "exclusive", "samples", "peak_memory_bytes", "reason",
    ]  # fmt: skip
    assert list(table.index) == list(range(4 * len(GRID.cases)))
    assert set(table["implementation"]) == set(GRID.config["candidates"])
    assert list(table["reason"]) == list(timing.query("implementation != baseline")["reason"])


def test_a_result_that_changed_while_it_was_timed_is_told_as_a_fault_of_its_life():
    changed = {"implementation": "ours", "conclusion": "different", "phase": "step", "case_id": "a"}
    changed |= {"reason": "its result changed while it was being timed: output"}
    rows = [changed | {"implementation": "another"}, changed | {"conclusion": "faster"}]
    assert result_changed(None, "ours") is result_changed(pd.DataFrame(rows), "ours") is None
    assert result_changed(pd.DataFrame([*rows, changed, changed | {"phase": "forward"}]), "ours") == changed | {
        "point": "timed", "title": "Timed calls", "condition": "", "verdict": "different", "when": "in step",
        "quantity": "its result", "reason": "changed while it was being timed: output",
    }  # fmt: skip


def test_a_process_that_ends_while_it_is_timed_is_told_before_any_result_that_changed():
    changed = {"implementation": "ours", "conclusion": "different", "phase": "step", "reason": "its result changed: hn"}
    crashed = changed | {"conclusion": "not judged", "phase": "backward", "reason": "it crashes its process: signal 11"}
    rows = [changed, crashed | {"implementation": "another", "phase": "x"}, crashed, crashed | {"phase": "forward"}]
    said = {"point": "timed", "title": "Timed calls", "condition": "", "verdict": "failed", "quantity": ""}
    assert result_changed(pd.DataFrame(rows), "ours") == crashed | said | {"when": "in backward, while it was timed"}
    assert result_changed(pd.DataFrame(rows[1:3]), "ours")["reason"] == crashed["reason"]


def test_conclusions_of_each_phase_are_counted_with_the_range_of_their_speedups():
    words = ["faster", "faster", "slower", "within noise", "disturbed", "disturbed", "unsupported", "failed"]
    rows = [
        {"implementation": "ours", "phase": "step", "conclusion": word, "speedup": speedup}
        for word, speedup in zip(words, [1.5, 3.0, 0.5, 1.0, 1.1, 1.2, None, None], strict=True)
    ]
    rows += [
        rows[0] | {"phase": "inference", "conclusion": word} for word in ("not judged", "different", "no baseline")
    ]
    table = conclusions(pd.DataFrame([*rows, rows[1] | {"implementation": "another", "speedup": 9.0}]), "ours")
    assert list(table) == [
        "phase", "cases", "faster", "within_noise", "slower", "disturbed", "not_timed", "lowest", "highest",
    ]  # fmt: skip
    assert table.to_numpy().tolist() == [
        ["step", 8, 2, 1, 1, 2, 2, 0.5, 3.0],
        ["inference", 3, 0, 0, 0, 0, 3, 1.5, 1.5],
    ]


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
    assert list(effort) == [
        "measurements", "stopped_early", "saved_s", "allowed_s", "loaded", "clock_limited", "throttled", "contended",
        "paged", "shared",
    ]  # fmt: skip
    table.loc[first, "exclusive"] = False
    assert timing_effort(table, 4.0)["shared"] is True


def test_the_effort_is_that_of_what_was_measured():
    timed = {"case_id": "a", "phase": "step", "median_s": 1e-3, "rounds_s": 3.0, "exclusive": True}
    timed |= {"other_busy_cores": 0.2, "clock_limits": "", "throttled_rounds": None, "other_gpu_processes": None}
    timed |= {"page_faults": 50.0}  # some 50 µs of a millisecond
    rows = [timed, timed | {"case_id": "b", "median_s": None}, timed | {"case_id": "c", "rounds_s": None}]
    assert timing_effort(pd.DataFrame(rows), 5.0) == {
        "measurements": 1, "stopped_early": 1, "saved_s": 2.0, "allowed_s": 5.0, "loaded": 0, "clock_limited": 0,
        "throttled": 0, "contended": 0,
        "paged": 0, "shared": False,
    }  # fmt: skip
    disturbed = timed | {"case_id": "d", "rounds_s": 4.5, "throttled_rounds": 3.0, "other_gpu_processes": 1.0}
    effort = timing_effort(pd.DataFrame([timed, disturbed, disturbed | {"phase": "forward", "rounds_s": 6.0}]), 5.0)
    assert (effort["stopped_early"], effort["saved_s"], effort["throttled"], effort["contended"]) == (2, 2.5, 6, 2)
    paged = [timed | {"page_faults": 51.0, "implementation": name} for name in ("baseline", "candidate")]
    rows = [*paged, paged[0] | {"phase": "forward"}, timed | {"case_id": "e", "page_faults": None}]
    assert timing_effort(pd.DataFrame(rows), 5.0)["paged"] == 2


def test_shares_of_the_peak_are_of_the_case_that_is_asked_for():
    timing = pd.DataFrame(timing_rows(GRID))
    table = efficiency_table(timing, environment(GRID)["peaks"])
    case_id = GRID.cases[1].case_id
    shares = shares_of_peak(table, case_id, ["stacking_gru", "stacking_gru_cell"])
    assert shares_of_peak(table.assign(path=None), case_id, ["stacking_gru", "stacking_gru_cell"]) == shares
    assert list(shares) == ["inference", "forward", "backward", "step"]
    ours, theirs = shares["step"]
    assert ours == pytest.approx(1.5 * theirs)
    mine = timing.query("case_id == @case_id and phase == 'step' and implementation == 'stacking_gru'").iloc[0]
    assert ours == pytest.approx(mine["flops"] / mine["median_s"] / 1e11)
    assert shares_of_peak(efficiency_table(timing, []), case_id, ["stacking_gru", "stacking_gru_cell"]) == {}
