"""Points of a life: what calls leave behind, in a module, in memory, and in the process."""

from __future__ import annotations

import gc
import itertools
import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from threading import Barrier, BrokenBarrierError
from typing import Any

import torch
from torch import Tensor, nn

from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.parameters import copy_weights, unwrapped
from rnn_parity.layers.running import LightDispatchMode, pack_states, same, seed_generators
from rnn_parity.layers.settings import note, switched
from rnn_parity.life.course import Life
from rnn_parity.life.forms import drops
from rnn_parity.life.judging import Found
from rnn_parity.life.one_call import Given, Results, many, results_of
from rnn_parity.life.points import point

REPEATED = 5
"""Calls between two counts of the tensors that are in memory."""

AT_ONCE = 20
"""Calls of each of two threads."""

LONGEST_WAIT_S = 1.0
"""For the other thread to come to its next operator, on a busy machine."""

MANY = 100
"""So many calls of one module in each mode."""


@point("After a call that raised")
def after_error(life: Life) -> Iterator[Found]:
    """What a call left half done, as of an input too narrow, or of states of fewer rows, changes no later one."""
    given = life.draw(dropout=life.case.dropout)
    module = life.build(given)
    for mode in (*life.modes, "eval"):
        input, *states = given.tensors()
        for narrow, rows in ((input[..., :-1], states), (input, [state[:, 1:] for state in states])):
            with suppress(Exception):
                module.train(mode == "train")(narrow, pack_states(rows))
            if not torch.is_grad_enabled():
                torch.set_grad_enabled(True)
                yield Found(Verdict.DIFFERENT, "", "leaves gradients off", when=f"after a call that raised, in {mode}")
            if unwrapped(module).training != (mode == "train"):
                yield Found(Verdict.DIFFERENT, "", "is in another mode", when=f"after a call that raised, in {mode}")
    for mode in reversed(life.modes):
        yield life.judge(module, life.draw() if mode != "train" else given, mode, f"in {mode} after a call that raised")


@point("A hundred calls")
def many_calls(life: Life) -> Iterator[Found]:
    """After many calls of one module it computes and drops as at first, and no result of any call has changed; nor of
    single steps, whose states are kept.
    """
    for mode, steps in itertools.product(life.modes, (2, 1)):
        dropout = life.case.dropout if mode == "train" else 0.0
        given = life.draw(sequence_length=steps, batch_size=2, dropout=dropout)
        module = life.build(given)
        yield life.judge(module, given, mode, f"at T {steps}, B 2, in {mode}")
        kept = list[tuple[str, Tensor, Tensor]]()
        with torch.set_grad_enabled(mode != "inference"):
            for call in many(MANY):
                input, *states = given.tensors()
                found = results_of(life.cell, module, input * (call / MANY), *states)  # each gives something else
                kept += [(name, value.detach(), value.detach().clone()) for name, value in found.items()]
        when = f"after {call + 1} calls of one module at T {steps}, in {mode}"
        for name in dict.fromkeys(name for name, value, copy in kept if not same(value, copy)):
            yield Found(Verdict.DIFFERENT, name, "of an earlier call has changed", when=when)
        yield life.judge(module, given, mode, when)


@point("Other threads and switches", may_refuse=True)
def threads(life: Life) -> Iterator[Found]:
    """Called with two CPU threads in place of one, or one in place of more, it computes the same; also with
    deterministic algorithms, and without oneDNN or cuDNN, as people switch them for second derivatives; and it drops.
    """
    number = 2 if life.case.threads == 1 else 1
    # Another kernel may draw its masks elsewhere: they are compared under threads alone.
    given, undropped = life.draw(batch_size=5), life.draw(batch_size=5, dropout=0.0)
    # Not `use_deterministic_algorithms`, which imports the compiler: a second of every check. Nor `detect_anomaly`: in
    # the first calls under it, two threads of a layer may wait for each other for ever.
    deterministic = torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
    switches: list[tuple[str, Callable[[], AbstractContextManager], Given]] = [
        (
            f"with {number} CPU thread{'s' * (number > 1)}",
            partial(switched, torch.get_num_threads, torch.set_num_threads, number),
            given,
        ),
        (
            "with deterministic algorithms",
            partial(switched, *deterministic, "default" if deterministic[0]() else "error"),
            undropped,
        ),
    ]
    for name, backend in {"oneDNN": torch.backends.mkldnn, "cuDNN": torch.backends.cudnn}.items():
        read, write = partial(getattr, backend, "enabled"), partial(setattr, backend, "enabled")
        switches.append((f"without {name}", partial(switched, read, write, False), undropped))
    for when, switch, given in switches:
        module = life.build(given)

        for mode in life.modes:
            yield life.judge(module, given, mode, f"{when}, in {mode}", through=partial(_within, switch, module))
        yield from drops(life, when, partial(_within, switch))


