"""Two folders of results read, held against each other, and written down."""

from __future__ import annotations

import json
from pathlib import Path

from rnn_parity.experiment.errors import InputError
from rnn_parity.findings.compare import Run, RunComparison
from rnn_parity.report.markdown import render_markdown
from rnn_parity.tables import COLLECTED, atomic_path, read_table, write_text

MOST_ROWS = 12
"""Rows of each list in the Markdown: it is pasted into a pull request."""


def read_run(folder: Path, name: str) -> Run:
    """A folder of results as `snakemake` leaves it; the environment and the config may be missing."""
    tables = {
        part: read_table(folder / f"{part}.parquet", COLLECTED[part]).to_pandas() for part in ("equivalence", "timing")
    }
    facts = {}
    for part in ("environment", "config"):
        path = folder / f"{part}.json"
        try:
            facts[part] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        except ValueError as error:
            raise InputError(f"{path}: cannot be read as JSON ({error})") from error
    return Run(name, **tables, **facts)


def comparison_markdown(comparison: RunComparison) -> str:
    """The comparison, short enough for a pull request."""
    facts = {name: getattr(comparison, name) for name in ("a", "b", "apart", "machines", "cases", "only_a", "only_b")}
    phases = comparison.speedups.groupby("phase", sort=False)
    return render_markdown(
        "compare.md.j2",
        facts
        | {
            "most": MOST_ROWS,
            "flipped": comparison.flipped.to_dict("records"),
            "new_faults": len(comparison.new_faults),
            "compared": len(comparison.verdicts),
            "parted": comparison.parted.to_dict("records"),
            "timed": len(comparison.speedups),
            "times_faster": {phase: rows["times_faster"].median() for phase, rows in phases},
        },
    )


def write_comparison(comparison: RunComparison, folder: Path) -> None:
    """Write `compare.md`, the two tables as CSV and the two figures."""
    from rnn_parity.report.figures.comparison import draw_comparison

    for name, table in {"verdicts": comparison.verdicts, "speedups": comparison.speedups}.items():
        with atomic_path(folder / f"compare_{name}.csv") as path:
            table.to_csv(path, index=False)
    draw_comparison(comparison, folder)
    write_text(folder / "compare.md", comparison_markdown(comparison))
