"""Calls of Slurm: to end the jobs that a dead run left, and to learn whether a node is shared."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_PATIENCE_S = 120


def end_orphans(folder: Path, say: Callable[[str], None]) -> None:
    """Cancel the jobs that a dead run of this folder left in Slurm, and wait until they have ended.

    Call it only while holding the lock of the folder, which shows that no other run of it is alive.
    """
    if shutil.which("squeue") is None:
        return
    left, until = _jobs_of(folder), time.monotonic() + _PATIENCE_S
    if left:
        say(f"cancels {len(left)} jobs of a dead run of this folder")
        _ask("scancel", *left)
    while left and time.monotonic() < until:
        time.sleep(1)
        left = _jobs_of(folder)


def _jobs_of(folder: Path) -> list[str]:
    """The ids of Snakemake's jobs for a folder in Slurm's queue. Their comment names their rule."""
    lines = _ask("squeue", "--me", "--noheader", "--format=%A|%Z|%k").splitlines()
    jobs = [line.split("|", 2) for line in lines]
    return [number for number, place, comment in jobs if comment.startswith("rule_") and Path(place) == folder]


def is_alone_on_node() -> bool:
    """Whether no other job may run on the node of this one, as Slurm says; true outside a job of Slurm."""
    job = os.environ.get("SLURM_JOB_ID")
    return job is None or _ask("squeue", "--noheader", f"--jobs={job}", "--format=%h").strip() == "NO"


def _ask(*command: str) -> str:
    """What a command of Slurm prints; nothing where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
