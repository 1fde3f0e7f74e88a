"""One case to rows: what the checker says of right and of wrong layers, and what it should have said."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rnn_parity.cells.base import load_cell
from rnn_parity.compare.case import compare_quantity
from rnn_parity.compare.criterion import error_ratio, floor_of_sums, ill_conditioned, layer_terms
from rnn_parity.compare.reference import References, relative_errors
from rnn_parity.compare.run import RunResult, run_implementation
from rnn_parity.dropout.masks import draw_masks, mask_shape
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import UNDECIDED, Detection, Verdict, coarsest_roundoff, unit_roundoff
from rnn_parity.layers.running import numerics
from rnn_parity.layers.stimulus import Stimulus
from rnn_parity.trust import faults, gru_faults, lstm_faults  # noqa: F401, each plants its own
from rnn_parity.trust.planting import FAULTS
from rnn_parity.trust.right import WrittenOut

PARENT = f"{WrittenOut.__module__}:{WrittenOut.__name__}"
"""The right layer that every planted fault changes."""

ROUNDING_OF_FLOAT64 = 2.0**-48
"""A fault smaller than this may be the rounding of the two float64 runs that measure it."""


def examine(references: References, baseline: str, layers: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield one row per layer. With dropout the regime is `train_matched_masks`, without it `eval`."""
    case, stimulus, seed = references.case, references.stimulus, references.seed
    cell, planted = load_cell(case.cell), faults_of(case.cell)
    floors = {q: floor_of_sums(layer_terms(q, case, cell), case) for q in cell.quantities(case.num_layers)}
    with numerics(case.threads, case.tf32):
        masks = draw_masks(mask_shape(case), case.dropout, seed) if case.draws_dropout else None
        given = stimulus, seed, "train_matched_masks" if case.dropout else "eval", masks
        of_baseline, of_parent = (run_implementation(case, name, *given) for name in (baseline, PARENT))
        # What takes none of our masks has masks of its own, and so a truth of its own.
        ours = of_baseline, references.with_masks(masks if of_baseline.masks is None else of_baseline.masks)
        for name in layers:
            kind = planted[name].kind if name in planted else "correct"
            outcome = run_implementation(case, name, *given)
            pair = *ours, outcome, references.with_masks(masks if outcome.masks is None else outcome.masks)
            rows = [compare_quantity(case, q, *pair, floor, explain=False) for q, floor in floors.items()]
            against = sum(row["verdict"] in (Verdict.DIFFERENT, Verdict.FAILED) for row in rows)
            fault_size_u = None
            if kind == "correct":
                finding = Detection.FALSE_ALARM if against else Detection.HELD
            elif all(_same(quantity, outcome, of_parent) for quantity in of_parent.values):
                finding = Detection.NOT_EXERCISED
            elif against:
                finding = Detection.CAUGHT
            else:
                finding, fault_size_u = _why_not_caught(case, rows, _exact_faults(case, name, *given))
            yield {
                **case.columns,
                "seed": seed,
                "baseline": baseline,
                "implementation": name,
                "kind": kind,
                "fault": fault_title(planted[name]) if name in planted else "",
                "finding": finding,
                "comparisons": len(rows),
                "different": against,
                "not_judged": sum(row["verdict"] in UNDECIDED for row in rows),
                "ratio": max((_ratio(row) for row in rows if _is_judged(row, case)), default=None),
                "allclose_unequal": sum(row.get("allclose_default") is False for row in rows),
                "assert_close_unequal": sum(row.get("assert_close_default") is False for row in rows),
                "fault_size_u": fault_size_u,
            }


def faults_of(cell: str, among: Mapping[str, type[WrittenOut]] = FAULTS) -> dict[str, type[WrittenOut]]:
    """The faults that a kind of cell can have, by their import paths."""
    return {path: fault for path, fault in among.items() if not fault.cells or cell in fault.cells}


def fault_title(fault: type[WrittenOut]) -> str:
    """A planted fault in words."""
    return (fault.__doc__ or "").removesuffix(".")


def _is_judged(row: dict[str, Any], case: Case) -> bool:
    """Whether a row has a ratio that says something. The same bits are identical even where nothing can be judged."""
    if row["verdict"] in UNDECIDED or "ratio" not in row:
        return False
    u = coarsest_roundoff(case.device, case.dtype, case.tf32)
    return not ill_conditioned((row["sensitivity_2"], row["sensitivity_inf"]), u)


def _ratio(row: dict[str, Any]) -> float:
    """The largest error over its limit in a row, the baseline's included: it is right, and under the same bar."""
    pairs = ((row[f"baseline_error_{norm}"], row[f"limit_{norm}"]) for norm in ("2", "inf"))
    return max(row["ratio"], *(error_ratio(error, bar) for error, bar in pairs))


def _same(quantity: str, outcome: RunResult, parent: RunResult) -> bool:
    return quantity in outcome.values and torch.equal(outcome.values[quantity], parent.values[quantity])


def _exact_faults(
    case: Case, name: str, stimulus: Stimulus, seed: int, regime: str, masks: Tensor | None
) -> dict[str, tuple[float, float]]:
    """How large a fault is without rounding: per quantity, its relative errors to its parent in float64.

    Quantities are missing that the fault keeps from being computed, as by a mask that has no place.
    """
    exact, given = dataclasses.replace(case, dtype="float64"), stimulus.map(Tensor.double)
    right, wrong = (run_implementation(exact, n, given, seed, regime, masks).values for n in (PARENT, name))
    return {quantity: relative_errors(wrong[quantity], right[quantity]) for quantity in right if quantity in wrong}


def _why_not_caught(
    case: Case, rows: Sequence[dict[str, Any]], sizes: dict[str, tuple[float, float]]
) -> tuple[Detection, float]:
    """The finding, and the largest fault of a judged quantity in units of u."""
    u = unit_roundoff(case.dtype, case.tf32)
    least = max(u, ROUNDING_OF_FLOAT64)
    judged = [row for row in rows if row["verdict"] not in UNDECIDED]
    size = max((max(sizes[row["quantity"]]) for row in judged), default=0.0)
    limits = {row["quantity"]: (row["limit_2"], row["limit_inf"]) for row in judged}
    if any(size > bar for q, bars in limits.items() for size, bar in zip(sizes[q], bars, strict=True)):
        return Detection.MISSED, size / u
    if size > least:
        return Detection.HIDDEN, size / u
    everywhere = max((max(fault) for fault in sizes.values()), default=math.inf)
    return (Detection.NOT_JUDGED if everywhere > least else Detection.NOT_EXERCISED), size / u
