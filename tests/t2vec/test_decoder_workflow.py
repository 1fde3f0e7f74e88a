"""A decoder sweep through the real pipeline, beside one of a layer alone."""

import sqlite3

import pandas as pd
import pytest

from pipeline import SMOKE, jobs_run, snakemake, write_config
from project import copy_project
from rnn_parity.experiment.grid import make_grid
from rnn_parity_t2vec.report import FIGURES

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def test_the_tables_of_layers_hold_the_decoders_rows_too(finished):
    found = {name: pd.read_parquet(finished / f"results/{name}.parquet") for name in ("equivalence", "timing")}
    for table in found.values():
        assert set(table["sweep"]) == {"article", "width", "model"}
    of_model = found["equivalence"].query("sweep == 'model'")
    assert set(of_model["verdict"]) <= {"identical", "equivalent"}
    assert set(of_model["regime"]) == {"eval", "train_matched_masks"}
    assert "grad_encoder.rnn.weight_hh_l0_reverse" in set(of_model["quantity"])
    layers = {"inference", "forward", "backward", "step"}
    assert set(found["timing"].query("sweep == 'model'")["phase"]) == layers | {"train_step"}
    assert set(found["timing"].query("sweep == 'article'")["phase"]) == layers


def test_its_own_tables_figures_and_section_are_there(finished):
    training = pd.read_parquet(finished / "results/training.parquet")
    assert set(training["mode"]) == {"no_dropout", "matched_masks", "own_masks"}
    assert set(training["sequence_length"]) == {4, 5}
    assert len(pd.read_parquet(finished / "results/generation.parquet")) == 2
    report = (finished / "reports/report.md").read_text()
    assert "## In t2vec's decoder" in report
    assert "trajectories of `own.t`" in report
    for name in FIGURES:
        assert (finished / f"reports/figures/{name}.svg").stat().st_size > 1000
    tables = {path.stem for path in (finished / "reports/tables").iterdir()}
    assert {"attribution", "training", "generation"} <= tables


def test_losses_are_metric_histories_in_mlflow(finished):
    with sqlite3.connect(finished / "mlflow.db") as database:
        query = "SELECT key, run_uuid, COUNT(*) AS steps, MAX(step) AS last FROM metrics GROUP BY key, run_uuid"
        found = pd.read_sql(query, database)
    curves = found[found["key"].str.startswith("loss_")]
    assert curves["run_uuid"].nunique() == 2
    assert set(curves["steps"]) == {4}
    assert set(curves["last"]) == {3}
    assert {"loss_no_dropout/stacking_gru", "loss_distance_matched_masks/stacking_gru"} <= set(curves["key"])


def test_an_edit_runs_again_what_it_touches(finished_copy):
    measured = {"equivalence": 1, "timing": 1, "extra": 3}  # the one decoder job, and none of a layer
    for source, touched in (("model.py", measured), ("report/figures.py", {})):
        path = finished_copy / "src/rnn_parity_t2vec" / source
        original = path.read_text()
        path.write_text(original + "\nEDITED = 1\n")
        planned = jobs_run(snakemake(finished_copy, "-n"))
        path.write_text(original)
        assert {"figures", "report"} <= planned.keys(), source
        assert {rule: count for rule, count in planned.items() if rule in measured} == touched
    (finished_copy / "own.t").write_text((finished_copy / "own.t").read_text() + "4 5 6\n")
    planned = jobs_run(snakemake(finished_copy, "-n"))
    assert {rule: count for rule, count in planned.items() if rule in measured} == measured


def test_without_decoder_sweeps_nothing_of_it_is_planned(tmp_path):
    folder = copy_project(tmp_path)
    planned = jobs_run(snakemake(folder, "-n", config=write_config(folder, SMOKE)))
    assert planned["equivalence"] == planned["timing"] == len(make_grid(SMOKE).jobs)
    assert "extra" not in planned
