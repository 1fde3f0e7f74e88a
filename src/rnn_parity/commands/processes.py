"""Processes that are killed: one run per folder, jobs that do not outlive their run, and how a job ended."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rnn_parity.experiment.errors import InputError

RUN_VARIABLE = "RNN_PARITY_RUN"
"""The environment variable in which a run of the workflow tells its jobs its process id."""

_TAIL_LINES, _TAIL_LETTERS = 40, 4000


def lock_working_folder(snakemake_folder: Path) -> IO[str]:
    """Make this process the one run of its folder for as long as the returned file is open.

    The system lets go of the lock when the process ends, however it ends; so whoever gets it knows that locks which
    Snakemake left are a dead run's, and removes them. Raises `InputError` if another run holds the folder.
    """
    snakemake_folder.mkdir(exist_ok=True)
    held = (snakemake_folder / "run.lock").open("a+")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.seek(0)
        other = held.read().strip() or "unknown"
        held.close()
        raise InputError(f"another run is at work in this folder ({other}); wait until it ends, or end it") from None
    held.truncate(0)
    held.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    held.flush()
    for lock in snakemake_folder.glob("locks/*.lock"):
        lock.unlink(missing_ok=True)
    return held


def exit_when(pid: int, group: bool = False) -> None:
    """End this process (`group`: its whole process group) by SIGTERM as soon as process `pid` is gone."""
    try:
        watched = os.pidfd_open(pid)
    except (OSError, AttributeError):  # in a container of its own, or a system without it
        return

    def wait() -> None:
        select.select([watched], [], [])
        if group:
            os.killpg(0, signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def exit_with_workflow() -> None:
    """End with the run of the workflow that started this process, if one did: nothing must run beside the next one."""
    pid = os.environ.get(RUN_VARIABLE, "")
    if pid.isdigit():
        exit_when(int(pid))


@dataclass(frozen=True)
class Failure:
    """How a job ended that left no result: `status` is FAILED or KILLED; `log` has the last lines it wrote."""

    rule: str
    status: str
    reason: str
    log: str


def read_failure(rule: str, log: Path) -> Failure:
    """What the log of a dead job says: its last line is the exit code, unless everything was killed at once."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    code = re.fullmatch(r"exit code (\d+)", lines[-1]) if lines else None
    said = [line for line in (lines[:-1] if code else lines) if line.strip()]
    tail = "\n".join(said[-_TAIL_LINES:])[-_TAIL_LETTERS:]
    if code is None:
        return Failure(rule, "KILLED", f"{rule} ended without a word: killed with all its processes", tail)
    number = int(code[1])
    if number > 128:
        name = signal.Signals(number - 128).name if number - 128 in list(signal.Signals) else f"signal {number - 128}"
        guess = " (by the system where memory runs out, or by hand)" if name == "SIGKILL" else ""
        return Failure(rule, "KILLED", f"{rule} was killed by {name}{guess}", tail)
    return Failure(rule, "FAILED", f"{rule} ended with exit code {number}: {said[-1] if said else 'no word'}", tail)
