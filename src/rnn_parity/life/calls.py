"""Points of a life: one call after another, in changing modes and shapes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import combinations, cycle

import torch
from torch import Tensor

from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.parameters import copy_weights
from rnn_parity.layers.running import pack_states, seed_generators
from rnn_parity.layers.stimulus import Stimulus
from rnn_parity.life.course import Life, without_states
from rnn_parity.life.drawing import repetition
from rnn_parity.life.judging import Found
from rnn_parity.life.one_call import Given, Results, generator_states, many, results_of
from rnn_parity.life.points import point

TUNING_S = 0.05
"""More than this, at every new shape, is no accident."""

IN_RANDOM_ORDER = 24
"""Calls of one module."""

STEPS = 10
"""Training steps of one module; what happens now and then has so many occasions, and more at other points."""

POOL = 70
"""Training steps without a seed, no two of which drop alike: a layer may draw some masks and use them in turn."""

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@point("First call")
def first_call(life: Life) -> Iterator[Found]:
    """A fresh module is right in every mode. A mode that fails is not tried again. Training is the first of all.

    Where evaluation alone is refused for its backward pass, its values are judged, and training with dropout 0.
    """
    given = life.draw()
    findings = {mode: _first(life, given, mode) for mode in reversed(life.modes)}
    yield from findings.values()
    if [mode for mode, found in findings.items() if found.fails or found.verdict == Verdict.UNSUPPORTED] == ["eval"]:
        life.leave_eval()
        yield from [_first(life, given, "eval"), _first(life, life.draw(), "train")]


def _first(life: Life, given: Given, mode: str) -> Found:
    found = life.judge(life.build(given), given, mode, f"at its first call in {mode}")
    if found.fails and not life.judge(life.build(given), given, mode).fails:
        return replace(found, when=f"now and then, in {mode}")
    if found.fails:
        life.modes, life.wrong = tuple(other for other in life.modes if other != mode), (*life.wrong, mode)
    return found


@point("Training steps under one seed")
def same_seed(life: Life) -> Iterator[Found]:
    """Under one seed every step gives the same masks, numbers and gradients, in one module and in a second one."""
    if "train" not in life.modes:
        return
    given = life.draw(dropout=life.case.dropout)
    module, steps, masks = life.build(given), list[Found](), list[Tensor | None]()
    for number in range(STEPS):
        steps.append(life.judge(module, given, "train", f"at its {_ORDINALS[number]} training step"))
        masks.append(life.last.masks)
        # At its first call a module may draw what it makes there.
        one, other = masks[min(number, 1)], masks[-1]
        if not steps[-1].fails and one is not None and other is not None and not torch.equal(one, other):
            yield Found(Verdict.DIFFERENT, "", "drops other entries under the same seed", when=steps[-1].when)
    second = life.judge(life.build(given), given, "train", "in a second module")
    fails = [step.fails for step in steps]
    if any(fails):
        first = fails.index(True)
        when = f"in {sum(fails)} of {STEPS} equal training steps"
        if all(fails[first:]):  # the first training step of the process held
            since = (
                "the second training step of the process" if second.fails else f"its {_ORDINALS[first]} training step"
            )
            when = f"from {since} on"
        yield replace(steps[first], when=when)
    yield steps[0]
    yield second


@point("Training steps without a seed")
def without_seed(life: Life) -> Iterator[Found]:
    """Without a seed between, every step drops other entries, and none sets the global generator to a fixed state."""
    if "train" not in life.modes or not life.case.draws_dropout or life.case.dropout == 1:
        return
    given = life.draw(dropout=0.45)  # at a small one two steps may drop the same by chance
    module, when = life.build(given), "at a training step with no seed before it"
    seed_generators(0)
    outputs, forward, masks = [], list[Tensor](), list[Tensor]()

    def watched(*tensors):
        result = module(*tensors)
        forward.append(result[0].detach().clone())  # also of a step whose backward pass is refused
        return result

    for _ in range(3):
        before = generator_states(life.case.device)
        if life.sees_masks:
            yield life.judge(module, given, "train", when, seed=None, through=watched)
            masks += [] if life.last.masks is None else [life.last.masks]
        else:
            life.call(module, given, "train", seed=None, through=watched)
        outputs += forward[-1:]
    outputs += [results_of(life.cell, module, *given.tensors())["output"].detach() for _ in many(POOL)]
    after = generator_states(life.case.device)
    if any(torch.equal(*pair) for pair in combinations(outputs, 2)):
        yield Found(Verdict.DIFFERENT, "output", "drops the same entries again", when=when)
    if masks and (again := repetition(torch.cat(masks), given.case.dropout, "two gaps of three steps")):
        yield Found(Verdict.DIFFERENT, "", again, when=when)
    for device in {"cpu", life.case.device}:
        torch.rand(1, device=device)
    moved = generator_states(life.case.device)
    life.call(module, given, "train", seed=None)
    # From other states to the same one. A layer with a state of its own leaves each where it was.
    around = zip(before, moved, after, generator_states(life.case.device), strict=True)
    if any(torch.equal(end, again) and not torch.equal(start, other) for start, other, end, again in around):
        yield Found(Verdict.DIFFERENT, "", "sets torch's global generator to one fixed state", when=when)
    yield Found(Verdict.EQUIVALENT, when=when)


@point("Training, evaluation and inference in turn")
def modes_in_turn(life: Life) -> Iterator[Found]:
    """Through one module, at one shape, every mode follows every other."""
    own, modes = life.draw(dropout=life.case.dropout), {*life.modes, *(["eval"] if life.quiet == "train" else [])}
    for order, given in (
        ("train eval train inference train", own),
        ("inference eval inference train eval", life.draw()),
        ("eval train inference", own),
    ):
        module, last = life.build(given), ""
        for mode in (mode for mode in order.split() if mode in modes):
            yield life.judge(module, given, mode, f"in {mode} after {last}" if last else f"at a first call in {mode}")
            last = mode
    module = life.build(own)
    for mode in (mode for mode in ("train", "eval", "train") if mode in modes):
        for part in module.modules():
            part.training = mode == "train"  # without `train()`, as some code does for parts of a model
        yield life.judge(module, own, mode, f"in {mode} after `training` was set")


@point("Training mode without gradients")
def sampled(life: Life) -> Iterator[Found]:
    """Under `no_grad` in training mode, as for an estimate over many draws of dropout, it drops as when it learns."""
    if "train" not in life.modes:
        return
    given = life.draw(dropout=0.5 if life.case.draws_dropout else life.case.dropout)  # 0.5: as most models have it
    module = life.build(given)

    def without_gradients(*tensors):
        with torch.no_grad():
            return module(*tensors)

    when = "in training mode under torch.no_grad"
    yield life.hold(given, lambda: life.start(module, given, "train", through=without_gradients).forward(), when)
    yield life.judge(module, given, "train", f"in train after a call {when}")


@point("The tensors of the call before, with new values")
def rewritten(life: Life) -> Iterator[Found]:
    """What counts is the values that input and states have now, whatever was kept of the same tensors."""
    given, other = life.draw(), life.draw(1, weights_of=0)
    backwards = given.change(lambda stimulus: replace(stimulus, input=stimulus.input.flip(0)))
    tensors, unseen, memory = (
        "new values in the tensors",
        "values written through .data to the tensors",
        "new values in the memory",
    )
    for mode, of in (("inference", tensors), ("inference", unseen), *((mode, memory) for mode in life.modes)):
        if mode not in life.modes:
            continue
        module, places = life.build(given), given.tensors()
        turn = cycle(places)  # a module may be called twice

        def write(tensor, of=of, turn=turn):
            place = next(turn)
            (place.data if of == unseen else place).copy_(tensor)
            # Other tensors of the same memory, all of them of version 0, as an allocator gives it away again.
            return place.data

        def the_same(*_, module=module, places=places):
            return module(places[0], pack_states(places[1:]))

        second = backwards if of == unseen else other  # the same states
        for before, now in ((None, given), (given, second), (second, given)):
            when = f"in {mode}, with {of} of the call before" if before else f"in {mode}"
            through = None if of == memory else the_same
            yield life.judge(module, now, mode, when, before, arrange=write, through=through)
    for mode in life.modes:  # to a sum or a norm of its input this is the same
        module = life.build(given)
        yield life.judge(module, given, mode, f"in {mode}")
        yield life.judge(
            module, backwards, mode, f"in {mode}, with the steps of the call before in reverse order", given
        )
    if life.takes_states and "inference" in life.modes:
        yield from _own_states_rewritten(life, given)


def _own_states_rewritten(life: Life, given: Given) -> Iterator[Found]:
    """It goes on from the states that it gave, of which one row was set to zero where a sequence ended."""
    module = life.build(given).eval()
    with torch.no_grad():
        _, *states = results_of(life.cell, module, *given.tensors()).values()
        for state in states:
            state[:, 0] = 0
    now = given.change(lambda stimulus: replace(stimulus, states=tuple(state.cpu().clone() for state in states)))
    carried = pack_states(states)
    when = "from its own last states, after a row of them was set to zero"
    yield life.judge(module, now, "inference", when, through=lambda input, _: module(input, carried))


@point("Under `torch.inference_mode`, then training")
def inference_mode(life: Life) -> Iterator[Found]:
    """There it gives what it gives elsewhere, also after its weights change; and what such a call leaves behind does
    not stop a later one that asks for gradients.
    """
    before, after = life.draw(), life.draw(weights_of=1)
    module = life.build(before).eval()

    def under(given: Given) -> Results:
        with torch.inference_mode():
            found = results_of(life.cell, module, *given.tensors())
        return Results({name: value.clone().cpu() for name, value in found.items()})

    yield life.hold(before, partial(under, before), "under torch.inference_mode")
    copy_weights(after.stimulus.weights, module)
    yield life.hold(after, partial(under, after), "under torch.inference_mode after its weights change", before)
    for mode in reversed(life.modes):
        yield life.judge(module, after, mode, f"in {mode} after a call under torch.inference_mode")


@point("Other lengths and batches")
def shapes_in_turn(life: Life) -> Iterator[Found]:
    """Through one module, sequences become longer and shorter, batches larger and smaller, and come back. An input that
    begins as the one before is no reason to go on from there.
    """
    steps, rows = life.case.sequence_length, life.case.batch_size
    shapes = [(steps, rows), (steps + 3, rows), (1, rows), (1, 1), (steps, 1), (steps, rows + 3), (rows, steps)]
    shapes += shapes[:1]
    first = life.draw()
    inside = {shape: life.draw(1, weights_of=0, sequence_length=shape[0], batch_size=shape[1]) for shape in shapes}
    for mode in life.modes:
        module, last = life.build(first), ""
        for shape in shapes:
            words = "T {}, B {}".format(*shape)
            found = life.judge(module, inside[shape], mode, f"at {words}{last}")
            if found.fails:  # is it the shape, or what came before?
                yield life.judge(life.build(inside[shape]), inside[shape], mode, f"at {words}")
            yield found
            last = f" after {words}"

    def going_on(stimulus: Stimulus) -> Stimulus:
        return replace(stimulus, input=torch.cat([first.stimulus.input, stimulus.input[-1:]]))

    longer = life.draw(1, weights_of=0, sequence_length=steps + 1).change(going_on)
    for mode in life.modes:
        module = life.build(first)
        yield life.judge(module, first, mode, f"in {mode}")
        when = f"with the input of the call before and one step more, from other states, in {mode}"
        yield life.judge(module, longer, mode, when)


@point("The first call at a new shape")
def first_at_shape(life: Life) -> Iterator[Found]:
    """Right, and told where every new shape is compiled or tuned anew."""
    module, extra = life.build(life.draw()).eval(), []
    for length, batch in ((7, 2), (6, 3), (9, 5)):
        given, seconds = life.draw(sequence_length=length, batch_size=batch), []
        copy_weights(given.stimulus.weights, module)
        with torch.no_grad():
            for _ in range(3):
                started = time.perf_counter()
                found = results_of(life.cell, module, *given.tensors())
                seconds.append(time.perf_counter() - started)
        values = {name: value.cpu() for name, value in found.items()}
        yield life.hold(given, partial(Results, values), f"at T {length}, B {batch}")
        extra.append(seconds[0] - min(seconds))
    if min(extra) > TUNING_S:
        yield Found(Verdict.EQUIVALENT, reason=f"takes {min(extra):.1g} s longer at the first call of every new shape")


@point("A sequence in pieces, the states carried")
def pieces(life: Life) -> Iterator[Found]:
    """Pieces of a sequence, each from the states after the one before, give the whole, gradients included."""

    def in_pieces(module, lengths):
        def run(input, states):
            outputs = []
            for piece in input.split(lengths):
                output, states = module(piece, states)
                outputs.append(output)
            return torch.cat(outputs), states

        return run

    steps = life.case.sequence_length
    for mode in life.modes if life.takes_states else ():
        given = life.draw_undropped(mode)
        module = life.build(given)
        for lengths in ([1] * steps, [1, steps - 1], [steps - 1, 1]):
            when = f"in pieces of {', '.join(map(str, lengths))} steps, in {mode}"
            yield life.judge(module, given, mode, when, through=in_pieces(module, lengths))


@point("Calls in random order")
def random_course(life: Life) -> Iterator[Found]:
    """One module through calls whose mode, shape, states and weights are drawn, and which of its parameters learn; the
    same draws for every layer.
    """
    steps, rows = life.case.sequence_length, life.case.batch_size
    draw = random.Random(life.seed)
    weights_of, module, told = 0, life.build(life.draw()), list[str]()
    for call in range(IN_RANDOM_ORDER):
        if draw.random() < 0.3:
            weights_of = 100 + call
            copy_weights(life.draw(weights_of).stimulus.weights, module)
            told.append("new weights")
        mode, learning = draw.choice(life.modes), draw.choice((None, ()))
        frozen = mode != "inference" and draw.random() < 0.5
        for parameter in module.parameters():
            parameter.requires_grad_(not (frozen and draw.random() < 0.5))
        length, batch = draw.choice((1, 2, steps, steps + 3, 10, 12)), draw.choice((1, rows, rows + 3, 10))
        given = life.draw(call, weights_of, sequence_length=length, batch_size=batch)
        if draw.random() < 0.25:
            given = given.change(without_states)
        told.append(f"{mode} at T {length}, B {batch}{', with some parameters frozen' if frozen else ''}")
        when = f"at call {call + 1} of one module ({', then '.join(told[-3:])})"
        yield life.judge(module, given, mode, when, seed=call, learning=learning)
