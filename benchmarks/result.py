"""One measured number with its target, and commands run with their time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Result:
    """What was measured. `at_most` or `at_least` is the target, where there is one."""

    what: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def target(self) -> str:
        """The target in words."""
        bounds = {"≤": self.at_most, "≥": self.at_least}
        return ", ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if not self.target:
            return None
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )


@dataclass(frozen=True)
class Spent:
    """What a command took: wall and CPU seconds, and the most memory that it or a child of it held."""

    wall_s: float
    cpu_s: float
    memory_bytes: int


def run(command: Sequence[str | Path], folder: Path = PROJECT, **environment: str) -> Spent:
    """Run a command with this project's sources; `CalledProcessError` with its words where it fails."""
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    inherited |= {"PYTHONPATH": str(folder / "src")} | environment
    start = time.perf_counter()
    process = subprocess.Popen(
        list(map(str, command)), cwd=folder, env=inherited, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    words = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        print(words, file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, list(command), words)
    return Spent(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def rnn_parity(*arguments: str | Path, folder: Path = PROJECT) -> Spent:
    """Run one of the project's commands."""
    return run([sys.executable, "-m", "rnn_parity", *arguments], folder)
