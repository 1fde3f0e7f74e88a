"""The jobs of a run on one machine, forked from a process that has imported what all of them need.

To import PyTorch or MLflow takes more than a second, and a run starts dozens of jobs. A job asks the server of its run
to do its work, and waits. Where there is no server, as on a cluster, in a container or by hand, it works by itself.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from rnn_parity.commands.processes import RUN_VARIABLE

SERVER_VARIABLE = "RNN_PARITY_JOB_SERVER"
"""The environment variable in which a run tells its jobs the name of its server's socket."""

SERVED = ("job", "device", "environment", "publish")
"""The commands that a run calls again and again."""

IMPORTED = (
    "rnn_parity.commands.cli",
    "rnn_parity.tables",
    "rnn_parity.compare.case",
    "rnn_parity.timing.rounds",
    "rnn_parity.life.live",
    "rnn_parity.capabilities.probing",
    "rnn_parity.tracking",
    "mlflow.tracking",
)
_MOST_BYTES = 1 << 20
_STARTED = b"started"
_PR_SET_PDEATHSIG = 1


def start_server() -> None:
    """Start the server of this run, and tell the jobs to come of it. It ends with this process."""
    os.environ[SERVER_VARIABLE] = f"rnn-parity-{os.urandom(16).hex()}"
    subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.DEVNULL)


def end_in_server(words: list[str]) -> None:
    """Let the server do the command `words`, and end as the command does. Return if it cannot be asked."""
    if not words or words[0] not in SERVED or SERVER_VARIABLE not in os.environ:
        return
    with _socket() as server:
        try:
            if not _ask(server, words):
                return
            ended = server.recv(16)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
    code = int(ended) if ended else -signal.SIGKILL  # what leaves no word was killed
    if code < 0:
        with suppress(OSError):  # of SIGKILL there is nothing to set
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _ask(server: socket.socket, words: list[str]) -> bool:
    """Whether the server has started the job."""
    request = {"words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    with suppress(OSError):
        server.connect(_address())
        if _is_own(server):
            socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
            return server.recv(len(_STARTED)) == _STARTED
    return False


def serve() -> None:
    """Answer every client until the run ends. Return in each process that is to do a command, with its `sys.argv`."""
    run = os.pidfd_open(int(os.environ[RUN_VARIABLE]))
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the jobs, and for the run
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with _socket() as server:
        server.bind(_address())
        server.listen(128)  # from now on jobs wait for the imports
        for module in IMPORTED:
            with suppress(ImportError):  # nobody needs MLflow where nothing is shown in it
                importlib.import_module(module)
        listening = server.fileno()
        while listening in select.select([listening, run], [], [])[0]:
            client, _ = server.accept()
            with client:
                if _is_own(client) and os.fork() == 0:
                    server.close()
                    os.close(run)
                    _keep(client)
                    signal.signal(signal.SIGINT, on_interrupt)  # ignored in the background of a script
                    return
    sys.exit()


def _keep(client: socket.socket) -> None:
    """Start the job that a client asks for, end it with the client, and tell the client how it ended.

    Returns in the process of the job.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, files, *_ = socket.recv_fds(client, _MOST_BYTES, 3)
    if not message:  # it was killed before it could ask
        os._exit(0)
    job = os.fork()
    if job == 0:
        client.close()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        asked = json.loads(message)
        os.chdir(asked["folder"])
        os.environ.update(asked["environment"])
        sys.argv[1:] = asked["words"]
        return
    with suppress(OSError):  # the client may be gone
        client.send(_STARTED)
    ended = os.pidfd_open(job)
    if ended not in select.select([ended, client.fileno()], [], [])[0]:
        os.kill(job, signal.SIGTERM)
    _, status = os.waitpid(job, 0)
    with suppress(OSError):
        client.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a message arrives whole or not at all


def _address() -> str:
    """The address of this run's server: in the kernel, so that no file is left behind."""
    return f"\0{os.environ[SERVER_VARIABLE]}"


def _is_own(peer: socket.socket) -> bool:
    """Whether the process at the other end is of the same user."""
    _, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return user == os.getuid()


if __name__ == "__main__":
    serve()
    importlib.import_module("rnn_parity.commands.cli").main()
