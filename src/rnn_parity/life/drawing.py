"""The dropout masks of a life's training calls: in which order they are drawn, and how many numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rnn_parity.cells.base import load_cell
from rnn_parity.dropout.masks import DropoutRecorder, draws_out_of_sight, mask_shape
from rnn_parity.dropout.order import ChangedByWatching, MaskOrder, UnknownOrder, UnlawfulDraws, order_of
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import compiler_is_loaded, generators_kept
from rnn_parity.layers.stimulus import build_loaded
from rnn_parity.life.one_call import Given, results_of

_BY_CHANCE = -35.0
"""The logarithm of the chance below which nothing is put down to it."""


@dataclass
class Drawing:
    """How an implementation draws its masks, as far as its calls have shown.

    Attributes:
        case: the life's own. share: how many numbers it draws for each entry of the masks, None before the first call.
        orders: for masks of a shape, the order in which it draws them; None where it is unknown.
    """

    name: str
    case: Case
    share: float | None = None
    orders: dict[tuple[int, ...], MaskOrder | None] = field(default_factory=dict)

    @property
    def is_itself_watched(self) -> bool:
        """Whether it computes the same while its draws of dropout are watched, as what is compiled does not.

        The first call is watched in any case: asking takes training steps, and the first of a process must be judged.
        """
        if self.share is not None and compiler_is_loaded() and self.case.draws_dropout and self.case.dropout < 1:
            try:
                order_of(self.case, self.name)
            except ChangedByWatching:
                return False
            except Exception:
                return True  # its calls will tell
        return True

    def masks_of(
        self, draws: DropoutRecorder, given: Given, call: Callable[[Tensor, Any], Any]
    ) -> tuple[Tensor | None, str]:
        """The masks that a `call` drew, None where they cannot be seen; and what is wrong with their number."""
        case = given.case
        if case.dropout == 1:
            return torch.zeros(mask_shape(case), dtype=torch.float64), ""
        share = draws.count / math.prod(mask_shape(case))
        if self.share is None:
            self.share = share
        if share != self.share and not self._draws_anew(given, draws.count):
            if share == 0 and _is_random(given, call):  # out of sight in this call, as under torch.inference_mode
                return None, ""
            drawn = "more dropout masks than" if share > self.share else "fewer dropout masks than"
            return None, f"draws {drawn} at first" if share else "draws no new dropout mask"
        shape = mask_shape(case)
        if shape not in self.orders:
            self.orders[shape] = self._derive_order(case)
        order = self.orders[shape]
        if order is not None and draws.count != math.prod(order.drawn_shape):  # it draws more than it uses here
            order = self.orders[shape] = self.find_order(case)
        masks = None if order is None else order.to_masks(draws.stream())
        return masks, "" if masks is None else repetition(masks, case.dropout) or unlikely_share(masks, case.dropout)

    def has_another_order(self, case: Case) -> bool:
        """Whether the order that was assumed of a case is not the one that trying finds, which counts from now on.

        Where none explains what it draws, as in pieces of some steps, its masks are unknown; not where what it draws
        cannot be right in any order.
        """
        assumed = self.orders.get(mask_shape(case))
        if assumed is None or self._is_unlawful(case) or (found := self.find_order(case)) == assumed:
            return False
        self.orders[mask_shape(case)] = found
        return True

    def _is_unlawful(self, case: Case) -> bool:
        try:
            order_of(case, self.name)
        except UnknownOrder as error:
            return isinstance(error, UnlawfulDraws)
        return False

    def find_order(self, case: Case) -> MaskOrder | None:
        """The order in which it draws masks of a case; None where they are unknown."""
        try:
            return order_of(case, self.name)
        except ChangedByWatching as error:
            return error.order
        except UnknownOrder:
            return None

    def _derive_order(self, case: Case) -> MaskOrder | None:
        """The order of the first masks for those of another shape, which need not hold: see `has_another_order`."""
        first = next(iter(self.orders.values()), None)
        return self.find_order(case) if first is None else replace(first, shape=mask_shape(case))

    def _draws_anew(self, given: Given, count: int) -> bool:
        """Whether a new module draws so many numbers too, in a case of other sizes than the life's own.

        They may be more than it uses, where it fills up tiles; never fewer.
        """
        expected = math.prod(mask_shape(given.case))
        if count < expected or mask_shape(given.case) == mask_shape(self.case):
            return False
        with generators_kept(given.case.device), torch.no_grad():
            module, draws = build_loaded(given.case, self.name, given.stimulus).train(), DropoutRecorder()
            with draws:
                results_of(load_cell(given.case.cell), module, *given.tensors())
        return draws.count == count


def repetition(masks: Float[Tensor, "G T B H"], dropout: float, gaps: str = "two gaps between layers") -> str:
    """What masks repeat beyond all chance, as `drops the same entries in …`; empty where they repeat nothing."""
    alike = math.log(dropout**2 + (1 - dropout) ** 2)  # of the chance that an entry is the same in two masks

    def repeats(one: Tensor, other: Tensor) -> bool:
        return one.numel() * alike < _BY_CHANCE and torch.equal(one, other)

    if any(repeats(*pair) for pair in combinations(masks, 2)):
        return f"drops the same entries in {gaps}"
    for axis, words in enumerate(("steps", "rows", "units"), start=1):
        for lag in range(1, masks.shape[axis]):
            if repeats(*(masks.narrow(axis, start, masks.shape[axis] - lag) for start in (0, lag))):
                return f"drops the same entries in {words}, {lag} apart"
    return ""


def unlikely_share(masks: Float[Tensor, "G T B H"], dropout: float) -> str:
    """What share of the entries is dropped where that is beyond all chance, as `drops 50 % of …`; empty where not.

    By the Chernoff bound: exp(−n · KL(share, p)) is no less than the chance of a share as far from p.
    """
    share = (masks == 0).double().mean().item()
    divergence = sum(s * math.log(s / p) for s, p in ((share, dropout), (1 - share, 1 - dropout)) if s)
    return (
        f"drops {100 * share:.0f} % of the entries at p = {dropout:g}"
        if -masks.numel() * divergence < _BY_CHANCE
        else ""
    )


def _is_random(given: Given, call: Callable[[Tensor, Any], Any]) -> bool:
    """Whether a call gives another output under another seed."""
    tensors, cell = given.tensors(), load_cell(given.case.cell)
    with generators_kept(given.case.device):
        return draws_out_of_sight(
            lambda: results_of(cell, call, *tensors)["output"].detach().clone(), given.case.dropout
        )
