"""A report of `rnn_parity.check` on a terminal, readable without its colours."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD
from rnn_parity.report.check import Report, describe_case, describe_speedup, format_error_over_limit

_COLOURS = {
    "identical": "green", "equivalent": "green", "works": "green", "yes": "green", "yes, when": "green",
    "different": "red", "failed": "red", "wrong": "red", "no": "red",
    "unsupported": "yellow", "not judged": "yellow", "refuses": "yellow", "open": "yellow",
}  # fmt: skip


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
    console.print(Text(report.conclusion(), style=f"bold {_COLOURS[report.answer.word]}"))


def _print_regimes(report: Report, console: Console) -> None:
    table, notes = _table("regime", "verdict", "decided by", "error / limit"), []
    for name, row, failing in report.regimes():
        table.add_row(Text(name), _coloured(row["verdict"]), row["quantity"], format_error_over_limit(row))
        freed = "" if row["regime"] in EXPECTED_TO_HOLD else " need not hold"
        ending = f"; at fault: {failing}" if failing else ""
        if row["reason"]:
            notes.append(f"{name}{freed}: {row['reason']}{ending}")
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
        baseline_s = medians[row["phase"], report.baseline]
        # The speedup is of paired rounds: the candidate's time is the one that agrees with it.
        times = [_milliseconds(baseline_s), _milliseconds(baseline_s / row["speedup"])]
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
