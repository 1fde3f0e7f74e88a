"""A kind of cell of a user's own, beside the run's config: a sweep, its runs and its report."""

import shutil

import pandas as pd
import pytest

from pipeline import SMOKE, snakemake, write_config
from project import PROJECT, copy_project

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

BATCH_FIRST = """import torch

class BatchFirst(torch.nn.GRU):
    def __init__(self, **sizes):
        super().__init__(batch_first=True, **sizes)
"""
CONFIG = {
    **SMOKE,
    "candidates": ["mine:BatchFirst"],
    "cells": {
        "lstm": {"baseline": "stacking_lstm_cell", "candidates": ["stacking_lstm"]},
        "own_kind:MGU": {"baseline": "own_kind:Loop", "candidates": ["own_kind:Mixed"]},
    },
    "defaults": {"input_size": 3, "hidden_size": 4, "sequence_length": 2, "dropout": 0.1, "batch_size": 2},
    "within_job": ["num_layers"],
    "sweeps": {"kinds": {"cell": ["gru", "lstm", "own_kind:MGU"], "num_layers": [1, 2]}},
    "timing": {"phases": ["inference", "step"], "min_rounds": 6, "max_seconds": 0.05},
    "self_test": {"cases": 1, "own_cases": True},
    "life": False,
    "capabilities": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("kinds"))
    shutil.copy(PROJECT / "tests/own_kind.py", folder)
    (folder / "mine.py").write_text(BATCH_FIRST)
    done = snakemake(folder, config=write_config(folder, CONFIG))
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "run.log").write_text(done.stdout)
    return folder


def test_every_kind_is_compared_with_the_baseline_of_its_own(folder):
    table = pd.read_parquet(folder / "results/equivalence.parquet")
    pairs = {tuple(pair) for pair in table[["cell", "baseline", "implementation"]].drop_duplicates().to_numpy()}
    assert pairs == {
        ("gru", "stacking_gru_cell", "mine:BatchFirst"),
        ("lstm", "stacking_lstm_cell", "stacking_lstm"),
        ("own_kind:MGU", "own_kind:Loop", "own_kind:Mixed"),
    }
    held = table[table["regime"] != "train_same_seed"]
    assert set(held["verdict"]) <= {"identical", "equivalent"}
    assert {"cn", "grad_c0"} <= set(table[table["cell"] == "lstm"]["quantity"])


def test_the_report_answers_for_every_kind(folder):
    text = (folder / "reports/report.md").read_text()
    for name, baseline in (("own_kind:Mixed", "own_kind:Loop"), ("stacking_lstm", "stacking_lstm_cell")):
        assert f"`{name}` may replace `{baseline}`." in text
    assert "No rates are kept for `own_kind:MGU`. `rnn-parity self-test --cell own_kind:MGU` measures them." in text
    assert "- float32 on cpu: " in text.partition("\n`own_kind:MGU`:\n")[2]


def test_the_run_ends_with_the_answer_in_two_lines_and_the_place_of_the_report(folder):
    answer, gain, report = (folder / "run.log").read_text().splitlines()[-3:]
    assert report == f"The report: {folder / 'reports/report.html'}"
    assert answer.startswith("May mine:BatchFirst replace stacking_gru_cell? Yes")
    assert ". May own_kind:Mixed replace own_kind:Loop? Yes" in answer
    assert gain.startswith("Gained in the largest case: ")


def test_the_report_says_how_a_layer_was_adapted(folder):
    assert "**How `mine:BatchFirst` was run**" in (folder / "reports/report.md").read_text()
    assert "called with (B, T, ·)." in (folder / "reports/report.md").read_text()


def test_a_changed_kind_runs_its_comparison_again(folder):
    source = folder / "own_kind.py"
    source.write_text(source.read_text().replace("return torch.lerp(h, n, f)", "return h + f * (n - h)"))
    planned = snakemake(folder, "-n", config="other.yaml")
    assert "equivalence" in planned.stdout + planned.stderr


def test_a_kind_without_a_baseline_is_refused(folder):
    config = write_config(folder, CONFIG | {"cells": {}}, name="bare.yaml")
    done = snakemake(folder, "-n", config=config)
    assert done.returncode == 2
    assert "cells: holds no lstm, which sweeps.kinds has; expected its baseline and candidates" in done.stderr
