"""Locks and guards: one run per folder, no job beside a timing, no job without its run, one set of sources."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rnn_parity.commands.slurm import is_alone_on_node
from rnn_parity.experiment.errors import InputError

RUN_VARIABLE = "RNN_PARITY_RUN"
"""The environment variable in which a run of the workflow tells its jobs its process id."""

SOURCES_VARIABLE = "RNN_PARITY_SOURCES"
"""The environment variable in which a run tells its jobs the folder of the package that they must use."""

GATE_VARIABLE = "RNN_PARITY_GATE"
"""The environment variable with the exit code of a failing gate, if it is not 1."""

SOURCES = Path(__file__).parents[1]

MACHINE_LOCK = Path("/tmp/rnn-parity.lock")
"""A lock for all jobs on this machine, of any user. A timing holds it alone, other jobs share it."""


def lock_working_folder(snakemake_folder: Path) -> int:
    """Make this process the one run of its folder until it ends or closes the returned file descriptor.

    The system releases the lock when the process ends, however it ends. So a process that gets the lock knows that
    locks left by Snakemake are of a dead run, and removes them. Raises `InputError` if another run holds the folder, or
    if this user may not write there.
    """
    lock = snakemake_folder / "run.lock"
    try:
        snakemake_folder.mkdir(exist_ok=True)
        held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)  # a number: nothing closes it when nobody refers to it
    except OSError as error:
        there = next(place for place in (lock, *lock.absolute().parents) if place.exists())
        words = f"cannot be written ({error.strerror}); only user {there.stat().st_uid} may"
        raise InputError(f"{there}: {words}; to share a folder in a group, use umask 002") from None
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


@contextmanager
def on_this_machine(alone: bool, patience_s: float, say: Callable[[str], None]) -> Iterator[bool]:
    """Wait until no timing runs on this machine, or, if `alone`, no job at all. Yield whether this was granted.

    A scheduler that was given other numbers of cores, another executor, or another user's run may start such jobs side
    by side. Nothing is granted where there can be no lock, or after `patience_s` seconds; `say` gets the reason.
    """
    try:
        turn, lock = _open(MACHINE_LOCK.with_suffix(".turn")), _open(MACHINE_LOCK)
    except OSError as error:
        say(f"cannot tell what else runs on this machine: {error}")
        yield False
        return
    until = time.monotonic() + patience_s
    try:
        # Whoever waits has the turn, so that a timing is not kept waiting by jobs that came after it.
        granted = _lock(turn, fcntl.LOCK_EX, until, say) and _lock(
            lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, until, say
        )
    finally:
        os.close(turn)
    try:
        if alone and granted and not is_alone_on_node():
            say("other jobs may run on this node: Slurm does not say that this job has it to itself")
            granted = False
        yield granted
    finally:
        os.close(lock)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)  # who may read may lock


def _lock(lock: int, kind: int, until: float, say: Callable[[str], None]) -> bool:
    waits = False
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                say("goes on, although other measurements on this machine have not ended")
                return False
            if not waits:
                say("waits until other measurements on this machine end")
            waits = True
            time.sleep(0.1)


def exit_with_workflow() -> None:
    """End by SIGTERM when the run that started this process ends, so that nothing runs beside the next run."""
    try:
        workflow = os.pidfd_open(int(os.environ[RUN_VARIABLE]))
    except (AttributeError, KeyError, ValueError, OSError):  # started by hand, in a container of its own, not on Linux
        return

    def wait() -> None:
        select.select([workflow], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def require_own_sources() -> None:
    """Raise `InputError` if this process runs other sources than its workflow, or than the checkout it is in."""
    asked = os.environ.get(SOURCES_VARIABLE)
    if asked and not _is_same(Path(asked), SOURCES):
        raise InputError(
            f"the workflow's sources are in {asked}, but its jobs run those in {SOURCES}; look at PYTHONPATH"
        )
    here, imported = Path("src/rnn_parity").absolute(), SOURCES.parents[1]
    if (here / "__init__.py").exists() and (imported / "Snakefile").exists() and not _is_same(here, SOURCES):
        raise InputError(
            f"this folder has its own sources, but {sys.executable} runs those in {SOURCES};"
            " `pip install -e .` installs those of this folder"
        )


def require_own_snakefile(folder: Path) -> None:
    """Raise `InputError` for a Snakefile in `folder` that belongs to other sources than those that are imported."""
    if os.pathsep in str(folder):
        raise InputError(
            f"the folder {folder} has {os.pathsep!r} in its name, which PYTHONPATH cannot contain; rename it"
        )
    if not any(_is_same(place, SOURCES) for place in (folder / "src/rnn_parity", folder.parent)):
        raise InputError(
            f"the Snakefile in {folder} does not belong to the package in {SOURCES}; `rnn-parity run` uses its own"
        )


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and one.samefile(other)
