"""What a finished run leaves, and what runs again after a change: the real pipeline, as a person sees it."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import PurePath

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline import LAYERS, RUN, jobs_run, runs, snakemake, write_config
from rnn_parity.experiment.grid import make_grid
from rnn_parity.report.figures import FIGURES

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

CASES = make_grid(LAYERS).cases
EVERY_CASE, EVERY_JOB = len(CASES) + 2, 4
"""With those of the decoder."""


def test_the_check_is_tried_and_capabilities_are_probed(finished):
    found = {name: pd.read_parquet(finished / f"results/{name}.parquet") for name in ("self_test", "coverage")}
    assert found["self_test"]["case_id"].nunique() == RUN["self_test"]["cases"]
    assert set(found["self_test"]["finding"]) <= {"held", "caught", "hidden", "not judged", "not exercised"}
    assert set(found["coverage"]["case_id"]) == {case.case_id for case in CASES}
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


def test_no_job_imported_pytorch_once_the_server_had(finished):
    told = [pd.read_csv(path, sep="\t") for path in (finished / "results/benchmarks/timing").rglob("*.tsv")]
    assert len(told) == EVERY_JOB
    assert max(pd.to_numeric(table["max_rss"], errors="coerce").max() for table in told) < 60  # MiB of who only waits


def test_every_case_is_in_both_tables_and_in_mlflow(finished):
    equivalence, timing = (pd.read_parquet(finished / f"results/{name}.parquet") for name in ("equivalence", "timing"))
    quantities = 4 + 4 * RUN["defaults"]["num_layers"]
    many_draws = {"article": 0, "width": 6}
    expected = {case.case_id: 3 * quantities + many_draws[case.sweep] for case in CASES}
    of_layers = equivalence.query("sweep != 'model'")
    assert of_layers.groupby("case_id").size().to_dict() == expected
    timed = timing.query("sweep != 'model'").groupby("case_id").size().to_dict()
    assert timed == {case.case_id: 4 * 2 for case in CASES}
    assert equivalence["case_id"].nunique() == timing["case_id"].nunique() == EVERY_CASE
    assert set(runs(finished)["status"]) == {"FINISHED"}
    assert len(runs(finished)) == EVERY_CASE + 1


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


def test_a_log_without_a_terminal_has_a_line_for_every_sweep(finished):
    lines = (finished / "run.log").read_text().splitlines()
    said = [line.partition(" ")[2] for line in lines if line.endswith("compared and timed")]
    sizes = {"article": 3, "width": 2, "model": 2}
    assert sorted(said) == sorted(f"{sweep}: {size} cases compared and timed" for sweep, size in sizes.items())
    assert not [line for line in lines if "Warning" in line]


def timed_jobs(folder):
    """When each timing began and ended, how many cases it timed, and the job's name."""
    found = []
    for path in (folder / "results/timing").rglob("*.parquet"):
        if "samples" not in path.name:
            rows = pq.read_table(path).to_pandas()
            name = str(path.relative_to(folder / "results/timing").with_suffix(""))
            found.append((rows["started_at"].min(), rows["ended_at"].max(), rows["case_id"].nunique(), name))
    return sorted(found)


def test_checks_fill_the_machine_first_then_timing_jobs_run_alone_the_longest_first(finished):
    timed = timed_jobs(finished)
    checked = [path.stat().st_mtime for path in (finished / "results/equivalence").rglob("*.parquet")]
    assert len(timed) == len(checked) == EVERY_JOB
    assert max(checked) <= timed[0][0]
    assert all(end <= start for (_, end, *_), (start, *_) in itertools.pairwise(timed))
    assert [size for _, _, size, _ in timed] == [3, 2, 1, 1]


def test_every_measuring_process_leaves_its_time_and_memory(finished):
    tables = {path: pd.read_csv(path, sep="\t") for path in (finished / "results/benchmarks").rglob("*.tsv")}
    kinds = {path.relative_to(finished / "results/benchmarks").parts[0].removesuffix(".tsv") for path in tables}
    assert {"equivalence", "timing", "self_test", "power", "capabilities", "environment"} <= kinds
    for table in tables.values():
        assert (table["s"] > 0).all()
        assert (table["max_rss"] > 0).all()


def test_runs_appear_while_the_sweep_goes_on(finished):
    timed = timed_jobs(finished)
    for (*_, name), (next_but_one, *_) in zip(timed, timed[2:], strict=False):
        assert (finished / f"results/published/{name}.json").stat().st_mtime < next_but_one


def test_a_second_run_does_nothing(finished):
    before = runs(finished)
    done = snakemake(finished)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr
    pd.testing.assert_frame_equal(runs(finished), before)


def test_a_run_without_the_report_tells_no_answer_of_an_earlier_one(finished_copy):
    done = snakemake(finished_copy, "results/config.json", "--force")
    assert (done.returncode, jobs_run(done)["experiment"]) == (0, 1)
    assert "The report: " not in done.stdout


def test_without_an_argument_it_is_the_config_beside_the_snakefile(finished_copy):
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "2"]
    planned = subprocess.run(command, cwd=finished_copy, capture_output=True, text=True, check=False)
    assert planned.returncode == 0, planned.stderr
    assert jobs_run(planned)["timing"] == 9


