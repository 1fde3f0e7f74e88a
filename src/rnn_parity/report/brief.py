"""What does not hold, in a few lines of Markdown: for a terminal, a log of CI, a pull request."""

from __future__ import annotations

import pandas as pd

from rnn_parity.findings import verdicts as summary
from rnn_parity.findings.cases import case_names
from rnn_parity.report.markdown import render_markdown

MOST_ROWS = 12


def faults_markdown(equivalence: pd.DataFrame) -> str:
    """The cases that had to hold and do not, one row per sweep × candidate × regime; empty where all do."""
    faults = summary.unmet(equivalence)
    if faults.empty:
        return ""
    names = case_names(equivalence)
    counts = faults.groupby(["sweep", "candidate", "regime"], sort=False)["case_id"].nunique()
    rows = summary.verdict_table(summary.expected(equivalence)).to_dict("records")
    rows = [row | {"broken": int(counts.get((row["sweep"], row["candidate"], row["regime"]), 0))} for row in rows]
    rows = [row | {"case": names[row["worst_case_id"]]} for row in rows if row["broken"]]
    worst = summary.worst_row(faults.reset_index(drop=True)).to_dict()
    facts = {"rows": rows, "most": MOST_ROWS, "worst": worst, "cases": faults["case_id"].nunique()}
    return render_markdown("gate.md.j2", facts | {"of": equivalence["case_id"].nunique()})
