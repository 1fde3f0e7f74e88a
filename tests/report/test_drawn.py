"""Every figure draws what its table holds: the data of every artist against the rows, column by column.

The tables hold random numbers, other ones in every column, so that no column can stand for another.
"""

import importlib
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from conftest import PROJECT
from rnn_parity.experiment.grid import make_grid
from rnn_parity.experiment.vocabulary import unit_roundoff
from rnn_parity.findings import rates
from rnn_parity.findings.compare import Run, compare_runs
from rnn_parity.report.comparison import plot_speedups
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Study
from rnn_parity.statistics import wilson
from synthetic import environment, equivalence_rows, timing_rows
from test_figures import mask_rows

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
NAMES = ["stacking_gru_cell", "stacking_gru", "torch.nn:GRU"]
SWEEPS = {
    "length": {"sequence_length": [2, 5, 9], "num_layers": 3, "dropout": 0.2},
    "map": {"sequence_length": [2, 5, 9], "hidden_size": [8, 16], "num_layers": 1, "dropout": 0.0},
}
GRID = make_grid(SMOKE | {"candidates": NAMES[1:], "sweeps": SWEEPS})
MARKERS = {"o": "inference", "^": "forward", "v": "backward", "D": "step"}
PALE = {"#ffffff", "none"}


def random_timing(seed):
    """Every number of every row another; every fourth speedup is within noise, every seventh disturbed."""
    random, table = np.random.default_rng(seed), pd.DataFrame(timing_rows(GRID))
    for name in ("q25_s", "median_s", "q75_s", "peak_memory_bytes", "operator_calls"):
        table[name] = table[name] * random.uniform(0.5, 2, len(table))
    table["q25_s"], table["q75_s"] = table[["q25_s", "q75_s"]].min(axis=1), table[["q25_s", "q75_s"]].max(axis=1)
    table["speedup"] = random.uniform(0.6, 2, len(table))
    for name in ("speedup", "control"):
        table[f"{name}_ci_low"] = random.uniform(0.5, 0.6, len(table))
        table[f"{name}_ci_high"] = random.uniform(2, 2.5, len(table))
    ours = table["implementation"] != NAMES[0]
    table.loc[ours & (np.arange(len(table)) % 4 == 0), "conclusion"] = "within noise"
    table.loc[ours & (np.arange(len(table)) % 7 == 0), "conclusion"] = "disturbed"
    return table


def random_equivalence():
    table = pd.DataFrame(equivalence_rows(GRID))
    random = np.random.default_rng(2)
    for name in ("error_2", "error_inf", "baseline_error_2", "baseline_error_inf", "max_abs_diff"):
        table[name] = random.uniform(1, 9, len(table)) * 1e-7
    table["limit_2"] = random.uniform(20, 30, len(table)) * 1e-7
    table["ratio"] = random.uniform(0.05, 0.9, len(table))
    wrong = (table["implementation"] == NAMES[2]) & (table["regime"] == "eval") & (table["quantity"] == "grad_h0")
    table.loc[wrong & (table["sweep"] == "map"), ["verdict", "ratio"]] = ["different", 7.0]
    unjudged = (table["implementation"] == NAMES[1]) & (table["quantity"] == "hn") & (table["sweep"] == "length")
    table.loc[unjudged, ["verdict", "ratio"]] = ["not judged", np.nan]
    return table


TIMING, EQUIVALENCE, MASKS = random_timing(1), random_equivalence(), mask_rows(NAMES, gaps=2, steps=2)
STUDY = Study(GRID.config, EQUIVALENCE, TIMING, MASKS, environment(GRID))
LOOKS = STUDY.looks
COLOURS = {to_hex(look["color"]): name for name, look in LOOKS.items()}
HELD = EQUIVALENCE[EQUIVALENCE["regime"] != "train_same_seed"]


def plotted(name):
    with style.applied():
        return importlib.import_module(f"rnn_parity.report.figures.{name}").plot(STUDY)


def name_of(line):
    return COLOURS.get(to_hex(line.get_color()))


