"""Where the runs are kept: the tracking URI, and the embedded SQLite database, created whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from rnn_parity.experiment.errors import InputError
from rnn_parity.tables import atomic_path

_SQLITE = "sqlite:///"
_ARTIFACTS = "mlflow-artifacts:"
AGAIN = "; put that right and run the same command again"
_NOT_ITS_FAULT = ("SQLITE_IOERR", "SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_BUSY", "SQLITE_PERM", "SQLITE_READONLY")
"""SQLite's words where a database may be whole and its place is at fault."""
_LEAST_FREE_BYTES = 2**16
"""What SQLite's log and its index need to begin with; short of it, an access is an input/output error."""
_NETWORK = {
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "glusterfs",
    "gpfs",
    "lustre",
    "orangefs",
    "panfs",
    "sshfs",
    "virtiofs",
}


def resolve_uri(configured: str | None, project: Path) -> str:
    """The tracking URI: the configured one, else `MLFLOW_TRACKING_URI`, else `mlflow.db` in the project.

    The path of an SQLite database comes out absolute, a relative one being taken from `project`, so that no command
    depends on the folder it is started in. Raises `InputError` for what MLflow 3 cannot keep runs in.
    """
    key, uri = "tracking.uri", configured
    if uri is None:
        key, uri = "MLFLOW_TRACKING_URI", os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow.db"
    scheme = uri.partition(":")[0]
    if (":" not in uri and uri != "databricks") or scheme == "file":
        raise InputError(f"{key}: holds {redact(uri)!r}, expected sqlite:///PATH or http(s)://HOST:PORT")
    if scheme != "sqlite":
        return uri
    name, question_mark, query = uri.removeprefix(_SQLITE).partition("?")
    if not uri.startswith(_SQLITE) or name in ("", ":memory:"):
        raise InputError(f"{key}: holds {uri!r}, a database that is gone with its process; expected sqlite:///PATH")
    path = (project / name).resolve()
    if "?" in str(path):
        raise InputError(f"{key}: the path {str(path)!r} holds a question mark, which ends the path of a database URI")
    return f"{_SQLITE}{path}{question_mark}{query}"


def redact(uri: str) -> str:
    """The URI without user, password and query, to be shown."""
    if uri.startswith("sqlite:"):
        return uri
    return re.sub(r"\?.*", "?***", re.sub(r"^([^:/]+://).*@", r"\1***@", uri, flags=re.DOTALL), flags=re.DOTALL)


def database_path(uri: str) -> Path | None:
    """The file of an SQLite database; None for every other store."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def artifact_folder(uri: str) -> Path | None:
    """The folder of an SQLite store's artifacts, beside its database; None for every other store."""
    path = database_path(uri)
    return path and path.parent / "mlartifacts"


def artifact_location(uri: str, study: str) -> str | None:
    """Where a new experiment of this store keeps its artifacts; None leaves it to the server.

    A location relative to the artifact folder, which the UI's server resolves: an absolute path would be lost when
    the project is moved.
    """
    if artifact_folder(uri) is None:
        return None
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", study)[:64]
    if name != study:  # two studies must not share a folder
        name += "-" + hashlib.sha256(study.encode()).hexdigest()[:8]
    return f"{_ARTIFACTS}/{name}"


def local_artifacts(uri: str, artifact_uri: str) -> Path | None:
    """The folder in which the artifacts of a run of an SQLite store lie; None where MLflow has to be asked."""
    folder = artifact_folder(uri)
    if folder is None or not artifact_uri.startswith(_ARTIFACTS):
        return None
    path = (folder / artifact_uri.removeprefix(_ARTIFACTS).lstrip("/")).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InputError(f"{artifact_uri}: leads out of {folder}; expected artifacts inside it")
    return path


def ensure_store(uri: str) -> None:
    """Create the embedded database if it is absent; nothing to do for a server.

    Several processes may call this at once, and be killed: the file is built beside its place by one of them while
    the others wait, then linked into place. MLflow's own creation is neither safe in parallel nor when interrupted.
    Raises `InputError` for a database of another version of MLflow, after a copy of it was made.
    """
    path = database_path(uri)
    if path is None:
        return
    building, lock = (path.with_name(f"{path.name}.{suffix}") for suffix in ("creating", "lock"))
    if path.exists() and not building.exists():
        _check_schema(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # released by the system, too, when this process is killed
        _remove(building)
        if not path.exists():
            try:
                _build(building)
                _move(building, path)
            except Exception as error:
                _remove(building)
                raise InputError(f"{path}: cannot be created ({_reason(error, path)})" + AGAIN) from error
        # Whoever still waits for this lock finds the database in its place, so the file has served.
        lock.unlink(missing_ok=True)


def _check_schema(path: Path) -> None:
    """Refuse a database that the installed MLflow would refuse, with a way out."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    found = _schema_revision(path)
    if found == _get_latest_schema_revision():
        return
    copy = path.with_name(f"{path.name}.{found}.backup")
    if not copy.exists():
        with atomic_path(copy) as temporary, _open(path) as source, closing(sqlite3.connect(temporary)) as target:
            source.backup(target)
    raise InputError(
        f"{path}: holds the schema {found} of another MLflow; a copy is in {copy.name}; if it is of an older one, "
        f"`mlflow db upgrade {_SQLITE}{path}` brings it up to date"
    )


def _schema_revision(path: Path) -> str:
    try:
        with _open(path) as connection:
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return revision
    except (sqlite3.Error, TypeError) as error:
        if getattr(error, "sqlite_errorname", "").startswith(_NOT_ITS_FAULT):
            raise InputError(f"{path}: cannot be opened ({_reason(error, path)})" + AGAIN) from error
        raise InputError(f"{path}: is no MLflow database ({error}); move it away, and a new one is made") from error


def _open(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(path, timeout=60))


def is_disk_full(error: Exception, path: Path) -> bool:
    """Whether an access to the database failed for want of space: SQLite does not always say so."""
    text = str(error)
    if "disk is full" in text or "No space left" in text:
        return True
    return "disk I/O error" in text and shutil.disk_usage(path.parent).free < _LEAST_FREE_BYTES


def _reason(error: Exception, path: Path) -> str:
    return "the disk is full" if is_disk_full(error, path) else str(error).partition("\n")[0]


def _build(path: Path) -> None:
    """An MLflow database with its whole schema in one file; with WAL it has twice the rate with several writers."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    store = SqlAlchemyStore(f"{_SQLITE}{path}", f"{_ARTIFACTS}/")
    store.engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        # WAL's shared memory is of one machine: over a network, SQLite's own journal is the safe one.
        connection.execute(f"PRAGMA journal_mode = {'DELETE' if is_on_network(path.parent) else 'WAL'}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def is_on_network(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether a folder is on a file system that other machines may write to."""
    types = {}
    for line in mounts.read_text().splitlines() if mounts.exists() else []:
        _, point, kind, *_ = line.split()
        types[Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), point))] = kind
    folder = folder.resolve()
    mounted = next((types[point] for point in (folder, *folder.parents) if point in types), "")
    return mounted.removeprefix("fuse.") in _NETWORK or mounted.startswith(("nfs", "smb"))


def _move(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # unlike a rename, it replaces nothing
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        source.rename(target)
    _remove(source)


def _remove(path: Path) -> None:
    for suffix in ("-journal", "-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
