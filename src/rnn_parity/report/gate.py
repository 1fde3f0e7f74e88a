"""The gate: may every candidate replace the baseline? A few lines of Markdown for a terminal, a log, a pull request."""

from __future__ import annotations

import pandas as pd

from rnn_parity.findings.answer import Answer, answers
from rnn_parity.findings.cases import case_names
from rnn_parity.findings.lives import fault_sentence
from rnn_parity.findings.verdicts import deciding_row, failing, must_hold, verdict_table
from rnn_parity.report.markdown import render_markdown

MOST_ROWS = 12


def gate(
    equivalence: pd.DataFrame, life: pd.DataFrame | None = None, timing: pd.DataFrame | None = None
) -> tuple[bool, str]:
    """Whether every candidate of the table may replace the baseline, and the text that says so or why not."""
    found = answers(equivalence, life, timing)
    faults = [f"gate: {answer.candidate}: {fault_sentence(answer.fault)}\n" for answer in found if answer.fault]
    if refused := [answer.deciding for answer in found if answer.word == "no" and not answer.fault]:
        return False, "".join(faults) + _failing_markdown(equivalence, deciding_row(pd.DataFrame(refused)))
    if faults:
        return False, "".join(faults)
    if not found:
        return False, "gate: the table has no comparison\n"
    unknown = [answer for answer in found if not answer.holds]
    if unknown:
        return False, "".join(f"gate: {answer.candidate}: {_not_shown(answer)}\n" for answer in unknown)
    cases, passing = sum(answer.cases for answer in found), sum(answer.passing for answer in found)
    rest = f"; in the other {cases - passing} nothing fails, but not all could be judged" if passing < cases else ""
    lacking = [
        f"; with {row['regime'].words} {a.candidate} gives no {row['kind']}" for a in found for row in a.withheld
    ]
    return True, f"gate: {passing} of {cases} {'case holds' if cases == 1 else 'cases hold'}{rest}{''.join(lacking)}\n"


def _not_shown(answer: Answer) -> str:
    if not answer.deciding:
        return "no case was run in a regime that must hold"
    return f"{', '.join(answer.never_judged)} could be judged in no case: {answer.deciding['reason']}"


def _failing_markdown(equivalence: pd.DataFrame, deciding: pd.Series) -> str:
    """The cases that must hold and fail, one row per sweep × candidate × regime."""
    keys, names = ["sweep", "implementation", "regime"], case_names(equivalence)
    wrong = failing(equivalence)
    counts = wrong.groupby(keys)["case_id"].nunique().rename("failing").reset_index()
    rows = verdict_table(must_hold(equivalence)).merge(counts, on=keys)
    rows["case"] = rows["worst_case_id"].map(names)
    facts = {"rows": rows.to_dict("records"), "most": MOST_ROWS, "worst": deciding.to_dict()}
    return render_markdown(
        "gate.md.j2", facts | {"cases": wrong["case_id"].nunique(), "of": equivalence["case_id"].nunique()}
    )
