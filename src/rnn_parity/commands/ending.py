"""How a command ends: with a code that says whose fault it was, and with words that any terminal can show."""

from __future__ import annotations

import codecs
import errno
import gc
import os
import signal
import sys
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from rnn_parity.commands.processes import exit_with_workflow, require_own_sources
from rnn_parity.experiment.errors import DISK_FULL, InputError, in_one_line

ADVICE = "this is a bug, not a verdict: please report it with the lines above"


def end_with_code(command: Callable[[], Any]) -> None:
    """Run a command, and end the process with 0, 1, 2, 3, 130 or 141: `cli.main` explains these codes."""
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115 a closed one: nobody wants to be told
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="in_ascii")  # type: ignore[union-attr]  # a terminal may know no × and no ≤
    exit_with_workflow()
    try:
        require_own_sources()
        if sys.stdout is None:
            raise InputError("stdout: is closed, expected an open stream, such as /dev/null")
        command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            sys.exit(128 + signal.SIGPIPE)
        if _raised_in(ended) not in ("typer", "click"):
            report_fault(ended)
        _flush()
        raise
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BaseException as error:  # a lost device too, which is no Exception
        report_fault(error)
    finally:
        gc.freeze()  # skip the final garbage collection: with torch imported it takes a third of a short command


@contextmanager
def ending_in_3() -> Iterator[None]:
    """End with 3 if the code within, such as that of the Snakefile, raises an error."""
    try:
        yield
    except Exception as error:
        report_fault(error)


def _in_ascii(error: Any) -> tuple[str, int]:
    """Replace the characters that an encoding lacks by ASCII, which every encoding has."""
    letters = error.object[error.start : error.end].translate(_ASCII)
    return unicodedata.normalize("NFKD", letters).encode("ascii", "replace").decode(), error.end


_ASCII = str.maketrans({"×": "x", "−": "-", "–": "-", "…": "...", "≤": "<=", "≥": ">=", "·": "*", "—": "-", "→": "->"})
codecs.register_error("in_ascii", _in_ascii)


def _flush() -> None:
    """Write what is left of the output, while a closed pipe or a full disk can still be reported."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            _drop_output()
            sys.exit(128 + signal.SIGPIPE)
        report_fault(error)


def _drop_output() -> None:
    """Discard the rest of the output. Otherwise Python tries to write it at its end, and exits with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _raised_in(error: BaseException) -> str:
    """The package whose code raised it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].f_globals.get("__name__", "").partition(".")[0]


def report_fault(error: BaseException) -> NoReturn:
    """End with 3, a traceback, and a last line that says what to do. If the disk is full, end with 2 in one line."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _drop_output()
        print(f"error: {DISK_FULL}", file=sys.stderr)
        sys.exit(2)
    traceback.print_exception(error)
    said = in_one_line(error)
    print(f"fault: {said}; {ADVICE}", file=sys.stderr)
    sys.exit(3)
