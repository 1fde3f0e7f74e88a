"""Where the project is, its smallest experiment, and a copy of it to run in, for tests and benchmarks."""

import shutil
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[1]
SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())


def copy_project(folder, own_lock=False):
    """Copy into `folder` what a run of the workflow needs.

    With `own_lock`, its jobs wait for no job of another test. This is for a test whose layer waits for the test: a
    timing of another test would wait for that layer, and the next job here for that timing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Snakefile", "config.yaml", "config", "workflow", "profiles", "src"):
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, folder / name)
    if own_lock:
        path = folder / "src/rnn_parity/commands/processes.py"
        shared = "/tmp/rnn-parity.lock"
        text = path.read_text()
        assert shared in text
        path.write_text(text.replace(shared, str(folder / "machine.lock")))
    return folder
