"""A report of `rnn_parity.check` on a terminal, readable without its colours."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from rnn_parity.report.check import Report

_COLOURS = {
    "green": "identical|equivalent|faster|yes",
    "red": "different|failed|slower|no",
    "yellow": "unsupported|not judged|not shown|within noise|disturbed",
}


def print_report(report: Report, console: Console) -> None:
    """Print what the report explains, with its verdicts in colour, the conclusion last."""
    conclusion, _, grounds = report.explain().partition("\n")
    text = Text(f"{grounds}\n\n{conclusion}")
    text.stylize("bold", len(grounds))
    for colour, words in _COLOURS.items():
        text.highlight_regex(rf"(?m)(?<=[:,] )({words})(?=$|,)", colour)
    console.print(text)
