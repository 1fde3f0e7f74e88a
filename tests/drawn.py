"""Tables in which no column can stand for another, each with random numbers of its own; and what a figure draws."""

import importlib

import numpy as np
import pandas as pd
import yaml
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from conftest import PROJECT
from rnn_parity.experiment.grid import make_grid
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Study
from synthetic import environment, equivalence_rows, mask_rows, timing_rows

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
    one = (table["sweep"] == "map") & (table["hidden_size"] == 8) & (table["sequence_length"] == 5)
    table.loc[wrong & one, ["verdict", "ratio"]] = ["different", 7.0]
    unjudged = (table["implementation"] == NAMES[1]) & (table["quantity"] == "hn") & (table["sweep"] == "length")
    table.loc[unjudged, ["verdict", "ratio"]] = ["not judged", np.nan]
    return table


TIMING, EQUIVALENCE, MASKS = random_timing(1), random_equivalence(), mask_rows(NAMES, gaps=2, steps=2)
STUDY = Study(GRID.config, EQUIVALENCE, TIMING, MASKS, environment(GRID))
LOOKS = STUDY.looks
COLOURS = {to_hex(look["color"]): name for name, look in LOOKS.items()}
HELD = EQUIVALENCE[EQUIVALENCE["regime"] != "train_same_seed"]


def plotted(name, study=None):
    with style.applied():
        return importlib.import_module(f"rnn_parity.report.figures.{name}").plot(study or STUDY)


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


def mesh_of(axes):
    [mesh] = [found for found in axes.collections if isinstance(found, QuadMesh)]
    return np.ma.getdata(mesh.get_array()).reshape(mesh.get_coordinates().shape[0] - 1, -1)


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def cells(axes, *, frame):
    """The framed, or the hatched, cells of a map by row and column."""
    boxes = [box for box in axes.patches if isinstance(box, Rectangle)]
    return {(int(b.get_y()), int(b.get_x())) for b in boxes if bool(b.get_hatch()) != frame}
