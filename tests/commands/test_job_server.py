"""A server of jobs: what it does is what a process of its own would have done, and no job outlives who asked for it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from rnn_parity.commands.job_server import SERVED, SERVER_VARIABLE
from rnn_parity.commands.processes import RUN_VARIABLE

SERVER = """
import os, sys, time
from rnn_parity.commands import job_server
job_server.IMPORTED = ()
job_server.serve()
what = sys.argv[2]
if what == "tell":
    print(os.getcwd(), os.environ["TOLD"], *sys.argv[3:])
    print("to stderr", file=sys.stderr)
    sys.exit(5)
if what == "end":
    os.kill(os.getpid(), int(sys.argv[3]))
with open(sys.argv[3], "w") as file:
    file.write(str(os.getpid()))
time.sleep(600)
"""
"""A server whose commands are three tricks in place of measurements."""

CLIENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
from rnn_parity.commands.job_server import end_in_server
end_in_server(sys.argv[1:])
sys.exit("by itself")
"""


@pytest.fixture
def run(monkeypatch):
    """A run, as its server knows it: a process, and the name of the socket."""
    with subprocess.Popen(["sleep", "600"]) as process:
        monkeypatch.setenv(RUN_VARIABLE, str(process.pid))
        monkeypatch.setenv(SERVER_VARIABLE, f"rnn-parity-test-{process.pid}")
        yield process
        process.kill()


@pytest.fixture
def server(run, tmp_path):
    with subprocess.Popen([sys.executable, "-c", SERVER, "server"], cwd=tmp_path) as process:
        wait_for(answers)
        yield process
        process.kill()


def answers():
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked, suppress(ConnectionRefusedError):
        asked.connect(f"\0{os.environ[SERVER_VARIABLE]}")
        return True
    return False


def wait_for(what):
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def client(*words, before=(), **options):
    command = [*before, sys.executable, "-c", CLIENT, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_job_has_the_folder_environment_output_and_end_of_who_asks(server, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.setenv("TOLD", "a word")
    asked = client("job", "tell", "x", "y z", cwd=tmp_path / "there")
    assert asked.communicate() == (f"{tmp_path}/there a word x y z\n", "to stderr\n")
    assert asked.returncode == 5


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_a_job_that_is_killed_ends_its_client_in_the_same_way(server, number):
    asked = client("job", "end", str(int(number)))
    asked.communicate()
    assert asked.returncode == -number


def test_jobs_run_side_by_side_and_end_with_their_clients(server, tmp_path):
    asked = [client("job", "wait", str(tmp_path / name)) for name in "ab"]
    wait_for(lambda: all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "ab"))
    jobs = [psutil.Process(int((tmp_path / name).read_text())) for name in "ab"]
    asked[0].terminate()
    wait_for(lambda: not jobs[0].is_running())
    assert jobs[1].is_running()
    asked[1].send_signal(signal.SIGINT)
    wait_for(lambda: not jobs[1].is_running())
    for process in asked:
        process.communicate()
    assert [process.returncode for process in asked] == [-signal.SIGTERM, 128 + signal.SIGINT]


def test_the_server_ends_with_its_run(server, run):
    run.kill()
    assert server.wait(60) == 0


def test_a_job_ends_with_what_the_server_keeps_beside_it(server, tmp_path):
    asked = client("job", "wait", str(tmp_path / "a"))
    wait_for(lambda: (tmp_path / "a").exists() and (tmp_path / "a").read_text())
    job = psutil.Process(int((tmp_path / "a").read_text()))
    for keeper in psutil.Process(server.pid).children():
        keeper.kill()
    asked.communicate()
    assert asked.returncode == -signal.SIGKILL
    wait_for(lambda: not job.is_running())


def test_a_job_that_has_begun_goes_on_without_the_server(server, tmp_path):
    asked = client("job", "wait", str(tmp_path / "a"))
    wait_for(lambda: (tmp_path / "a").exists() and (tmp_path / "a").read_text())
    job = psutil.Process(int((tmp_path / "a").read_text()))
    server.kill()
    server.wait()
    time.sleep(0.5)
    assert job.is_running()
    assert asked.poll() is None
    asked.terminate()
    asked.communicate()
    wait_for(lambda: not job.is_running())


@pytest.mark.parametrize("words", [("collect",), (), ("--version",)])
def test_other_commands_are_not_for_the_server(server, words):
    assert not set(words) & set(SERVED)
    assert client(*words).communicate() == ("", "by itself\n")


def test_a_server_that_ends_before_it_starts_a_job_costs_none(server):
    os.kill(server.pid, signal.SIGSTOP)  # so that the job waits
    asked = client("job", "tell")
    wait_for(lambda: psutil.Process(asked.pid).status() == psutil.STATUS_SLEEPING)
    server.kill()
    assert asked.communicate() == ("", "by itself\n")


def test_without_a_server_a_job_does_its_work_itself(run, monkeypatch):
    assert client("job", "tell").communicate() == ("", "by itself\n")
    monkeypatch.delenv(SERVER_VARIABLE)
    assert client("job", "tell").communicate() == ("", "by itself\n")


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becoming another user needs root and setpriv"
)
def test_nobody_else_is_served(run, server):
    reading = ["--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # a home folder too
    other = ["setpriv", "--reuid=65534", *reading]
    assert client("job", "tell", before=other).communicate() == ("", "by itself\n")
