"""A decoder sweep through the real pipeline, beside one of a layer alone."""

import sqlite3

import pandas as pd
import pytest

from pipeline import SMOKE, TINY, jobs_run, snakemake, write_config
from project import copy_project
from rnn_parity_t2vec.entries import FIGURES

pytestmark = pytest.mark.workflow

DECODER = {
    **TINY,
    "sweeps": {
        "article": {"sequence_length": 2, "seeds": [1215]},
        "model": {"workload": "decoder", "hidden_size": 12, "sequence_length": [4, 5]},
    },
    "decoder": {"file": "own.t", "vocabulary": 20, "training": {"steps": 4, "seeds": [0, 1]}},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("decoder"))
    (folder / "own.t").write_text("".join(f"{4 + k % 9} {5 + k % 9} {6 + k % 9}\n" for k in range(20)))
    config = write_config(folder, DECODER)
    done = snakemake(folder, config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, config


def test_the_tables_of_layers_hold_the_decoders_rows_too(finished):
    folder, _ = finished
    found = {name: pd.read_parquet(folder / f"results/{name}.parquet") for name in ("equivalence", "timing")}
    for table in found.values():
        assert set(table["sweep"]) == {"article", "model"}
    of_model = found["equivalence"].query("sweep == 'model'")
    assert set(of_model["verdict"]) <= {"identical", "equivalent"}
    assert set(of_model["regime"]) == {"eval", "train_matched_masks"}
    assert "grad_encoder.rnn.weight_hh_l0_reverse" in set(of_model["quantity"])
    assert set(found["timing"].query("sweep == 'model'")["phase"]) == {"inference", "step", "train_step"}
    assert set(found["timing"].query("sweep == 'article'")["phase"]) == {"inference", "step"}


def test_its_own_tables_figures_and_section_are_there(finished):
    folder, _ = finished
    training = pd.read_parquet(folder / "results/decoder/training.parquet")
    assert set(training["mode"]) == {"no_dropout", "matched_masks", "own_masks"}
    assert set(training["sequence_length"]) == {4, 5}
    assert len(pd.read_parquet(folder / "results/decoder/generation.parquet")) == 2 * 2
    report = (folder / "reports/report.md").read_text()
    assert "## In t2vec's decoder" in report
    assert "trajectories of `own.t`" in report
    for name in FIGURES:
        assert (folder / f"reports/figures/{name}.svg").stat().st_size > 1000
    tables = {path.stem for path in (folder / "reports/tables").iterdir()}
    assert {"attribution", "training", "generation"} <= tables


def test_losses_are_metric_histories_in_mlflow(finished):
    folder, _ = finished
    with sqlite3.connect(folder / "mlflow.db") as database:
        query = "SELECT key, run_uuid, COUNT(*) AS steps, MAX(step) AS last FROM metrics GROUP BY key, run_uuid"
        found = pd.read_sql(query, database)
    curves = found[found["key"].str.startswith("loss_")]
    assert curves["run_uuid"].nunique() == 2
    assert set(curves["steps"]) == {4}
    assert set(curves["last"]) == {3}
    assert {"loss_no_dropout/stacking_gru", "loss_distance_matched_masks/stacking_gru"} <= set(curves["key"])


def test_a_second_run_does_nothing_and_an_edit_runs_again_what_it_touches(finished):
    folder, config = finished
    assert "Nothing to be done" in snakemake(folder, config=config).stderr
    for source, touched, untouched in (
        ("models/t2vec.py", {"decoder equivalence", "decoder timing", "decoder training"}, {"equivalence", "timing"}),
        ("decoder/figures.py", {"decoder figures"}, {"decoder timing", "decoder training", "timing"}),
        ("timing.py", {"timing", "decoder timing"}, {"decoder training", "decoder equivalence"}),
    ):
        path = folder / "src/rnn_parity" / source
        original = path.read_text()
        try:
            path.write_text(original + "\n# edited\n")
            planned = set(jobs_run(snakemake(folder, "-n", config=config)))
        finally:
            path.write_text(original)
        assert touched <= planned
        assert not untouched & planned
    (folder / "own.t").write_text((folder / "own.t").read_text() + "4 5 6\n")
    planned = set(jobs_run(snakemake(folder, "-n", config=config)))
    assert "decoder equivalence" in planned
    assert "equivalence" not in planned


def test_the_gate_sees_the_model_too(finished):
    folder, config = finished
    assert snakemake(folder, "gate", config=config).returncode == 0


def test_without_decoder_sweeps_nothing_of_it_is_planned(tmp_path):
    folder = copy_project(tmp_path)
    planned = jobs_run(snakemake(folder, "-n", config=write_config(folder, SMOKE)))
    assert not [rule for rule in planned if "decoder" in rule]
