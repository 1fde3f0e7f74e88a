"""How a job ended that left no result, read from its log, and on a cluster from what Slurm says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rnn_parity.experiment.errors import signal_words

_TAIL_LINES, _TAIL_LETTERS = 40, 4000
_ENDED_BY_SLURM = re.compile(r"SLURM status is: '(\w+)'.*?\n *log: ([^,\s]+)(?:, (\S+))?", re.DOTALL)
_SAID_BY_SLURM = re.compile(r"^slurmstepd[^:]*: error: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Failure:
    """The end of a job that left no result: `status` is FAILED or KILLED; `log` has the last lines of its log."""

    rule: str
    status: str
    reason: str
    log: str


@dataclass(frozen=True)
class SlurmEnd:
    """The state that Slurm gives a job which did not complete, and the log that Slurm keeps of it."""

    state: str
    log: Path


def ended_by_slurm(run_log: Path) -> dict[str, SlurmEnd]:
    """How jobs ended in Slurm, by the log of the workflow's own job; read from Snakemake's log of its run."""
    found = _ENDED_BY_SLURM.findall(_text(run_log))
    return {log: SlurmEnd(state, Path(slurm_log)) for state, log, slurm_log in found}


def read_failure(rule: str, log: Path, slurm: SlurmEnd | None = None) -> Failure:
    """Read the end of a job's log; its last line is the exit code, unless all processes of the job were killed.

    A job that Slurm ended is told by Slurm's word, and one that never began by the log that Slurm keeps of it.
    """
    lines = _text(log).splitlines()
    code = re.fullmatch(r"exit code (\d+)", lines[-1]) if lines else None
    written = [line for line in (lines[:-1] if code else lines) if line.strip()]
    if slurm:
        of_slurm = _text(slurm.log)
        written = written or of_slurm.splitlines()
        said = _SAID_BY_SLURM.search(of_slurm)
        if said or slurm.state != "FAILED":
            reason = f"{rule} was killed by Slurm: {slurm.state}{f' ({said[1]})' if said else ''}"
            return Failure(rule, "KILLED", reason, _tail(written))
    if code is None:
        reason = f"{rule} left no exit code: it was probably killed (SIGKILL or out of memory)"
        return Failure(rule, "KILLED", reason, _tail(written))
    number = int(code[1])
    if number > 128:
        return Failure(rule, "KILLED", f"{rule} was killed by {signal_words(number - 128)}", _tail(written))
    last = written[-1] if written else "its log is empty"
    return Failure(rule, "FAILED", f"{rule} ended with exit code {number}: {last}", _tail(written))


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""


def _tail(lines: list[str]) -> str:
    return "\n".join(lines[-_TAIL_LINES:])[-_TAIL_LETTERS:]
