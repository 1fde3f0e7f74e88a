"""The real pipeline, run in a temporary copy of the project: what a person sees of it."""

import itertools
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import PurePath

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest

from conftest import PROJECT
from pipeline import SMOKE, TINY, jobs_run, snakemake, write_config
from project import copy_project
from rnn_parity.experiment.grid import make_grid
from rnn_parity.report.figures import FIGURES
from tracked import query

pytestmark = pytest.mark.workflow


def markers(config):
    """What is there when every case of a config is published; making it draws no figure and writes no report."""
    return [f"results/published/{job.sweep}/{job.name}.json" for job in make_grid(config).jobs]


def runs(folder):
    with sqlite3.connect(folder / "mlflow.db") as database:
        query = "SELECT run_uuid, status, lifecycle_stage FROM runs"
        return pd.read_sql(query, database).query("lifecycle_stage == 'active'")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project in which the smoke run is done."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_check_is_tried_and_capabilities_are_probed(finished):
    found = {name: pd.read_parquet(finished / f"results/{name}.parquet") for name in ("self_test", "coverage")}
    assert found["self_test"]["case_id"].nunique() == 8
    assert set(found["self_test"]["finding"]) <= {"held", "caught", "hidden", "not judged", "not exercised"}
    assert set(found["coverage"]["case_id"]) == {case.case_id for case in make_grid(SMOKE).cases}
    unseen = found["coverage"].query("sequence_length == 1 and finding != 'caught'")["fault"]
    one_step = {"The last step reads the input before it", "Batch and time transposed", "One mask for all steps"}
    assert set(unseen) == one_step
    able = pd.read_parquet(finished / "results/capabilities.parquet").set_index(["implementation", "capability"])
    assert able.loc[("stacking_gru_cell", "repeatable"), "outcome"] == "works"
    assert able.loc[("stacking_gru", "vmap"), "outcome"] == "refuses"
    power = pd.read_parquet(finished / "results/power.parquet").set_index("fault")["share"]
    assert power[""] == 0
    assert power["No dropout between the layers"] == 1
    report = (finished / "reports/report.md").read_text()
    assert "## Can the check be trusted?" in report
    assert "## What each can do" in report


def test_every_case_is_in_both_tables_and_in_mlflow(finished):
    cases = make_grid(SMOKE).cases
    equivalence, timing = (pd.read_parquet(finished / f"results/{name}.parquet") for name in ("equivalence", "timing"))
    quantities = 4 + 4 * SMOKE["defaults"]["num_layers"]
    many_draws = {"article": 0, "width": 6}
    expected = {case.case_id: 3 * quantities + many_draws[case.sweep] for case in cases}
    assert equivalence.groupby("case_id").size().to_dict() == expected
    assert timing.groupby("case_id").size().to_dict() == {case.case_id: 4 * 2 for case in cases}
    assert set(runs(finished)["status"]) == {"FINISHED"}
    assert len(runs(finished)) == len(cases) + 1


def test_the_articles_protocol_is_identical_at_one_step_and_different_at_two(finished):
    rows = pd.read_parquet(finished / "results/equivalence.parquet").query("sweep == 'article'")
    same_seed = rows[rows["regime"] == "train_same_seed"].groupby("sequence_length")
    assert set(same_seed.get_group(1)["verdict"]) == {"identical"}
    at_two = same_seed.get_group(2).query("verdict == 'different'")
    assert len(at_two)
    assert at_two["reason"].str.contains("of the dropout masks' entries differ").all()
    matched = rows[rows["regime"].isin(["eval", "train_matched_masks"])]
    assert set(matched["verdict"]) <= {"identical", "equivalent"}


def test_report_figures_and_tables_are_there(finished):
    reports = finished / "reports"
    for name in FIGURES:
        for kind in ("pdf", "png", "svg"):
            assert (reports / "figures" / f"{name}.{kind}").stat().st_size > 1000
    assert (reports / "report.md").read_text().startswith("# Smoke run")
    assert "<img" in (reports / "report.html").read_text() or "<svg" in (reports / "report.html").read_text()
    assert {"equivalence.csv", "timing.csv", "verdicts.csv"} <= {path.name for path in (reports / "tables").iterdir()}


