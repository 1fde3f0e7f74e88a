"""The MLflow tracking URI: resolved, checked, redacted. Imports no mlflow."""

from __future__ import annotations

import difflib
import os
import re
import socket
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

from rnn_parity.experiment.errors import InputError

SQLITE = "sqlite:///"
HEAD_VARIABLE = "RNN_PARITY_HEAD"
"""The environment variable in which a run on a cluster tells its jobs where it runs itself."""
_DATABASES = ("mssql", "mysql", "postgresql", "sqlite")


def resolve_uri(configured: str | None, project: Path) -> str:
    """Return the tracking URI: the configured one, else `MLFLOW_TRACKING_URI`, else `mlflow.db` in the project.

    The path of an SQLite database comes out absolute; a relative one is taken from `project`, so that no command
    depends on the folder it is started in. Raises `InputError` for an address that MLflow 3 cannot keep runs at.
    """
    key, uri = "tracking.uri", configured
    if uri is None:
        key, uri = "MLFLOW_TRACKING_URI", os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    if fault := _fault(uri):
        raise InputError(f"{key}: holds {redact(uri)!r}, {fault}")
    if not uri.startswith("sqlite:"):
        return uri
    name, question_mark, query = uri.removeprefix(SQLITE).partition("?")
    path = (project / name).resolve()
    if "?" in str(path):
        raise InputError(f"{key}: the path {str(path)!r} holds a question mark, which ends the path of a database URI")
    return f"{SQLITE}{path}{question_mark}{query}"


def here() -> str:
    """The place of this process: the machine, and which job of Slurm on it, if any."""
    return f"{socket.gethostname()} {os.environ.get('SLURM_JOB_ID', '')}"


def redact(uri: str) -> str:
    """Return the URI without user, password and query; also one of a wrong form."""
    if uri.startswith("sqlite:"):
        return uri
    return re.sub(r"\?.*", "?***", re.sub(r"^([^:/@]+:/+)?.*@", r"\1***@", uri, flags=re.DOTALL), flags=re.DOTALL)


def _fault(uri: str) -> str:
    """What is wrong with the form of an address, and what was probably meant; empty for one that can be tried."""
    scheme, separator, rest = uri.partition("://")
    dialect = scheme.partition("+")[0]
    if dialect == "sqlite" and separator:
        gone = not rest.startswith("/") or rest.partition("?")[0] in ("/", "/:memory:")
        return "a database that is gone with its process; expected sqlite:///PATH" if gone else ""
    if dialect in _DATABASES and separator:
        return _of_database(uri)
    others = {"databricks", *(point.name for point in entry_points(group="mlflow.tracking_store"))} - {"file"}
    if uri == "databricks" or scheme in others or (scheme in ("http", "https") and _names_host(uri)):
        return ""
    meant = _meant(uri)
    return (
        f"expected a URL: {redact(meant)!r}?"
        if meant not in ("", uri)
        else "expected sqlite:///PATH or http(s)://HOST:PORT"
    )


def _meant(uri: str) -> str:
    """The address that one of a wrong form probably stands for; empty where none is likely."""
    if uri != uri.strip():
        return uri.strip()
    if slashes := re.fullmatch(r"(https?|sqlite)(:/*|//)([^/:].*)", uri):
        return f"{slashes[1]}://{'/' * (slashes[1] == 'sqlite')}{slashes[3]}"
    scheme, separator, rest = uri.partition("://")
    if separator:
        close = difflib.get_close_matches(scheme.lower(), ("http", "https", *_DATABASES), n=1)
        return f"{close[0]}://{rest}" if close and close[0] != scheme else ""
    if uri.endswith(".db"):
        return f"{SQLITE}{uri}"
    host = r"(.*@)?(\[[\da-fA-F:]+\](:\d+)?|[\w.-]+:\d+|\w[\w-]*(\.\w[\w-]*)+)(/.*)?"
    return f"http://{uri}" if re.fullmatch(host, uri) else ""


def _names_host(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", uri)
    except ValueError:  # a port that is no number, a bracket that stays open
        return False


def _of_database(uri: str) -> str:
    """Whether SQLAlchemy has the dialect, and this environment its driver."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except SQLAlchemyError as error:
        return f"which SQLAlchemy does not know ({type(error).__name__}); expected DIALECT+DRIVER://HOST/DATABASE"
    except ImportError as error:
        return f"whose driver is missing ({error}); expected one that is installed, as in postgresql+psycopg://"
    return ""
