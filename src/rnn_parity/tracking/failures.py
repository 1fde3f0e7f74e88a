"""How a job ended that left no result, read from its log."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

_TAIL_LINES, _TAIL_LETTERS = 40, 4000


@dataclass(frozen=True)
class Failure:
    """The end of a job that left no result: `status` is FAILED or KILLED; `log` has the last lines of its log."""

    rule: str
    status: str
    reason: str
    log: str


def read_failure(rule: str, log: Path) -> Failure:
    """Read the end of a job's log; its last line is the exit code, unless all processes of the job were killed."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    code = re.fullmatch(r"exit code (\d+)", lines[-1]) if lines else None
    written = [line for line in (lines[:-1] if code else lines) if line.strip()]
    tail = "\n".join(written[-_TAIL_LINES:])[-_TAIL_LETTERS:]
    if code is None:
        reason = f"{rule} left no exit code: it was probably killed (SIGKILL or out of memory)"
        return Failure(rule, "KILLED", reason, tail)
    number = int(code[1])
    if number > 128:
        name = signal.Signals(number - 128).name if number - 128 in list(signal.Signals) else f"signal {number - 128}"
        cause = " (by the system where memory runs out, or by hand)" if name == "SIGKILL" else ""
        return Failure(rule, "KILLED", f"{rule} was killed by {name}{cause}", tail)
    last = written[-1] if written else "its log is empty"
    return Failure(rule, "FAILED", f"{rule} ended with exit code {number}: {last}", tail)
