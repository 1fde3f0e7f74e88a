"""The MLflow UI, for this machine alone: this process becomes the server, after it has printed a link to the study."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from rnn_parity.experiment.tracking_uri import redact
from rnn_parity.tracking.store import artifact_folder, connection, ensure_store


def serve_ui(uri: str, project: Path, study: str, port: int = 5000) -> None:
    """Print the link to the charts of `study`, then become the server of the store's UI on 127.0.0.1, until Ctrl-C.

    Another port is taken if this one is in use. Where `uri` is a server, it has a UI of its own: only its link is
    printed. Raises `TrackingUnavailable` if that server does not answer.
    """
    ensure_store(uri)
    with connection(uri) as client:
        experiment = client.get_experiment_by_name(study)
    page = "/"
    if experiment:
        page += f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning&compareRunsMode=CHART"
    else:
        print(f"The store holds no runs of the study {study!r} yet: `rnn-parity run` or `snakemake` makes them.")
    if uri.startswith(("http://", "https://")):
        print(redact(uri).replace("***@", "").partition("?")[0].rstrip("/") + page)
        return
    port = _free_port(port)
    # One worker and no job runner: the defaults are fifteen processes and 3 GB. The default host list would let a web
    # page in whose name begins like a private address.
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--allowed-hosts", "localhost:*,127.0.0.1:*", "--uvicorn-opts", "--log-level warning"]
    command += ["--artifacts-destination", str(artifact_folder(uri) or project / "mlartifacts")]
    # By the environment, as every user of the machine can read a command line, and the address may hold a password.
    settings = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    settings |= {"PYTHONWARNINGS": "ignore"}
    print(f"http://127.0.0.1:{port}{page}\nThe server needs some seconds to start. Ctrl-C stops it.", flush=True)
    os.execve(sys.executable, command, os.environ | settings)


def _free_port(wanted: int) -> int:
    try:
        probe = socket.create_server(("127.0.0.1", wanted))
    except OSError:
        probe = socket.create_server(("127.0.0.1", 0))
    with probe:
        return probe.getsockname()[1]
