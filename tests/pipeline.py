"""The real pipeline, run in a copy of the project as a person would."""

import os
import subprocess
import sys

import yaml

from project import PROJECT

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
TINY = {
    **SMOKE,
    "sweeps": {"article": {"sequence_length": [1, 2], "seeds": [1215]}},
    "timing": {"phases": ["inference", "step"], "min_rounds": 6, "max_seconds": 0.05},
    "self_test": {"cases": 0, "own_cases": False},
    "capabilities": False,
}


def snakemake(folder, *arguments, config="config/smoke.yaml", **environment):
    """Run Snakemake as a person would; the copy's own sources are what its rules and its Snakefile use."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", str(config)]
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=inherited | environment, check=False)


def write_config(folder, config, name="own.yaml"):
    (folder / name).write_text(yaml.safe_dump(config))
    return name


def jobs_run(done):
    """How often each rule ran, from Snakemake's table of jobs."""
    words = [line.split() for line in (done.stdout + done.stderr).splitlines()]
    return {" ".join(line[:-1]): int(line[-1]) for line in words if len(line) > 1 and line[-1].isdigit()}
