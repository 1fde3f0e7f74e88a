"""Every artist of the figures of errors, verdicts, masks and rates is held against the rows that it shows."""

import re

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex

from drawn import (
    EQUIVALENCE,
    HELD,
    MARKERS,
    MASKS,
    NAMES,
    SWEEPS,
    TIMING,
    cells,
    curves,
    filled,
    labels,
    mesh_of,
    name_of,
    pairs,
    plotted,
    values,
)
from rnn_parity.experiment.vocabulary import unit_roundoff
from rnn_parity.findings import rates
from rnn_parity.report.figures import style
from rnn_parity.statistics import wilson


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
            rows = EQUIVALENCE[(EQUIVALENCE["implementation"] == name) & (EQUIVALENCE["sweep"] == sweep)]
            rows = rows[rows["regime"] == regime]
            verdict = max(rows["verdict"], key=list(style.VERDICT_COLOURS).index)
            failing = rows[~rows["verdict"].isin(["identical", "equivalent"])]["case_id"].nunique()
            of = rows["case_id"].nunique()
            assert words[y, x] == (f"{verdict}, {failing} of {of}" if 0 < failing < of else verdict)
            excused = regime == "train_same_seed" and verdict == "different"
            assert fills[y, x] == (style.NO_FAULT if excused else style.VERDICT_COLOURS[verdict])[0]
        for y, sweep in enumerate(SWEEPS):
            for marker, shift in (("o", -0.16), ("D", 0.16)):
                rows = TIMING[(TIMING["implementation"] == name) & (TIMING["sweep"] == sweep)]
                of = rows.loc[rows["phase"] == MARKERS[marker], "speedup"]
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
        "correct layers called different": [alarms[name] for name in ("alarms", "allclose", "assert_close")],
        "planted faults missed": [
            totals["judged"] - totals["caught"],
            totals["allclose_passes"],
            totals["assert_close_passes"],
        ],
    }
    of = {"correct layers called different": [alarms["comparisons"]] * 3}
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
