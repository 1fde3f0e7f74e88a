"""A report of `rnn_parity.check` on a terminal, part by part as it becomes known, readable without its colours."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from rnn_parity.report.check import Report

_COLOURS = {
    "green": "identical|equivalent|faster|yes",
    "red": "different|failed|slower|no|lost",
    "yellow": "unsupported|not judged|not shown|within noise|disturbed",
}


class Screen:
    """Prints what is new of a growing report: the verdict, then its grounds, its cause, times and capabilities."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._cause = self._bundle = ""
        self._answer: tuple[str, tuple[str, ...]] | None = None
        self._lines = 0

    def show(self, report: Report) -> None:
        """Print what was not known the last time; the answer again where timing, or a capability, has changed it."""
        answer = report.answer.word, report.answer.conditions
        if answer != self._answer:
            if self._answer:
                self._print("after timing:" if report.capabilities is None else "after its capabilities were probed:")
            self._print(report.conclusion(), "bold")
            if not self._answer:
                self._print("\n".join(report.grounds()))
        elif report.cause != self._cause:
            self._print(f"  cause: {report.cause}")
        measured = [*report.describe_timing(), *report.describe_capabilities()]
        if new := measured[self._lines :]:
            self._print("\n".join(new))
        self._lines = len(measured)
        if report.bundle and not self._bundle:
            self._print(f"  to run it again elsewhere: rnn-parity replay {report.bundle}")
        self._answer, self._cause, self._bundle = answer, report.cause, report.bundle

    def _print(self, words: str, style: str = "") -> None:
        text = Text(words, style)
        for colour, verdicts in _COLOURS.items():
            text.highlight_regex(rf"(?m)(?:(?<=[:,] )|^ *)({verdicts})(?=$|,|:)", colour)
        self._console.print(text, soft_wrap=not self._console.is_terminal)  # whole lines for `grep`
