"""Two kinds of machines in one run: each time is of one of them, and nothing that is said or drawn mixes both."""

import numpy as np
import pandas as pd
import pytest

from conftest import PROJECT
from project import SMOKE
from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings import figure_tables
from rnn_parity.findings.cases import case_table
from rnn_parity.findings.compare import Run, compare_runs
from rnn_parity.findings.efficiency import efficiency_table
from rnn_parity.findings.machines import machine_of_case, numbered, split_sweeps, unlike
from rnn_parity.report import figures
from rnn_parity.report.comparison import comparison_markdown, read_run
from rnn_parity.report.figures import style
from rnn_parity.report.gate import gate
from rnn_parity.report.write import write_report
from rnn_parity.tables import COLLECTED, read_table
from rnn_parity_t2vec.tables import ATTRIBUTION, GENERATION, TRAINING
from synthetic import MACHINE, PIXEL, environment, equivalence_rows, results_of, timing_rows

GRID = make_grid(SMOKE | {"sweeps": {"width": {"hidden_size": [4, 8, 16, 32]}, "length": {"sequence_length": [2, 4]}}})
OTHER = "Another CPU, 8 cores, 32 GiB"
KEPT = [path.parent for path in sorted((PROJECT / "reports/reference").glob("*/equivalence.parquet"))]


@pytest.fixture
def results():
    """The wide half of a sweep was timed on another machine, which the candidate likes twice as much."""
    timing = pd.DataFrame(timing_rows(GRID))
    there = timing["hidden_size"].isin([16, 32]) & (timing["sweep"] == "width")
    timing.loc[there, "machine"] = OTHER
    ours = there & (timing["implementation"] != timing["baseline"])
    timing.loc[ours, ["speedup", "speedup_ci_low", "speedup_ci_high"]] *= 2
    return results_of(pd.DataFrame(equivalence_rows(GRID)), timing)


def of_two(environment):
    """The peaks of the other machine are seven times as high."""
    there = [
        peak | {"machine": OTHER, "gemm_flops_per_s": 7 * peak["gemm_flops_per_s"]} for peak in environment["peaks"]
    ]
    return environment | {"peaks": there + environment["peaks"]}


def test_a_sweep_is_split_where_its_cases_of_one_device_were_timed_on_unlike_machines(results):
    timing = results["timing"]
    assert unlike(timing) == {"width": [MACHINE, OTHER]}
    assert numbered(timing) == {MACHINE: 1, OTHER: 2}
    named = split_sweeps(results["equivalence"], timing).drop_duplicates("case_id").set_index("hidden_size")["sweep"]
    assert named[[4, 8, 16, 32]].to_dict() == dict.fromkeys([4, 8], "width (machine 1)") | dict.fromkeys(
        [16, 32], "width (machine 2)"
    )
    assert "length" in set(split_sweeps(timing, timing)["sweep"])


def test_sweeps_are_split_in_the_order_in_which_machines_appear_and_cases_that_were_not_timed_stand_as_they_are():
    def case(case_id, sweep, machine, device="cpu"):
        return {"case_id": case_id, "sweep": sweep, "machine": machine, "device": device}

    rows = [case("a", "width", "Z"), case("a", "width", "Z"), case("b", "width", None), case("b", "width", "A")]
    rows += [case("c", "width", None), case("d", "depth", "A"), case("e", "depth", "G", "cuda"), case("f", "all", "G")]
    rows += [case("g", "all", "A")]
    timing = pd.DataFrame(rows)
    assert list(machine_of_case(timing).items()) == [
        ("a", "Z"),
        ("b", "A"),
        ("d", "A"),
        ("e", "G"),
        ("f", "G"),
        ("g", "A"),
    ]
    assert list(numbered(timing).items()) == [("Z", 1), ("A", 2), ("G", 3)]
    assert list(unlike(timing).items()) == [("width", ["Z", "A"]), ("all", ["G", "A"])]
    split = split_sweeps(timing.drop_duplicates("case_id"), timing)
    assert list(split["sweep"]) == [
        "width (machine 1)", "width (machine 2)", "width", "depth", "depth", "all (machine 3)", "all (machine 2)",
    ]  # fmt: skip
    assert list(split["case_id"]) == list("abcdefg")


def test_a_gpu_and_the_processor_beside_it_are_no_unlike_machines(results):
    timing = results["timing"].assign(machine=MACHINE)
    on_gpu = timing["hidden_size"] == 32
    timing.loc[on_gpu, ["device", "machine"]] = ["cuda", f"{MACHINE}, A GPU"]
    assert unlike(timing) == {}
    timing.loc[timing["hidden_size"] == 16, "machine"] = None  # not timed
    assert unlike(timing) == {}
    assert unlike(timing.iloc[:0]) == {}
    assert list(split_sweeps(timing, timing)["sweep"]) == list(timing["sweep"])


def test_every_case_is_held_against_the_peaks_of_its_own_machine(results):
    table = efficiency_table(results["timing"], of_two(environment(GRID))["peaks"])
    assert len(table) == len(results["timing"])
    rates = table.groupby("machine")["gemm_flops_per_s"].unique()
    assert {machine: list(rate) for machine, rate in rates.items()} == {MACHINE: [1e11], OTHER: [7e11]}
    of_one = efficiency_table(results["timing"], environment(GRID)["peaks"])
    assert of_one.groupby("machine")["share_of_peak"].count().to_dict() == {MACHINE: 4 * 4 * 2, OTHER: 0}


