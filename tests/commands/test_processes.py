"""A folder is held by one process and free as soon as that is gone; no job outlives its run."""

import fcntl
import os
import subprocess
import sys
import threading

import pytest

from rnn_parity.commands import processes
from rnn_parity.commands.processes import lock_working_folder, on_this_machine
from rnn_parity.experiment.errors import InputError

HOLD = """
import sys
import threading
from pathlib import Path
from rnn_parity.commands import processes
from rnn_parity.commands.processes import lock_working_folder, on_this_machine
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
    os.close(held)


def test_who_may_not_write_into_a_folder_is_told_who_may(tmp_path):
    (tmp_path / "run.lock").symlink_to("/proc/none/lock")  # root may write whatever is a file
    with pytest.raises(
        InputError, match=r": cannot be written \(No such file.*\); only user \d+ may; to share a folder"
    ):
        lock_working_folder(tmp_path)


def test_a_lock_is_as_writable_as_the_umask_says(tmp_path):
    for umask, mode in ((0o002, 0o664), (0o022, 0o644)):
        folder = tmp_path / str(umask)
        before = os.umask(umask)
        try:
            os.close(lock_working_folder(folder))
        finally:
            os.umask(before)
        assert (folder / "run.lock").stat().st_mode & 0o777 == mode


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


def hold_machine(lock, kind):
    """Hold the lock of the machine as another process does: a file opened anew is another holder."""
    held = os.open(lock, os.O_RDONLY | os.O_CREAT)
    fcntl.flock(held, kind)
    return held


@pytest.mark.parametrize(
    ("others", "alone", "waits"),
    [
        (fcntl.LOCK_EX, True, True),
        (fcntl.LOCK_EX, False, True),
        (fcntl.LOCK_SH, True, True),
        (fcntl.LOCK_SH, False, False),
    ],
)
def test_a_timing_runs_beside_no_other_job_of_the_machine(monkeypatch, tmp_path, others, alone, waits):
    monkeypatch.setattr(processes, "MACHINE_LOCK", tmp_path / "lock")
    held, said = hold_machine(tmp_path / "lock", others), []

    def let_go(words):
        said.append(words)
        os.close(held)

    with on_this_machine(alone, 60, let_go) as granted:
        assert granted
        assert said == ["waits until other measurements on this machine end"] * waits
        with pytest.raises(BlockingIOError):
            hold_machine(tmp_path / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not waits:
        os.close(held)
    os.close(hold_machine(tmp_path / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB))


def test_a_timing_that_waits_is_not_overtaken_by_jobs_that_come_later(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "MACHINE_LOCK", tmp_path / "lock")
    first, order, waiting = hold_machine(tmp_path / "lock", fcntl.LOCK_SH), [], [threading.Event(), threading.Event()]

    def job(name, alone, told):
        with on_this_machine(alone, 60, lambda _: told.set()):
            order.append(name)

    jobs = [
        threading.Thread(target=job, args=given)
        for given in (("timing", True, waiting[0]), ("later", False, waiting[1]))
    ]
    for thread, told in zip(jobs, waiting, strict=True):
        thread.start()
        assert told.wait(60)
    os.close(first)
    for thread in jobs:
        thread.join()
    assert order == ["timing", "later"]


def test_where_others_do_not_end_or_there_is_no_lock_it_is_said_and_not_claimed(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "MACHINE_LOCK", tmp_path / "lock")
    hold_machine(tmp_path / "lock", fcntl.LOCK_SH)
    said = []
    with on_this_machine(True, 0, said.append) as granted:
        assert not granted
    assert said == ["goes on, although other measurements on this machine have not ended"]
    monkeypatch.setattr(processes, "MACHINE_LOCK", tmp_path / "not there" / "lock")
    with on_this_machine(True, 60, said.append) as granted:
        assert not granted
    assert said[1].startswith("cannot tell what else runs on this machine: ")
