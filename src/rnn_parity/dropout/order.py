"""In which order a layer draws its dropout masks, found by moving some of its numbers and looking at what changes.

A right layer draws G·T·B·H numbers: gap by gap, as `nn.GRU`; step by step, as a loop; batch first; row by row. So the
layer is run with nothing dropped, and again with some entries dropped: that of gap g, step t and row b changes row b
alone, its output from step t on and its last states from layer g + 1 on.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from copy import copy
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rnn_parity.dropout.masks import DropoutRecorder, draws_out_of_sight, mask_shape
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.registry import load_factory
from rnn_parity.layers.running import call_layer, generators_kept, same, seed_generators
from rnn_parity.layers.stimulus import build_loaded, draw_stimulus

Run = Callable[[AbstractContextManager], Sequence[Tensor]]
"""Runs a layer once in training inside a recorder; returns output (T, B, H) and the last states, each (L, B, H)."""

Changes = dict[int, tuple[int, int]]
"""Row to the first step of output, else T, and the first layer of last states, else L, that changed."""

ENOUGH = 10
"""Rows that must be seen before an order is believed. One that is half right explains one row in two."""
TOLERATED = 0.1
"""The share of rows that may change otherwise: rounding can hide an entry where it is dropped and show it later."""
MOST_RUNS, MOST_MOVED = 16, 64
"""Runs with moved entries, or so many entries where the batch is small. One run is enough where the batch is large."""
MOST_ENTRIES = 32
"""Entries of which a run moves half: at most one for two rows on average."""
LARGEST_GAP = 1 / 16
"""The largest difference of the last state from the last step of the output, which are the same, as a share of it."""


class UnknownOrder(RuntimeError):
    """No order is known to be that of the layer's draws; the message says why."""

    may_be_watched = True


class UnlawfulDraws(UnknownOrder):
    """What the layer draws cannot be right, in whatever order; the message says what is wrong with it."""


class ChangedByWatching(UnknownOrder):
    """It computes something else while its draws are watched, as what is compiled does: `order` is that of others."""

    may_be_watched = False
    order: MaskOrder


@dataclass(frozen=True)
class MaskOrder:
    """The masks (G, T, B, H) with their axes in the order in which a layer draws them.

    Attributes:
        shape: (G, T, B, H).
        axes: those of the masks, the slowest of the stream first.
        unused: gaps behind the last layer that are drawn as well, and not used.
    """

    shape: tuple[int, int, int, int]
    axes: tuple[int, ...] = (0, 1, 2, 3)
    unused: int = 0

    @property
    def drawn_shape(self) -> tuple[int, ...]:
        """The masks' shape with all that is drawn."""
        return self.shape[0] + self.unused, *self.shape[1:]

    def to_stream(self, masks: Float[Tensor, "G T B H"]) -> Float[Tensor, " N"]:
        """The numbers of masks in the order of the draws."""
        return torch.cat([masks, masks[: self.unused]]).permute(self.axes).flatten()

    def to_masks(self, stream: Float[Tensor, " N"]) -> Float[Tensor, "G T B H"]:
        """The masks of a stream; `UnknownOrder` where it has another length."""
        if len(stream) != math.prod(self.drawn_shape):
            raise UnknownOrder(f"it draws {len(stream)} numbers, {math.prod(self.drawn_shape)} in another call")
        drawn = stream.view([self.drawn_shape[axis] for axis in self.axes])
        return drawn.permute([self.axes.index(axis) for axis in range(4)])[: self.shape[0]]

    def places(self, positions: Int[Tensor, " K"]) -> Iterator[tuple[int, int, int]]:
        """Gap, step and row of numbers of the stream."""
        found = torch.unravel_index(positions, [self.drawn_shape[axis] for axis in self.axes])
        return zip(*(found[self.axes.index(axis)].tolist() for axis in range(3)), strict=True)

    def contradicted(self, positions: Int[Tensor, " K"], changes: Changes) -> int:
        """How many rows change otherwise than they must where these numbers are dropped, or do not change at all."""
        dropped = defaultdict(list)
        for gap, step, row in self.places(positions):
            if gap < self.shape[0]:
                dropped[row].append((step, gap + 1))
        last = self.shape[1] - 1
        otherwise = sum(not _follows(dropped.get(row, ()), *change, last) for row, change in changes.items())
        return otherwise + len(dropped.keys() - changes.keys())


