"""Where the project is, its smallest experiment, and a copy of it to run in, for tests and benchmarks."""

import shutil
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[1]
SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())


def copy_project(folder):
    """Copy into `folder` what a run of the workflow needs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Snakefile", "config.yaml", "config", "workflow", "profiles", "src"):
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, folder / name)
    return folder
