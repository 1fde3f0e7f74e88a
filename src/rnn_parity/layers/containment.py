"""Work in a process of its own: whatever ends that process, or never returns, costs the item at hand and no other.

The process is forked from one that has imported all it needs and computed nothing, so that it costs milliseconds.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import pickle
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from threading import Event
from typing import Any, NoReturn, TypeVar

import torch

from rnn_parity.experiment.errors import InputError, in_one_line, signal_words
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.running import DeviceLost, classify_exception, is_out_of_memory

Item = TypeVar("Item")
Start = Callable[[Callable[[], Iterable[Any]]], Iterable[Any]]
"""Starts some work, and gives what it yields, and at last `Ended` where it ended too early."""

_PR_SET_PDEATHSIG = 1
_LONGEST_TRIAL_S = 5.0
_CANNOT_FORK = Event()
"""Set once a trial has failed: a process that has used threads or a GPU cannot undo that."""
_PIPE_BYTES = 1 << 20
_SENT = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU}
"""The signals that somebody else sends; every other one is a crash."""


@dataclass(frozen=True)
class Ended:
    """In place of a result: how the process ended that should have given it."""

    verdict: Verdict
    reason: str


class Stream:
    """What `work` yields in a process of its own, which starts at once; at last `Ended`, where it ended too early.

    Something that takes more than `limit_s` seconds is ended. Iterating raises what `work` raises: an `Exception` is a
    fault of the program or `InputError`; `SystemExit` and its like are how a layer ends its process.
    """

    def __init__(self, work: Callable[[], Iterable[Any]], limit_s: float) -> None:
        self._limit_s = limit_s
        self._receiver, self._child = _start(work)

    def __iter__(self) -> Iterator[Any]:
        """Yield what comes, and end the process where nobody wants more."""
        try:
            while True:
                result = _receive(self._receiver, self._child, self._limit_s)
                if isinstance(result, Exception):
                    raise result
                if isinstance(result, _Done):
                    return
                yield result
                if isinstance(result, Ended):
                    return
        finally:
            self.close()

    def close(self) -> None:
        """End the process, if it has not ended."""
        if not self._receiver.closed:
            self._receiver.close()
            _kill(self._child)


def contained(work: Callable[[Item], Any], items: Sequence[Item], limit_s: float) -> Iterator[Any]:
    """Yield what `work` makes of each item, or `Ended`; the next item then gets a new process. See `Stream`."""
    return served(partial(map, work), items, lambda rest: Stream(rest, limit_s))


def served(serve: Callable[[Sequence[Item]], Iterable[Any]], items: Sequence[Item], start: Start) -> Iterator[Any]:
    """Start a process that serves items, and yield what it gives for each, or `Ended`; then a new one serves the rest.

    Args:
        serve: yields one result for each item that it is given, in order. start: starts such work, as `Stream` does.
    """
    return _served(serve, items, start, start(lambda: serve(items)))


def _served(serve, items, start, stream) -> Iterator[Any]:
    done = 0
    while True:
        for result in stream:
            if done < len(items):  # a process may end behind its last item too
                done += 1
                yield result
        if done == len(items):
            return
        stream = start(partial(serve, items[done:]))


def can_contain() -> bool:
    """Whether a process forked from this one can compute: not where this one has used a GPU, or several threads.

    Locks and threads of a process are not those of its copy, in which a parallel loop then waits for ever.
    """

    def compute() -> Iterator[bool]:
        torch.set_num_threads(2)
        torch.zeros(1_000_000).sigmoid()
        with suppress(RuntimeError):  # PyTorch itself refuses: its backward pass has threads for GPUs
            torch.ones(1, requires_grad=True).sum().backward()
            yield True

    if not _CANNOT_FORK.is_set() and (torch.cuda.is_initialized() or list(Stream(compute, _LONGEST_TRIAL_S)) != [True]):
        _CANNOT_FORK.set()
    return not _CANNOT_FORK.is_set()


@dataclass(frozen=True)
class _Done:
    """Sent when nothing more comes."""


def _start(work: Callable[[], Iterable[Any]]) -> tuple[Connection, int]:
    receiver, sender = Pipe(duplex=False)
    with suppress(OSError):  # there are limits for a user; then the process waits until it is read
        fcntl.fcntl(sender, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # A thread that only waits for the end of the run holds no lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _serve(work, sender)
    sender.close()
    return receiver, child


def _serve(work: Callable[[], Iterable[Any]], sender: Connection) -> NoReturn:
    """Send the results; never return into the code that the parent is in."""
    try:
        os.setpgid(0, 0)  # what a layer has started is ended with it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for result in _attempt(work):
            sender.send_bytes(pickle.dumps(result))  # whole: `send` would leave tensors in files of this process
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # not a layer's any more
        traceback.print_exc()
        os._exit(3)
    os._exit(0)


def _attempt(work: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    try:
        yield from work()
        yield _Done()
    except DeviceLost as error:
        yield Ended(Verdict.NOT_JUDGED, str(error))
    except InputError as error:
        yield error
    except Exception as error:
        if is_out_of_memory(error):  # a case can be too large for us, before any layer has it
            yield Ended(*classify_exception(error))
            return
        traceback.print_exc()
        try:
            yield pickle.loads(pickle.dumps(error))
        except Exception:
            yield RuntimeError(f"{type(error).__name__}: {error}")
    except BaseException as error:
        yield Ended(Verdict.FAILED, f"it ends its process: {in_one_line(error)}")


def _receive(receiver: Connection, child: int, limit_s: float) -> Any:
    """What the process sends next, or how it ended."""
    watched, until = os.pidfd_open(child), time.monotonic() + limit_s
    try:
        if receiver in wait([receiver, watched], limit_s) or receiver.poll():
            with suppress(EOFError, OSError):  # it ended before, or while, it sent
                return pickle.loads(receiver.recv_bytes())
        if not wait([watched], max(0.0, until - time.monotonic())):
            return Ended(Verdict.NOT_JUDGED, f"time limit: it took more than {limit_s:g} s")
    finally:
        os.close(watched)
    end = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert end is not None  # it has ended
    if end.si_code == os.CLD_EXITED:
        return Ended(Verdict.FAILED, f"it ends its process: exit code {end.si_status}")
    words = signal_words(end.si_status)
    if end.si_status in _SENT:
        return Ended(Verdict.NOT_JUDGED, f"its process was killed by {words}")
    return Ended(Verdict.FAILED, f"it crashes its process: {words}")


def _kill(child: int) -> None:
    """End the process with all that it has started, and let the system forget it."""
    for end in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            end(child, signal.SIGKILL)
    os.waitpid(child, 0)
