"""The first paragraph: the answer, what is gained at the user's own size, caveats. Facts in, Markdown out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rnn_parity.experiment.vocabulary import Phase, Regime
from rnn_parity.findings.answer import Answer, SameSeed
from rnn_parity.report.markdown import (
    Text,
    amount_of_bytes,
    code,
    count,
    escape,
    interval,
    listed,
    percent,
    sizes,
    times,
)  # fmt: skip

MOST_CAVEATS = 3
_MEMORY_FACTOR = 1.25  # so much more memory than the baseline is worth a word
_MOST_NAMES = 3


def opening(
    answer: Answer,
    baseline: str,
    quoted: Sequence[Mapping[str, Any]] | None,
    machine: str,
    confidence: float,
    caveats: Sequence[str],
) -> Text:
    """One paragraph for one candidate.

    Args:
        answer: from `answer_for`.
        quoted: the rows `inference` and `step` of the case that is quoted, from `quoted_speedups`;
            None where another paragraph says what is gained.
        machine: the device of that case, in words. confidence: of the intervals.
        caveats: from `find_caveats`.
    """
    sentences = [verdict(answer, baseline)]
    if quoted is not None:
        sentences.append(gain(quoted, answer, machine, confidence))
    if caveats:
        first = caveats[:MOST_CAVEATS]
        numbered = [f"({at}) {caveat}" for at, caveat in enumerate(first, 1)] if len(first) > 1 else first
        sentences.append(f"**Caveats:** {'; '.join(numbered)}.")
    return Text(" ".join(sentences))


def verdict(answer: Answer, baseline: str) -> str:
    """The answer with what it rests on: yes, yes when, no and why, or that it is open."""
    new, old = code(answer.candidate), code(baseline)
    if answer.word == "no":
        return _refusal(answer, new, old)
    if answer.word == "open":
        names, more = answer.never_judged[:_MOST_NAMES], len(answer.never_judged) - _MOST_NAMES
        quantities = listed([*map(code, names), *([f"{more} more quantities"] if more > 0 else [])])
        why = f"{quantities} could be judged in none of {count(answer.cases, 'case')}; the reasons are below."
        none = "No case was run with dropout off or with the same masks."
        return f"**Not answered:** whether {new} may replace {old}. {why if answer.cases else none}"
    whole, when = answer.passing == answer.cases, answer.word == "yes, when"
    head = "Yes" if whole else "Yes, as far as it could be judged"
    head += {(True, True): ",", (False, True): ", and", (True, False): "", (False, False): ""}[whole, when]
    head += " when the same seed need not give the same dropout masks" if when else ""
    each = "every gradient are" if whole else "its gradients is"
    text = (
        f"**{head}.** {new} may replace {old}: in all {count(answer.cases, 'case')} "
        f"{'' if whole else 'what could be judged of '}its output, its final state and {each} identical or "
        f"equivalent{_compared(answer)}."
    )
    rest = answer.cases - answer.passing
    unknown = f" In {rest} of them some quantities could not be judged; there the answer is neither yes nor no."
    return text + ("" if whole else unknown)


def _compared(answer: Answer) -> str:
    """How the cases were compared, and how many of them, where it was not all."""
    words = [
        f"{'over' if name == 'train_distribution' else 'with'} {Regime(name).words}"
        + (f" ({cases} of them)" if cases < answer.cases else "")
        for name, cases in answer.compared.items()
    ]
    return f", {listed(words)}" if words else ""


def _refusal(answer: Answer, new: str, old: str) -> str:
    first, *others = answer.failing_regimes
    also = f", and also with {Regime(others[0]).words}," if others else ""
    does = "ends in an error" if answer.deciding["verdict"] == "failed" else "computes something else"
    apart = f", those with {escape(answer.failing_axes)}" if answer.failing_axes else ""
    holds = f" In {count(answer.passing, 'other case')} it holds." if answer.passing else ""
    row = answer.deciding
    return (
        f"**No.** {new} must not replace {old}: with {Regime(first).words}{also} it {does}. "
        f"This is so in {answer.failing} of {count(answer.cases, 'case')}{apart}. The worst is "
        f"{code(row['quantity'])} in {code(row['case_id'])}: {escape(row['reason'])}.{holds}"
    )


def gain(quoted: Sequence[Mapping[str, Any]], answer: Answer, machine: str, confidence: float) -> str:
    """What is gained in the case that is quoted, with its interval."""
    if not quoted:
        return f"**What you gain** is not known: {code(answer.candidate)} was not timed."
    would = "would " if answer.word in ("no", "open") else ""
    case = quoted[0]
    phases = [_gain_of(row, confidence if at == 0 else None) for at, row in enumerate(quoted)]
    where = f"In the largest case of {code(case['sweep'])} ({sizes(case)})"
    return f"**What you {would}gain** on {escape(machine)}: {where.lower()[:1]}{where[1:]}, {'; '.join(phases)}."


def _gain_of(row: Mapping[str, Any], confidence: float | None) -> str:
    phase = Phase(row["phase"]).words
    if row["conclusion"] not in ("faster", "slower", "within noise"):
        return f"{phase} has no speedup ({escape(row['conclusion'])}: {escape(row['reason'])})"
    sure = f"{percent(confidence)} interval " if confidence else ""
    text = (
        f"{phase} is **{row['conclusion']}**: {times(row['speedup'])} the speed of the baseline ({sure}{interval(row)})"
    )
    noise = f", where the baseline against itself gives {interval(row, 'control')}"
    shared = "" if row["exclusive"] else ", timed beside other jobs"
    return text + (noise if row["conclusion"] == "within noise" else "") + shared


def find_caveats(
    seed: SameSeed | None,
    lost: Sequence[str],
    slower: Mapping[str, Sequence[str]],
    quoted: Sequence[Mapping[str, Any]],
    quoted_baseline: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Caveats for whoever replaces the baseline, the gravest first: masks, capabilities, slower cases, memory.

    Args:
        seed: what the same seed gave. lost: titles of capabilities that only the baseline has.
        slower: phase to the cases, in words, in which the candidate is slower.
        quoted: the rows that the gain is quoted from; `quoted_baseline` those of the baseline, by phase.
    """
    found = []
    if seed and seed.differing:
        found.append(
            f"the same seed does not give the same masks, so that {seed.differing} of the "
            f"{count(seed.drawing, 'case')} that draw dropout between layers differ, from T = {seed.first_length} and "
            f"L = {seed.first_layers} on"
        )
    if lost:
        more = f" and {len(lost) - _MOST_NAMES} more" if len(lost) > _MOST_NAMES else ""
        found.append(f"you lose {listed(lost[:_MOST_NAMES]) if not more else ', '.join(lost[:_MOST_NAMES]) + more}")
    for phase in ("step", "inference"):
        cases = slower.get(phase, ())
        if cases:
            some = "; ".join([*map(escape, cases[:_MOST_NAMES]), *(["…"] if len(cases) > _MOST_NAMES else [])])
            found.append(f"{Phase(phase).words} is slower in {count(len(cases), 'case')} ({some})")
            break
    found += _memory(quoted, quoted_baseline)
    return found


def _memory(quoted: Sequence[Mapping[str, Any]], quoted_baseline: Mapping[str, Mapping[str, Any]]) -> list[str]:
    for row in quoted:
        ours, theirs = row["peak_memory_bytes"], quoted_baseline.get(row["phase"], {}).get("peak_memory_bytes")
        if ours == ours and theirs == theirs and theirs and ours > _MEMORY_FACTOR * theirs:
            return [
                f"in the quoted case {Phase(row['phase']).words} takes {times(ours / theirs)} the memory "
                f"({amount_of_bytes(ours)}, the baseline {amount_of_bytes(theirs)})"
            ]
    return []