def _within(switch: Callable[[], AbstractContextManager], module: nn.Module, *given: Any) -> Any:
    with switch():
        return module(*given)


@point("Under `torch.autocast`", may_refuse=True, condition="it is not called under torch.autocast")
def autocast(life: Life) -> Iterator[Found]:
    """With products in bfloat16 its parameters give what bfloat16 allows, also after a call without gradients, and
    after they change; and it drops what it drops elsewhere.
    """
    before, after = life.draw(dropout=life.case.dropout), life.draw(weights_of=1, dropout=life.case.dropout)
    module = life.build(before)

    def through(input: Tensor, states: Any) -> Any:
        torch.clear_autocast_cache()  # who left autocast open before has left copies of weights too
        with torch.autocast(life.case.device, torch.bfloat16):
            found = module(input, states)
            if not torch.is_autocast_enabled(life.case.device):
                note(life.name, "torch.is_autocast_enabled()", False)
            return found

    if "train" in life.modes:
        yield life.judge(module, before, "train", "in train, before a call under autocast")
    coarse = {
        id(g): Given.of(replace(g.case, dtype="bfloat16"), g.stimulus, g.references.seed) for g in (before, after)
    }
    for mode in life.modes:  # the weights change in each: a change of mode may refresh what it keeps of them
        for given, when in ((before, "under autocast"), (after, "under autocast, after its weights change")):
            copy_weights(given.stimulus.weights, module)
            yield life.hold(
                coarse[id(given)], partial(_rounded, life, module, given, mode, through), f"{when}, in {mode}"
            )


def _rounded(life: Life, module: nn.Module, given: Given, mode: str, through: Callable[..., Any]) -> Results:
    results = life.call(module, given, mode, through=through)
    return replace(results, values={name: value.bfloat16() for name, value in results.values.items()})


@point("Tensors that it keeps")
def kept(life: Life) -> Iterator[Found]:
    """Told where every call leaves more tensors in memory than the call before."""
    for mode in dict.fromkeys((life.modes[0], life.modes[-1])):
        given = life.draw_undropped(mode)
        more = _left_by(partial(life.call, life.build(given), given, mode)) // REPEATED
        said = f"keeps {more} more {'tensors' if more > 1 else 'tensor'} after every call, in {mode}"
        yield Found(Verdict.EQUIVALENT, reason=said if more > 0 else "")


def _left_by(call: Callable[[], object]) -> int:
    """How many tensors are left of `REPEATED` calls; as many before them fill what is cached."""
    gc.freeze()  # what is there already is not looked at
    try:
        there = []
        for _ in range(2):
            for _ in range(REPEATED):
                call()
            gc.collect()  # what refers to itself is no leak
            there.append(sum(type(one) in (Tensor, nn.Parameter) for one in gc.get_objects()))
        return there[1] - there[0]
    finally:
        gc.unfreeze()