def test_checks_fill_the_machine_first_then_timing_jobs_run_alone_the_longest_first(finished):
    def spans(kind):
        files = [path for path in (finished / "results" / kind).rglob("*.parquet") if "samples" not in path.name]
        tables = [pq.read_table(path) for path in files]
        marks = [table.schema.metadata for table in tables]
        cases = [len(table["case_id"].unique()) for table in tables]
        return sorted(
            (float(mark[b"started_at"]), float(mark[b"ended_at"]), size)
            for mark, size in zip(marks, cases, strict=True)
        )

    timed, checked = spans("timing"), spans("equivalence") + spans("coverage")
    assert 2 * len(timed) == len(checked) == 2 * len(make_grid(SMOKE).jobs)
    assert max(end for _, end, _ in checked) <= timed[0][0]
    assert all(end <= start for (_, end, _), (start, _, _) in itertools.pairwise(timed))
    assert [size for *_, size in timed] == [3, 1, 1]


def test_runs_appear_while_the_sweep_goes_on(finished):
    timed = []
    for job in make_grid(SMOKE).jobs:
        data = pq.read_schema(finished / f"results/timing/{job.sweep}/{job.name}.parquet").metadata
        marker = finished / f"results/published/{job.sweep}/{job.name}.json"
        timed.append((float(data[b"started_at"]), marker.stat().st_mtime))
    timed.sort()
    for (_, published), (next_but_one, _) in zip(timed, timed[2:], strict=False):
        assert published < next_but_one


@pytest.mark.parametrize("off", ["off", "'off'"])
def test_with_tracking_off_nothing_is_published_unless_asked_for(finished, off):
    config = write_config(finished, SMOKE)
    (finished / config).write_text((finished / config).read_text() + f"tracking: {{mode: {off}}}\n")
    planned = jobs_run(snakemake(finished, "-n", "--forceall", config=config))
    assert "timing" in planned
    assert not any("publish" in name or "tracking" in name for name in planned)
    assert jobs_run(snakemake(finished, "publish", "-n", "--forceall", config=config))["publish job"] == 3


def test_a_second_run_does_nothing(finished):
    before = runs(finished)
    done = snakemake(finished)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr
    pd.testing.assert_frame_equal(runs(finished), before)


def test_a_larger_grid_runs_only_the_new_jobs(finished):
    width = {**SMOKE["sweeps"]["width"], "hidden_size": [8, 16, 24]}
    larger = {**SMOKE, "sweeps": {**SMOKE["sweeps"], "width": width}}
    planned = jobs_run(snakemake(finished, "-n", config=write_config(finished, larger)))
    assert planned["equivalence"] == planned["timing"] == planned["publish job"] == 1
    assert "environment" not in planned


def test_other_settings_measure_again_only_what_they_touch(finished):
    slower = {**SMOKE, "timing": {**SMOKE["timing"], "max_seconds": 0.4}}
    planned = jobs_run(snakemake(finished, "-n", config=write_config(finished, slower)))
    assert planned["timing"] == 3
    assert "equivalence" not in planned


@pytest.mark.parametrize(
    ("source", "touched", "untouched"),
    [
        ("timing.py", "timing", "equivalence"),
        ("oracle.py", "equivalence", "timing"),
        ("figures/style.py", "figures", "timing"),
    ],
)
def test_an_edit_runs_again_what_it_touches(finished, source, touched, untouched):
    path = finished / "src/rnn_parity" / source
    original = path.read_text()
    try:
        path.write_text(original + "\n# edited\n")
        planned = jobs_run(snakemake(finished, "-n"))
    finally:
        path.write_text(original)
    assert touched in planned
    assert untouched not in planned


def test_a_source_that_is_only_newer_runs_nothing(finished):
    for path in (finished / "src").rglob("*.py"):
        path.touch()
    assert not jobs_run(snakemake(finished, "-n"))


def test_without_its_reports_it_draws_again_and_measures_nothing(finished):
    shutil.rmtree(finished / "reports")
    done = snakemake(finished)
    assert done.returncode == 0
    assert set(jobs_run(done)) == {"figures", "tables", "report", "publish report", "all", "total"}
    assert (finished / "reports/report.html").exists()
    assert len(runs(finished)) == len(make_grid(SMOKE).cases) + 1


def test_the_gate_opens_when_everything_holds(finished):
    assert snakemake(finished, "gate").returncode == 0


def test_one_key_can_be_set_on_the_command_line(finished):
    planned = jobs_run(snakemake(finished, "-n", "--config", "study=other"))
    assert planned["publish job"] == 3
    assert "timing" not in planned