def filled(line):
    return line.get_markerfacecolor() != "none" and to_hex(line.get_markerfacecolor()) not in PALE


def values(numbers):
    """Numbers to compare without their last digits, in no order."""
    return sorted(float(f"{number:.9g}") for number in numbers)


def pairs(x, y):
    return sorted((float(f"{a:.9g}"), float(f"{b:.9g}")) for a, b in zip(x, y, strict=True))


def curves(axes, marker=True):
    """The lines of some axes that belong to an implementation, with a marker or without."""
    return [line for line in axes.lines if name_of(line) and (line.get_marker() not in ("None", "", None)) == marker]


def panel_rows(table, title):
    """The rows of a panel named `map, H 8`, or of the sweep `length`."""
    sweep, _, word = title.replace("\n", " ").partition(", ")
    rows = table[table["sweep"] == sweep]
    return rows[rows["hidden_size"] == int(word.split()[1])] if word else rows


def test_speedups_have_their_own_interval_and_the_baseline_its_own():
    figure = plotted("speedup")
    assert {axes.get_title(loc="left") for axes in figure.axes} == {"length", "map, H 8", "map, H 16"}
    for axes in figure.axes:
        rows = panel_rows(TIMING, axes.get_title(loc="left"))
        rows = rows[rows["implementation"] != NAMES[0]]
        lengths = sorted(rows["sequence_length"].unique())
        bars = {line.get_xdata()[0]: line.get_ydata() for line in curves(axes, marker=False)}
        boxes = {box.get_x() + box.get_width() / 2: box.get_bbox() for box in axes.patches}
        drawn, expected = [], []
        for point in curves(axes):
            [x], [y] = point.get_xdata(), point.get_ydata()
            box = next(bbox for at, bbox in boxes.items() if abs(at - x) < 1e-9)
            place = name_of(point), MARKERS[point.get_marker()], lengths[round(x)], filled(point)
            drawn.append((*place, *values([y, *bars[x], box.y0, box.y1])))
        for row in rows.itertuples():
            place = row.implementation, row.phase, row.sequence_length, row.conclusion in ("faster", "slower")
            interval = row.speedup_ci_low, row.speedup_ci_high, row.control_ci_low, row.control_ci_high
            expected.append((*place, *values([row.speedup, *interval])))
            at = next(p for p in drawn if p[:3] == place[:3])
            assert at == expected[-1]
        assert len(drawn) == len(expected)
        for x, (low, high) in bars.items():
            own = rows[(rows["speedup_ci_low"] == low) & (rows["speedup_ci_high"] == high)]
            assert len(own) == 1, "a line that is no speedup's interval"
            assert abs(lengths.index(own["sequence_length"].iloc[0]) - x) < 0.5


def test_a_speedup_that_was_not_timed_is_a_cross_and_no_point(monkeypatch):
    lost = TIMING.assign(speedup=TIMING["speedup"].where(TIMING["phase"] != "step"))
    lost.loc[lost["phase"] == "step", "conclusion"] = "failed"
    monkeypatch.setitem(globals(), "STUDY", Study(GRID.config, EQUIVALENCE, lost, MASKS, environment(GRID)))
    for axes in plotted("speedup").axes:
        crosses = [line for line in axes.lines if line.get_marker() == "x"]
        assert [len(line.get_xdata()) for line in crosses] == [3, 3]
        assert {MARKERS[line.get_marker()] for line in curves(axes) if line.get_marker() != "x"} == set(
            MARKERS.values()
        ) - {"step"}


