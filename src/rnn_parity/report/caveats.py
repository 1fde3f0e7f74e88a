"""What is lost with a candidate: masks, capabilities, time, memory. Facts in, Markdown out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rnn_parity.experiment.vocabulary import Phase
from rnn_parity.findings.answer import Answer
from rnn_parity.report.markdown import amount_of_bytes, count, escape, in_sentence, listed, times

_MEMORY_FACTOR = 1.25  # so much more memory than the baseline is worth a word
_MOST_NAMES = 3


def find_caveats(
    answer: Answer,
    remarks: Sequence[str],
    lost: Sequence[str],
    slower: Mapping[str, Sequence[str]],
    quoted: Sequence[Mapping[str, Any]],
    quoted_baseline: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Caveats for whoever replaces the baseline, the gravest first: masks, capabilities, slower cases, memory.

    Args:
        answer: with what the same seed gave, and its conditions.
        remarks: what its life says of points that hold.
        lost: titles of capabilities that only the baseline has.
        slower: phase to the cases, in words, in which the candidate is slower.
        quoted: the rows that the gain is quoted from; `quoted_baseline` those of the baseline, by phase.
    """
    seed = answer.same_seed
    found = [f"it holds only when {condition}; otherwise its numbers are wrong" for condition in answer.conditions]
    found += [f"it {escape(words)}" for words in remarks]
    if seed and seed.differing:
        drawing = count(seed.drawing, "case")
        every = {1: "the one case", 2: "both cases"}.get(seed.drawing, f"all {drawing}")
        some = every if seed.differing == seed.drawing else f"{seed.differing} of the {drawing}"
        found.append(
            f"the same seed gives other dropout masks, so {some} with dropout between layers "
            f"{'differs' if seed.differing == 1 else 'differ'}, "
            f"from T = {seed.first_length} and L = {seed.first_layers} on"
        )
    if lost:
        lost = list(map(in_sentence, lost))
        more = f" and {len(lost) - _MOST_NAMES} more" if len(lost) > _MOST_NAMES else ""
        names = listed(lost[:_MOST_NAMES]) if not more else ", ".join(lost[:_MOST_NAMES]) + more
        found.append(f"it lacks {names}, which the baseline has")
    for phase in ("step", "inference"):
        cases = slower.get(phase, ())
        if cases:
            some = "; ".join([*map(escape, cases[:_MOST_NAMES]), *(["…"] if len(cases) > _MOST_NAMES else [])])
            found.append(f"{Phase(phase).words} is slower in {count(len(cases), 'case')} ({some})")
            break
    if taken := memory_ratio(quoted, quoted_baseline):
        phase, ours, theirs = taken
        found.append(
            f"in the case above {Phase(phase).words} takes {times(ours / theirs)} the memory "
            f"({amount_of_bytes(ours)}, the baseline {amount_of_bytes(theirs)})"
        )
    return found


def memory_ratio(
    quoted: Sequence[Mapping[str, Any]], quoted_baseline: Mapping[str, Mapping[str, Any]]
) -> tuple[str, float, float] | None:
    """The phase of the quoted case with clearly more memory than the baseline, with both peaks in bytes."""
    for row in quoted:
        ours, theirs = row["peak_memory_bytes"], quoted_baseline.get(row["phase"], {}).get("peak_memory_bytes")
        if ours == ours and theirs == theirs and theirs and ours > _MEMORY_FACTOR * theirs:
            return row["phase"], ours, theirs
    return None