def _follows(dropped: Sequence[tuple[int, int]], step: int, layer: int, last: int) -> bool:
    """Whether the first step and layer of a row that changed follow from what was dropped: a step, before a layer."""
    if step <= last and step not in {at for at, _ in dropped}:
        return False
    if step == last:  # no later step has blurred the layers
        return (step, layer) in dropped
    return any(layer >= before for _, before in dropped)


def find_order(case: Case, run: Run) -> MaskOrder:
    """The order in which a layer draws its masks, for a case with dropout below 1 and two layers or more.

    The layer is run three times in a large case and up to 18 times in one of few rows; torch's generators are left as
    they were. Raises `UnlawfulDraws` for draws that cannot be right, and `UnknownOrder` where no order is found, as
    where the layer draws out of sight.
    """
    with generators_kept(case.device):
        return _find_order(_Probe(case, run))


_KNOWN: dict[tuple[int, Case], tuple[Callable[..., object], MaskOrder | UnknownOrder]] = {}
"""By a factory, which is kept so that no other has its id, and a case: the order, or why there is none."""


def order_of(case: Case, name: str) -> MaskOrder:
    """`find_order` of a new layer of the implementation `name`, given its own stimulus. A process tries it once."""
    factory = load_factory(name)
    key = id(factory), case
    if key not in _KNOWN:
        try:
            _KNOWN[key] = factory, _order_of(case, name)
        except UnknownOrder as error:
            _KNOWN[key] = factory, error.with_traceback(None)  # which would keep the layer and its tensors
    found = _KNOWN[key][1]
    if isinstance(found, UnknownOrder):
        raise copy(found)
    return found


def assume_order(case: Case, name: str, like: str) -> None:
    """Let the implementation `name` draw in the order of the implementation `like`, without trying it."""
    with suppress(UnknownOrder):
        order_of(case, like)
    factory = load_factory(name)
    _KNOWN[id(factory), case] = factory, _KNOWN[id(load_factory(like)), case][1]


def _order_of(case: Case, name: str) -> MaskOrder:
    stimulus = draw_stimulus(case, 0)
    with generators_kept(case.device):
        module = build_loaded(case, name, stimulus).train()
    input, *states = (t.to(case.device).requires_grad_() for t in (stimulus.input, *stimulus.states))

    def run(draws: AbstractContextManager, input: Tensor = input, states: Sequence[Tensor] = states):
        with draws:
            return call_layer(module, input, states)

    def results(draws: AbstractContextManager) -> list[Tensor]:
        seed_generators(0)
        outputs = run(draws)
        given = [tensor for tensor in (input, *states, *module.parameters()) if tensor.requires_grad]
        with suppress(Exception):  # its comparison will tell
            found = torch.autograd.grad([output.sum() for output in outputs], given, allow_unused=True)
            return [*outputs, *(gradient for gradient in found if gradient is not None)]
        return list(outputs)

    order = find_order(case, run)
    with generators_kept(case.device):
        other = draw_stimulus(case, 1)
        given, *of_states = (t.to(case.device) for t in (other.input, *other.states))
        if not _explains(order, _Probe(case, partial(run, input=given, states=of_states))):
            raise UnknownOrder("the order in which it draws its masks depends on its input")
        # The first two are not compared: what compiles then may draw, and what a layer keeps between calls is missing.
        _, _, watched, alone = (results(draws()) for draws in (DropoutRecorder, nullcontext) * 2)
        if _alike(watched, alone):
            return order
        alone_again, watched_again = results(nullcontext()), results(DropoutRecorder())
    if _alike(alone, alone_again) and _alike(watched, watched_again):
        error = ChangedByWatching("it computes something else while its draws of dropout are watched")
        error.order = order
        raise error
    return order


