"""Processes that are killed: one run per folder, and jobs that do not outlive their run."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import threading
from pathlib import Path
from typing import IO

from rnn_parity.experiment.errors import InputError

RUN_VARIABLE = "RNN_PARITY_RUN"
"""The environment variable in which a run of the workflow tells its jobs its process id."""


_HELD: list[IO[str]] = []
"""The locks of this process: a file that nobody refers to is closed, and its lock let go."""


def lock_working_folder(snakemake_folder: Path) -> IO[str]:
    """Make this process the one run of its folder until it ends or closes the returned file.

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
    _HELD.append(held)
    return held


def exit_when(pid: int) -> None:
    """End this process by SIGTERM as soon as process `pid` is gone."""
    try:
        watched = os.pidfd_open(pid)
    except (OSError, AttributeError):  # in a container of its own, or a system without it
        return

    def wait() -> None:
        select.select([watched], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def exit_with_workflow() -> None:
    """End with the run of the workflow that started this process, if one did: nothing must run beside the next one."""
    pid = os.environ.get(RUN_VARIABLE, "")
    if pid.isdigit():
        exit_when(int(pid))
