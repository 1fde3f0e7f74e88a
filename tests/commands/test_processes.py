"""A dead job says how it died; a folder is held by one process and free as soon as that is gone."""

import subprocess
import sys

import pytest

from rnn_parity.commands.processes import lock_working_folder, read_failure
from rnn_parity.experiment.errors import InputError

HOLD = """
import sys
from pathlib import Path
from rnn_parity.commands.processes import lock_working_folder
held = lock_working_folder(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""

OUTLIVE = """
import os, sys
from rnn_parity.commands.processes import exit_with_workflow
exit_with_workflow()
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("log", "status", "reason"),
    [
        ("a line\nValueError: no\nexit code 1\n", "FAILED", "timing ended with exit code 1: ValueError: no"),
        ("error: bad\n\nexit code 2\n", "FAILED", "timing ended with exit code 2: error: bad"),
        ("exit code 137\n", "KILLED", "timing was killed by SIGKILL (by the system where memory runs out, or by hand)"),
        ("half a li\nexit code 143", "KILLED", "timing was killed by SIGTERM"),
        ("x\nexit code 168\n", "KILLED", "timing was killed by signal 40"),
        ("case 1: equivalent\n", "KILLED", "timing ended without a word: killed with all its processes"),
        ("", "KILLED", "timing ended without a word: killed with all its processes"),
    ],
)
def test_a_log_tells_how_its_job_ended(tmp_path, log, status, reason):
    path = tmp_path / "job.log"
    path.write_text(log)
    failure = read_failure("timing", path)
    assert (failure.status, failure.reason) == (status, reason)


def test_only_the_end_of_a_log_is_kept(tmp_path):
    path = tmp_path / "job.log"
    path.write_bytes(b"\xff\n" + b"first\n" * 100 + b"x" * 5000 + b"\nlast\nexit code 1\n")
    log = read_failure("timing", path).log
    assert log.endswith("last")
    assert len(log) == 4000
    assert "exit code" not in log


def test_a_folder_has_one_run_and_a_dead_one_leaves_it_unlocked(tmp_path):
    (tmp_path / "locks").mkdir()
    stale = tmp_path / "locks" / "0.output.lock"
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "held\n"
    stale.touch()
    with pytest.raises(InputError, match=rf"another run is at work in this folder \(process {first.pid} on "):
        lock_working_folder(tmp_path)
    assert stale.exists()
    first.kill()
    first.communicate()
    held = lock_working_folder(tmp_path)
    assert not stale.exists()
    held.close()


def test_a_job_ends_with_the_run_that_started_it(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    job = subprocess.Popen(
        [sys.executable, "-c", OUTLIVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"RNN_PARITY_RUN": str(run.pid), "PYTHONPATH": ":".join(sys.path)},
    )
    assert int(job.stdout.readline()) == job.pid
    assert job.poll() is None
    run.kill()
    run.communicate()
    assert job.wait(60) == -15
    job.communicate()