def test_latency_is_the_median_within_its_quartiles_above_the_lower_bound():
    figure = plotted("latency")
    rows_of_axes = np.array(figure.axes).reshape(-1, 4)
    phases = [axes.get_title(loc="left") for axes in rows_of_axes[0]]
    for line in rows_of_axes:
        of_panel = panel_rows(TIMING, line[0].get_ylabel().rpartition("\n")[0])
        for axes, phase in zip(line, phases, strict=True):
            rows = of_panel[of_panel["phase"] == phase]
            assert {name_of(curve) for curve in curves(axes)} == set(NAMES)
            bands = [band for band in axes.collections if isinstance(band, PolyCollection)]
            for curve in curves(axes):
                mine = rows[rows["implementation"] == name_of(curve)]
                drawn = pairs(curve.get_xdata(), curve.get_ydata())
                assert drawn == pairs(mine["sequence_length"], mine["median_s"])
                own = [band for band in bands if to_hex(band.get_facecolor()[0]) == to_hex(curve.get_color())]
                corners = {tuple(corner) for band in own for corner in band.get_paths()[0].vertices}
                quartiles = {*zip(mine["sequence_length"], mine["q25_s"]), *zip(mine["sequence_length"], mine["q75_s"])}
                assert corners == quartiles
            [bound] = [line for line in axes.lines if line.get_linestyle() == "--"]
            cases = rows.drop_duplicates("sequence_length")
            least = np.maximum(cases["flops"] / 1e11, cases["least_bytes"] / 1e10)
            assert pairs(bound.get_xdata(), bound.get_ydata()) == pairs(cases["sequence_length"], least)


def test_resources_are_filled_for_a_step_and_hollow_for_inference():
    figure = plotted("resources")
    grid = np.array(figure.axes).reshape(-1, 3)
    for line, measure in zip(grid, ["peak_memory_bytes", "operator_calls"], strict=True):
        for axes, top in zip(line, grid[0], strict=True):
            of_panel = panel_rows(TIMING, top.get_title(loc="left"))
            lengths = sorted(of_panel["sequence_length"].unique())
            found = {}
            for curve in curves(axes):
                phase = "step" if filled(curve) else "inference"
                found[name_of(curve), phase] = [lengths[int(x)] for x in curve.get_xdata()], curve.get_ydata()
            assert set(found) == {(name, phase) for name in NAMES for phase in ("step", "inference")}
            for (name, phase), (x, y) in found.items():
                rows = of_panel[(of_panel["implementation"] == name) & (of_panel["phase"] == phase)]
                assert pairs(x, y) == pairs(rows["sequence_length"], rows[measure])


def test_the_roofline_has_the_rate_of_each_call_below_the_roof():
    for axes in plotted("roofline").axes:
        rows = TIMING[TIMING["phase"] == axes.get_title(loc="left")]
        intensity = rows["flops"] / rows["least_bytes"] * 1e10 / 1e11
        for curve in curves(axes):
            mine = rows["implementation"] == name_of(curve)
            share = rows["flops"] / rows["median_s"] / 1e11
            assert pairs(curve.get_xdata(), curve.get_ydata()) == pairs(intensity[mine], share[mine])
        roof = next(line for line in axes.lines if len(line.get_xdata()) > 400)
        assert np.allclose(roof.get_ydata(), np.minimum(1, roof.get_xdata()))
        steps = next(line for line in axes.lines if line.get_marker() == "_")
        once = rows.drop_duplicates("case_id")
        parallel = once["flops"] - once["sequential_flops"]
        seconds = parallel / 1e11 + once["sequential_flops"] / once["step_gemm_flops_per_s"]
        ceiling = once["flops"] / seconds / 1e11
        assert pairs(steps.get_xdata(), steps.get_ydata()) == pairs(intensity[once.index], ceiling)


def mesh_of(axes):
    [mesh] = [found for found in axes.collections if isinstance(found, QuadMesh)]
    return np.ma.getdata(mesh.get_array()).reshape(mesh.get_coordinates().shape[0] - 1, -1)


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def cells(axes, *, frame):
    """The framed, or the hatched, cells of a map by row and column."""
    boxes = [box for box in axes.patches if isinstance(box, Rectangle)]
    return {(int(b.get_y()), int(b.get_x())) for b in boxes if bool(b.get_hatch()) != frame}


