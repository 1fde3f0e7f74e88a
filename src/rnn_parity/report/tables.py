"""The tables beside the report: every one as CSV, verdicts and speedups for a paper and for a pull request too."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import csv

from rnn_parity.findings import figure_tables, rates
from rnn_parity.findings.cases import case_names, case_table
from rnn_parity.findings.speedups import speedup_table
from rnn_parity.findings.verdicts import verdict_table
from rnn_parity.report.markdown import escape
from rnn_parity.tables import atomic_path, write_text

MOST_PRINTED_ROWS = 400
"""A printed table of more rows is cut: nobody prints more. CSV files hold everything."""

_ONE_PAGE = 45  # rows; a longer table breaks over pages
_VERDICTS = {
    "sweep": "sweep",
    "implementation": "candidate",
    "regime": "regime",
    "verdict": "verdict",
    "cases": "cases",
    "cases_passing": "passing",
    "worst_ratio": "error / limit",
    "worst_quantity": "worst quantity",
}
_SPEEDUPS = {
    "sweep": "sweep",
    "case": "case",
    "implementation": "candidate",
    "phase": "phase",
    "median_s": "median / s",
    "speedup": "speedup",
    "speedup_ci_low": "low",
    "speedup_ci_high": "high",
    "conclusion": "conclusion",
}


def write_tables(results: Mapping[str, pd.DataFrame], environment: Mapping, folder: Path) -> None:
    """Write every table as `folder/{name}.csv`; `verdicts` and `speedup` as `.tex` and `.md` too."""
    equivalence, timing = results["equivalence"], results["timing"]
    verdicts, speedups = verdict_table(equivalence), speedup_table(timing)
    tables = {
        **results,
        "false_alarms": rates.kept_rates(tuple(equivalence["cell"].unique())).false_alarms,
        "verdicts": verdicts,
        "speedup": speedups,
        "cases": case_table(equivalence, timing),
        **figure_tables.tables(results, environment),
    }
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.csv") as path:  # pandas' own writer takes minutes for large grids
            csv.write_csv(pa.Table.from_pandas(table, preserve_index=False), path)
    named = speedups.assign(case=speedups["case_id"].map(case_names(timing)))
    for name, table in {
        "verdicts": verdicts[list(_VERDICTS)].rename(columns=_VERDICTS),
        "speedup": named[list(_SPEEDUPS)].rename(columns=_SPEEDUPS),
    }.items():
        write_text(folder / f"{name}.tex", latex(table))
        write_text(folder / f"{name}.md", markdown(table))


def latex(table: pd.DataFrame) -> str:
    r"""A table for `\input`: needs booktabs and siunitx, and longtable where it is longer than a page."""
    shown = table.iloc[:MOST_PRINTED_ROWS].reset_index(drop=True)
    numeric = shown.select_dtypes("number").columns
    style = shown.style.hide(axis="index").format_index(escape="latex", axis=1)
    style = style.format(escape="latex", subset=shown.columns.difference(numeric)).format(_number, subset=numeric)
    style = style.format("{:d}", subset=shown.select_dtypes("integer").columns)
    long = len(shown) > _ONE_PAGE
    text = style.to_latex(hrules=True, siunitx=True, environment="longtable" if long else None)
    cut = f"% the first {len(shown)} of {len(table)} rows\n" if len(table) > len(shown) else ""
    return f"% needs \\usepackage{{booktabs,siunitx{',longtable' if long else ''}}}\n{cut}{text}"


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, its text escaped."""
    shown = table.iloc[:MOST_PRINTED_ROWS]
    shown = shown.assign(**{name: words.map(escape) for name, words in shown.select_dtypes(exclude="number").items()})
    shown = shown.astype(object).where(shown.notna(), None)  # what is missing is NaN in columns of numbers
    cut = f"\nThe first {len(shown)} of {len(table)} rows.\n" if len(table) > len(shown) else ""
    return shown.to_markdown(index=False, floatfmt=".3g", missingval="–") + "\n" + cut


def _number(value: float) -> str:
    """A number as siunitx reads it; in braces what is none."""
    if not math.isfinite(value):
        return "{--}" if math.isnan(value) else r"{$\infty$}"
    return re.sub(r"e\+?(-?)0*", r"e\1", f"{value:.3g}")