@point("Global generators")
def other_generators(life: Life) -> Iterator[Found]:
    """Told where building it, or a call, sets a global generator to one fixed state: Python's, NumPy's, or torch's, of
    whose calls `without_seed` knows.
    """
    given, generators = life.draw(), {"Python": (random.seed, random.getstate, random.setstate)}
    if "numpy" in sys.modules:
        numpy = sys.modules["numpy"].random
        generators["NumPy"] = numpy.seed, partial(numpy.get_state, legacy=False), numpy.set_state
    own = {name: read() for name, (_, read, _) in generators.items()}

    def states() -> dict[str, str]:
        others = {name: repr(read()) for name, (_, read, _) in generators.items()}
        return others | {"torch": repr(torch.get_rng_state().tolist())}

    built, called = [], []
    try:
        for seed in range(2):
            for start, _, _ in generators.values():
                start(seed)
            seed_generators(seed)
            module = life.build(given)
            built.append(states())
            yield life.judge(module, given, life.quiet)
            life.call(module, given, life.modes[-1])  # not judged: its masks may be drawn from what is set here
            called.append(states())
    finally:
        for name, (_, _, write) in generators.items():
            write(own[name])
    for what, (one, other), names in (("built", built, (*generators, "torch")), ("called", called, generators)):
        if fixed := " and ".join(name for name in names if one[name] == other[name]):
            yield Found(
                Verdict.EQUIVALENT, reason=f"sets the global generator of {fixed} to one fixed state when it is {what}"
            )
            return


@point("Results written to by whoever gets them", condition="its results are not written to in place")
def own_memory(life: Life) -> Iterator[Found]:
    """Writing to one result changes no other, nor what the layer was given, nor its weights; of one step, as decoders
    take it, and one layer as well.
    """
    step, alone = {"sequence_length": 1}, {"num_layers": 1}
    for at, axes in {"": {}, ", T 1": step, ", L 1": alone, ", T 1, L 1": step | alone}.items():
        yield from _written_to(life, life.draw(**axes), at)


def _written_to(life: Life, given: Given, at: str) -> Iterator[Found]:
    module = life.build(given).eval()
    inputs = dict(zip(life.cell.inputs(), given.tensors(), strict=True))
    with torch.no_grad():
        results = results_of(life.cell, module, *inputs.values())
        owned = results | inputs | dict(module.named_parameters()) | dict(module.named_buffers())
        for written in results:
            copies = {name: tensor.clone() for name, tensor in owned.items() if name != written}
            results[written].add_(1)
            for name, copy in copies.items():
                if not torch.equal(owned[name], copy):
                    reason = f"shares memory with {name}"
                    yield Found(Verdict.DIFFERENT, written, reason, when=f"when {written} is written to{at}")
    yield life.judge(module, given, "inference", f"after its results were written to{at}")


@point("Two threads at once", may_refuse=True, condition="it is called from the main thread alone")
def two_threads(life: Life) -> Iterator[Found]:
    """Two threads of Python that call one module without gradients, as a server does, get each its own results: left
    to chance, and once from operator to operator side by side. One that trains in a thread drops.
    """
    given = life.draw(), life.draw(1, weights_of=0)
    module = life.build(given[0]).eval()

    def call(which: int) -> dict[str, Tensor]:
        with torch.no_grad():
            return results_of(life.cell, module, *given[which].tensors())

    def call_abreast(which: int) -> list[dict[str, Tensor]]:
        with _Abreast(step):
            found = [call(which)]
        step.abort()  # the other waits no more
        return found

    call(0)
    often, step = switched(sys.getswitchinterval, sys.setswitchinterval, 1e-5), Barrier(2)
    with often, ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda which: [call(which) for _ in range(AT_ONCE)], range(2)))
    with _Abreast(step), ThreadPoolExecutor(2) as pool:  # entered here too: it turns the compiler off for all threads
        found += pool.map(call_abreast, range(2))
    for results, of in zip(found, (*given, *given), strict=True):
        for one in results:
            values = {name: value.cpu() for name, value in one.items()}
            yield life.hold(of, partial(Results, values), "in two threads at once")
    with ThreadPoolExecutor(1) as pool:
        yield from drops(life, "in a thread", lambda module, *given: pool.submit(module, *given).result())


class _Abreast(LightDispatchMode):
    """Has two threads run each operator at the same time, for as long as neither keeps the other waiting."""

    def __init__(self, step: Barrier) -> None:
        super().__init__()
        self.step = step

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Wait for the other thread; one that waits for a lock of the layer's, or has ended, is waited for once."""
        with suppress(BrokenBarrierError):
            self.step.wait(LONGEST_WAIT_S)
        return func(*args, **(kwargs or {}))