def test_a_map_has_the_speedup_of_its_cell_and_hatches_what_is_unsure():
    maps = [axes for axes in plotted("crossover").axes if axes.get_title(loc="left")]
    assert len(maps) == 4
    for axes in maps:
        _, name, phase = axes.get_title(loc="left").replace("\n", "").replace(" ", "").split(",")
        rows = TIMING[(TIMING["sweep"] == "map") & (TIMING["phase"] == phase) & (TIMING["implementation"] == name)]
        found = rows.pivot(index="hidden_size", columns="sequence_length")
        assert np.allclose(mesh_of(axes), found["speedup"])
        assert (labels(axes.xaxis), labels(axes.yaxis)) == (["2", "5", "9"], ["8", "16"])
        unsure = found["conclusion"].isin(["within noise", "disturbed"]).to_numpy()
        assert cells(axes, frame=False) == set(zip(*unsure.nonzero(), strict=True))
        written = [text.get_text() for text in axes.texts]
        assert written == [f"{value:.2f}" for value in found["speedup"].to_numpy().ravel()]


def test_the_map_of_errors_has_the_largest_of_each_quantity_and_frames_what_fails():
    maps = {axes.get_title(loc="left").replace("\n", ""): axes for axes in plotted("error_ratio").axes}
    for name in NAMES[1:]:
        axes, rows = maps[name], HELD[HELD["implementation"] == name]
        kind = rows["quantity"].str.replace(r"_l\d+$", "", regex=True)
        largest = rows.groupby([kind, "sweep"])["ratio"].max().unstack("sweep")
        largest.loc["hn", "length"] = np.nan if name == NAMES[1] else largest.loc["hn", "length"]
        assert labels(axes.xaxis) == list(SWEEPS)
        quantities = [label for label in labels(maps[NAMES[1]].yaxis)]
        expected = largest.loc[quantities, list(SWEEPS)].to_numpy()
        shown = np.where(np.isnan(expected), 0, mesh_of(axes))
        assert np.allclose(shown, np.nan_to_num(expected))
        wrong = {(quantities.index("grad_h0"), list(SWEEPS).index("map"))} if name == NAMES[2] else set()
        unjudged = {(quantities.index("hn"), list(SWEEPS).index("length"))} if name == NAMES[1] else set()
        assert (cells(axes, frame=True), cells(axes, frame=False)) == (wrong, unjudged)
        assert [text.get_text() for text in axes.texts] == [
            "" if np.isnan(value) else f"{value:.2f}" for value in expected.ravel()
        ]


FAMILIES = {
    "output": "output|hn",
    "gradients of input": "grad_(input|h0)",
    "gradients of parameters": "grad_(weight|bias).*",
}


def test_errors_are_each_implementations_own_with_the_limit_of_the_same_row():
    u = unit_roundoff("float32")
    for axes in plotted("error_vs_length").axes:
        label = axes.get_ylabel().replace("\n", " ")
        rows = HELD[HELD["quantity"].str.fullmatch(next(p for f, p in FAMILIES.items() if label.startswith(f)))]
        drawn = {name: [] for name in NAMES}
        for curve in curves(axes):
            drawn[name_of(curve)] += pairs(curve.get_xdata(), curve.get_ydata())
        limits = [
            p for line in axes.lines if line.get_marker() == "_" for p in pairs(line.get_xdata(), line.get_ydata())
        ]
        expected, bounds = {}, []
        for name in NAMES:
            mine = rows if name == NAMES[0] else rows[rows["implementation"] == name]
            error = mine["baseline_error_2" if name == NAMES[0] else "error_2"]
            worst = mine.loc[error.groupby(mine["case_id"]).idxmax()]
            expected[name] = pairs(worst["sequence_length"], error[worst.index] / u)
            bounds += [] if name == NAMES[0] else pairs(worst["sequence_length"], worst["limit_2"] / u)
        assert {name: sorted(points) for name, points in drawn.items()} == expected
        assert sorted(limits) == sorted(bounds)


