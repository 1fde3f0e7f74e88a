"""The command `rnn-parity check`: check one candidate, and print the report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from rnn_parity.api import check
from rnn_parity.report.terminal import print_report


def run_check(candidate: str, baseline: str, **options: Any) -> int:
    """Check and print, with the current folder importable. The exit code is 0 if the candidate may replace, else 1.

    `options` are those of `rnn_parity.check`, and so is the `InputError` that is raised for one that cannot be used.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # Drawn only when told: a thread that animates it would be timed too. Bound to the stream: probes divert the other.
    with Live(console=Console(file=sys.stderr), auto_refresh=False, transient=True) as line:
        report = check(
            baseline, candidate, progress=lambda step: line.update(Text(f"{step} …"), refresh=True), **options
        )
    print_report(report, Console())
    return 0 if report.equivalent else 1
