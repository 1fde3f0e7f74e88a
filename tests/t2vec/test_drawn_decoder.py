"""Every artist of the decoder's figures is held against the rows that it shows."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from test_section import GRID, results

from rnn_parity.report.figures import style
from rnn_parity_t2vec.report.figures import plot_attribution, plot_training

SPEEDUPS = {"attention_once": 1.4, "layer_replaced": 1.2, "both": 2.0}
ORDERS = {0.0: ("attention_once", 0.7), 4.6: ("layer_replaced", 0.3)}


@pytest.fixture(autouse=True)
def styled():
    with style.applied():
        yield


def test_a_bar_hangs_between_the_times_before_and_after_its_change():
    for axes in plot_attribution(GRID.config, results()).axes:
        bars = {round(bar.get_y() + bar.get_height() / 2, 2): bar for bar in axes.patches}
        lines = {
            round(line.get_ydata()[0], 2): line.get_xdata() for line in axes.lines if len(set(line.get_ydata())) == 1
        }
        words = {round(text.get_position()[1], 2): text.get_text() for text in axes.texts}
        for top, (first, share) in ORDERS.items():
            between, after = 100 / SPEEDUPS[first], 100 / SPEEDUPS["both"]
            ends = [(0, 100), (between, 100), (after, between), (0, after)]
            for line, (low, high) in enumerate(ends):
                bar = bars[round(top + line, 2)]
                assert (bar.get_x(), bar.get_x() + bar.get_width()) == (pytest.approx(low), pytest.approx(high))
            for line, way in ((1, first), (2, "both")):
                low, high = 100 / SPEEDUPS[way] / 1.02, 100 / SPEEDUPS[way] / 0.98
                assert lines[round(top + line, 2)] == pytest.approx((low, high))
            assert words[round(top + 1, 2)] == f"\N{MINUS SIGN}{100 - between:.0f} ({share:.0%})".replace("%", " %")
            assert words[round(top + 2, 2)] == f"\N{MINUS SIGN}{between - after:.0f} ({1 - share:.0%})".replace(
                "%", " %"
            )
        attention = {to_hex(bars[y].get_facecolor()) for y in (1.0, 6.6)}
        layer = {to_hex(bars[y].get_facecolor()) for y in (2.0, 5.6)}
        assert len(attention) == len(layer) == 1
        assert attention != layer


def test_losses_and_distances_are_those_of_the_trainings():
    tables = results(off=3e-7, own=0.5)
    training = tables["training"]
    training = training[training["sequence_length"] == 9]
    figure = plot_training(GRID.config, tables)
    colours = dict(
        zip(
            ("stacking_gru_cell", "stacking_gru", "floor"),
            (to_hex(h.get_color()) for h in figure.legends[0].legend_handles),
            strict=True,
        )
    )
    above, below = figure.axes[:3], figure.axes[3:]
    for axes, under, mode in zip(above, below, ("no_dropout", "matched_masks", "own_masks"), strict=True):
        rows = training[(training["mode"] == mode) & (training["role"] != "perturbed")]
        for name, own in rows.groupby("implementation"):
            lines = [line for line in axes.lines if to_hex(line.get_color()) == colours[name]]
            drawn = sorted(tuple(line.get_ydata()) for line in lines)
            assert drawn == sorted(tuple(run["loss"]) for _, run in own.groupby("seed"))
        if mode == "own_masks":
            points = [line for line in under.lines if line.get_marker() == "o"]
            means = [line for line in under.lines if line.get_marker() != "o"]
            for line, mean, name in zip(points, means, ("stacking_gru_cell", "stacking_gru"), strict=True):
                own = rows[(rows["implementation"] == name) & (rows["step"] >= 6)].groupby("seed")["loss"].mean()
                assert to_hex(line.get_color()) == colours[name]
                assert sorted(line.get_ydata()) == pytest.approx(sorted(own))
                assert mean.get_ydata() == pytest.approx([own.mean()] * 2)
            continue
        loss = training[training["mode"] == mode].set_index(["role", "seed", "step"])["loss"]
        far = {"stacking_gru": abs(loss["candidate", 0, 5] - loss["baseline", 0, 5])}
        far["floor"] = max(abs(loss["perturbed", seed, 5] - loss["baseline", 0, 5]) for seed in range(3))
        for name, distance in far.items():
            [line] = [line for line in under.lines if to_hex(line.get_color()) == colours[name]]
            assert line.get_ydata()[5] == pytest.approx(distance)
            assert np.isnan(np.delete(line.get_ydata(), 5)).all()
