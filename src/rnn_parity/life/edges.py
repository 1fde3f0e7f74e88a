"""Points of a life: states, inputs and weights at the edge of what they may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.parameters import unwrapped
from rnn_parity.layers.stimulus import Stimulus
from rnn_parity.life.course import Life, without_states
from rnn_parity.life.judging import Found
from rnn_parity.life.one_call import Results, results_of
from rnn_parity.life.points import point

LARGE = 32.0
"""Times the inputs or the states: far into the gates' saturation, and beyond every clip that is in use for cells."""

OUTLIER = 10_000.0
"""Times the inputs of one row beside others."""

SHIFT, HALF_SHIFT = 20, 10
"""The power of two by which inputs grow or shrink, and one whose inverse float16 holds."""

HEAVY = 6.0
"""Times the matrices: rows of them are then longer than the norms that are in use as a limit."""

PROBABILITIES = (0.7, 0.02)
"""Of dropout beside the layer's own: more than a half, and next to none."""

ROWS_OF_MASKS = 64
"""So many rows show a share of dropped entries that is off by a tenth."""

PADDED = 30
"""As many steps, most of them zeros, as what looks for padding may want before it cuts them off."""

DRAWS = 3
"""As many draws are tried where one is too coarse to be judged, as saturated gates are in half precision."""

Change = Callable[[Stimulus], Stimulus]


def _each(life: Life, changes: Mapping[str, Change]) -> Iterator[Found]:
    """A fresh module for every change of what it is given, in every mode: what fails there fails for that change."""
    for when, change in changes.items():
        for draw in range(DRAWS):
            given, judged = life.draw(draw).change(change), True
            module = life.build(given)
            for mode in life.modes:
                found = life.judge(module, given, mode, f"with {when}, in {mode}")
                judged &= found.verdict != Verdict.NOT_JUDGED
                yield found
            if judged:
                break


def _zeroed(tensor: Tensor, *place) -> Tensor:
    tensor = tensor.clone()
    tensor[place] = 0
    return tensor


def _of_weights(change: Callable[[Tensor], Tensor], *names: str) -> Change:
    """The change of the weights whose names begin with one of these."""

    def changed(stimulus: Stimulus) -> Stimulus:
        weights = {name: change(w) if name.startswith(names) else w for name, w in stimulus.weights.items()}
        return replace(stimulus, weights=weights)

    return changed


@point("States of zero")
def zero_states(life: Life) -> Iterator[Found]:
    """States of zero: all, each alone, of one layer, of one row."""
    if not life.takes_states:
        return
    states = life.cell.states

    def of_state(at: int | None, *place):
        return lambda stimulus: replace(
            stimulus,
            states=tuple(_zeroed(s, *place) if at in (k, None) else s for k, s in enumerate(stimulus.states)),
        )

    changes: dict[str, Change] = {"states of zero": without_states}
    if len(states) > 1:
        changes |= {f"{state}0 of zero": of_state(at, ...) for at, state in enumerate(states)}
    if life.case.num_layers > 1:
        changes |= {f"states of zero in layer {k}": of_state(None, k) for k in (0, life.case.num_layers - 1)}
    changes |= {"states of zero in one row": of_state(None, slice(None), 0)}
    yield from _each(life, changes)


@point("No states given", may_refuse=True)
def no_states(life: Life) -> Iterator[Found]:
    """Called with its input alone, it starts from states of zero."""
    given = life.draw().change(without_states)
    module = life.build(given)
    for mode in life.modes:
        for again in ("", " again"):
            yield life.judge(
                module, given, mode, f"without states{again}, in {mode}",
                through=lambda input, _: module(input), with_states=False,
            )  # fmt: skip
    for rows in (life.case.batch_size, 1) if "inference" in life.modes else ():
        one_step = life.draw(sequence_length=1, batch_size=rows, weights_of=0).change(without_states)
        for times in ("once", "twice"):
            yield life.judge(
                module, one_step, "inference", f"without states, one step of B {rows}, {times}, in inference",
                through=lambda input, _: module(input), with_states=False,
            )  # fmt: skip
    if life.takes_states:
        own = life.draw().with_weights(given.stimulus.weights)
        for mode in life.modes:
            yield life.judge(module, own, mode, f"with states, after a call without, in {mode}")
            yield life.judge(
                module, given, mode, f"without states, after a call with states, in {mode}",
                through=lambda input, _: module(input), with_states=False,
            )  # fmt: skip