def test_lint_and_the_static_report(finished):
    assert snakemake(finished, "--lint").returncode == 0
    done = snakemake(finished, "--report", "report.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    tables = {path.name for path in (finished / "reports/tables").glob("[!.]*")}  # Snakemake keeps a time stamp there
    assert set(FIGURES) | tables <= reported(finished)


def reported(folder):
    """The figures, by name, and the tables, by file name, in `report.zip`; each has a caption, labels, a category."""
    with zipfile.ZipFile(folder / "report.zip") as archive:
        text = archive.read(
            min((name for name in archive.namelist() if name.endswith("/report.html")), key=len)
        ).decode()
    results, categories = (
        json.loads(re.search(rf"var {name} = (\{{.*\}});?$", text, flags=re.MULTILINE)[1])
        for name in ("results", "categories")
    )
    filed = {path: category for category, parts in categories.items() for paths in parts.values() for path in paths}
    assert set(filed) == set(results)
    assert set(filed.values()) == {"Figures", "Tables", "Report"}
    found = set()
    for path, entry in results.items():
        assert entry["caption"], path
        assert entry["labels"] or filed[path] == "Report", path
        found.add(PurePath(path).stem if filed[path] == "Figures" else PurePath(path).name)
    return found


def test_a_wrong_candidate_is_said_to_be_wrong_and_the_gate_closes(tmp_path):
    folder = copy_project(tmp_path)
    shutil.copy2(PROJECT / "src/rnn_parity/trust/faults.py", folder / "own_layer.py")
    config = write_config(folder, {**TINY, "candidates": ["stacking_gru", "own_layer:GradientTruncated"]})
    assert snakemake(folder, config=config).returncode == 0  # a mismatch is a result
    rows = pd.read_parquet(folder / "results/equivalence.parquet").query("regime == 'eval' and sequence_length == 2")
    by_candidate = rows.groupby("candidate")["verdict"]
    assert "different" in set(by_candidate.get_group("own_layer:GradientTruncated"))
    assert "different" not in set(by_candidate.get_group("stacking_gru"))
    done = snakemake(folder, "gate", config=config)
    assert done.returncode == 1
    assert "`own_layer:GradientTruncated` in `article/" in (folder / "logs/gate.log").read_text()
    assert (folder / "reports/report.html").exists()
    assert len(runs(folder)) == 3
    (folder / "own_layer.py").write_text((folder / "own_layer.py").read_text() + "\n# mended\n")
    assert {"equivalence", "timing"} <= set(jobs_run(snakemake(folder, "-n", config=config)))


def test_out_of_memory_is_a_result_and_the_rest_goes_on(tmp_path):
    folder = copy_project(tmp_path)
    shutil.copy2(PROJECT / "tests/faults.py", folder / "own_layer.py")
    candidates = ["own_layer:OutOfMemory", "own_layer:TellThreads", "stacking_gru"]
    shared = {**TINY["timing"], "exclusive": False}
    config = write_config(folder, {**TINY, "candidates": candidates, "timing": shared})
    done = snakemake(folder, config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    timing = pd.read_parquet(folder / "results/timing.parquet").set_index("implementation")
    assert set(timing.loc["own_layer:OutOfMemory", "conclusion"]) == {"not judged"}
    assert timing.loc["own_layer:OutOfMemory", "reason"].str.startswith("out of memory").all()
    assert timing.loc["stacking_gru", "speedup"].notna().all()
    assert not timing["exclusive"].any()
    assert set(timing.loc["own_layer:TellThreads", "reason"]) == {"ValueError: 1 threads"}  # of two cores
    assert len(runs(folder)) == 3


def test_a_dead_server_costs_a_warning_and_the_next_run_publishes(tmp_path):
    folder = copy_project(tmp_path)
    config = write_config(folder, TINY)
    done = snakemake(folder, config=config, MLFLOW_TRACKING_URI="http://me:secret@127.0.0.1:9")
    assert done.returncode == 0, done.stdout + done.stderr
    warning = next((folder / "logs/publish/article").iterdir()).read_text()
    assert "127.0.0.1:9" in warning
    assert "secret" not in warning + done.stdout + done.stderr
    assert (folder / "reports/report.html").exists()
    assert not (folder / "mlflow.db").exists()
    assert snakemake(folder, "publish", config=config).returncode == 0
    assert len(runs(folder)) == 3
    assert not any("timing" in name for name in jobs_run(snakemake(folder, "-n", config=config)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"studdy": "x"}, 'error: config: unknown key "studdy"'),
        ({"candidates": ["torch.nn:NoSuchLayer"]}, "error: torch.nn:NoSuchLayer: cannot be imported"),
        ({"candidates": ["torch.nn:LSTM"]}, "error: torch.nn:LSTM: LSTM: weight_ih_l0 is"),
        ({"sweeps": {"x": {"hidden_size": []}}}, "error: sweeps.x.hidden_size: holds [], expected at least 1 value"),
    ],
)
def test_bad_input_ends_before_any_job_with_one_line(tmp_path, change, message):
    folder = copy_project(tmp_path)
    done = snakemake(folder, config=write_config(folder, {**SMOKE, **change}))
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Using workflow specific profile")]
    assert len(lines) == 1
    assert lines[0].startswith(message)
    assert not (folder / "results").exists()


