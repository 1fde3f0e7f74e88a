"""The real pipeline, run in a copy of the project as a person would."""

import os
import sqlite3
import subprocess
import sys

import pandas as pd
import yaml

from project import PROJECT
from rnn_parity.experiment.grid import make_grid

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
TINY = {
    **SMOKE,
    "sweeps": {"article": {"sequence_length": [1, 2], "seeds": [1215]}},
    "timing": {"phases": ["inference", "step"], "min_rounds": 6, "max_seconds": 0.05},
    "self_test": {"cases": 0, "own_cases": False},
    "life": False,
    "capabilities": False,
}
LAYERS = {
    **SMOKE,
    "sweeps": {
        "article": {**SMOKE["sweeps"]["article"], "sequence_length": [1, 2, 3]},
        "width": {**SMOKE["sweeps"]["width"], "sequence_length": 3},
    },
    "self_test": {**SMOKE["self_test"], "cases": 2},
    "timing": {**SMOKE["timing"], "max_seconds": 0.05},
}
"""The smoke run, shorter."""
RUN = {
    **LAYERS,
    "sweeps": {**LAYERS["sweeps"], "model": {"workload": "decoder", "hidden_size": 12, "sequence_length": [4, 5]}},
    "workloads": {"decoder": {"file": "own.t", "vocabulary": 20, "training": {"steps": 4, "seeds": [0, 1]}}},
}
"""The same and a sweep of t2vec's decoder: what the fixture `finished` has run, its config being `own.yaml`."""


def write_trajectories(folder):
    """The file that `RUN` names, 20 short trajectories."""
    (folder / "own.t").write_text("".join(f"{4 + k % 9} {5 + k % 9} {6 + k % 9}\n" for k in range(20)))


def snakemake(folder, *arguments, config="own.yaml", **environment):
    """Run Snakemake as a person would; the copy's own sources are what its rules and its Snakefile use."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", str(config)]
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=inherited | environment, check=False)


def write_config(folder, config, name="other.yaml"):
    (folder / name).write_text(yaml.safe_dump(config))
    return name


def jobs_run(done):
    """How often each rule ran, from Snakemake's table of jobs."""
    words = [line.split() for line in (done.stdout + done.stderr).splitlines()]
    return {" ".join(line[:-1]): int(line[-1]) for line in words if len(line) > 1 and line[-1].isdigit()}


def markers(config):
    """What is there when every case of a config is published; making it draws no figure and writes no report."""
    return [f"results/published/{job.sweep}/{job.name}.json" for job in make_grid(config).jobs]


def runs(folder):
    """The runs in the embedded store that are not deleted."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        query = "SELECT run_uuid, status, lifecycle_stage FROM runs"
        return pd.read_sql(query, database).query("lifecycle_stage == 'active'")
