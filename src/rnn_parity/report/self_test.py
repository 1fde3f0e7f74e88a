"""The rates of the self-test for the terminal."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from rnn_parity.findings import life_rates
from rnn_parity.findings.rates import SMALLEST_SHARE_CAUGHT, detection, false_alarms, totals, unmet_targets

_ALARMS = {
    "cases": "cases",
    "comparisons": "comparisons",
    "alarms": "false alarms",
    "cases_alarmed": "cases with a false alarm",
    "cases_ci_high": "of all cases at most (95 %)",
    "largest_ratio": "largest error / limit",
    "not_judged": "not judged",
    "allclose": "false alarms of torch.allclose",
    "assert_close": "false alarms of assert_close",
}
_TOTALS = {
    "judged": "all: judged",
    "caught": "all: caught",
    "share_ci_low": "all: caught at least (95 %)",
    "allclose_passes": "torch.allclose lets pass",
    "assert_close_passes": "assert_close lets pass",
}


def show_rates(findings: pd.DataFrame, console: Console) -> bool:
    """Print both tables and the unmet targets; return whether all are met."""
    alarms, caught = false_alarms(findings), detection(findings)
    for title, table in {
        "Correct layers: comparisons called different": _alarm_table(alarms),
        "Planted faults: cases caught, of those in which the fault changes anything that is judged": _detection_table(
            caught
        ),
    }.items():
        numbers = [Column(dtype, justify="right") for dtype in table]
        printed = Table("", *numbers, title=title, title_justify="left")
        for row in table.itertuples():
            printed.add_row(*row)
        console.print(printed)
    if hidden := int(caught["hidden"].sum()):
        largest = caught["largest_hidden_u"].max()
        console.print(f"Not caught, because below the limit: {hidden} faults, the largest of {largest:.0f} roundoffs.")
    unmet = unmet_targets(caught, alarms)
    for line in unmet:
        console.print(f"does not hold: {line}", style="bold")
    if not unmet:
        console.print(
            f"All held: no fault above its limit was missed, {100 * SMALLEST_SHARE_CAUGHT:.0f} % of all or more were "
            "caught, and at most 1 comparison with a correct layer in 1,000 was a false alarm."
        )
    return not unmet


def show_lives(lives: pd.DataFrame, console: Console) -> bool:
    """Print what a first call and what a life sees, by kind of fault, and the unmet targets; return whether all are."""
    counts = life_rates.life_counts(lives)
    title = "Planted faults of the life, in all dtypes together: lives in which they are caught"
    numbers = [Column(name, justify="right") for name in ("lives", "by a first call", "by the life", "by its point")]
    printed = Table("", *numbers, title=title, title_justify="left")
    for row in [*life_rates.by_kind(counts).itertuples(), *life_rates.totals(counts).assign(kind="all").itertuples()]:
        printed.add_row(*map(str, (row.kind, row.lives, row.first_call, row.caught, row.named)))
    console.print(printed)
    for line in life_rates.missed(counts):
        console.print(f"not seen: {line}")
    for row in life_rates.totals(counts).itertuples():
        console.print(
            f"Correct layers: {row.alarms} false alarms in {row.right_calls:,} calls of {row.right_lives} lives, "
            f"at most {1000 * row.alarms_ci_high:.2g} in 1,000 (95 %)."
        )
    unmet = life_rates.unmet_targets(counts)
    for line in unmet:
        console.print(f"does not hold: {line}", style="bold")
    return not unmet


def show_tricks(tricks: pd.DataFrame, console: Console) -> bool:
    """Print the outcome of every trick, and those that keep their gain. Return whether none does."""
    believed = Column("speedup, naive clock", justify="right")
    table = Table("trick", believed, "outcome", title="Tricks on the timing", title_justify="left")
    for row in tricks.itertuples():
        table.add_row(row.trick, f"{row.believed:.1f}×", row.reason or f"{row.conclusion}, {row.speedup:.2f}×")
    console.print(table)
    for row in tricks[~tricks["held"].astype(bool)].itertuples():
        words = f"does not hold: {row.implementation}: {row.conclusion} {row.reason}"
        console.print(words, style="bold", emoji=False, markup=False)
    if held := bool(tricks["held"].all()):
        console.print(f"All held: each of {len(tricks)} tricks lost its gain or its verdict.")
    return held


def _alarm_table(alarms: pd.DataFrame) -> pd.DataFrame:
    """One column per dtype."""
    table = alarms.assign(cases_ci_high=[_percent(share) for share in alarms["cases_ci_high"]])
    table["largest_ratio"] = [f"{ratio:.2f}" for ratio in alarms["largest_ratio"]]
    return table.set_index("dtype")[list(_ALARMS)].rename(columns=_ALARMS).astype(str).T


def _detection_table(caught: pd.DataFrame) -> pd.DataFrame:
    """One column per dtype: the planted faults, and below them the totals."""
    judged = caught["exercised"] - caught["not_judged"]
    words = caught.assign(words=[f"{n} of {of}" for n, of in zip(caught["caught"], judged, strict=True)])
    table = words.pivot(index="fault", columns="dtype", values="words").fillna("–")
    of_all = totals(caught)
    of_all["share_ci_low"] = [_percent(share) for share in of_all["share_ci_low"]]
    of_all = of_all.set_index("dtype")[list(_TOTALS)].rename(columns=_TOTALS).astype(str).T
    return pd.concat([table.reindex(index=caught["fault"].unique(), columns=of_all.columns), of_all])


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")
