"""The place of the runs: the embedded SQLite database, created whole or not at all, and a connection to any store.

A store that does not answer is one line: soon, once and without credentials.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from filelock import FileLock

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.tracking_uri import HEAD_VARIABLE, SQLITE, here, redact

_ARTIFACTS = "mlflow-artifacts:"
_NETWORK: tuple[str, ...] = ("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "orangefs")
_NETWORK += ("panfs", "smb", "sshfs", "virtiofs")
"""The first letters of the types of file systems that several machines may write to."""


class TrackingUnavailable(InputError):
    """The tracking server does not answer, or refuses. The message names its URI without credentials."""


def folder_tag(uri: str, project: Path) -> str:
    """Return the tag by which a run belongs to its folder: two folders with one `study` leave each other's runs alone.

    On a server it names the machine and the path. In an SQLite store it is the path as seen from the database, so that
    a project that is moved with its database keeps its runs.
    """
    path, machine = database_path(uri), socket.gethostname()
    if path is not None:
        return f"embedded-{_digest(os.path.relpath(project.resolve(), path.parent))}"
    return f"{machine}-{_digest(str(project.resolve()))}"


def database_path(uri: str) -> Path | None:
    """Return the file of an SQLite database; None for every other store."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(SQLITE) else None


def artifact_folder(uri: str) -> Path | None:
    """Return the folder of an SQLite store's artifacts, beside its database; None for every other store."""
    path = database_path(uri)
    return path and path.parent / "mlartifacts"


def artifact_location(uri: str, study: str) -> str | None:
    """Return the artifact location of a new experiment of an SQLite store; None leaves it to the server.

    The location is relative to the artifact folder, which the UI's server resolves: an absolute path would be lost when
    the project is moved.
    """
    return f"{_ARTIFACTS}/{_digest(study)}" if database_path(uri) else None


def local_artifacts(uri: str, artifact_uri: str) -> Path | None:
    """Return the folder of the artifacts of a run of an SQLite store; None where MLflow has to be asked."""
    folder = artifact_folder(uri)
    if folder is None or not artifact_uri.startswith(_ARTIFACTS):
        return None
    path = (folder / artifact_uri.removeprefix(_ARTIFACTS).lstrip("/")).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InputError(f"{artifact_uri}: leads out of {folder}; expected artifacts inside it")
    return path


def ensure_store(uri: str) -> None:
    """Create the embedded database if it is absent; do nothing for a server.

    Several processes may call this at once, and be killed: one of them builds the file beside its place, then moves it
    there. MLflow's own creation is neither safe in parallel nor when interrupted. Raises `InputError` for a database
    that cannot be created or read, or that several machines would write.
    """
    path = database_path(uri)
    if path is None:
        return
    if "SLURM_JOB_ID" in os.environ and os.environ.get(HEAD_VARIABLE) != here() and is_on_network(path.parent):
        raise InputError(
            f"{path}: is on a network file system, and this job runs on {socket.gethostname()}; expected the machine "
            "that runs Snakemake, which alone writes to such a database, or the address of a server"
        )
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock", mode=_mode()):
                if not path.exists():
                    _build(path)
        with closing(sqlite3.connect(path, timeout=60)) as database:  # MLflow would try for minutes
            database.execute("SELECT version_num FROM alembic_version")
    except Exception as error:
        raise storage_error(path, error) from error


@contextmanager
def connection(uri: str) -> Iterator[Any]:
    """Yield an `MlflowClient` of the store.

    Raises `TrackingUnavailable` for a server that is gone, `InputError` for an embedded database that cannot be used.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    path = database_path(uri)
    # SQLite counts on locks that a network file system may not have between machines.
    alone = FileLock(f"{path}.lock", mode=_mode()) if path and is_on_network(path.parent) else nullcontext()
    try:
        with alone:
            yield MlflowClient(tracking_uri=uri)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        if getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":  # the store answers: the fault is ours
            raise
        if path is not None:
            raise storage_error(path, error) from None
        raise TrackingUnavailable(f"{redact(uri)} {_reason(error)}{_by_proxy(uri)}") from None


def storage_error(path: Path, error: Exception) -> InputError:
    """Return the one message for a database that cannot be used, whatever the cause."""
    free_mb = shutil.disk_usage(next(folder for folder in path.parents if folder.exists())).free / 1e6
    cause = str(error).partition("\n")[0]
    return InputError(
        f"{path}: cannot be used ({cause}; {free_mb:,.1f} MB are free on its disk); fix that and run the same "
        "command again, or move the file away, to start a new one"
    )


def is_on_network(folder: Path) -> bool:
    """Tell whether other machines may write to the file system of a folder."""
    types = {partition.mountpoint: partition.fstype for partition in psutil.disk_partitions(all=True)}
    folder = folder.resolve()
    kind = next((types[str(point)] for point in (folder, *folder.parents) if str(point) in types), "")
    return kind.removeprefix("fuse.").startswith(_NETWORK)


def _build(path: Path) -> None:
    """Build an MLflow database with its whole schema in one file, and move it to `path`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    building = path.with_name(f"{path.name}.creating")
    # By a process that was killed; by a database that was taken away, whose log SQLite would play into the new one.
    for left in [*path.parent.glob(f"{building.name}*"), *path.parent.glob(f"{path.name}-*")]:
        left.unlink()
    SqlAlchemyStore(f"{SQLITE}{building}", f"{_ARTIFACTS}/").engine.dispose()
    with closing(sqlite3.connect(building)) as database:
        # WAL has twice the rate with several writers, but its shared memory is of one machine.
        database.execute(f"PRAGMA journal_mode = {'DELETE' if is_on_network(path.parent) else 'WAL'}")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    building.chmod(_mode())  # SQLite lets nobody but its maker write, whatever the umask
    building.replace(path)


def _mode() -> int:
    """The mode of a new file, so that whoever may write into a folder may also write the store's files."""
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


_REFUSALS = {
    "401": "asks for a password, and MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are missing or wrong",
    "403": "refuses: this user may not write there",
    "407": "is behind a proxy that asks for a password",
}
_CODES = {"UNAUTHENTICATED": "401", "PERMISSION_DENIED": "403"}
"""MLflow's words, where an answer is in its own form."""


def _reason(error: Exception) -> str:
    """Return a few words without the address: messages of MLflow and requests quote it with its password."""
    text, code = str(error), getattr(error, "error_code", type(error).__name__)
    status = re.search(r"error code (\d{3})|(\d{3}) (?:Client|Server) Error|too many (\d{3}) error", text)
    number = next(filter(None, status.groups())) if status else _CODES.get(code, "")
    if number in _REFUSALS:
        return _REFUSALS[number]
    if number:
        return f"answers with an error (HTTP {number}, {code})"
    system = re.search(r"\[Errno -?\d+\] ([A-Za-z ]+)", text)
    timed_out = re.search(r"time(d )?out", text, flags=re.IGNORECASE)
    return f"is not available ({system[1] if system else 'no answer in time' if timed_out else code})"


def _by_proxy(uri: str) -> str:
    """Return the name of the proxy that a server is reached through; empty where there is none."""
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(uri, get_environ_proxies(uri)) if uri.startswith("http") else None
    host = urlsplit(uri).hostname
    return f", through the proxy {redact(proxy)}; no_proxy={host} bypasses it" if proxy else ""


def artifacts_refused(uri: str, error: Exception) -> TrackingUnavailable:
    """Return the error for a server that keeps runs and takes no files."""
    place = f"{redact(uri)} answers, but its artifact store cannot be written from here"
    return TrackingUnavailable(f"{place} (it {_reason(error)}){_by_proxy(uri)}")
