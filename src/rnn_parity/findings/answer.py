"""May the candidate replace the baseline? The answer for each candidate, from the equivalence table and its life."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rnn_parity.experiment.vocabulary import AXES, EXPECTED_TO_HOLD, PASSING, Regime, Verdict, worst
from rnn_parity.findings.capabilities import wrong_capabilities
from rnn_parity.findings.lives import conditions, deciding_fault, explains, life_of, was_cut_short
from rnn_parity.findings.speedups import result_changed
from rnn_parity.findings.verdicts import deciding_row, draw_dropout, failing, is_withheld, must_hold, withheld_rows


@dataclass(frozen=True)
class SameSeed:
    """The outcome of `train_same_seed` in the cases that draw dropout.

    Attributes:
        drawing, differing: how many cases draw, and in how many of them the candidate is different, under masks that
            are not known to be the same: under the same ones it is wrong, whatever the seed.
        first_length, first_layers: the smallest T and L of a differing case; None where there is none.
        always: whether every drawing case with at least that T and L differs.
        masks_differ: the largest share of mask entries that differ; NaN where the masks were not seen.
        out_of_sight: whether in a differing case no mask was seen.
    """

    drawing: int
    differing: int
    first_length: int | None
    first_layers: int | None
    always: bool
    masks_differ: float
    out_of_sight: bool


@dataclass(frozen=True)
class Answer:
    """May the candidate replace the baseline?

    Attributes:
        word: `yes`; `yes, when` (it computes the same, but the same seed gives other masks, or there are conditions);
            `no`: something fails; `open`: nothing fails, but some quantity was judged in no case, or a point of its
            life came to no end.
        verdict, deciding: the worst verdict and the row that decides. For a `no` they are of the first failing regime,
            for an `open` of the quantities that were never judged, for a `yes` of all that passes. None without rows.
        cases: how many were compared. passing: in how many every quantity passes that is given. failing: in how many
            one fails.
        withheld: what it does not support though it gives the rest, by regime, as `verdicts.withheld_rows` has it.
        failing_regimes: in the order of `EXPECTED_TO_HOLD`.
        failing_axes: the values of axes that all failing cases have and no other case has, in words.
        never_judged: the quantities that pass in no case, where the answer is open.
        compared: each regime that must hold, to its number of cases. A case that draws no dropout counts in `eval`
            alone, since the other regimes repeat that there.
        fault: the point of its life, or the timed call, that decides, where a fresh module's first call was right.
        conditions: what must not be done with it, in words.
        same_seed: None where that regime was not run on a case that draws dropout.
    """

    candidate: str
    word: str
    verdict: Verdict | None
    deciding: Mapping[str, Any] | None
    cases: int
    passing: int
    failing: int
    withheld: tuple[Mapping[str, Any], ...]
    failing_regimes: tuple[str, ...]
    failing_axes: str
    never_judged: tuple[str, ...]
    compared: Mapping[str, int]
    fault: Mapping[str, Any] | None
    conditions: tuple[str, ...]
    same_seed: SameSeed | None

    @property
    def same_seed_differs(self) -> bool:
        """Whether the same seed gives other dropout masks."""
        return bool(self.same_seed and self.same_seed.differing)

    @property
    def holds(self) -> bool:
        """Whether the candidate may replace the baseline."""
        return self.word in ("yes", "yes, when")


def answers(
    equivalence: pd.DataFrame, life: pd.DataFrame | None = None, timing: pd.DataFrame | None = None
) -> list[Answer]:
    """The answer for every candidate of the table."""
    return [answer_for(equivalence, candidate, life, timing) for candidate in equivalence["implementation"].unique()]


def answer_for(
    equivalence: pd.DataFrame,
    candidate: str,
    life: pd.DataFrame | None = None,
    timing: pd.DataFrame | None = None,
    capabilities: pd.DataFrame | None = None,
) -> Answer:
    """The answer for one candidate, from its rows alone; None for what was not asked.

    A layer whose result changes while it is being timed is different, whatever its first calls gave.
    """
    points = life_of(life, candidate)
    fault = deciding_fault(points) or result_changed(timing, candidate)
    excused = (*conditions(points), *wrong_capabilities(capabilities, candidate))
    rows = equivalence[equivalence["implementation"] == candidate]
    held, wrong, seed = must_hold(rows), failing(rows), same_seed(rows)
    passes = held["verdict"].isin(PASSING)
    unjudged = held[~passes.groupby(held["quantity"]).transform("any")]
    cut = [point | {"quantity": repr(point["title"])} for point in points.to_dict("records") if was_cut_short(point)]
    regimes = tuple(regime for regime in EXPECTED_TO_HOLD if regime in set(wrong["regime"]))
    if regimes and not explains(fault):
        word, basis, fault = "no", wrong[wrong["regime"] == regimes[0]], None
    elif fault:
        word, basis = "no", held.iloc[:0]
    elif held.empty or len(unjudged) or cut:
        word, basis = "open", unjudged
    else:
        word, basis = "yes, when" if excused or (seed and seed.differing) else "yes", held[passes]
    in_failing = held["case_id"].isin(wrong["case_id"])
    return Answer(
        candidate,
        word,
        verdict=Verdict(fault["verdict"]) if fault else None if basis.empty else worst(basis["verdict"].unique()),
        deciding=deciding_row(basis).to_dict() if len(basis) else cut[0] if cut and word == "open" else None,
        cases=held["case_id"].nunique(),
        passing=int((passes | is_withheld(held)).groupby(held["case_id"]).all().sum()),
        failing=wrong["case_id"].nunique(),
        withheld=tuple(withheld_rows(rows)),
        failing_regimes=regimes,
        failing_axes=distinguishing_axes(held[in_failing], held[~in_failing]),
        never_judged=tuple(unjudged["quantity"].unique()) or tuple(c["quantity"] for c in cut)
        if word == "open"
        else (),
        compared=cases_by_regime(held),
        fault=fault,
        conditions=excused,
        same_seed=seed,
    )


def cases_by_regime(held: pd.DataFrame) -> dict[str, int]:
    """Each regime of these rows to the number of its cases; outside `eval` only the cases that draw dropout count."""
    rows = held[(held["regime"] == Regime.EVAL) | draw_dropout(held)]
    cases = rows.groupby("regime")["case_id"].nunique()
    return {regime: int(cases[regime]) for regime in EXPECTED_TO_HOLD if regime in cases}


def same_seed(rows: pd.DataFrame) -> SameSeed | None:
    """The outcome of `train_same_seed` in the rows of one candidate."""
    rows = rows[(rows["regime"] == Regime.TRAIN_SAME_SEED) & draw_dropout(rows)]
    if rows.empty:
        return None
    differing = rows[(rows["verdict"] == Verdict.DIFFERENT) & (rows["mask_agreement"].astype(float) != 1)]
    cases = rows.drop_duplicates("case_id")
    length, layers = (
        None if differing.empty else int(differing[axis].min()) for axis in ("sequence_length", "num_layers")
    )
    beyond = cases[(cases["sequence_length"] >= (length or 0)) & (cases["num_layers"] >= (layers or 0))]
    return SameSeed(
        drawing=len(cases),
        differing=differing["case_id"].nunique(),
        first_length=length,
        first_layers=layers,
        always=set(beyond["case_id"]) == set(differing["case_id"]),
        masks_differ=1 - differing["mask_agreement"].astype(float).min(),
        out_of_sight=bool(differing["mask_agreement"].isna().any()),
    )


def distinguishing_axes(these: pd.DataFrame, others: pd.DataFrame) -> str:
    """The axes that alone tell these cases from the others, in words; empty where none does."""
    if these.empty or others.empty:
        return ""
    words = []
    for axis in AXES:
        mine, rest = sorted(set(these[axis])), sorted(set(others[axis]))
        if set(mine) & set(rest):
            continue
        if isinstance(mine[0], str | bool) or (mine[0] < rest[-1] and rest[0] < mine[-1]):
            words.append(f"{axis} {' or '.join(map(str, mine))}")
        else:
            words.append(f"{axis} ≥ {mine[0]}" if mine[0] > rest[-1] else f"{axis} ≤ {mine[-1]}")
    return ", ".join(words)
