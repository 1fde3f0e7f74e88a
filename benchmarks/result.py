"""One measured number with its target, and commands run with their time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
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


# A process of its own, small, between the benchmark and the command: the most memory that Linux reports of a command is
# never less than what the process that started it held, and a benchmark holds a lot.
_SPEND = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
wall_s = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024], file)
sys.stdout.buffer.write(done.stdout)
sys.exit(done.returncode)
"""


def run(command: Sequence[str | Path], folder: Path = PROJECT, **environment: str) -> Spent:
    """Run a command with this project's sources; `CalledProcessError` with its words where it fails."""
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    inherited |= {"PYTHONPATH": str(folder / "src")} | environment
    with tempfile.NamedTemporaryFile("r") as spent:
        started = [sys.executable, "-S", "-c", _SPEND, spent.name, *map(str, command)]
        done = subprocess.run(
            started, cwd=folder, env=inherited, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            print(done.stdout, file=sys.stderr)
            done.check_returncode()
        return Spent(*json.load(spent))


def rnn_parity(*arguments: str | Path, folder: Path = PROJECT) -> Spent:
    """Run one of the project's commands."""
    return run([sys.executable, "-m", "rnn_parity", *arguments], folder)
