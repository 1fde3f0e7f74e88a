"""A report of what a run has measured by now: of the parts that are there, and said to be unfinished."""

import json
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from project import PROJECT
from rnn_parity.commands import cli
from rnn_parity.commands.cli import app
from rnn_parity.commands.rules import read_grid
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.results import Results

KEPT = PROJECT / "reports/reference/cpu"


@pytest.fixture
def under_way(tmp_path):
    """The parts of a run whose sweep t2vec is compared and timed, and whose article is compared; nothing is joined."""
    files = Results(tmp_path / "results")
    files.folder.mkdir()
    for name in ("config.json", "environment.json"):
        shutil.copy(KEPT / name, files.folder)
    for job in read_grid(files.config).jobs:
        for name in ("equivalence", "timing"):
            if job.sweep == "t2vec" or (job.sweep, name) == ("article", "equivalence"):
                write_part(files, name, job)
    return tmp_path


def write_part(files, name, job, cases=None):
    """A part with the first `cases` of its job, all by default: a job writes it anew after each case."""
    rows = pq.read_table(KEPT / f"{name}.parquet")
    ids = [case.case_id for case in job.cases[:cases]]
    part = files.of_job(name, job.sweep, job.name)
    part.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows.filter(pd.Series(rows["case_id"].to_pylist()).isin(ids).to_numpy()), part)


@pytest.mark.slow
def test_it_shows_what_is_there_and_says_what_is_missing(under_way):
    files = {path: path.stat().st_mtime_ns for path in (under_way / "results").rglob("*")}
    output = under_way / "so-far"
    said = CliRunner().invoke(app, ["so-far", "--results", str(under_way / "results"), "--output", str(output)])
    assert said.exit_code == 0, said.output
    words = "5 of 40 cases are compared, 2 are timed"
    assert said.output == f"{output / 'report.html'}: {words}\n"
    report = (output / "report.md").read_text()
    assert f"**The run is not finished:** {words}." in report
    sweeps = pd.read_csv(output / "tables/cases.csv")
    assert set(sweeps["sweep"]) == {"article", "t2vec"}
    assert sweeps.set_index("sweep").loc["article", "conclusion_step"].isna().all()
    assert (output / "figures/overview.png").exists()
    assert {path: path.stat().st_mtime_ns for path in files} == files  # the run's own


@pytest.fixture
def ended(under_way):
    """The same with the parts of all its jobs."""
    files = Results(under_way / "results")
    grid = read_grid(files.config)
    for job in grid.jobs:
        for name in ("equivalence", "timing", "coverage", "masks"):
            write_part(files, name, job)
    for name, paths in files.parts(grid).items():
        for path in paths:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(KEPT / f"{name}.parquet", path)
    return files


@pytest.mark.slow
def test_a_run_that_has_ended_is_not_called_unfinished(ended, tmp_path):
    output = tmp_path / "so-far"
    said = CliRunner().invoke(app, ["so-far", "--results", str(ended.folder), "--output", str(output)])
    assert said.exit_code == 0, said.output
    assert said.output == f"{output / 'report.html'}: 40 of 40 cases are compared, 40 are timed\n"
    assert "is not finished" not in (output / "report.md").read_text()


def test_a_run_whose_last_job_is_in_its_first_case_is_unfinished(ended, monkeypatch):
    last = next(job for job in read_grid(ended.config).jobs if len(job.cases) == 3)
    write_part(ended, "timing", last, cases=1)
    told = {}
    monkeypatch.setattr(cli, "figures", lambda *_: None)
    monkeypatch.setattr(cli, "write_collected", lambda joined, output, more: told.update(more))
    CliRunner().invoke(app, ["so-far", "--results", str(ended.folder)], catch_exceptions=False)
    assert told == {"so_far": "40 of 40 cases are compared, 38 are timed"}


def test_before_the_first_case_there_is_nothing_to_show(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(json.loads((KEPT / "config.json").read_text())))
    with pytest.raises(InputError, match="holds no compared case yet"):
        CliRunner().invoke(app, ["so-far", "--results", str(tmp_path)], catch_exceptions=False)


def test_before_a_run_has_begun_it_says_what_begins_one(tmp_path):
    with pytest.raises(InputError, match="no run has begun here; `rnn-parity run` or `snakemake` begins one"):
        CliRunner().invoke(app, ["so-far", "--results", str(tmp_path / "results")], catch_exceptions=False)