def test_no_mean_of_a_sweep_is_over_two_machines(results):
    table = figure_tables.tables(results, {})["overview"].set_index("sweep")["step_speedup_geometric_mean"]
    assert table["width (machine 1)"].unique() == pytest.approx([1.5])
    assert table["width (machine 2)"].unique() == pytest.approx([3.0])
    assert "width" not in table


def test_no_curve_joins_points_of_two_machines(results, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in ("speedup", "resources")})
    monkeypatch.setattr(style, "save", lambda figure, *_: drawn.append(figure))
    results["masks"] = pd.DataFrame()
    figures.plot_all(GRID.config, results, environment(GRID), tmp_path)
    for figure in drawn:
        titles = [axes.get_title(loc="left").replace("\n", " ") for axes in figure.axes]
        assert [title for title in titles if title.startswith("width")] == ["width (machine 1)", "width (machine 2)"]


@pytest.mark.slow
def test_the_report_says_which_sweeps_are_of_unlike_machines_and_names_these(results, tmp_path):
    def written(timing):
        (tmp_path / "figures").mkdir(exist_ok=True)
        for name in figures.FIGURES:
            (tmp_path / f"figures/{name}.svg").write_text(PIXEL)
        write_report(GRID.config, of_two(environment(GRID)), results | {"timing": timing}, tmp_path)
        return (tmp_path / "report.md").read_text()

    text = written(results["timing"])
    assert f"Measured on machine 2 ({OTHER});" in text  # of the largest case
    assert "Not all cases were timed on one kind of machine; each speedup is of one." in text
    assert "**Timed on unlike machines:** `width`." in text
    assert f"machine 1 is {MACHINE} (4 cases), machine 2 is {OTHER} (2 cases)." in text
    assert f"| machine 2 | {OTHER}: 2 cases timed |" in text
    assert "| machine 2 reached: cpu float32 | 700 GFLOP/s" in text
    assert "<summary>width (machine 2): " in text
    assert "<td>width (machine 2)</td>" in (tmp_path / "report.html").read_text()
    alone = written(results["timing"].assign(machine=MACHINE))
    assert "unlike" not in alone
    assert "one kind of machine" not in alone
    assert "machine 1" not in alone
    assert "on this machine (A CPU)" in alone
    assert "| reached: cpu float32 | 100 GFLOP/s" in alone
    assert "700 GFLOP/s" not in alone


def test_the_case_table_names_the_machine(results):
    cases = case_table(results["equivalence"], results["timing"]).set_index("hidden_size")["machine"]
    assert cases[32] == OTHER
    assert cases[4] == MACHINE
    assert machine_of_case(results["timing"]).nunique() == 2


def test_two_runs_are_not_divided_where_they_were_timed_on_unlike_machines(results):
    config, equivalence, timing = GRID.config, results["equivalence"], results["timing"]
    slower = timing.assign(machine=MACHINE, median_s=3 * timing["median_s"])
    comparison = compare_runs(*(Run(name, equivalence, of, {}, config) for name, of in (("a", timing), ("b", slower))))
    assert set(comparison.speedups.query("machine_a == @MACHINE")["times_faster"].round(9)) == {round(1 / 3, 9)}
    assert comparison.speedups.query("machine_a != @MACHINE")["times_faster"].isna().all()
    text = comparison_markdown(comparison)
    assert "- 8 of the 24 speedups were measured on different kinds of machine. Their times are not compared." in text
    assert f"| timed on | {MACHINE}; {OTHER} | {MACHINE} |" in text
    everywhere = slower.assign(machine="A third CPU")
    apart = compare_runs(*(Run(name, equivalence, of, {}, config) for name, of in (("a", timing), ("b", everywhere))))
    assert "The baseline's own time" not in comparison_markdown(apart)


def test_the_gate_asks_of_cases_and_not_of_machines(results):
    equivalence, timing = results["equivalence"], results["timing"]
    assert gate(equivalence, None, timing) == gate(equivalence)
    there = (timing["machine"] == OTHER) & (timing["implementation"] == "stacking_gru")
    reason = "its result changed while it was being timed: output"
    timing.loc[there, ["conclusion", "reason"]] = ["different", reason]
    holds, text = gate(equivalence, None, timing)
    assert not holds
    assert f"in inference, {reason}" in text


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_every_kept_reference_can_be_read_by_this_version(folder):
    """All tables, each time with its machine and the peaks of that."""
    schemas = COLLECTED | {"attribution": ATTRIBUTION, "training": TRAINING, "generation": GENERATION}
    tables = {path.stem: read_table(path, schemas[path.stem]).to_pandas() for path in folder.glob("*.parquet")}
    run = read_run(folder, "kept")
    assert compare_runs(run, run).flipped.empty
    timed = tables["timing"].dropna(subset=["median_s"])
    assert timed["machine"].notna().all()
    rates = efficiency_table(timed, run.environment["peaks"])["gemm_flops_per_s"]
    assert len(rates) == len(timed)
    assert np.isfinite(rates).all()
