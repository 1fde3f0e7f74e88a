"""One call of a layer held against the oracle: the worst of its quantities, and what is known of the cause."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rnn_parity.cells.base import load_cell
from rnn_parity.compare import causes, criterion
from rnn_parity.compare.reference import Reference, relative_errors
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import FAILING, UNDECIDED, Verdict, coarsest_roundoff


@dataclass(frozen=True)
class Found:
    """What one call came to.

    Attributes:
        verdict: the worst of its quantities. quantity: the one that decides, empty where none does.
        reason: in plain words, empty where all pass. ratio: error / limit of the deciding quantity. The limit
            of one that passes the least limit it can have is not measured: its ratio is to that one.
        when: what came before the call, as `after its weights change`.
    """

    verdict: Verdict
    quantity: str = ""
    reason: str = ""
    ratio: float | None = None
    when: str = ""

    @property
    def fails(self) -> bool:
        """Whether it speaks against the layer."""
        return self.verdict in FAILING


def judge(case: Case, values: Mapping[str, Tensor], reference: Reference) -> Found:
    """The first failing quantity of the forward pass, or else of the gradients; or else the largest error / limit."""
    cell, u = load_cell(case.cell), coarsest_roundoff(case.device, case.dtype, case.tf32)
    found, dtype = [], getattr(torch, case.dtype)
    for quantity, value in values.items():
        truth = reference.values[quantity]
        if value.shape != truth.shape:
            reason = f"is {tuple(value.shape)}, expected {tuple(truth.shape)}"
            found.append(Found(Verdict.DIFFERENT, quantity, reason))
            continue
        if value.dtype != dtype:
            found.append(Found(Verdict.DIFFERENT, quantity, f"is {value.dtype}, expected {dtype}"))
            continue
        floor = criterion.floor_of_sums(criterion.layer_terms(quantity, case, cell), case)
        errors = relative_errors(value, truth)
        # First the limits of a quantity that nothing moves: most are within these, and sensitivities take long.
        sensitivities = 0.0, 0.0
        limits = criterion.limits(sensitivities, floor)
        if criterion.worst_ratio(errors, limits) > 1:
            sensitivities = reference.sensitivities[quantity]
            limits = criterion.limits(sensitivities, floor)
        verdict, reason, ratio = criterion.judge(errors, (0.0, 0.0), sensitivities, limits, u=u, bit_identical=False)
        if verdict == Verdict.DIFFERENT:
            reason = causes.describe(quantity, value, reference, limits[1], cell.gates) or reason
        found.append(Found(verdict, quantity, reason, ratio))
    if not found:
        return Found(Verdict.NOT_JUDGED, reason="nothing asks for a gradient")
    return max(found, key=lambda one: (one.fails, one.fails and not one.quantity.startswith("grad_"), _decides(one)))


def _decides(found: Found) -> tuple[bool, float]:
    return found.verdict not in UNDECIDED, found.ratio if found.ratio is not None else math.inf