@point("Inputs of zero")
def zero_inputs(life: Life) -> Iterator[Found]:
    """Zeros: all inputs, one step, the last steps, a row with its states; and a row whose inputs add up to zero."""

    def of_input(*place):
        return lambda stimulus: replace(stimulus, input=_zeroed(stimulus.input, *place))

    def row(stimulus):
        states = tuple(_zeroed(state, slice(None), 0) for state in stimulus.states)
        return replace(stimulus, input=_zeroed(stimulus.input, slice(None), 0), states=states)

    def sum_of_zero(stimulus):
        changed = torch.ones_like(stimulus.input)
        changed[..., 1::2] = -1
        if changed.shape[-1] % 2:
            changed[..., -1] = 0
        return replace(stimulus, input=torch.cat([changed[:, :1], stimulus.input[:, 1:]], 1))

    steps = life.case.sequence_length
    yield from _each(
        life,
        {
            "an input of zeros": of_input(...),
            "a step of zeros": of_input(steps // 2),
            "zeros from the middle on": of_input(slice(steps // 2, None)),
            "a row of zeros": row,
            "a row that adds up to zero": sum_of_zero,
        },
    )
    padded = life.draw(sequence_length=PADDED).change(of_input(slice(PADDED // 3, None)))
    when = f"with zeros behind step {PADDED // 3} of {PADDED}"
    for mode in life.modes:
        yield life.judge(life.build(padded), padded, mode, f"{when}, in {mode}")


@point("Inputs that look like classes or padding")
def telling_inputs(life: Life) -> Iterator[Found]:
    """An input that is one-hot, of integers or scaled, has a step of -1 or a feature of 0, or rows that begin alike."""

    def of_input(change: Callable[[Tensor], Tensor]) -> Change:
        return lambda stimulus: replace(stimulus, input=change(stimulus.input.clone()))

    def classes(input: Tensor) -> Tensor:
        return one_hot(input.argmax(-1), input.shape[-1]).to(input.dtype)

    def masked(input: Tensor) -> Tensor:
        input[len(input) // 2] = -1
        return input

    def begun_alike(stimulus: Stimulus) -> Stimulus:
        first = stimulus.input[:1, :1].expand_as(stimulus.input[:1])
        states = tuple(state[:, :1].expand_as(state).contiguous() for state in stimulus.states)
        return replace(stimulus, input=torch.cat([first, stimulus.input[1:]]), states=states)

    changes: dict[str, Change] = {
        "an input that is one-hot": of_input(classes),
        "an input of small integers": of_input(lambda input: (3 * input).round()),
        "a step of -1": of_input(masked),
        "an input from 0 to 1": of_input(lambda input: (input - input.min()) / (input.max() - input.min())),
        "a last feature of zeros": of_input(lambda input: _zeroed(input, ..., -1)),
        "rows that begin alike": begun_alike,
    }
    yield from _each(life, changes)


@point(
    "A row, a weight or a gradient that is not finite",
    may_refuse=True,
    condition="every input, weight and gradient is finite",
)
def not_finite(life: Life) -> Iterator[Found]:
    """A row of NaN gives NaN. It, or one of infinity, spoils no other, and is left as it is. A gradient of infinity, as
    scaled losses have it, reaches the parameters as one that is not finite. A weight of NaN, as of a training that
    diverged, shows.
    """
    given, row = life.draw(), life.case.batch_size // 2
    module = life.build(given).eval()
    spoiled = (torch.arange(life.case.batch_size, device=life.case.device) == row)[:, None]

    def beside(value: float) -> Results:
        input, *states = given.tensors()
        input[:, row] = value
        copy = input.clone()
        with torch.no_grad():
            whole = results_of(life.cell, module, *given.tensors())
            found = results_of(life.cell, module, input, *states)
        values = {name: torch.where(spoiled, whole[name], result).cpu() for name, result in found.items()}
        hidden = [name for name, result in found.items() if math.isnan(value) and not result[:, row].isnan().all()]
        offence = f"gives numbers as its {hidden[0]} of a row of NaN" if hidden else ""
        return Results(values, offence=life.offence_of({"input": input}, {"input": copy}, found) or offence)

    for value in (math.nan, math.inf):
        yield life.hold(given, partial(beside, value), f"beside a row of {value}")
    for value in (math.nan, math.inf):
        spoilt = {"output": torch.full_like(given.cotangents["output"], value)}
        one = life.start(life.build(given), replace(given, cotangents={**given.cotangents, **spoilt}), life.quiet)
        for name, gradient in one.gradients().items():
            if name.startswith(("grad_weight", "grad_bias")) and gradient.isfinite().all():
                yield Found(Verdict.DIFFERENT, name, "is finite", when=f"where the gradient of output is {value}")
    diverged = given.change(_of_weights(partial(torch.full_like, fill_value=math.nan), "weight_hh"))
    for name, result in life.start(life.build(diverged), diverged, life.quiet).values.items():
        if result.isfinite().any():
            yield Found(Verdict.DIFFERENT, name, "is finite", when="where weight_hh is NaN")


@point("Matrices with zeros")
def zero_weights(life: Life) -> Iterator[Found]:
    """Entries that are zero still learn: all of weight_hh, all of weight_ih, or three in four of every matrix."""

    def pruned(weight: Tensor) -> Tensor:
        return weight * (torch.arange(weight.numel()).view_as(weight) % 4 == 0)

    changes = {
        "weight_hh of zero": _of_weights(torch.zeros_like, "weight_hh"),
        "weight_ih of zero": _of_weights(torch.zeros_like, "weight_ih"),
        "pruned weights": _of_weights(pruned, "weight"),
    }
    yield from _each(life, changes)


@point("Biases of zero")
def zero_biases(life: Life) -> Iterator[Found]:
    """Biases of zero: all, those of the input, those of the state; all with an input and states of zero, from which a
    layer gives exact zeros.
    """
    without_biases = _of_weights(torch.zeros_like, "bias")

    def nothing_but_matrices(stimulus: Stimulus) -> Stimulus:
        without = replace(without_states(stimulus), input=torch.zeros_like(stimulus.input))
        return without_biases(without)

    yield from _each(
        life,
        {
            "biases of zero": without_biases,
            "bias_ih of zero": _of_weights(torch.zeros_like, "bias_ih"),
            "bias_hh of zero": _of_weights(torch.zeros_like, "bias_hh"),
            "biases, input and states of zero": nothing_but_matrices,
        },
    )


@point("Large inputs, states and weights")
def large(life: Life) -> Iterator[Found]:
    """Inputs and states far beyond what gates tell apart; states that no sequence from zero could reach; weights that
    have grown. And numbers that no fixed range holds: inputs times a power of two, with weights that undo it.
    """

    def of_row(stimulus):
        return replace(stimulus, input=torch.cat([OUTLIER * stimulus.input[:, :1], stimulus.input[:, 1:]], 1))

    def of_states(*places: int) -> Change:
        return lambda stimulus: replace(
            stimulus, states=tuple(LARGE * (at in places) * state for at, state in enumerate(stimulus.states))
        )

    def shifted(power: int) -> Change:
        undone = _of_weights(lambda weight: weight * 2.0**-power, "weight_ih_l0")
        return lambda stimulus: undone(replace(stimulus, input=stimulus.input * 2.0**power))

    most = HALF_SHIFT if life.case.dtype == "float16" else SHIFT
    changes: dict[str, Change] = {
        f"inputs times 2^{power} and weights that undo it": shifted(power) for power in (most, -most)
    }
    changes |= {"large inputs": lambda s: replace(s, input=LARGE * s.input), "one row of very large inputs": of_row}
    changes |= {"large weights": _of_weights(lambda w: HEAVY * w, "weight")}
    if life.takes_states:
        names = life.cell.states
        changes |= {"large states": of_states(*range(len(names)))}
        changes |= {f"a large {state}0 beside zeros": of_states(at) for at, state in enumerate(names) if names[1:]}
    yield from _each(life, changes)


@point("Inputs close to zero", condition="its inputs and states are not all close to zero")
def weak(life: Life) -> Iterator[Found]:
    """Inputs of the order of 10⁻⁶, with states and biases of zero, give results that are precise for their size."""
    power = -8 if life.case.dtype == "float16" else -20

    def faint(stimulus: Stimulus) -> Stimulus:
        return without_states(replace(stimulus, input=stimulus.input * 2.0**power))

    without_biases = _of_weights(torch.zeros_like, "bias")
    when = f"inputs times 2^{power} and biases and states of zero"
    yield from _each(life, {when: lambda stimulus: without_biases(faint(stimulus))})


@point("Other dropout probabilities", may_refuse=True)
def dropout_of(life: Life) -> Iterator[Found]:
    """A p of more than a half, or next to none, is as good as any; and so many entries are dropped as p says."""
    probabilities = dict.fromkeys((*PROBABILITIES, life.case.dropout)) if life.case.draws_dropout else ()
    drawn = [life.draw(dropout=p, batch_size=ROWS_OF_MASKS) for p in probabilities]
    modules = [life.build(given) for given in drawn]  # all there at once, and each has its own
    for given, module in zip(drawn, modules, strict=True):
        for mode in life.learning_modes[-1:]:
            yield life.judge(module, given, mode, f"at dropout {given.case.dropout:g}, in {mode}")


@point(
    "Its attribute `dropout`, set later",
    may_refuse=True,
    condition="its attribute `dropout` is not set after it is built",
)
def dropout_attribute(life: Life) -> Iterator[Found]:
    """Where that is a number, as PyTorch's layers have it, another one counts from then on, and 0 ends dropout."""
    if "train" in life.modes and life.case.draws_dropout:
        module = life.build(life.draw(dropout=life.case.dropout))
        layer: Any = unwrapped(module)
        for p in (0.6, 0.0) if isinstance(getattr(layer, "dropout", None), float) else ():
            layer.dropout = p
            given = life.draw(dropout=p)
            yield life.judge(module, given, "train", f"after its attribute `dropout` is set to {p:g}")


@point("A dropout of 1", may_refuse=True, condition="its dropout is below 1")
def dropout_of_one(life: Life) -> Iterator[Found]:
    """Everything is dropped between layers, and nothing is NaN; in evaluation nothing is dropped."""
    if life.case.draws_dropout:
        given = life.draw(dropout=1.0)
        module = life.build(given)
        for mode in reversed(life.modes):
            yield life.judge(module, given, mode, f"at dropout 1, in {mode}")
