"""Every figure is drawn from any table, the same every time."""

import importlib
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from conftest import PROJECT
from legible import illegible
from rnn_parity.compare.criterion import unit_roundoff
from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings import figure_tables
from rnn_parity.report.figures import FIGURES, SECTIONS, error_ratio, error_vs_length, plot_all, speedup, style
from rnn_parity.report.figures.layout import Study, panels
from rnn_parity.tables import COLLECTED
from synthetic import environment, equivalence_rows, finding_rows, mask_rows, timing_rows

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
DTYPES = ("float32", "bfloat16")
STARTS = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}


def assert_drawn(folder):
    assert {path.name for path in folder.iterdir()} == {f"{name}.{kind}" for name in FIGURES for kind in style.FORMATS}
    for path in folder.iterdir():
        assert path.read_bytes().startswith(STARTS[path.suffix[1:]]), path.name
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.verify()
                assert picture.info["dpi"] == pytest.approx((300, 300), abs=1)


def test_the_names_cost_no_plotting_library():
    command = (
        "import sys, rnn_parity.report.figures; print({'matplotlib', 'pandas', 'seaborn', 'torch'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_every_figure_has_a_section_of_the_report():
    assert {figure.section for figure in FIGURES.values()} <= set(SECTIONS)


def results_of(grid, **changes):
    """Every table of a grid that figures draw; `changes` as in `synthetic`."""
    cases = make_grid(SMOKE).cases
    return {
        "equivalence": pd.DataFrame(equivalence_rows(grid, **changes)),
        "timing": pd.DataFrame(timing_rows(grid)),
        "self_test": pd.DataFrame(finding_rows(cases)),
    }


def test_a_figure_is_the_same_bytes_every_time(tmp_path):
    grid = make_grid(SMOKE)
    results = results_of(grid)
    study = Study(grid.config, results["equivalence"], results["timing"], pd.DataFrame(), environment(grid))
    for folder in ("one", "two"):
        with style.applied():
            style.save(speedup.plot(study), tmp_path / folder, "speedup")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    assert {path.suffix for path in (tmp_path / "one").iterdir()} == {f".{kind}" for kind in style.FORMATS}


@pytest.mark.slow
def test_empty_tables_are_drawn_as_what_they_lack(tmp_path):
    tables = {name: schema.empty_table().to_pandas() for name, schema in COLLECTED.items()}
    plot_all(make_grid(SMOKE).config, tables, {}, tmp_path)
    assert_drawn(tmp_path)


GRIDS = {
    "one case": {"one": {}},
    "25 sweeps, one of them a map, one wide": {
        f"sweep_with_a_long_name_{i}": {"hidden_size": [8, 16, 32, 64], "sequence_length": i + 1, "dtype": list(DTYPES)}
        for i in range(23)
    }
    | {
        "map": {"sequence_length": [1, 4, 16], "hidden_size": [8, 16, 32]},
        "wide": {"hidden_size": list(range(8, 120))},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize("sweeps", GRIDS)
def test_every_word_of_a_figure_can_be_read(sweeps, width):
    candidates = ["stacking_gru", "some_package.with_a_long_name:HandWrittenGRU"][: 1 if len(GRIDS[sweeps]) > 9 else 2]
    changes = {"sweeps": GRIDS[sweeps], "candidates": candidates, "report": {"width": width}}
    grid = make_grid(SMOKE | changes)
    results = results_of(grid)
    near = results["timing"]["hidden_size"] == 8
    results["timing"].loc[near & (results["timing"]["conclusion"] == "faster"), "conclusion"] = "within noise"
    masks = mask_rows(["stacking_gru_cell", *candidates])
    parts = results["equivalence"], results["timing"], masks, environment(grid)
    study = Study(grid.config, *parts)
    with style.applied():
        for name in FIGURES:
            figure = importlib.import_module(f"rnn_parity.report.figures.{name}").plot(study)
            assert illegible(figure) == [], name
            assert figure.get_figwidth() * 25.4 <= study.width_mm + 0.01
            plt.close(figure)


def test_words_that_run_into_each_other_are_found():
    figure, axes = plt.subplots(figsize=(2, 2))
    axes.set(xticks=range(40), xlim=(0, 39))
    axes.text(0.5, 1.6, "beyond the edge of the paper", transform=axes.transAxes)
    found = illegible(figure)
    plt.close(figure)
    assert any("'10' runs over '11'" in fault for fault in found)
    assert any("beyond the edge of the paper' runs over the edge" in fault for fault in found)


@pytest.mark.slow
def test_several_candidates_with_faults_and_gaps_are_drawn(tmp_path):
    candidates = ["stacking_gru", "torch.nn:GRU", "some_package.with_a_long_name:HandWrittenGRU"]
    sweeps = {"both": {"sequence_length": [1, 4], "dtype": ["float32", "bfloat16"], "num_layers": [2, 3]}, "one": {}}
    grid = make_grid(SMOKE | {"candidates": candidates, "sweeps": sweeps})
    equivalence = pd.DataFrame(equivalence_rows(grid, wrong="torch.nn:GRU"))
    unjudged = (equivalence["implementation"] == candidates[2]) & equivalence["quantity"].str.startswith("grad")
    numeric = [name for name in equivalence if name.endswith(("_2", "_inf", "diff", "ratio"))]
    equivalence.loc[unjudged, numeric] = np.nan
    equivalence.loc[unjudged, "verdict"] = "unsupported"
    equivalence.loc[equivalence.index[0], ["error_2", "ratio"]] = np.inf
    timing = pd.DataFrame(timing_rows(grid))
    untimed = timing.index[timing["implementation"] == candidates[1]][::2]
    columns = ["median_s", "q25_s", "q75_s", "speedup", "speedup_ci_low", "speedup_ci_high"]
    timing.loc[untimed, columns] = np.nan
    timing.loc[untimed, "conclusion"] = "unsupported"
    masks = mask_rows([grid.config["baseline"], *candidates], gaps=3, steps=4, rows=12, units=20)
    results = {"equivalence": equivalence, "timing": timing, "masks": masks}
    plot_all(grid.config, results, environment(grid), tmp_path)
    assert_drawn(tmp_path)


def test_panels_split_a_sweep_by_every_axis_but_one():
    sweeps = {"both": {"sequence_length": [1, 4, 9], "dtype": ["float32", "float64"]}}
    table = pd.DataFrame(timing_rows(make_grid(SMOKE | {"sweeps": sweeps})))
    found = list(panels(table))
    assert [panel.title for panel in found] == ["both, fp32", "both, fp64"]
    assert [panel.values for panel in found] == [[1, 4, 9]] * 2
    by_dtype = list(panels(table, "dtype"))
    assert [panel.title for panel in by_dtype] == ["both, T 1", "both, T 4", "both, T 9"]
    assert by_dtype[0].values == ["float64", "float32"]


def test_errors_are_drawn_in_units_of_the_roundoff_of_their_dtype():
    grid = make_grid(SMOKE | {"sweeps": {"precision": {"dtype": ["float32", "bfloat16"]}}})
    table = figure_tables.error_vs_length(pd.DataFrame(equivalence_rows(grid)))
    assert set(table["implementation"]) == {"stacking_gru_cell", "stacking_gru"}
    assert len(table) == 2 * 2 * len(figure_tables.FAMILIES)
    u = table["dtype"].map(unit_roundoff)
    assert np.allclose(table["error_over_u"] * u, table["error_2"])
    assert (table["regime"] != "train_same_seed").all()


def test_the_heat_map_takes_the_worst_layer():
    table = pd.DataFrame(equivalence_rows(make_grid(SMOKE)))
    at = table.index[(table["quantity"] == "grad_weight_ih_l2") & (table["regime"] == "eval")][0]
    table.loc[at, ["ratio", "verdict"]] = [7.0, "different"]
    ratios = figure_tables.error_ratio(table).set_index(["quantity", "sweep"])
    worst = ratios.loc[("grad_weight_ih", table.loc[at, "sweep"])]
    assert (worst["ratio"], worst["verdict"], worst["worst_quantity"]) == (7.0, "different", "grad_weight_ih_l2")
    assert (ratios.drop(("grad_weight_ih", table.loc[at, "sweep"]))["ratio"] < 1).all()


def test_the_heat_map_has_the_forward_pass_above_for_every_candidate():
    grid = make_grid(SMOKE | {"candidates": ["stacking_gru", "torch.nn:GRU"]})
    tables = results_of(grid)
    study = Study(grid.config, tables["equivalence"], tables["timing"], pd.DataFrame(), environment(grid))
    with style.applied():
        maps = [axes for axes in error_ratio.plot(study).axes if axes.get_title(loc="left")]
        assert [axes.get_title(loc="left") for axes in maps] == grid.config["candidates"]
        assert all(axes.yaxis_inverted() for axes in maps)
        assert maps[0].get_yticklabels()[0].get_text() == "output"


def test_the_overview_averages_speedups_geometrically():
    grid = make_grid(SMOKE)
    timing = pd.DataFrame(timing_rows(grid))
    ours = (timing["implementation"] == "stacking_gru") & (timing["sweep"] == "width") & (timing["phase"] == "step")
    timing.loc[ours, "speedup"] = [0.5, 2.0]
    row = figure_tables.overview(pd.DataFrame(equivalence_rows(grid)), timing).set_index("sweep").loc["width"].iloc[0]
    assert row["step_speedup_geometric_mean"] == pytest.approx(1.0)
    assert (row["step_speedup_lowest"], row["step_speedup_highest"]) == (0.5, 2.0)


def test_every_case_beside_the_lengths_has_a_tick_with_its_value():
    grid = make_grid(SMOKE)
    results = results_of(grid)
    study = Study(grid.config, results["equivalence"], results["timing"], pd.DataFrame(), environment(grid))
    with style.applied():
        beside = error_vs_length.plot(study).axes[-1]
        assert [label.get_text() for label in beside.get_xticklabels()] == ["width"]
        assert [label.get_text() for label in beside.get_xticklabels(minor=True)] == ["H 8", "H 16"]


def test_every_length_has_a_tick_and_the_first_and_the_last_have_labels():
    with style.applied():
        for lengths, named in (([1, 2, 8, 10], [1, 2, 10]), ([10, 11], [10, 11]), ([7], [7])):
            axes = plt.subplots()[1]
            style.length_axis(axes, lengths)
            assert list(axes.xaxis.get_majorticklocs()) == named
            assert sorted([*axes.xaxis.get_majorticklocs(), *axes.xaxis.get_minorticklocs()]) == lengths
            assert {label.get_text() for label in axes.get_xticklabels(minor=True)} <= {""}
