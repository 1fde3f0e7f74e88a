"""The connection to the store, and what is said of one that does not answer: soon, once and without credentials."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from rnn_parity.experiment.errors import InputError
from rnn_parity.tracking.store import AGAIN, database_path, is_disk_full, redact

_ANSWER_S = 10.0
_SETTINGS = {
    # By default a dead server blocks a call for minutes. A request waits this long to connect and again to be answered.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "6",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    # Otherwise the address of every run that ends is printed, with the password in it.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_UNHURRIED = ("log_artifact",)
"""Calls that may take longer than an answer: a file that arrives slowly arrives."""


class TrackingUnavailable(InputError):
    """The tracking server does not answer, or refuses. The message names its URI without credentials."""


@contextmanager
def connection(uri: str) -> Iterator[Any]:
    """An `MlflowClient` of the store. What fails inside because a server is gone raises `TrackingUnavailable`.

    A server has 10 s for each answer, whatever the call hangs in, without retries; after the first that fails, no
    other is tried. `MLFLOW_HTTP_REQUEST_TIMEOUT` and `MLFLOW_HTTP_REQUEST_MAX_RETRIES` are heeded where they are set.
    A full disk under an embedded database raises `InputError`.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    path = database_path(uri)
    if path:  # what the database refuses is raised; MLflow would show its traceback besides
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        yield MlflowClient(tracking_uri=uri) if path else _Impatient(uri)
    except TimeoutError:
        raise TrackingUnavailable(f"{redact(uri)} gave no answer in {_ANSWER_S:g} s") from None
    except (MlflowException, OSError) as error:
        if path and is_disk_full(error, path):
            raise InputError(f"{path}: the disk is full" + AGAIN) from None
        if path or refused(error):  # it answers: the fault is ours
            raise
        raise TrackingUnavailable(f"{redact(uri)} is not available ({_reason(error)})") from None


def refused(error: Exception) -> bool:
    """Whether the store answered that it does not take what it was given."""
    return getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE"


class _Impatient:
    """A server's `MlflowClient` whose calls end in time, and which asks no more once the server has not answered."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self._failed: Exception | None = None
        self._client = self._call(lambda: MlflowClient(tracking_uri=uri), _ANSWER_S)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        limit_s = None if name in _UNHURRIED else _ANSWER_S
        return lambda *args, **kwargs: self._call(lambda: method(*args, **kwargs), limit_s)

    def _call(self, call: Callable[[], Any], limit_s: float | None) -> Any:
        if self._failed:
            raise self._failed
        from mlflow.exceptions import RestException

        try:
            return _within(limit_s, call)
        except RestException:  # it answers, if only that there is such an experiment already
            raise
        except Exception as error:
            self._failed = error
            raise


def _within(seconds: float | None, call: Callable[[], Any]) -> Any:
    """The call's result; `TimeoutError` after some seconds, whatever it hangs in: a socket, a name, a retry."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(timeout=seconds)


def _reason(error: Exception) -> str:
    """A few words without the address: messages of MLflow and requests quote it with its password."""
    text = str(error)
    system = re.search(r"\[Errno -?\d+\] ([A-Za-z ]+)", text)
    if system:
        return system[1]
    if re.search(r"time(d )?out", text, flags=re.IGNORECASE):
        return "no answer in time"
    return getattr(error, "error_code", type(error).__name__)
