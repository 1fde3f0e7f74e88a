"""Two runs held against each other: what changed is said, and nothing else."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from legible import illegible
from project import SMOKE
from rnn_parity.commands.cli import app
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings.compare import Run, compare_runs
from rnn_parity.report import comparison as write
from rnn_parity.report.figures import style
from rnn_parity.tables import EQUIVALENCE, TIMING, write_rows
from synthetic import equivalence_rows, timing_rows


def a_run(name, environment=None, **changes):
    grid = make_grid(SMOKE | changes)
    rows = pd.DataFrame(equivalence_rows(grid)), pd.DataFrame(timing_rows(grid))
    return Run(name, *rows, environment or {}, grid.config)


def test_two_runs_alike_differ_in_nothing():
    comparison = compare_runs(a_run("old"), a_run("new"))
    assert comparison.cases == 5
    assert len(comparison.verdicts) == 5 * 3
    assert len(comparison.speedups) == 5 * 4
    assert comparison.flipped.empty
    assert comparison.disjoint.empty
    text = write.comparison_markdown(comparison)
    assert "Worse" not in text
    assert "- 0 of 15 verdicts changed." in text
    assert "| what differs |" not in text


def test_a_verdict_that_flipped_is_named_with_its_reason():
    old, new = a_run("old"), a_run("new")
    at = (new.equivalence["regime"] == "eval") & (new.equivalence["hidden_size"] == 16)
    at &= new.equivalence["quantity"] == "hn"
    new.equivalence.loc[at, ["verdict", "reason"]] = ["different", "error is 7× | its limit"]
    comparison = compare_runs(old, new)
    [row] = comparison.flipped.to_dict("records")
    assert (row["case"], row["regime"], row["verdict_a"], row["verdict_b"]) == (
        "width H 16",
        "eval",
        "equivalent",
        "different",
    )
    assert len(comparison.regressions) == 1
    assert len(compare_runs(new, old).regressions) == 0
    text = write.comparison_markdown(comparison)
    assert "**Worse in new: 1 verdict that must hold fails there, and holds in old.**" in text
    assert r"| **different** | `hn`: error is 7× \| its limit |" in text


def test_with_the_same_seed_a_difference_is_no_new_fault():
    old, new = a_run("old"), a_run("new")
    old.equivalence.loc[old.equivalence["regime"] == "train_same_seed", "verdict"] = "identical"
    comparison = compare_runs(old, new)
    assert len(comparison.flipped) == 5
    assert comparison.regressions.empty


def test_speedups_part_only_where_their_intervals_do():
    old, new = a_run("old"), a_run("new")
    ours = (new.timing["implementation"] == "stacking_gru") & (new.timing["sweep"] == "article")
    step, inference = (new.timing["phase"] == phase for phase in ("step", "inference"))
    new.timing.loc[ours & step, ["speedup", "speedup_ci_low", "speedup_ci_high"]] = [1.2, 1.15, 1.25]
    new.timing.loc[ours & inference, ["speedup", "speedup_ci_low", "speedup_ci_high"]] = [
        1.42,
        1.38,
        1.46,
    ]  # meets 1.455
    comparison = compare_runs(old, new)
    assert set(comparison.disjoint["phase"]) == {"step"}
    assert len(comparison.disjoint) == 3
    assert "1.50× (1.46–1.54), faster | 1.20× (1.15–1.25), faster |" in write.comparison_markdown(comparison)


def test_the_same_cases_on_another_device_are_the_same_cases():
    cpu, gpu = a_run("cpu", {"torch": "2.13"}), a_run("gpu", {"torch": "2.14", "gpu": {"name": "A GPU"}})
    for table in (gpu.equivalence, gpu.timing):
        table["device"] = "cuda"
        table["case_id"] = table["case_id"].str.replace("cpu", "cuda")
    comparison = compare_runs(cpu, gpu)
    assert comparison.differing_axes == {"device": ("cpu", "cuda")}
    assert comparison.cases == 5
    text = write.comparison_markdown(comparison)
    assert "| device | cpu | cuda |" in text
    assert "| torch | 2.13 | 2.14 |" in text
    assert "| gpu | – | A GPU |" in text


def test_cases_of_one_run_alone_are_counted_and_no_case_in_common_is_an_error():
    larger = {"sweeps": SMOKE["sweeps"] | {"more": {"hidden_size": [4, 6]}}}
    comparison = compare_runs(a_run("old"), a_run("new", **larger))
    assert (comparison.cases, len(comparison.only_a), len(comparison.only_b)) == (5, 0, 2)
    assert "2 in new alone" in write.comparison_markdown(comparison)
    with pytest.raises(InputError, match="new: has no case of old"):
        compare_runs(a_run("old"), a_run("new", sweeps={"other": {}}))


def test_the_markdown_stays_short():
    sweeps = {"many": {"hidden_size": list(range(4, 204))}}
    old, new = a_run("old", sweeps=sweeps), a_run("new", sweeps=sweeps)
    new.equivalence["verdict"] = "different"
    new.timing[["speedup_ci_low", "speedup_ci_high"]] *= 2
    text = write.comparison_markdown(compare_runs(old, new))
    assert len(text.splitlines()) < 50
    assert f"{len(compare_runs(old, new).flipped) - write.MOST_ROWS} more: `compare_verdicts.csv`" in text


def test_the_figure_can_be_read_with_many_cases_and_with_one():
    for sweeps in ({"one": {}}, {"many": {"hidden_size": list(range(4, 204))}}):
        old, new = a_run("a machine", sweeps=sweeps), a_run("another machine", sweeps=sweeps)
        new.timing["speedup"] *= np.linspace(0.7, 1.4, len(new.timing))
        comparison = compare_runs(old, new)
        with style.applied():
            assert illegible(write.plot_speedups(comparison)) == []


def write_run(folder, run):
    write_rows(folder / "equivalence.parquet", EQUIVALENCE, run.equivalence.to_dict("records"))
    write_rows(folder / "timing.parquet", TIMING, run.timing.to_dict("records"))
    return folder


def test_the_command_writes_everything_and_exits_with_1_at_a_new_fault(tmp_path):
    old, new = a_run("old"), a_run("new")
    held = new.equivalence["regime"] == "eval"
    new.equivalence.loc[held, ["verdict", "reason"]] = ["failed", "RuntimeError: x"]
    folders = [str(write_run(tmp_path / run.name, run)) for run in (old, new)]
    done = CliRunner().invoke(app, ["compare", *folders, "--names", "old", "new", "--output", str(tmp_path / "out")])
    assert done.exit_code == 1, done.output
    assert done.stdout == (tmp_path / "out/compare.md").read_text()
    drawn = {f"compare_speedups.{kind}" for kind in (*style.FORMATS, "csv")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"compare.md", "compare_verdicts.csv", *drawn}
    again = CliRunner().invoke(app, ["compare", *folders[::-1], "--names", "new", "old"])
    assert again.exit_code == 0
