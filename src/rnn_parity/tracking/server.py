"""The connection to the store, and one line about a store that does not answer: soon, once and without credentials."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rnn_parity.experiment.errors import InputError
from rnn_parity.tracking.store import database_path, redact, storage_error


class TrackingUnavailable(InputError):
    """The tracking server does not answer, or refuses. The message names its URI without credentials."""


@contextmanager
def connection(uri: str) -> Iterator[Any]:
    """Yield an `MlflowClient` of the store.

    Raises `TrackingUnavailable` for a server that is gone, `InputError` for an embedded database that cannot be used.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    path = database_path(uri)
    try:
        yield MlflowClient(tracking_uri=uri)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        if getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":  # the store answers: the fault is ours
            raise
        if path is not None:
            raise storage_error(path, error) from None
        raise TrackingUnavailable(f"{redact(uri)} is not available ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    """Return a few words without the address: messages of MLflow and requests quote it with its password."""
    text = str(error)
    if system := re.search(r"\[Errno -?\d+\] ([A-Za-z ]+)", text):
        return system[1]
    timed_out = re.search(r"time(d )?out", text, flags=re.IGNORECASE)
    return "no answer in time" if timed_out else getattr(error, "error_code", type(error).__name__)
