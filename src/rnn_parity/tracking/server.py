"""The connection to the store, and what is said of one that does not answer: soon, once and without credentials."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from rnn_parity.errors import InputError
from rnn_parity.tracking.store import artifact_location, database_path, redact

_FIRST_ANSWER_S = 10.0
_SETTINGS = {
    # By default a dead server blocks a call for minutes. A request waits this long to connect and again to be answered.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "6",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}


class TrackingUnavailable(InputError):
    """The tracking server does not answer, or refuses. The message names its URI without credentials."""


@contextmanager
def connection(uri: str) -> Iterator[Any]:
    """An `MlflowClient` of the store. What fails inside because a server is gone raises `TrackingUnavailable`.

    A server has 10 s to give its first answer, then 6 s to take each request and 6 s to answer it, without retries;
    the variables `MLFLOW_HTTP_REQUEST_TIMEOUT` and `MLFLOW_HTTP_REQUEST_MAX_RETRIES` are heeded where they are set.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    if database_path(uri):  # a file answers or fails by itself
        yield MlflowClient(tracking_uri=uri)
        return

    def open_store() -> Any:
        client = MlflowClient(tracking_uri=uri)
        client.get_experiment_by_name("Default")  # the first request
        return client

    try:
        yield _within(_FIRST_ANSWER_S, open_store)
    except TimeoutError:
        raise TrackingUnavailable(f"{redact(uri)} gave no answer in {_FIRST_ANSWER_S:g} s") from None
    except MlflowException as error:
        if error.error_code == "INVALID_PARAMETER_VALUE":  # it answers: the fault is ours
            raise
        raise TrackingUnavailable(f"{redact(uri)} is not available ({_reason(error)})") from None
    except OSError as error:
        raise TrackingUnavailable(f"{redact(uri)} is not available ({_reason(error)})") from None


def find_experiment(client: Any, study: str) -> str | None:
    """The id of the study's experiment, or None if there is none."""
    experiment = client.get_experiment_by_name(study)
    return experiment and experiment.experiment_id


def make_experiment(client: Any, uri: str, study: str) -> str:
    """The id of the study's experiment, made if there is none, restored if it was deleted."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(study)
    try:
        if experiment is None:
            return client.create_experiment(study, artifact_location(uri, study))
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
    except MlflowException:  # another process may have done it in between
        experiment = client.get_experiment_by_name(study)
        if experiment is None or experiment.lifecycle_stage == "deleted":
            raise
    return experiment.experiment_id


def _within(seconds: float, call: Callable[[], Any]) -> Any:
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
