"""Points of a life: sizes next to those at which kernels change their tiles, chunks, blocks and offsets."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rnn_parity.cells.base import Cell
from rnn_parity.dropout.masks import echo, mask_shape
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.running import seed_generators
from rnn_parity.layers.stimulus import Stimulus
from rnn_parity.life.course import SEED, Life
from rnn_parity.life.drawing import unlikely_share
from rnn_parity.life.judging import Found
from rnn_parity.life.one_call import Given, Results, many, results_of
from rnn_parity.life.points import point

LONGEST_S = 1.0
"""A forward pass that would take longer is left out."""

REMEMBERING = 5.0
"""The bias with which a gate keeps the states for some 150 steps. The roundings of many more may all point one way."""

FORGETTING = 40.0
"""The bias with which a gate keeps nothing of them."""

COARSE = 0.05
"""How far, relative, a value may be off that shows by what dropout has scaled it."""

COUNTED = 60
"""Calls that do not all drop as many of 16 entries."""

T, B, I, H, L = "sequence_length", "batch_size", "input_size", "hidden_size", "num_layers"  # noqa: E741 letters of axes


def _at(
    life: Life,
    sizes: list[dict[str, Any]],
    modes: tuple[str, ...],
    change: Callable[[Stimulus], Stimulus] | None = None,
    words: str = "",
) -> Iterator[Found]:
    """Judge a fresh module at each of some sizes, by default of two layers; `change` of what it is given, in words."""
    names = {T: "T", B: "B", I: "I", H: "H", L: "L"}
    for axes in sizes:
        if (seconds := _estimate(life, axes)) > LONGEST_S:
            yield Found(Verdict.NOT_JUDGED, reason=f"left out: it would take about {seconds:.0f} s")
            continue
        given = life.draw(**{L: min(2, life.case.num_layers)} | axes)
        given = given.change(change) if change else given
        module = life.build(given)
        at = ", ".join(f"{letter} {axes[axis]}" for axis, letter in names.items() if axis in axes)
        for mode in (mode for mode in modes if mode in life.modes):
            yield life.judge(module, given, mode, f"at {at}{words}, in {mode}")


def _estimate(life: Life, axes: dict[str, Any]) -> float:
    """The seconds of a forward pass, from one of a sixteenth of the rows; 0 for few rows."""
    if axes.get(B, 1) < 1000:
        return 0.0
    small = axes | {B: axes[B] // 16}
    given = life.draw(**small, num_layers=min(2, life.case.num_layers))
    module = life.build(given).eval()
    started = time.monotonic()
    with torch.no_grad():
        results_of(life.cell, module, *given.tensors())
    return 16 * (time.monotonic() - started)


@point("Batches next to multiples of 32", may_refuse=True)
def batches(life: Life) -> Iterator[Found]:
    """Batches of 12, next to 32, 64 and 128 rows, and of 600, which most numbers of rows at a time divide."""
    sizes = [{T: 3, B: rows} for rows in (12, 31, 32, 64, 127, 128, 600)]
    yield from _at(life, sizes, (life.quiet, "inference"))
    undropped: list[dict[str, Any]] = [{T: 3, B: rows, "dropout": 0.0} for rows in (33, 65, 129)]
    yield from _at(life, undropped, life.modes)


@point("An empty batch", may_refuse=True, condition="its batches are never empty")
def empty_batch(life: Life) -> Iterator[Found]:
    """Of no rows it gives no rows, and gradients of zero, as where a shard of the data is empty."""
    module = life.build(life.draw())
    for mode in life.modes:
        given, when = life.draw(batch_size=0, dropout=0.0), f"with no rows, in {mode}"
        for name, value in life.call(module, given, mode).values.items():
            expected = dict(zip(life.cell.outputs(), given.stimulus.cotangents, strict=True)).get(name, value)
            if value.shape != expected.shape:
                reason = f"is {tuple(value.shape)}, expected {tuple(expected.shape)}"
                yield Found(Verdict.DIFFERENT, name, reason, when=when)
            if not bool((value == 0).all()):
                yield Found(Verdict.DIFFERENT, name, "is not zero", when=when)
        yield Found(Verdict.EQUIVALENT, when=when)


@point("Widths next to multiples of 8, 32, 64 and 128", may_refuse=True)
def widths(life: Life) -> Iterator[Found]:
    """Widths of 1, 12, next to 8, 32, 64, 128, 256 and 512; inputs of 300, 1030 and 2050, and as wide as all
    gates; all sizes alike, so that no axis is told from another by its size.
    """
    sizes = (
        (1, 1), (8, 7), (9, 16), (33, 31), (32, 32), (31, 33), (64, 65), (65, 64), (129, 200), (64, 128),
        (5, 12), (3, 257), (300, 5), (1030, 3), (2050, 2),
    )  # fmt: skip
    of_gates = {T: 3, B: 5, I: 2 * len(life.cell.gates), H: 2}
    wide = [{T: 3, B: 5, I: width, H: size} for width, size in sizes]
    yield from _at(life, [*wide, of_gates], (life.quiet, "inference"))
    yield from _at(life, [{T: 3, B: 2, I: 3, H: 513, L: 1, "dropout": 0.0}], (life.quiet,))
    yield from _at(life, [dict.fromkeys((T, B, I, H), 2)], life.modes)
    if life.case.draws_dropout:
        yield from _at(life, [{T: 2, B: 4, I: 3, H: 257, "dropout": 0.5}], ("train",))


@point("Sizes of one", may_refuse=True)
def ones(life: Life) -> Iterator[Found]:
    """T, B, I, H and L of one in every combination, as a stream and a small model have them."""
    sizes = {T: 3, B: 4, I: 5, H: 6, L: min(2, life.case.num_layers), "dropout": 0.0}
    some = itertools.chain.from_iterable(itertools.combinations((T, B, I, H, L), number) for number in range(1, 6))
    yield from _at(life, [sizes | dict.fromkeys(axes, 1) for axes in some], (life.quiet, "inference"))


@point("Numbers of layers", may_refuse=True)
def depths(life: Life) -> Iterator[Found]:
    """One layer, which has nothing to drop, two, six, and eleven, where it takes several."""
    if life.case.num_layers > 1:
        yield from _at(life, [{T: 3, B: 3, L: 1, "dropout": p} for p in (0.0, life.case.dropout)], life.modes)
        yield from _at(life, [{T: 3, B: 3, L: 2}, {T: 3, B: 3, L: 6}], life.modes)
        yield from _at(life, [{T: 2, B: 2, L: 11}], (life.quiet, "inference"))


@point("Sequences next to 64, 128, 256 and 1,024 steps", may_refuse=True)
def lengths(life: Life) -> Iterator[Found]:
    """Sequences that end at a chunk's boundary and behind it: gradients of what lies before it arrive, also where the
    states are kept for 150 steps. A pause of many equal steps ends.
    """
    yield from _at(life, [{T: 64, B: 2}, {T: 129, B: 2}], (life.quiet, "inference"))
    yield from _at(life, [{T: 257, B: 2}], ("train",) if "train" in life.modes else (life.quiet,))
    pause, words = [{T: 129, B: 2}], " with a pause of 100 equal steps"
    yield from _at(life, pause, (life.quiet, "inference"), partial(_paused, life.cell), words)
    longest, modes = [{T: 1030, B: 1, L: 1, "dropout": 0.0}], (life.quiet, "inference")
    yield from _at(
        life, longest, modes, partial(_forgetting, life.cell, -REMEMBERING), " and weights that keep the states"
    )


def _paused(cell: type[Cell], stimulus: Stimulus) -> Stimulus:
    """The same with equal steps in the middle, at which the states settle."""
    input = stimulus.input.clone()
    input[10:110] = input[10]
    return replace(_forgetting(cell, 3.0, stimulus), input=input)


def _forgetting(cell: type[Cell], bias: float, stimulus: Stimulus) -> Stimulus:
    """The same with a bias by which its gates forget the states at every step; keep them, where it is negative."""
    of_gates = [bias * math.copysign(1, cell.closed[gate]) if gate in cell.closed else 0.0 for gate in cell.gates]

    def biased(name: str, weight: Tensor) -> Tensor:
        more = torch.tensor(of_gates, dtype=weight.dtype).repeat_interleave(len(weight) // len(of_gates))
        return weight + more if name.startswith("bias_ih") else weight

    return replace(stimulus, weights={name: biased(name, weight) for name, weight in stimulus.weights.items()})


@point("More than 65,536 rows of all steps", may_refuse=True)
def many_rows(life: Life) -> Iterator[Found]:
    """T·B, and B alone, over 65,536, where a grid of blocks has its limit; T·B·H over 2¹⁶ and 2¹⁷."""
    yield from _at(life, [{T: 16, B: 4097, H: 2, I: 2}, {T: 1, B: 65537, H: 2, I: 2}], (life.quiet, "inference"))


@point("Dropout over many steps and rows", may_refuse=True)
def many_masks(life: Life) -> Iterator[Found]:
    """Over hundreds of steps, thousands of rows and more than 2¹⁶ entries its masks do not repeat. As many entries are
    dropped as p says, also at 7/10 and at 1/1000, and the others are scaled by 1 / (1 − p). The output of one unit that
    forgets its states shows what was dropped.
    """
    if "train" not in life.modes or not life.case.draws_dropout or life.case.dropout == 1 or not life.cell.closed:
        return
    for steps, rows, p in ((1030, 2, 0.5), (2, 4100, 0.5), (17, 4096, 0.5), (17, 4096, 0.001), (9, 100, 0.7)):
        axes = {T: steps, B: rows, I: 1, H: 1}
        if (seconds := _estimate(life, axes)) > LONGEST_S:
            yield Found(Verdict.NOT_JUDGED, reason=f"left out: it would take about {seconds:.0f} s")
            continue
        given = life.draw(**axes, num_layers=2, dropout=p).change(partial(_telling, life.cell))
        module = life.build(given).train()
        seed_generators(life.seed + SEED)
        output = _output(life, module, given)
        when = f"at T {steps}, B {rows}, H 1, dropout {p:g}, in train"
        if not output.max() > 0:
            reason = "holds NaN" if output.isnan().any() else "drops everything"
            yield Found(Verdict.DIFFERENT, "output", reason, when=when)
            continue
        expected = _where_kept(life, p)
        kept = (output > expected / 2).double()
        wrong = unlikely_share(kept, p) or _unlike(output[kept.bool()], expected)
        if not wrong and (distance := echo(kept)):
            before = "{} steps and {} rows before".format(*divmod(distance, rows))
            wrong = f"drops what depends on what it dropped {before}"
        yield Found(Verdict.DIFFERENT if wrong else Verdict.EQUIVALENT, "output" * bool(wrong), wrong, when=when)
    few = life.draw(**{T: 2, B: 8, I: 1, H: 1, L: 2}, dropout=0.5).change(partial(_telling, life.cell))
    module, expected = life.build(few).train(), _where_kept(life, 0.5)
    if len({int((_output(life, module, few) > expected / 2).sum()) for _ in many(COUNTED)}) == 1:
        reason, when = (
            "drops the same number of entries at every call",
            f"in {COUNTED} calls at T 2, B 8, H 1, in train",
        )
        yield Found(Verdict.DIFFERENT, "output", reason, when=when)


def _output(life: Life, module: nn.Module, given: Given) -> Tensor:
    """The output of a call, in the order of steps and rows."""
    return results_of(life.cell, module, *given.tensors())["output"].detach().cpu().abs().flatten().double()


def _where_kept(life: Life, p: float) -> float:
    """The output of a layer that tells, where nothing was dropped."""
    one = life.draw(**{T: 1, B: 1, I: 1, H: 1, L: 2}, dropout=p).change(partial(_telling, life.cell))
    return one.references.with_masks(torch.ones(mask_shape(one.case))).values["output"].abs().item()


def _unlike(found: Tensor, expected: float) -> str:
    """What is wrong with outputs where nothing was dropped; empty where nothing is."""
    right = torch.isclose(found, torch.full_like(found, expected), rtol=COARSE, atol=0)
    return "" if right.all() else f"gives {found[~right][0]:.3g} for an entry that it keeps, expected {expected:.3g}"


def _telling(cell: type[Cell], stimulus: Stimulus) -> Stimulus:
    """The same with ones as input and weights of the input, and states that are forgotten at every step: what the
    second layer gives is zero where its input was dropped.
    """
    values = {"weight_ih": 1.0, "weight_hh": 0.0, "bias_ih": 0.0, "bias_hh": 0.0}
    weights = {name: torch.full_like(w, values[name.partition("_l")[0]]) for name, w in stimulus.weights.items()}
    plain = replace(stimulus, weights=weights, input=torch.ones_like(stimulus.input))
    return _forgetting(cell, FORGETTING, plain)


@point("More than 65,535 steps", may_refuse=True, deep=True)
def many_steps(life: Life) -> Iterator[Found]:
    """T over 65,535, forward alone."""
    yield from _at(life, [{T: 65537, B: 1, H: 2, I: 2}], ("inference",))


@point("More than 1,024 units", may_refuse=True, deep=True)
def many_units(life: Life) -> Iterator[Found]:
    """H over 1,024, the most threads of a block, forward alone."""
    yield from _at(life, [{T: 2, B: 2, I: 3, H: 1025, L: 1, "dropout": 0.0}], ("inference",))


@point("Offsets over 2³¹", may_refuse=True, deep=True)
def large_offsets(life: Life) -> Iterator[Found]:
    """T·B·H over 2³¹ numbers, forward alone: eight rows, repeated, come out alike at the start and at the end."""
    rows, steps, size = 8, 2, 64
    given = life.draw(sequence_length=steps, batch_size=rows, hidden_size=size, input_size=2)
    times = 2**31 // (steps * size * rows) + 1
    needed = 8 * times * given.stimulus.cotangents[0].nbytes  # gates and states of a step, and the results
    if (free := _free_bytes(given.case.device)) < needed:
        reason = f"left out: needs {needed / 1e9:.0f} GB of memory, {free / 1e9:.0f} GB are free"
        yield Found(Verdict.NOT_JUDGED, reason=reason)
        return
    module = life.build(given).eval()
    with torch.no_grad():
        repeated = [tensor.repeat(1, times, 1) for tensor in given.tensors()]
        found = results_of(life.cell, module, *repeated)
    for words, part in (("first", slice(0, rows)), ("last", slice(-rows, None))):
        values = {name: value[:, part].cpu() for name, value in found.items()}
        yield life.hold(given, partial(Results, values), f"in the {words} of {times * rows:,} rows")


def _free_bytes(device: str) -> int:
    import psutil  # for this alone: where a GPU is borrowed it may be missing

    return torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
