"""The command `rnn-parity check`: a report of `rnn_parity.check` on a terminal, readable without its colours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rnn_parity.api import Report, check, describe_case, describe_speedup, format_error_over_limit
from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD

_COLOURS = {
    "identical": "green", "equivalent": "green", "works": "green", "yes": "green",
    "different": "red", "failed": "red", "wrong": "red", "no": "red",
    "unsupported": "yellow", "not judged": "yellow", "refuses": "yellow", "open": "yellow",
}  # fmt: skip


def run_check(candidate: str, baseline: str, **options: Any) -> int:
    """Check and print, with the current folder importable; the exit code: 0 if the candidate may replace, else 1.

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


def print_report(report: Report, console: Console) -> None:
    """Print the verdict of every regime, the capabilities that differ, the speedups, and the conclusion."""
    console.print(Text(f"{report.candidate} in place of {report.baseline}", style="bold"))
    console.print(Text(describe_case(report.case)))
    _print_regimes(report, console)
    if report.capabilities is not None:
        _print_capabilities(report, console)
    if report.timing is not None:
        _print_timing(report, console)
    console.print()
    console.print(Text(report.conclusion(), style=f"bold {_COLOURS[report.answer]}"))


def _print_regimes(report: Report, console: Console) -> None:
    table, notes = _table("regime", "verdict", "decided by", "error / limit"), []
    for name, row, faults in report.regimes():
        table.add_row(Text(name), _coloured(row["verdict"]), row["quantity"], format_error_over_limit(row))
        freed = "" if row["regime"] in EXPECTED_TO_HOLD else " need not hold"
        ending = f"; at fault: {faults}" if faults else ""
        notes += [f"{name}{freed}: {row['reason']}{ending}"] * bool(row["reason"])
    _print_with_notes(console, table, notes)


def _print_capabilities(report: Report, console: Console) -> None:
    differences = report.capability_differences()
    probed = report.capabilities["capability"].nunique()
    table = _table("capability that differs", "baseline", "candidate", "lost")
    for row in differences.itertuples():
        table.add_row(Text(row.title), _coloured(row.baseline), _coloured(row.candidate), "yes" if row.lost else "")
    notes = [f"{row.title}: {row.detail}" for row in differences.itertuples() if row.lost]
    notes.append(f"Alike in {probed - len(differences)} of {probed} capabilities.")
    _print_with_notes(console, table, notes)


def _print_timing(report: Report, console: Console) -> None:
    table = _table("phase")
    for heading in ("baseline", "candidate"):
        table.add_column(heading, justify="right")
    table.add_column("speedup")
    medians = report.timing.set_index(["phase", "implementation"])["median_s"]
    for _, row in report.speedups().iterrows():
        times = [_milliseconds(medians[row["phase"], name]) for name in (report.baseline, report.candidate)]
        table.add_row(row["phase"], *times, Text(describe_speedup(row)))
    _print_with_notes(console, table, [])


def _print_with_notes(console: Console, table: Table, notes: list[str]) -> None:
    console.print()
    if table.row_count:
        console.print(table)
    for note in notes:
        console.print(Text(note))


def _table(*headings: str) -> Table:
    return Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def _coloured(word: str) -> Text:
    return Text(word, style=_COLOURS.get(word, ""))


def _milliseconds(seconds: float) -> str:
    return "–" if pd.isna(seconds) else f"{seconds * 1e3:.3g} ms"
