"""Processes that are killed: one run per folder, and jobs that do not outlive their run."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import threading
from pathlib import Path

from rnn_parity.experiment.errors import InputError

RUN_VARIABLE = "RNN_PARITY_RUN"
"""The environment variable in which a run of the workflow tells its jobs its process id."""


def lock_working_folder(snakemake_folder: Path) -> int:
    """Make this process the one run of its folder until it ends or closes the returned file descriptor.

    The system lets go of the lock when the process ends, however it ends; so whoever gets it knows that locks which
    Snakemake left are a dead run's, and removes them. Raises `InputError` if another run holds the folder.
    """
    snakemake_folder.mkdir(exist_ok=True)
    lock = snakemake_folder / "run.lock"
    held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)  # a number: nothing closes it when nobody refers to it
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        other = lock.read_text().strip() or "unknown"
        raise InputError(f"another run is at work in this folder ({other}); wait until it ends, or end it") from None
    lock.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
    for stale in snakemake_folder.glob("locks/*.lock"):
        stale.unlink(missing_ok=True)
    return held


def exit_with_workflow() -> None:
    """End by SIGTERM with the run of the workflow that started this process: nothing must run beside the next one."""
    try:
        workflow = os.pidfd_open(int(os.environ[RUN_VARIABLE]))
    except (AttributeError, KeyError, ValueError, OSError):  # started by hand, in a container of its own, not on Linux
        return

    def wait() -> None:
        select.select([workflow], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
