"""The report's first screen: which candidate to take, for what, at what price, and the sweeps behind the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rnn_parity.experiment.vocabulary import Regime
from rnn_parity.findings import figure_tables
from rnn_parity.findings.answer import Answer
from rnn_parity.findings.lives import fault_sentence
from rnn_parity.findings.verdicts import deciding_rows, is_withheld, must_hold
from rnn_parity.report.markdown import Text, escape, in_sentence, listed, times
from rnn_parity.statistics import Conclusion

QUOTED_PHASES = ("inference", "step")
_ORDER = {"yes": 0, "yes, when": 0, "open": 1, "no": 2}
_KEYS = ["sweep", "implementation"]
_MOST_NAMES = 2


def choices(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per baseline: its candidates from the best to the worst, and which of them to take.

    Args:
        answers: one entry per candidate, with its `candidate`, `baseline`, `answer` and `quoted` rows.

    Returns:
        entries with `baseline`; `ranked`, the answers in order; `holding`, those that may replace the baseline; and
        `picks`: phase to the rows of the fastest of these, several where their intervals overlap; `alike`: whether
        every phase has the same ones; `taken`: their names; `others`: phase to the conclusions where nobody is faster.
    """
    of_baseline: dict[str, list[Mapping[str, Any]]] = {}
    for answer in answers:
        of_baseline.setdefault(answer["baseline"], []).append(answer)
    found = []
    for baseline, rivals in of_baseline.items():
        holding = [rival for rival in rivals if rival["answer"].holds]
        picks = {phase: chosen for phase in QUOTED_PHASES if (chosen := _fastest(holding, phase))}
        ranked = sorted(rivals, key=_rank)
        alike = len({tuple(row["implementation"] for row in rows) for rows in picks.values()}) == 1
        taken = {row["implementation"] for rows in picks.values() for row in rows}
        entry = {"baseline": baseline, "ranked": ranked, "holding": holding, "picks": picks, "alike": alike}
        others = {phase: _conclusions(holding, phase) for phase in QUOTED_PHASES if phase not in picks}
        found.append(entry | {"taken": taken, "others": others})
    return found


def _fastest(rivals: Sequence[Mapping[str, Any]], phase: str) -> list[Mapping[str, Any]]:
    rows = [row for rival in rivals for row in rival["quoted"] if row["phase"] == phase]
    rows = [row for row in rows if row["conclusion"] == Conclusion.FASTER]
    rows.sort(key=lambda row: -row["speedup"])
    return [row for row in rows if row["speedup_ci_high"] >= rows[0]["speedup_ci_low"]]


def _conclusions(rivals: Sequence[Mapping[str, Any]], phase: str) -> list[str]:
    rows = [row for rival in rivals for row in rival["quoted"] if row["phase"] == phase]
    return list(dict.fromkeys(str(row["conclusion"]) for row in rows))


def _rank(rival: Mapping[str, Any]) -> tuple[float, ...]:
    """By answer, then by the speedup of a training step, then of inference, in the quoted case."""
    speedups = {row["phase"]: row["speedup"] for row in rival["quoted"] if row["speedup"] == row["speedup"]}
    return (_ORDER[rival["answer"].word], *(-speedups.get(phase, 0.0) for phase in reversed(QUOTED_PHASES)))


def prices(answer: Answer, lost: Sequence[str], memory: tuple[str, float, float] | None) -> list[Text]:
    """What a candidate costs, each in a few words; `memory` as `caveats.memory_ratio` gives it."""
    found = [Text(f"only when {escape(condition)}") for condition in answer.conditions]
    found += [Text(f"no {row['kind']} with {row['regime'].words}") for row in answer.withheld]
    if answer.same_seed_differs:
        found.append(Text("other dropout masks from the same seed"))
    if lost:
        names = listed(list(map(in_sentence, lost)), "or")
        found.append(Text(f"no {names}" if len(lost) <= _MOST_NAMES else f"{len(lost)} capabilities less"))
    if memory:
        phase, ours, theirs = memory
        found.append(Text(f"{times(ours / theirs)} the memory in {'training' if phase == 'step' else phase}"))
    return found


def sweep_rows(equivalence: pd.DataFrame, timing: pd.DataFrame, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """One entry per sweep × candidate, with what the overview figure draws.

    `by_regime`: regime to the row of the verdict table, with its deciding case in words. `held`: of the regimes that
    must hold, the row that decides; None where none was run. `cases`; and by phase the speedup's geometric mean and
    range, as in `figure_tables.overview`.
    """
    held = deciding_rows(must_hold(equivalence[~is_withheld(equivalence)]), _KEYS)
    deciding = {(row["sweep"], row["implementation"]): row for row in held.to_dict("records")}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in figure_tables.overview(equivalence, timing).to_dict("records"):
        key = row["sweep"], row["implementation"]
        of_sweep = rows.setdefault(key, row | {"by_regime": {}, "held": deciding.get(key)})
        of_sweep["cases"] = max(of_sweep["cases"], row["cases"])
        of_sweep["by_regime"][row["regime"]] = row | {"worst_case": names[row["worst_case_id"]]}
    for row in rows.values():
        row["seed"] = row["by_regime"].get(Regime.TRAIN_SAME_SEED)
    return list(rows.values())


def answer_lines(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The answer in two lines for a terminal: may it be replaced, and what is gained, or why not."""
    found = [(a["candidate"], a["baseline"], _in_words(a["answer"])) for a in answers]
    asked = [f"May {candidate} replace {baseline}? {word[:1].upper()}{word[1:]}" for candidate, baseline, word in found]
    gained = []
    for entry in choices(answers):
        for phase, rows in entry["picks"].items():
            row = rows[0]
            words = {"inference": "inference", "step": "training step"}[phase]
            interval = f"({row['speedup_ci_low']:.2f}–{row['speedup_ci_high']:.2f})"
            gained.append(f"{words} {row['speedup']:.2f}× {interval} with {row['implementation']}")
    why = [f"{answer['candidate']}: {reason}" for answer in answers if (reason := _reason(answer["answer"]))]
    told = f"Gained in the largest case: {'; '.join(gained) or 'nothing'}"
    if not any(answer["answer"].holds for answer in answers):
        told = f"Why: {'; '.join(why) or 'nothing was compared'}"
    return [". ".join(asked), told]


def _reason(answer: Answer) -> str:
    """What decides against a candidate, in a few words; empty where nothing does."""
    if answer.fault:
        return fault_sentence(answer.fault)
    return f"{answer.deciding['quantity']}: {answer.deciding['reason']}" if answer.deciding else ""


def conditions(answer: Answer) -> list[str]:
    """When a candidate that holds may replace the baseline, in words."""
    of_seed = ["the same seed need not give the same dropout masks"] if answer.same_seed_differs else []
    unneeded = [f"no {row['kind']} are needed with {row['regime'].words}" for row in answer.withheld]
    return [*of_seed, *answer.conditions, *unneeded]


def _in_words(answer: Answer) -> str:
    if answer.holds and (when := conditions(answer)):
        return f"yes, when {' and when '.join(when)}"
    if answer.word == "no" and not answer.fault and answer.failing_axes:
        return f"no, not with {answer.failing_axes}"
    return "not answered" if answer.word == "open" else answer.word