def test_a_dot_is_a_dropped_entry_and_a_colour_its_place_in_the_stream():
    figure = plotted("dropout")
    images = [axes for axes in figure.axes if any(isinstance(c, QuadMesh) for c in axes.collections)]
    images = [axes for axes in images if re.fullmatch(r"\d+–\d+", axes.get_xlabel())]
    titles = [axes.get_title() for axes in images if axes.get_title()]
    assert len(images) == len(NAMES) * len(titles)
    assert 0 < (~MASKS["kept"]).mean() < 0.4
    for at, axes in enumerate(images):
        gap, step = (int(number) - 1 for number in re.findall(r"\d+", titles[at % len(titles)]))
        name = NAMES[at // len(titles)]
        block = MASKS[(MASKS["implementation"] == name) & (MASKS["gap"] == gap) & (MASKS["step"] == step)]
        assert (mesh_of(axes) == block.pivot(index="row", columns="unit", values="draw")).all(axis=None)
        [dots] = axes.lines
        dropped = block.loc[~block["kept"], ["unit", "row"]] + 0.5
        assert pairs(dots.get_xdata(), dots.get_ydata()) == pairs(dropped["unit"], dropped["row"])


def test_the_same_seed_is_filled_and_the_same_masks_hollow():
    axes = plotted("dropout").axes[-1]
    axes = next(a for a in plotted("dropout").axes if a.get_ylabel().startswith("largest difference"))
    forward = EQUIVALENCE[EQUIVALENCE["quantity"].isin(["output", "hn"]) & (EQUIVALENCE["sweep"] == "length")]
    points = [line for line in curves(axes) if line.get_linestyle() == "None"]
    assert len(points) == 4
    for line in points:
        regime = "train_same_seed" if filled(line) else "train_matched_masks"
        rows = forward[(forward["implementation"] == name_of(line)) & (forward["regime"] == regime)]
        largest = rows.groupby("sequence_length")["max_abs_diff"].max()
        assert pairs(line.get_xdata(), line.get_ydata()) == pairs(largest.index, largest)


def test_the_overview_has_the_colour_of_each_verdict_and_the_range_of_each_sweep():
    figure = plotted("overview")
    matrices, dots = figure.axes[::2], figure.axes[1::2]
    regimes = ["eval", "train_matched_masks", "train_same_seed"]
    for name, matrix, beside in zip(NAMES[1:], matrices, dots, strict=True):
        assert matrix.get_title(loc="left") == f"{name} in place of {NAMES[0]}"
        assert labels(matrix.xaxis) == [
            "dropout off",
            "dropout on and\nthe same masks",
            "dropout on and\nthe same seed",
        ]
        words = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in matrix.texts}
        fills = {(round(b.get_y() + 0.42), round(b.get_x() + 0.47)): to_hex(b.get_facecolor()) for b in matrix.patches}
        for (y, sweep), (x, regime) in ((a, b) for a in enumerate(SWEEPS) for b in enumerate(regimes)):
            rows = EQUIVALENCE.query("implementation == @name and sweep == @sweep and regime == @regime")
            verdict = max(rows["verdict"], key=list(style.VERDICT_COLOURS).index)
            failing = rows[~rows["verdict"].isin(["identical", "equivalent"])]["case_id"].nunique()
            of = rows["case_id"].nunique()
            assert words[y, x] == (f"{verdict}, {failing} of {of}" if 0 < failing < of else verdict)
            excused = regime == "train_same_seed" and verdict == "different"
            assert fills[y, x] == (style.NO_FAULT if excused else style.VERDICT_COLOURS[verdict])[0]
        for y, sweep in enumerate(SWEEPS):
            for phase, marker, shift in (("inference", "o", -0.16), ("step", "D", 0.16)):
                of = TIMING.query("implementation == @name and sweep == @sweep and phase == @phase")["speedup"]
                lines = [line for line in curves(beside, False) if abs(line.get_ydata()[0] - y - shift) < 1e-9]
                assert [values(line.get_xdata()) for line in lines] == [values([of.min(), of.max()])]
                [mean] = [p for p in curves(beside) if p.get_marker() == marker and abs(p.get_ydata()[0] - y) < 0.3]
                assert mean.get_xdata()[0] == pytest.approx(np.exp(np.log(of).mean()))


