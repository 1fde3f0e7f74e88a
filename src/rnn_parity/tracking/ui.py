"""The MLflow UI, for this machine alone: a server in a child process, and a link that opens the charts of the study."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from rnn_parity.experiment.errors import InputError
from rnn_parity.tracking.experiment import find_experiment, runs_page
from rnn_parity.tracking.server import connection
from rnn_parity.tracking.store import artifact_folder, ensure_store, redact

_START_S = 120
_STOP_S = 10
_SERVER = """
import sys
from rnn_parity.commands.processes import exit_when
exit_when(int(sys.argv.pop(1)), group=True)
from mlflow.cli import cli
cli()
"""


def serve_ui(uri: str, project: Path, study: str, port: int = 5000) -> None:
    """Serve the store's UI on 127.0.0.1 until Ctrl-C and print the link to the charts of `study`.

    Another port is taken if this one is in use. Where `uri` is a server, it has a UI of its own: only its link is
    printed. Raises `TrackingUnavailable` if that does not answer, `InputError` if the UI ends by itself.
    """
    ensure_store(uri)
    with connection(uri) as client:
        experiment_id = find_experiment(client, study)
    page = "/" + runs_page(experiment_id) if experiment_id else "/"
    if not experiment_id:
        print(f"The store holds no runs of the study {study!r} yet: run `snakemake` to make them.")
    if uri.startswith(("http://", "https://")):
        print(redact(uri).replace("***@", "").partition("?")[0].rstrip("/") + page, flush=True)
        return
    port = _free_port(port)
    server = _start(uri, artifact_folder(uri) or project / "mlartifacts", port)
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
        _wait(server, f"http://127.0.0.1:{port}/health")
        print(f"http://127.0.0.1:{port}{page}\nCtrl-C ends it.", flush=True)
        server.wait()
        raise InputError(f"ui: the MLflow server ended by itself with exit code {server.returncode}")
    except KeyboardInterrupt:
        print(flush=True)
    finally:
        _stop(server)


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise InputError("ui: no port is free on 127.0.0.1")


def _start(uri: str, artifacts: Path, port: int) -> subprocess.Popen:
    """One worker and no job runner: the defaults are fifteen processes and 3 GB. The default host list would let
    a web page in whose name begins like a private address.
    """
    command = [
        sys.executable,
        "-c",
        _SERVER,
        str(os.getpid()),
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--allowed-hosts", "localhost:*,127.0.0.1:*", "--artifacts-destination", str(artifacts)]
    command += ["--uvicorn-opts", "--log-level warning"]
    # By the environment, as every user of the machine can read a command line; a password would stand in it.
    settings = {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",  # of the server's own dependencies
    }
    # A session of its own: Ctrl-C reaches this process only, which then ends the server and its worker in order.
    return subprocess.Popen(command, env=os.environ | settings, start_new_session=True, stdout=subprocess.DEVNULL)


def _wait(server: subprocess.Popen, health: str) -> None:
    deadline = time.monotonic() + _START_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise InputError(f"ui: the MLflow server ended at once with exit code {server.returncode}")
        try:
            with opener.open(health, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise InputError(f"ui: the MLflow server did not answer in {_START_S} s")


def _stop(server: subprocess.Popen) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(_STOP_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
