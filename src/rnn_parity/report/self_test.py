"""The rates of the self-test for the terminal."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.table import Table

from rnn_parity.findings.rates import SMALLEST_SHARE_CAUGHT, detection, false_alarms, totals, unmet_targets


def show(findings: pd.DataFrame, console: Console) -> bool:
    """Print both tables and the unmet targets; return whether all are met. A table of nothing meets none."""
    if findings.empty:
        console.print("Nothing was tried.", style="bold")
        return False
    alarms, caught = false_alarms(findings), detection(findings)
    console.print(_alarm_table(alarms), _detection_table(caught))
    if hidden := int(caught["hidden"].sum()):
        largest = caught["largest_hidden_u"].max()
        console.print(f"Below the limit, so not caught: {hidden} faults, the largest of {largest:.0f} roundoffs.")
    unmet = unmet_targets(caught, alarms)
    for line in unmet:
        console.print(f"does not hold: {line}", style="bold")
    if not unmet:
        console.print(
            f"All held: no fault above its limit was missed, {100 * SMALLEST_SHARE_CAUGHT:.0f} % of all or more were "
            "caught, and at most 1 comparison with a right layer in 1,000 was a false alarm."
        )
    return not unmet


def _alarm_table(alarms: pd.DataFrame) -> Table:
    table = Table("", *alarms["dtype"], title="Right layers: comparisons called different", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    lines = {
        "cases": lambda row: f"{row.cases:,}",
        "comparisons": lambda row: f"{row.comparisons:,}",
        "false alarms": lambda row: f"{row.alarms:,}",
        "cases with one": lambda row: f"{row.cases_alarmed:,}",
        "of all cases at most (95 %)": lambda row: f"{row.cases_ci_high:.1%}".replace("%", " %"),
        "largest error / limit": lambda row: f"{row.largest_ratio:.2f}",
        "not judged": lambda row: f"{row.not_judged:,}",
        "false alarms of torch.allclose": lambda row: f"{row.allclose:,}",
        "false alarms of assert_close": lambda row: f"{row.assert_close:,}",
    }
    for name, words in lines.items():
        table.add_row(name, *(words(row) for row in alarms.itertuples()))
    return table


def _detection_table(caught: pd.DataFrame) -> Table:
    dtypes = list(dict.fromkeys(caught["dtype"]))
    title = "Planted faults: caught, of the cases where they change anything that is judged"
    table = Table("fault", *dtypes, title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for _, of_kind in caught.groupby("kind", sort=False):
        for fault, rows in of_kind.groupby("fault", sort=False):
            words = {row.dtype: f"{row.caught} of {row.exercised - row.not_judged}" for row in rows.itertuples()}
            table.add_row(fault, *(words.get(dtype, "–") for dtype in dtypes))
        table.add_section()
    rows = list(totals(caught).itertuples())
    table.add_row("all: judged", *(f"{row.judged:,}" for row in rows))
    table.add_row("all: caught", *(f"{row.caught:,}" for row in rows))
    table.add_row("all: caught at least (95 %)", *(f"{row.share_ci_low:.1%}".replace("%", " %") for row in rows))
    table.add_row("torch.allclose lets pass", *(f"{row.allclose_passes:,}" for row in rows))
    table.add_row("assert_close lets pass", *(f"{row.assert_close_passes:,}" for row in rows))
    return table