def test_red_is_for_what_fails_alone():
    fills = {verdict: fill for verdict, (fill, _) in style.VERDICT_COLOURS.items()}
    reddish = {verdict for verdict, fill in fills.items() if int(fill[1:3], 16) > 1.5 * int(fill[3:5], 16)}
    greenish = {verdict for verdict, fill in fills.items() if int(fill[3:5], 16) > 1.05 * int(fill[1:3], 16)}
    assert (reddish, greenish) == ({"different"}, {"identical", "equivalent"})


def test_the_rates_are_those_of_their_own_check():
    kept = rates.kept_rates(("gru",))
    totals = rates.totals(kept.detection)
    alarms = kept.false_alarms
    columns = {
        "right layers called different": [alarms[name] for name in ("alarms", "allclose", "assert_close")],
        "planted faults missed": [
            totals["judged"] - totals["caught"],
            totals["allclose_passes"],
            totals["assert_close_passes"],
        ],
    }
    of = {"right layers called different": [alarms["comparisons"]] * 3}
    of["planted faults missed"] = [totals["judged"], totals["exercised"], totals["exercised"]]
    figure = plotted("detection")
    said = {text.get_text(): handle for text, handle in zip(
        figure.legends[0].get_texts(), figure.legends[0].legend_handles, strict=True)}  # fmt: skip
    for axes in figure.axes:
        title, floor = axes.get_title(loc="left"), axes.get_ylim()[0]
        for check, counts, totals_of in zip(
            ("this check", "torch.allclose", "assert_close"), columns[title], of[title], strict=True
        ):
            marker, colour = said[check].get_marker(), to_hex(said[check].get_color())
            points = [line for line in axes.lines if line.get_marker() == marker]
            assert {to_hex(line.get_color()) for line in points} == {colour}
            share = [max(n / all_of, floor) for n, all_of in zip(counts, totals_of, strict=True)]
            assert values(line.get_ydata()[0] for line in points) == values(share)
            assert [filled(line) for line in points] == [n > 0 for n in counts]
            bars = [line for line in axes.lines if len(line.get_xdata()) == 2 and to_hex(line.get_color()) == colour]
            ends = [np.clip(wilson(n, all_of), floor, 1) for n, all_of in zip(counts, totals_of, strict=True)]
            assert [values(line.get_ydata()) for line in bars] == [values(pair) for pair in ends]


def test_two_runs_are_compared_by_their_own_speedups():
    later = random_timing(9)
    runs = (("a", TIMING), ("b", later))
    comparison = compare_runs(Run("a", EQUIVALENCE, TIMING, {}, {}), Run("b", EQUIVALENCE, later, {}, {}))
    comparison.speedups["parted"] = np.arange(len(comparison.speedups)) % 3 == 0
    with style.applied():
        figure = plot_speedups(comparison)
    for axes, name in zip(figure.axes, NAMES[1:], strict=True):
        rows = comparison.speedups[comparison.speedups["implementation"] == name]
        for container in axes.containers:
            line, _, bars = container
            phase, parted = MARKERS[line.get_marker()], filled(line)
            own = rows[(rows["phase"] == phase) & (rows["parted"] == parted)]
            keys = ["case_id", "phase", "implementation"]
            a, b = (own.rename(columns={f"case_id_{run}": "case_id"})[keys].merge(table) for run, table in runs)
            assert pairs(line.get_xdata(), line.get_ydata()) == pairs(a["speedup"], b["speedup"])
            wide, tall = (np.array(bar.get_segments()) for bar in bars)
            assert pairs(wide[:, 0, 0], wide[:, 1, 0]) == pairs(a["speedup_ci_low"], a["speedup_ci_high"])
            assert pairs(tall[:, 0, 1], tall[:, 1, 1]) == pairs(b["speedup_ci_low"], b["speedup_ci_high"])
