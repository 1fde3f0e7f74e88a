"""Every artist of the figures of the timing table is held against the rows that it shows."""

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from drawn import (
    EQUIVALENCE,
    GRID,
    MARKERS,
    MASKS,
    NAMES,
    TIMING,
    cells,
    curves,
    filled,
    labels,
    mesh_of,
    name_of,
    pairs,
    panel_rows,
    plotted,
    random_timing,
    values,
)
from rnn_parity.findings.compare import Run, compare_runs
from rnn_parity.report.comparison import plot_speedups
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Study
from synthetic import environment


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


def test_a_speedup_that_was_not_timed_is_a_cross_and_no_point():
    lost = TIMING.assign(speedup=TIMING["speedup"].where(TIMING["phase"] != "step"))
    lost.loc[lost["phase"] == "step", "conclusion"] = "failed"
    for axes in plotted("speedup", Study(GRID.config, EQUIVALENCE, lost, MASKS, environment(GRID))).axes:
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
                quartiles = {
                    tuple(pair) for end in ("q25_s", "q75_s") for pair in mine[["sequence_length", end]].to_numpy()
                }
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


def test_two_runs_are_compared_by_their_own_speedups():
    later = random_timing(9)
    runs = (("a", TIMING), ("b", later))
    comparison = compare_runs(Run("a", EQUIVALENCE, TIMING, {}, {}), Run("b", EQUIVALENCE, later, {}, {}))
    comparison.speedups["disjoint"] = np.arange(len(comparison.speedups)) % 3 == 0
    with style.applied():
        figure = plot_speedups(comparison)
    for axes, name in zip(figure.axes, NAMES[1:], strict=True):
        rows = comparison.speedups[comparison.speedups["implementation"] == name]
        for container in axes.containers:
            line, _, bars = container
            phase, disjoint = MARKERS[line.get_marker()], filled(line)
            own = rows[(rows["phase"] == phase) & (rows["disjoint"] == disjoint)]
            keys = ["case_id", "phase", "implementation"]
            a, b = (own.rename(columns={f"case_id_{run}": "case_id"})[keys].merge(table) for run, table in runs)
            assert pairs(line.get_xdata(), line.get_ydata()) == pairs(a["speedup"], b["speedup"])
            wide, tall = (np.array(bar.get_segments()) for bar in bars)
            assert pairs(wide[:, 0, 0], wide[:, 1, 0]) == pairs(a["speedup_ci_low"], a["speedup_ci_high"])
            assert pairs(tall[:, 0, 1], tall[:, 1, 1]) == pairs(b["speedup_ci_low"], b["speedup_ci_high"])
