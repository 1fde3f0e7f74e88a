"""One case to rows: does each candidate compute what the baseline computes, forward and backward?

For every seed one stimulus is drawn, rounded to the case's dtype and given to all. In every regime the baseline and
each candidate run forward and backward, and every quantity is held against the float64 oracle.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_parity.compare import criterion
from rnn_parity.compare.reference import Reference, References, relative_errors
from rnn_parity.compare.run import RunResult, quantities, run_implementation
from rnn_parity.dropout.masks import MaskLayout, draw_masks
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.running import numerics
from rnn_parity.layers.stimulus import Stimulus, draw_stimulus

DRAWS = 10_000
"""Dropout draws of `train_distribution`, unless it is told another number."""


def compare_case(
    case: Case,
    baseline: str,
    candidates: Sequence[str],
    seeds: Sequence[int],
    regimes: Sequence[str],
    draws: int = DRAWS,
) -> Iterator[dict[str, Any]]:
    """Yield one row per seed × regime × candidate × quantity; a fault of an implementation is a row, never raised.

    `draws` are those of `train_distribution`. It has no rows where no dropout is drawn; and it has some without being
    asked for where `train_matched_masks` meets masks that are drawn out of sight.
    """
    with numerics(case.threads, case.tf32):
        for seed in seeds:
            yield from compare_stimulus(case, draw_stimulus(case, seed), baseline, candidates, seed, regimes, draws)


def compare_stimulus(
    case: Case,
    stimulus: Stimulus,
    baseline: str,
    candidates: Sequence[str],
    seed: int,
    regimes: Sequence[str],
    draws: int = DRAWS,
) -> Iterator[dict[str, Any]]:
    """The rows of `compare_case` for one stimulus."""
    references, many = References(case, stimulus, seed), set(candidates) if "train_distribution" in regimes else set()
    for regime in regimes:
        if regime != "train_distribution":
            many |= yield from _compare_regime(references, baseline, candidates, regime)
    if many and case.draws_dropout:
        from rnn_parity.dropout.distribution import distribution_rows  # scipy: half a second that no other regime needs

        context = {**case.columns, "baseline": baseline, "regime": "train_distribution", "seed": seed}
        for row in distribution_rows(case, baseline, [n for n in candidates if n in many], stimulus, draws, seed):
            yield {**context, **row}


def max_ulp_difference(a: Tensor, b: Tensor) -> float:
    """The largest number of representable values between corresponding entries; NaN if either holds one."""
    if a.isnan().any() or b.isnan().any():
        return float("nan")
    kinds = {2: (torch.int16, np.int16), 4: (torch.int32, np.int32), 8: (torch.int64, np.int64)}
    as_torch, as_numpy = kinds[a.element_size()]
    lowest = np.iinfo(as_numpy).min
    # Sign-magnitude floats, read as integers, are in order once the negative ones are mirrored.
    x, y = (t.contiguous().view(as_torch).numpy() for t in (a, b))
    x, y = (np.where(n < 0, lowest - n, n).astype(np.int64) for n in (x, y))
    # Differences of 64-bit patterns overflow int64 and are exact modulo 2⁶⁴.
    return float((np.maximum(x, y).view(np.uint64) - np.minimum(x, y).view(np.uint64)).max(initial=0))


def _compare_regime(
    references: References, baseline: str, candidates: Sequence[str], regime: str
) -> Generator[dict[str, Any], None, set[str]]:
    """Yield the rows of one regime; return the candidates of which `train_matched_masks` does not say it all.

    Masks that were recovered, not imposed, say nothing of their law: one for all steps would pass.
    """
    case, stimulus, seed = references.case, references.stimulus, references.seed
    matched = regime == "train_matched_masks"
    masks = draw_masks(MaskLayout.of(case), case.dropout, seed) if matched and case.draws_dropout else None
    of_baseline, unseen = run_implementation(case, baseline, stimulus, seed, regime, masks), set()
    for name in candidates:
        of_candidate, ours = run_implementation(case, name, stimulus, seed, regime, masks), of_baseline
        if matched and not _same_masks(ours, of_candidate):
            # One of them draws out of sight: its masks are recovered, and the other is given those, if it can be.
            ours = run_implementation(case, baseline, stimulus, seed, regime, of_candidate.masks)
            if not _same_masks(ours, of_candidate):
                of_candidate = run_implementation(case, name, stimulus, seed, regime, ours.masks)
        # With the same seed the question is whether the candidate does what the baseline does, masks included.
        truth, of_ours = (
            references.with_masks(of_candidate.masks if matched else ours.masks),
            references.with_masks(ours.masks),
        )
        agreement, why = _mask_agreement(ours, of_candidate)
        context = {**case.columns, "baseline": baseline, "candidate": name, "regime": regime, "seed": seed}
        for quantity in quantities(case.num_layers):
            row = compare_quantity(case, quantity, ours, of_ours, of_candidate, truth)
            if row["verdict"] == Verdict.DIFFERENT and why and not matched:
                row["reason"] = why if agreement < 1 else f"{row['reason']}; {why}"
            yield {**context, **row, "mask_agreement": agreement}
        if matched and (ours.out_of_sight or of_candidate.out_of_sight):
            unseen.add(name)
    return unseen


def _same_masks(one: RunResult, other: RunResult) -> bool:
    if one.masks is None or other.masks is None:
        return True  # an outcome without masks has faults, or drops nothing
    return torch.equal(one.masks, other.masks)


def _mask_agreement(baseline: RunResult, candidate: RunResult) -> tuple[float, str]:
    """The share of mask entries both applied alike, and what they drew where that was not the same; NaN if unknown."""
    seen = ["out of sight" if o.draws is None else o.draws.describe() for o in (baseline, candidate)]
    drew = f"the baseline drew {seen[0]}, the candidate {seen[1]}"
    if baseline.masks is None or candidate.masks is None:
        return float("nan"), f"dropout masks: {drew}" if baseline.draws or candidate.draws else ""
    agreement = (baseline.masks == candidate.masks).double().mean().item()
    return agreement, f"{1 - agreement:.0%} of the dropout masks' entries differ: {drew}" if agreement < 1 else ""


def compare_quantity(
    case: Case,
    quantity: str,
    of_baseline: RunResult,
    baseline_truth: Reference,
    of_candidate: RunResult,
    truth: Reference,
    floor: float | None = None,
) -> dict[str, Any]:
    """Judge one quantity of a candidate: the columns of a row that are its own.

    Where the references are two, since each layer has masks of its own, nothing is said of their difference. `floor` is
    the least error that is granted; that of a layer's quantity where it is None.
    """
    row: dict[str, Any] = {"quantity": quantity}
    for who, outcome in (("", of_candidate), ("baseline: ", of_baseline)):
        if quantity in outcome.faults:
            verdict, reason = outcome.faults[quantity]
            return {**row, "verdict": verdict, "reason": f"{who}{reason}"}
    ours, theirs, comparable = of_baseline.values[quantity], of_candidate.values[quantity], truth is baseline_truth
    u = criterion.unit_roundoff(case.dtype, case.tf32)
    floor = criterion.roundoff_floor(quantity, case) if floor is None else floor
    pairs = {
        "error": relative_errors(theirs, truth.values[quantity]),
        "baseline_error": relative_errors(ours, baseline_truth.values[quantity]),
        "sensitivity": truth.sensitivities[quantity],
    }
    pairs["limit"] = tuple(criterion.limit(sensitivity, floor) for sensitivity in pairs["sensitivity"])
    identical = comparable and torch.equal(ours, theirs)
    verdict, reason, ratio = criterion.judge(*pairs.values(), u=u, bit_identical=identical)
    row |= {"verdict": verdict, "reason": reason, "ratio": ratio, "bit_identical": identical}
    row |= {f"{name}_{norm}": pair[i] for name, pair in pairs.items() for i, norm in enumerate(("2", "inf"))}
    if comparable:
        row |= {"max_abs_diff": (ours.double() - theirs.double()).abs().max().item()}
        row |= {"max_ulp_diff": max_ulp_difference(ours, theirs)}
        row |= {"allclose_default": torch.allclose(theirs, ours), "assert_close_default": _assert_close(theirs, ours)}
    return row


def _assert_close(actual: Tensor, expected: Tensor) -> bool:
    try:
        torch.testing.assert_close(actual, expected)
    except AssertionError:
        return False
    return True
