"""Import time of what every measuring process imports, over that of torch alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.result import Result, run
from rnn_parity.statistics import median_ratio

_MEASURING = "import rnn_parity.commands.cli, rnn_parity.experiment.grid, rnn_parity.tables, rnn_parity.{}"
_ROUNDS = 11


def measure() -> Iterator[Result]:
    """Start both in turn, in fresh processes."""
    for module in ("timing.rounds", "compare.case"):
        seconds = {"torch": [], "ours": []}
        for _ in range(_ROUNDS):
            seconds["torch"].append(run([sys.executable, "-c", "import torch"]).cpu_s)
            seconds["ours"].append(run([sys.executable, "-c", _MEASURING.format(module)]).cpu_s)
        ratio = median_ratio(seconds["ours"], seconds["torch"], 0.95)
        note = f"95 % interval {ratio.low:.3f} to {ratio.high:.3f}, CPU seconds, {_ROUNDS} pairs"
        yield Result(f"`rnn-parity {module}`, import over `import torch`", ratio.estimate, "×", at_most=1.15, note=note)
