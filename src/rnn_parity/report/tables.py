"""The tables beside the report: every one as CSV, verdicts and speedups for a paper and for a pull request too."""

from __future__ import annotations

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
from rnn_parity.report.wording import escape
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
        "false_alarms": rates.kept_rates().false_alarms,
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
    numeric = [name for name in shown if shown[name].dtype.kind in "if"]
    whole = [name for name in numeric if shown[name].dtype.kind == "i"]
    style = shown.style.hide(axis="index")
    style = style.format(escape="latex", subset=[name for name in shown if name not in numeric])
    style = style.format(_number, subset=[name for name in numeric if name not in whole]).format("{:d}", subset=whole)
    style = style.format_index(escape="latex", axis=1)
    text = style.to_latex(
        hrules=True,
        siunitx=True,
        column_format="".join(_column(shown[name]) for name in shown),
        environment="longtable" if len(shown) > _ONE_PAGE else None,
    )
    cut = f"% the first {len(shown)} of {len(table)} rows\n" if len(table) > len(shown) else ""
    return f"% needs \\usepackage{{booktabs,siunitx{',longtable' if len(shown) > _ONE_PAGE else ''}}}\n{cut}{text}"


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, its text escaped."""
    shown = table.iloc[:MOST_PRINTED_ROWS]
    text = [name for name in shown if shown[name].dtype.kind not in "if"]
    shown = shown.assign(**{name: shown[name].map(escape) for name in text})
    cut = f"\nThe first {len(shown)} of {len(table)} rows.\n" if len(table) > len(shown) else ""
    return shown.to_markdown(index=False, floatfmt=".3g", missingval="–") + "\n" + cut


def _number(value: float) -> str:
    if value != value:
        return "{--}"
    if value in (float("inf"), float("-inf")):
        return "{$\\infty$}"
    return (
        f"{value:.3g}"
        if 0.01 <= abs(value) < 1000 or value == 0
        else re.sub(r"e([+-])0*", lambda sign: "e-" if sign[1] == "-" else "e", f"{value:.2e}")
    )


def _column(values: pd.Series) -> str:
    """How LaTeX aligns a column: words left, numbers at the point."""
    if values.dtype.kind == "i":
        return f"S[table-format={max(1, len(str(values.max())) if len(values) else 1)}]"
    if values.dtype.kind != "f":
        return "l"
    finite = values[values.abs() < float("inf")].dropna().abs()
    plain = finite.empty or ((finite >= 0.01) & (finite < 1000) | (finite == 0)).all()
    return "S[table-format=3.3]" if plain else "S[table-format=3.3e2]"
