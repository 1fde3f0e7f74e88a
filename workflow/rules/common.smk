# The grid, the checks before anything runs, and the sources that results depend on.
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(workflow.basedir) / "src/rnn_parity"


def before(variable, path):
    """A search path with one more folder before what the environment has."""
    return os.pathsep.join(filter(None, [str(path), os.environ.get(variable)]))


# The rules' python is the one that runs Snakemake, with the sources beside the Snakefile: whatever is active, whatever
# is installed.
os.environ.update(
    PATH=before("PATH", Path(sys.executable).parent),
    PYTHONPATH=before("PYTHONPATH", Path(workflow.basedir) / "src"),
)
# No job outlives the Snakemake that started it, even if that is killed.
os.environ[RUN_VARIABLE] = str(os.getpid())


def refuse(message):
    """End with one line: bad input is no fault of the workflow, and gets no traceback."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


try:
    GRID = make_grid(config)
except InputError as error:
    refuse(error)

JOBS = {(job.sweep, job.name): job for job in GRID.jobs}
TRAINED = {(job.sweep, job.name) for job in GRID.training_jobs}
OWN_IMPLEMENTATIONS = [name for name in [GRID.config["baseline"], *GRID.config["candidates"]] if ":" in name]

# An import path is tried before any job starts; in a process of its own, since it may import torch or anything else.
if OWN_IMPLEMENTATIONS and workflow.is_main_process:
    tried = subprocess.run(
        [sys.executable, "-m", "rnn_parity", "validate", *OWN_IMPLEMENTATIONS],
        capture_output=True,
        text=True,
    )
    if tried.returncode != 0:
        refuse(tried.stderr.strip().removeprefix("error: "))

# One run at a time: a live one is refused, what a dead one left locked is unlocked. A dry run is free.
if workflow.is_main_process and not workflow.output_settings.dryrun:
    try:
        RUN_LOCK = lock_working_folder(Path(".snakemake"))
    except InputError as error:
        refuse(error)

# What a dead server did not take is no result: without its marker, this run tries again.
for marker in Path("results/published").rglob("*.json") if workflow.is_main_process else []:
    if not json.loads(marker.read_text())["published"]:
        marker.unlink()

# Another tracking server is published to anew. Only a digest, since the URI may hold a password.
STORE = hashlib.sha256(os.environ.get("MLFLOW_TRACKING_URI", "").encode()).hexdigest()[:12]
STORE_SETTINGS = ["--uri", GRID.config["tracking"]["uri"]] if GRID.config["tracking"]["uri"] else []
STORE_SETTINGS += ["--strict"] if GRID.config["tracking"]["strict"] else []


def sources(*modules):
    """A digest of source files, as a parameter of a rule: an edit runs again what it touches and nothing else.

    By what they say, so that another checkout of the same sources runs nothing again; and one parameter in place of some
    dozen input files is what lets Snakemake plan ten thousand cases in seconds. A module that is a folder is all the
    files in it; a whole path is that file.
    """
    digest = hashlib.sha256()
    for module in modules:
        path = SOURCE / module
        for file in sorted(path.glob("*.*")) or [path.with_suffix(".py")]:
            digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


# The last line of a job's log that died, for those who show it: whoever was killed says nothing himself.
NOTE_EXIT_CODE = '{ code=$?; echo "exit code $code"; exit $code; }'

EQUIVALENCE_SOURCES = [
    "compare/case", "compare/run", "compare/reference", "compare/criterion", "cells", "dropout/distribution", "dropout/masks", "dropout/recovery", "layers/stimulus", "layers/parameters",
    "layers/running",
]  # fmt: skip
TIMING_SOURCES = [
    "timing/rounds", "timing/clocks", "statistics", "timing/costs", "timing/roofline", "timing/peaks", "timing/conditions", "layers/stimulus", "layers/parameters", "layers/running",
]  # fmt: skip

# What is compared: this project's implementations and, where their files are in this folder, the user's own.
OWN_MODULES = sorted({name.partition(":")[0] for name in OWN_IMPLEMENTATIONS})
OWN_FILES = [Path.cwd().joinpath(*module.split(".")).with_suffix(".py") for module in OWN_MODULES]
IMPLEMENTATION_SOURCES = [
    "layers/registry",
    "layers/stepwise",
    "layers/fused",
    *(path for path in OWN_FILES if path.exists()),
]


def sweeps_of(workload):
    """A pattern of the names of the sweeps with this workload; one that fits nothing where there are none."""
    return "|".join(sorted({re.escape(job.sweep) for job in GRID.jobs if job.workload == workload})) or "(?!)"


def job_of(wildcards):
    return JOBS[wildcards.sweep, wildcards.job]


def per_job(pattern, jobs=GRID.jobs):
    """The files of all jobs of the grid, or of some."""
    return [pattern.format(sweep=job.sweep, job=job.name) for job in jobs]


def training_of(wildcards):
    """The table of a job's trainings, if it trains."""
    return per_job("results/training/{sweep}/{job}.parquet", [job_of(wildcards)] if tuple(wildcards) in TRAINED else [])


wildcard_constraints:
    sweep="[^/]+",
    job="[^/]+",
    device="cpu|cuda",
    dtype="[a-z0-9]+",