def _explains(order: MaskOrder, probe: _Probe) -> bool:
    """Whether most rows change as an order says. Of four rows in an unrelated order, three on average do not."""
    sizes = 2, max(1, min(probe.case.batch_size, MOST_ENTRIES) // 2)
    drops = torch.randint(probe.count, sizes, generator=torch.Generator().manual_seed(0))
    changes = [probe.drop(positions) for positions in drops]
    return sum(map(order.contradicted, drops, changes)) <= sum(map(len, changes)) / 2


def _alike(ones: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(ones) == len(others) and all(map(same, ones, others))


def _find_order(probe: _Probe) -> MaskOrder:
    shape = mask_shape(probe.case)
    expected, with_last = math.prod(shape), math.prod((shape[0] + 1, *shape[1:]))
    if probe.count > 0:
        probe.refuse_misplaced()
    if probe.count < expected:
        if probe.is_random():
            raise UnknownOrder("its masks are drawn out of sight")
        raise UnlawfulDraws(_too_few(probe.count, shape))
    order = None
    if probe.count in (expected, with_last):
        order = _search(probe, shape, unused=int(probe.count == with_last))
    if order is not None:
        return order
    if not probe.ends_agree:
        raise UnlawfulDraws("its last state is not its output's last step")
    raise UnknownOrder(f"no order explains the {probe.count:,} numbers that it draws for dropout")


def _search(probe: _Probe, shape: tuple[int, int, int, int], unused: int) -> MaskOrder | None:
    """The one order that explains what dropped entries change; None where there is none, or nothing to be seen."""
    sizes = MaskOrder(shape, unused=unused).drawn_shape
    alike = {tuple(axis for axis in axes if sizes[axis] > 1): axes for axes in itertools.permutations(range(4))}
    orders = [MaskOrder(shape, axes, unused) for axes in alike.values()]
    if len(orders) == 1:
        return orders[0]
    generator, seen, against = torch.Generator().manual_seed(0), 0, [0] * len(orders)
    entries = min(probe.case.batch_size, MOST_ENTRIES)
    for _ in range(max(MOST_RUNS, MOST_MOVED // entries)):
        # Spread evenly over the stream: another kind of order differs in some part of it.
        places = (torch.arange(entries) + torch.rand(entries, generator=generator)) / entries
        # Half of them, for where all rows change, none is told from another.
        half = places[torch.randperm(entries, generator=generator)[: (entries + 1) // 2]]
        positions = (half * probe.count).long().clamp(max=probe.count - 1)
        changes = probe.drop(positions)
        seen += len(changes)
        against = [rows + order.contradicted(positions, changes) for order, rows in zip(orders, against, strict=True)]
        left = [order for order, rows in zip(orders, against, strict=True) if rows <= TOLERATED * seen]
        if seen >= ENOUGH and len(left) == 1:
            return left[0]
        if seen >= 2 * ENOUGH and not left:
            break
    return None


def _too_few(count: int, shape: tuple[int, int, int, int]) -> str:
    """What is wrong with a layer that draws fewer numbers than it should."""
    if count == 0:
        return "it draws no dropout mask"
    names = ("layers", "steps", "rows of the batch", "units")
    # Some draw masks behind the last layer too, and use them or not.
    for shared, sizes in itertools.product(range(1, len(shape) + 1), (shape, (shape[0] + 1, *shape[1:]))):
        fitting = [
            " and ".join(names[axis] for axis in group)
            for group in itertools.combinations([axis for axis in (1, 0, 2, 3) if sizes[axis] > 1], shared)
            if count * math.prod(sizes[axis] for axis in group) == math.prod(sizes)
        ]
        if fitting:
            return f"it draws one dropout mask for all {', or for all '.join(fitting)}"
    return f"it draws {count:,} numbers for dropout, expected {math.prod(shape):,}"


@dataclass
class _Probe:
    """A layer that is run with numbers of ours in place of its draws, compared with a run that drops nothing."""

    case: Case
    run: Run
    count: int = field(init=False)
    kept: tuple[Tensor, ...] = field(init=False)

    def __post_init__(self) -> None:
        draws = DropoutRecorder(torch.ones(self.case.num_layers * math.prod(mask_shape(self.case)[1:])))
        self.kept = self._outputs(draws)
        self.count = draws.count
        sizes = self.case.batch_size, self.case.hidden_size
        output, *states = (tuple(tensor.shape) for tensor in self.kept)
        if output != (self.case.sequence_length, *sizes):
            raise UnlawfulDraws(f"its output is {output}")
        if any(state != (self.case.num_layers, *sizes) for state in states):
            raise UnknownOrder(f"its last states are {', '.join(map(str, states))}")

    def drop(self, positions: Int[Tensor, " K"]) -> Changes:
        """What changes where these numbers are zeros."""
        stream = torch.ones(self.count)
        stream[positions] = 0
        output, *states = self._dropping(stream)
        steps = _first(_differ(output, self.kept[0]))
        layers = _first(torch.stack(list(map(_differ, states, self.kept[1:]))).any(0))
        nothing = self.case.sequence_length, self.case.num_layers
        return {row: pair for row, pair in enumerate(zip(steps, layers, strict=True)) if pair != nothing}

    def is_random(self) -> bool:
        """Whether the layer draws out of sight."""
        nothing_dropped = torch.ones(self.count)
        return draws_out_of_sight(lambda: self.run(DropoutRecorder(nothing_dropped))[0].detach(), self.case.dropout)

    @property
    def ends_agree(self) -> bool:
        """Whether the last state is the output's last step, which no masks change."""
        last, state = (tensor[-1].double() for tensor in self.kept[:2])
        return not (last - state).abs().max() > LARGEST_GAP * last.abs().max()

    def refuse_misplaced(self) -> None:
        """Raise `UnlawfulDraws` where what is dropped does not lie between two layers.

        Told by dropping everything: the first layer's last states stay as they are, and the output is not zero.
        """
        output, *states = self._dropping(torch.zeros(self.count))
        nothing_left = not output.any()
        of_first = [state[:1] for state in states]
        if not any(_differ(state, kept[:1]).any() for state, kept in zip(of_first, self.kept[1:], strict=True)):
            if nothing_left:
                raise UnlawfulDraws("it drops its last layer's output")
        elif self.ends_agree:  # else the first layer's states may be those of another
            for _ in range(2):  # one that changes at every second call gives the first results in the third
                again = self._dropping(torch.ones(self.count))
                if any(_differ(*pair).any() for pair in zip(again, self.kept, strict=True)):
                    raise UnknownOrder("its results change from call to call, whatever it drops")
            if nothing_left:
                raise UnlawfulDraws("it drops its states, not only what goes from one layer to the next")
            if any(not state.any() for state in of_first):
                raise UnlawfulDraws("it drops its last states")
            raise UnlawfulDraws("it drops what its first layer reads: its input, or the state that is carried")

    def _dropping(self, stream: Float[Tensor, " N"]) -> tuple[Tensor, ...]:
        draws = DropoutRecorder(stream)
        outputs = self._outputs(draws)
        if draws.count != self.count:
            calls = f"{self.count:,} numbers for dropout in its first call and {draws.count:,} in the next"
            raise UnlawfulDraws(f"it draws {calls}")
        return outputs

    def _outputs(self, draws: DropoutRecorder) -> tuple[Tensor, ...]:
        seed_generators(0)
        return tuple(tensor.detach() for tensor in self.run(draws))


def _differ(one: Float[Tensor, "S B H"], other: Float[Tensor, "S B H"]) -> Bool[Tensor, "S B"]:
    return ((one != other) & ~(one.isnan() & other.isnan())).any(-1).cpu()


def _first(changed: Bool[Tensor, "S B"]) -> list[int]:
    """For each row the first index along S that changed; S where none did."""
    return torch.where(changed.any(0), changed.int().argmax(0), len(changed)).tolist()