def test_the_config_that_was_run_is_kept(finished):
    kept = json.loads((finished / "results/config.json").read_text())
    assert make_grid(kept).cases == make_grid(SMOKE).cases


def test_a_job_that_dies_is_shown_with_its_reason_and_the_rest_goes_on(tmp_path):
    folder = copy_project(tmp_path)
    shutil.copy2(PROJECT / "tests/faults.py", folder / "own_layer.py")
    sweeps = {"mine": {"hidden_size": [8, 9, 10, 11], "sequence_length": [1, 2], "regimes": ["eval"]}}
    deadly = {**TINY, "candidates": ["own_layer:Deadly"], "sweeps": sweeps, "tracking": {"mode": "at_end"}}
    config = write_config(folder, deadly)
    done = snakemake(folder, *markers(deadly), config=config)
    assert done.returncode == 1
    shown = query(folder / "mlflow.db", "select name, status from runs where lifecycle_stage = 'active' order by name")
    status = {8: "FAILED", 9: "KILLED", 10: "KILLED", 11: "FINISHED"}
    assert shown == sorted((f"mine H={size} T={steps}", status[size]) for size in status for steps in (1, 2))
    tags = "select r.name, t.value from runs r join tags t using (run_uuid) where r.name like '%T=1' and t.key = '{}'"
    reasons = dict(query(folder / "mlflow.db", tags.format("failure")))
    assert reasons["mine H=8 T=1"] == "equivalence ended with exit code 1: cannot go <b>on</b>"
    assert reasons["mine H=9 T=1"] == "equivalence was killed by SIGTERM"
    assert reasons["mine H=10 T=1"].startswith("equivalence was killed by SIGKILL (by the system where memory runs out")
    assert (
        "\n    cannot go <b>on</b>"
        in dict(query(folder / "mlflow.db", tags.format("mlflow.note.content")))["mine H=8 T=1"]
    )
    layer = folder / "own_layer.py"
    layer.write_text(layer.read_text().replace("h0.shape[-1]", "-1"))
    config = write_config(folder, {**deadly, "tracking": {}})
    assert snakemake(folder, markers(deadly)[1], config=config).returncode == 0
    assert sorted(runs(folder)["status"]) == ["FAILED"] * 2 + ["FINISHED"] * 4 + ["KILLED"] * 2


def test_after_a_kill_the_same_command_goes_on_and_a_second_one_beside_it_is_refused(tmp_path):
    folder = copy_project(tmp_path)
    shutil.copy2(PROJECT / "tests/faults.py", folder / "own_layer.py")
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    sweeps = {"mine": {"hidden_size": [8, 9], "sequence_length": 1, "regimes": ["eval"]}}
    waiting = {**TINY, "candidates": ["own_layer:Waiting"], "sweeps": sweeps}
    config = write_config(folder, waiting)
    command = [sys.executable, "-m", "snakemake", *markers(waiting), "--cores", "2", "--configfile", config]
    first = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    writer = os.open(pipe, os.O_WRONLY)  # returns when a job waits in the layer
    jobs = [job for job in psutil.Process(first.pid).children(recursive=True) if "rnn_parity" in job.cmdline()]
    assert jobs
    second = snakemake(folder, *markers(waiting), config=config)
    assert second.returncode == 2
    lines = [line for line in second.stderr.splitlines() if not line.startswith("Using workflow specific profile")]
    assert len(lines) == 1
    assert lines[0].startswith(f"error: another run is at work in this folder (process {first.pid} on ")
    assert snakemake(folder, *markers(waiting), "-n", config=config).returncode == 0
    while not list(folder.glob("results/equivalence/*/*.parquet")):
        assert first.poll() is None
        os.sched_yield()
    first.kill()
    first.wait()
    assert psutil.wait_procs(jobs, timeout=60)[1] == []
    os.close(writer)
    pipe.unlink()
    assert list((folder / ".snakemake/locks").iterdir())
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*.parquet")}
    assert before
    done = snakemake(folder, *markers(waiting), config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert list(runs(folder)["status"]) == ["FINISHED"] * 2
