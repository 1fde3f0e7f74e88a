"""The error that is the user's to mend: one line that names the key or file, what it holds and what was expected."""

from __future__ import annotations

import difflib
import json
import re
import signal
from collections.abc import Iterable
from typing import Any

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What a terminal shows as colours."""

DISK_FULL = "the disk is full; free some space and run the same command again"


class InputError(ValueError):
    """Bad input. Its message is shown as it is, without a traceback; the exit code is 2."""


def in_one_line(error: BaseException) -> str:
    """`KeyError: 'x'`: its type and all that it says, which may be nothing, without colours and other controls."""
    text = " ".join(COLOURS.sub("", f"{type(error).__name__}: {error}").split()).removesuffix(":")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def signal_words(number: int) -> str:
    """A signal by its name; a real-time one has none. Of SIGKILL also who sends it."""
    name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
    return name + (" (by the system where memory runs out, or by hand)" if number == signal.SIGKILL else "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that is closest, as the end of a message; empty where none is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def in_short(value: Any) -> str:
    """A value as JSON, cut after 60 letters."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
