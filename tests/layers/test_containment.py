"""Work in a process of its own: what it yields arrives, however the process ends, and nothing of it is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest
import torch

from rnn_parity.layers import containment
from rnn_parity.layers.containment import Ended, Stream, can_contain


def test_what_came_before_the_end_is_there_and_the_end_is_last():
    def work():
        yield 1
        yield 2
        os.kill(os.getpid(), signal.SIGSEGV)
        yield 3

    assert list(Stream(work, 10)) == [1, 2, Ended("failed", "it crashes its process: SIGSEGV")]


def test_a_signal_without_a_name_is_a_crash_too():
    assert list(Stream(lambda: [os.kill(os.getpid(), 40)], 10)) == [
        Ended("failed", "it crashes its process: signal 40")
    ]


@pytest.mark.parametrize("size", [1 << 40, 1 << 61])
def test_what_there_is_no_memory_for_is_not_judged(size):
    (ended,) = Stream(lambda: [torch.zeros(size, dtype=torch.float64)], 10)
    assert ended.verdict == "not judged"
    assert ended.reason.startswith("out of memory: ")


def test_tensors_are_whole_when_their_process_is_gone():
    def work():
        yield {"output": torch.arange(200_000.0)}

    (found,) = list(Stream(work, 10))
    assert torch.equal(found["output"], torch.arange(200_000.0))


def test_a_process_starts_at_once_and_goes_on_though_nobody_reads_yet():
    receiver, sender = os.pipe()

    def work():
        yield bytes(200_000)
        os.write(sender, b"on")

    stream = Stream(work, 10)
    assert os.read(receiver, 2) == b"on"
    stream.close()


def test_what_nobody_wants_any_more_is_ended_with_all_that_it_started():
    def work():
        child = subprocess.Popen(["sleep", "60"])
        yield os.getpid(), child.pid
        signal.pause()

    stream = iter(Stream(work, 10))
    process, _ = next(stream)
    stream.close()
    assert not Path(f"/proc/{process}").exists()


def test_a_program_that_computed_with_several_threads_cannot_be_copied_and_is_not():
    code = """
import torch
from rnn_parity.layers import containment
containment._LONGEST_TRIAL_S = 2.0
print(containment.can_contain())
torch.set_num_threads(2)
torch.zeros(1_000_000).sigmoid()
print(containment.can_contain())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\nFalse\n"


@pytest.mark.parametrize("lacks", ["a GPU", "threads of autograd"])
def test_nor_one_that_has_used_a_gpu_or_has_threads_for_one(monkeypatch, lacks):
    def refuse(*_):
        raise RuntimeError("Unable to handle autograd's threading in combination with fork-based multiprocessing")

    if lacks == "a GPU":
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    else:
        monkeypatch.setattr(torch.Tensor, "backward", refuse)
    monkeypatch.setattr(containment, "_LONGEST_TRIAL_S", 60.0)
    monkeypatch.setattr(containment, "_CANNOT_FORK", Event())
    assert not can_contain()
    monkeypatch.setattr(containment, "Stream", None)
    assert not can_contain()  # without another trial