def test_reading_the_snakefile_changes_no_file(finished_copy):
    """Where no server took what was measured, and in a folder that another run holds."""
    marker = next((finished_copy / "results/published/width").iterdir())
    marker.write_text(json.dumps({"published": False, "attempt": 3}))

    def files():
        every = [path for path in finished_copy.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        return {path: path.stat().st_mtime_ns for path in every if ".snakemake" not in path.parts}

    before = files()
    planned = jobs_run(snakemake(finished_copy, "-n"))
    assert planned["publish job"] == 1
    assert "timing" not in planned
    for mode in ("--lint", "--summary", "--list-rules"):
        snakemake(finished_copy, mode)
    assert files() == before


@pytest.mark.parametrize("off", ["off", "'off'"])
def test_with_tracking_off_nothing_is_published_unless_asked_for(finished, off):
    config = write_config(finished, RUN)
    (finished / config).write_text((finished / config).read_text() + f"tracking: {{mode: {off}}}\n")
    planned = jobs_run(snakemake(finished, "-n", "--forceall", config=config))
    assert "timing" in planned
    assert not any("publish" in name or "tracking" in name for name in planned)
    published = jobs_run(snakemake(finished, "publish", "-n", "--forceall", config=config))
    assert published["publish job"] == EVERY_JOB


def test_a_larger_grid_and_other_settings_measure_only_what_they_touch(finished):
    width = {**RUN["sweeps"]["width"], "hidden_size": [8, 16, 24]}
    larger = {**RUN, "sweeps": {**RUN["sweeps"], "width": width}}
    planned = jobs_run(snakemake(finished, "-n", config=write_config(finished, larger)))
    assert planned["equivalence"] == planned["timing"] == planned["publish job"] == 1
    assert "environment" not in planned
    slower = {**RUN, "timing": {**RUN["timing"], "max_seconds": 0.1}}
    planned = jobs_run(snakemake(finished, "-n", config=write_config(finished, slower)))
    assert planned["timing"] == EVERY_JOB
    assert "equivalence" not in planned


def planned_after(folder, edits):
    """What is planned when these sources, by their path under `src/`, are edited."""
    originals = {folder / "src" / name: (folder / "src" / name).read_text() for name in edits}
    try:
        for path, edit in zip(originals, edits.values(), strict=True):
            path.write_text(edit(originals[path]))
        return jobs_run(snakemake(folder, "-n"))
    finally:
        for path, text in originals.items():
            path.write_text(text)


def test_what_was_measured_under_other_variables_is_measured_again(finished):
    planned = jobs_run(snakemake(finished, "-n", TORCHDYNAMO_DISABLE="1"))
    assert {"environment", "equivalence", "timing", "device"} <= set(planned)
    assert not jobs_run(snakemake(finished, "-n", TORCH_HOME="/elsewhere"))


def more_code(text):
    return text + "\nEDITED = 1\n"


def other_words(text):
    return '"""Other words."""\n# A comment.\n\n' + text.partition('"""')[2].partition('"""')[2] + "\n# edited\n"


def test_an_edit_runs_again_what_it_touches(finished):
    planned = planned_after(finished, {"rnn_parity/timing/clocks.py": more_code})
    assert "timing" in planned
    assert "equivalence" not in planned
    both = {"rnn_parity/cells/stack.py": more_code, "rnn_parity/report/figures/style.py": more_code}
    planned = planned_after(finished, both)
    assert {"equivalence", "figures", "report"} <= set(planned)
    assert "timing" not in planned


def test_words_newer_files_and_columns_measure_nothing_again(finished):
    measured = ["rnn_parity/cells/stack.py", "rnn_parity/timing/rounds.py", "rnn_parity/compare/case.py"]
    for path in (finished / "src").rglob("*.py"):
        path.touch()
    assert not planned_after(finished, dict.fromkeys(measured, other_words))
    planned = planned_after(finished, {"rnn_parity/tables.py": more_code, "rnn_parity/experiment/grid.py": more_code})
    assert "collect" in planned
    assert not {"equivalence", "timing", "device"} & set(planned)


def test_without_its_reports_it_draws_again_and_measures_nothing(finished_copy):
    shutil.rmtree(finished_copy / "reports")
    done = snakemake(finished_copy)
    assert done.returncode == 0
    drawn = {name for name in jobs_run(done) if "figures" not in name}
    assert drawn == {"report", "publish report", "all", "total"}
    assert (finished_copy / "reports/report.html").exists()
    assert len(runs(finished_copy)) == EVERY_CASE + 1


def test_the_gate_opens_when_everything_holds(finished):
    assert snakemake(finished, "gate").returncode == 0


def test_one_key_can_be_set_on_the_command_line(finished):
    planned = jobs_run(snakemake(finished, "-n", "--config", "study=other"))
    assert planned["publish job"] == EVERY_JOB
    assert "timing" not in planned


def test_lint_and_the_static_report(finished):
    lint = snakemake(finished, "--lint")
    found = {line.strip() for line in (lint.stderr + lint.stdout).splitlines() if line.startswith("    * ")}
    assert found <= {"* Specify a conda environment or container for each rule.:"}  # one environment is for all of it
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


def test_the_config_that_was_run_is_kept(finished, monkeypatch):
    monkeypatch.chdir(finished)  # where the trajectories are that the config names
    kept = json.loads((finished / "results/config.json").read_text())
    assert set(make_grid(kept).cases) == set(make_grid(RUN).cases)
