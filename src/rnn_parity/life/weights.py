"""Points of a life: the weights change, by every way in which they do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from rnn_parity.experiment.errors import in_one_line
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.parameters import canonical_parameters, copy_weights, loads_by_itself, unwrapped
from rnn_parity.layers.running import pack_states, same
from rnn_parity.layers.stimulus import build_sized
from rnn_parity.life.course import Life
from rnn_parity.life.judging import Found
from rnn_parity.life.one_call import Given, Results
from rnn_parity.life.points import point


def _lived(life: Life, given: Given, module: nn.Module | None = None) -> nn.Module:
    """A module, by default a new one, that has been called in every mode, without gradients last."""
    module = life.build(given) if module is None else module
    for mode in reversed(life.modes):
        life.call(module, given, mode)
    return module


def _follows(life: Life, module: nn.Module, given: Given, before: Given, when: str) -> Iterator[Found]:
    """What was packed, cached or captured follows, in every mode, first in that of the last call."""
    for mode in reversed(life.modes) if module.training else life.modes:
        yield life.judge(module, given, mode, f"{when}, in {mode}", before=before)


def _moved(
    life: Life, when: str, move: Callable[[nn.Module, nn.Module], None], after: Given | None = None
) -> Iterator[Found]:
    """`move(module, other)` gives a module the weights of another, by default of another draw."""
    before, after = life.draw(), after or life.draw(weights_of=1)
    module = _lived(life, before)
    with torch.no_grad():
        move(module, life.build(after))
    yield from _follows(life, module, after, before, when)


@point("Steps of an optimizer")
def optimizer_steps(life: Life) -> Iterator[Found]:
    """After its weights were moved as an optimizer moves them, the module computes with what they are now."""
    before = life.draw()
    module = life.build(before)
    if loads_by_itself(module):
        return
    if callable(flatten := getattr(unwrapped(module), "flatten_parameters", None)):
        flatten()  # as callers of nn.GRU do
    # An optimizer has those that were there when it was made.
    parameters, named = list(module.parameters()), canonical_parameters(module)
    own = {id(parameter): name for name, parameter in named.items()}  # one bias for both is their sum
    _lived(life, before, module)

    def one_by_one(steps: list[Tensor]) -> None:
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.add_(step, alpha=-0.5)

    # Not by `torch.optim`, which imports the compiler: a second of every check.
    for move in (one_by_one, partial(torch._foreach_add_, parameters), one_by_one):
        with torch.no_grad():
            move([parameter.sign() / 4 for parameter in parameters])
        weights = {name: weight.detach().cpu() * (own[id(weight)] == name) for name, weight in named.items()}
        after = before.with_weights(weights)
        yield from _follows(life, module, after, before, "after an optimizer's step")
        before = after


@point("Weights written in place")
def written(life: Life) -> Iterator[Found]:
    """Written under `no_grad`, or through `.data`, which no version counter sees, the new weights count."""

    def through_data(module, other):
        for parameter, new in zip(module.parameters(), other.parameters(), strict=True):
            parameter.data.copy_(new)

    def replaced_data(module, other):  # parts of one flat buffer
        parameters = list(module.parameters())
        flat = torch.cat([new.data.flatten() for new in other.parameters()])
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.data = part.view_as(parameter)

    def in_place(module, other):
        for parameter, new in zip(module.parameters(), other.parameters(), strict=True):
            parameter.copy_(new)

    def those_that_differ(module, other):
        for parameter, new in zip(module.parameters(), other.parameters(), strict=True):
            if not torch.equal(parameter, new):
                parameter.copy_(new)

    def swapped(weight: Tensor) -> Tensor:
        """Two entries in the middle change places: the sum, the norm, the first and the last stay."""
        flat, middle = weight.flatten().clone(), weight.numel() // 2
        flat[[middle - 1, middle]] = flat[[middle, middle - 1]]
        return flat.view_as(weight)

    given = life.draw()
    few = given.with_weights({name: swapped(weight) for name, weight in given.stimulus.weights.items()})
    yield from _moved(life, "after its weights change in place", in_place)
    for kind, of in (("weight_ih", "input weights"), ("weight_hh", "recurrent weights"), ("bias", "biases")):
        other = life.draw(1).stimulus.weights
        of_kind = {name: other[name] if name.startswith(kind) else w for name, w in given.stimulus.weights.items()}
        yield from _moved(life, f"after its {of} alone change", those_that_differ, given.with_weights(of_kind))
    yield from _moved(life, "after two entries of its weights are swapped", in_place, few)
    yield from _moved(life, "after its weights change through .data", through_data)
    yield from _moved(life, "after the .data of its weights is replaced", replaced_data)


class _CannotLoad(RuntimeError):
    """`load_state_dict` raised an error; the message is that of the error."""


def _load(module: nn.Module, state_dict: Mapping[str, Any], **options: bool) -> None:
    try:
        module.load_state_dict(state_dict, **options)
    except Exception as error:
        raise _CannotLoad(in_one_line(error)) from error


@point("`load_state_dict`", may_refuse=True)
def loaded(life: Life) -> Iterator[Found]:
    """After `load_state_dict`, which copies, or with `assign=True` replaces the parameters, the new weights count; also
    where a larger model loads them. What was called loads and is loaded. States that are parameters do not become the
    module's own.
    """
    moves: dict[str, Callable[[nn.Module, nn.Module], Any]] = {
        "load_state_dict": lambda module, other: _load(module, dict(other.state_dict())),  # without versions
        "load_state_dict(assign=True)": lambda module, other: _load(module, other.state_dict(), assign=True),
        "load_state_dict of a larger model": lambda module, other: _load(
            nn.ModuleDict({"part": module}), nn.ModuleDict({"part": other}).state_dict()
        ),
    }
    before, after = life.draw(), life.draw(weights_of=1)
    for move in moves.values():
        move(life.build(before), life.build(after))  # who cannot load at all refuses here
    try:
        for words, move in moves.items():
            yield from _moved(life, f"after {words}", move)
        saved, fresh = _lived(life, before), life.build(before)
        copy_weights(after.stimulus.weights, saved)
        parameters = list(fresh.parameters())
        _load(fresh, saved.state_dict())
    except _CannotLoad as error:
        yield Found(Verdict.DIFFERENT, "", f"cannot load a state_dict: {error}", when="after its calls")
        return
    yield from _follows(life, fresh, after, before, "with the state_dict of a module whose weights changed")
    if any(new is not old for new, old in zip(fresh.parameters(), parameters, strict=True)):
        reason = "has other parameters than before, so that an optimizer made before trains nothing"
        yield Found(Verdict.DIFFERENT, "", reason, when="after load_state_dict")
    state_dict = {name: tensor.clone() for name, tensor in saved.state_dict().items()}
    _load(fresh, state_dict)
    for tensor in state_dict.values():
        tensor.zero_()
    yield life.judge(fresh, after, life.quiet, "after the state_dict that it loaded was set to zero")
    yield from _saved_whole(life)
    (first, *others), kept = state_dict, {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    with suppress(_CannotLoad):  # it may want all of them
        _load(fresh, {first: kept[first]}, strict=False)
    if lost := [name for name in others if not same(fresh.state_dict()[name], kept[name])]:
        when = "after load_state_dict(strict=False) of one parameter"
        yield Found(Verdict.DIFFERENT, "", f"has changed its {lost[0]} too", when=when)
    if life.takes_states:
        names, (input, *states) = list(saved.state_dict()), before.tensors()
        saved.eval()(input, pack_states([nn.Parameter(state) for state in states]))
        if more := [name for name in saved.state_dict() if name not in names]:
            reason = f"has taken one into its state_dict, as {more[0]}"
            yield Found(Verdict.DIFFERENT, "", reason, when="from states that are parameters")


def _saved_whole(life: Life) -> Iterator[Found]:
    """A layer of thousands of weights and inputs as wide as its gates is loaded bit for bit; biases of zero too."""
    with suppress(Exception):
        saved, fresh = (life.build(life.draw(n, input_size=64 * len(life.cell.gates), hidden_size=64)) for n in (0, 1))
        for when in ("after load_state_dict at H 64", "after load_state_dict of biases of zero"):
            _load(fresh, saved.state_dict())
            for (name, parameter), other in zip(saved.named_parameters(), fresh.parameters(), strict=True):
                if not same(parameter, other):
                    yield Found(Verdict.DIFFERENT, "", f"gives {name} other bits than it had", when=when)
            for parameter in saved.parameters():
                parameter.data.mul_(parameter.dim() > 1)


@point("Made on the device `meta`, then loaded", may_refuse=True, condition="it is not made on the device meta")
def made_on_meta(life: Life) -> Iterator[Found]:
    """Made on `meta`, moved by `to_empty` and loaded, as large models are, it computes the same."""
    given = life.draw()
    saved = life.build(given).state_dict()
    with torch.device("meta"):
        module = build_sized(given.case, life.name)
    module.to_empty(device=given.case.device)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)  # what is not loaded is nothing
    module.load_state_dict(saved)
    for mode in life.modes:
        yield life.judge(module, given, mode, f"made on the device meta, then loaded, in {mode}")


class _Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@point(
    "Hooks, and weights that are parametrized",
    may_refuse=True,
    condition="it has no hooks and no parametrized weights",
)
def hooked(life: Life) -> Iterator[Found]:
    """A forward hook runs. Weights that `torch.nn.utils.parametrize` computes, as weight norm and pruning do, count."""
    given = life.draw()
    module, calls = life.build(given), list[None]()
    module.register_forward_hook(lambda *_: calls.append(None))
    mode = life.modes[0]
    yield life.judge(module, given, mode, f"with a forward hook, in {mode}")
    if not calls:
        yield Found(Verdict.DIFFERENT, "", "runs no forward hook", when=f"with a forward hook, in {mode}")
    if loads_by_itself(module):
        return  # twice its parameters need not be twice its weights
    for path in dict(module.named_parameters()):
        owner, _, name = path.rpartition(".")
        parametrize.register_parametrization(module.get_submodule(owner), name, _Twice())
    doubled = given.with_weights({name: 2 * weight for name, weight in given.stimulus.weights.items()})

    def forward(module: nn.Module, given: Given, mode: str) -> Results:
        return life.start(module, given, mode).forward()

    for mode in life.modes:
        yield life.hold(doubled, partial(forward, module, doubled, mode), f"with parametrized weights, in {mode}")
    module = life.build(given)
    for path, parameter in dict(module.named_parameters()).items():
        owner, _, name = path.rpartition(".")
        prune.custom_from_mask(module.get_submodule(owner), name, torch.zeros_like(parameter))
    pruned = given.with_weights({name: 0 * weight for name, weight in given.stimulus.weights.items()})
    for mode in life.modes:
        yield life.hold(pruned, partial(forward, module, pruned, mode), f"with weights that are pruned, in {mode}")


@point("Copied, and moved there and back", may_refuse=True)
def copied(life: Life) -> Iterator[Found]:
    """A deep copy has weights of its own, and its original's mode and frozen parameters. So does a pickled module that
    is read back, with its weights. A module that goes to another dtype and back has the weights that it is given.
    """
    before, after = life.draw(), life.draw(weights_of=1)
    module = _lived(life, before).eval()
    (frozen, *_) = module.parameters()
    frozen.requires_grad_(False)
    twins = {"as a deep copy": (twin := copy.deepcopy(module))}
    with suppress(Exception):  # a class of a notebook, or of a function, cannot be pickled
        twins["pickled and read back"] = pickle.loads(pickle.dumps(module))
    for when, one in twins.items():
        if one.training != module.training:
            yield Found(Verdict.DIFFERENT, "", "is in another mode than its original", when=when)
        if [p.requires_grad for p in one.parameters()] != [p.requires_grad for p in module.parameters()]:
            yield Found(Verdict.DIFFERENT, "", "has other parameters that learn", when=when)
        one.requires_grad_(True)
        for mode in life.modes:
            yield life.judge(one, before, mode, f"{when}, in {mode}")
    module.requires_grad_(True)
    for mode in life.learning_modes:
        called = life.build(before)
        life.call(called, before, mode)
        try:
            copy.deepcopy(called)
        except Exception as error:  # what was called without gradients can be copied
            reason = f"cannot be copied: {in_one_line(error)}"
            yield Found(Verdict.DIFFERENT, "", reason, when=f"after a call in {mode}")
    copy_weights(after.stimulus.weights, twin)
    yield from _follows(life, twin, after, before, "after the weights of a deep copy change, the copy")
    yield from _follows(life, module, before, after, "after the weights of a deep copy change, the original")
    dtype = "float32" if life.case.dtype == "float64" else "float64"
    module.to(getattr(torch, dtype))
    if dtype == "float64":  # which holds them all
        yield life.judge(module.to(getattr(torch, life.case.dtype)), before, life.quiet, "after .to(float64) and back")
        module.to(torch.float64)
    there = life.draw(dtype=dtype)
    copy_weights(there.stimulus.weights, module)
    if not life.judge(life.build(there), there, life.quiet).fails:  # a layer may compute in one dtype alone
        yield life.judge(module, there, life.quiet, f"after .to({dtype})")
    module.to(getattr(torch, life.case.dtype))
    copy_weights(after.stimulus.weights, module)
    yield from _follows(life, module, after, before, "after .to() another dtype and back, with other weights")
    if life.case.device == "cuda":
        copy_weights(before.stimulus.weights, module.to("cpu").to("cuda"))
        yield from _follows(life, module, before, after, "after .to() the CPU and back, with other weights")


@point("`torch.func.functional_call`", may_refuse=True)
def functional_call(life: Life) -> Iterator[Found]:
    """Called with other weights, it computes with those; called as before, with its own."""
    before, after = life.draw(), life.draw(weights_of=1)
    module, other = _lived(life, before), dict(life.build(after).named_parameters())
    module.eval()

    def through(*given):
        return torch.func.functional_call(module, other, given)

    yield life.judge(
        module, after, "inference", "by functional_call with other weights", before=before, through=through
    )
    yield life.judge(module, before, life.quiet, "after functional_call with other weights", before=after)


@point("A parameter that is frozen")
def frozen(life: Life) -> Iterator[Found]:
    """With some parameters that ask for no gradient, the others get theirs; thawed, all do again."""
    given = life.draw()
    module = _lived(life, given)
    parameters = list(module.parameters())
    matrices, biases = ([p for p in parameters if (p.dim() > 1) == are] for are in (True, False))
    of_one = len(parameters) // life.case.num_layers
    for mode in life.learning_modes:
        for when, frozen, learning in (
            ("with some parameters frozen", parameters[::2], None),
            ("with the other parameters frozen", parameters[1::2], None),
            ("with biases alone that learn", matrices, ()),
            ("with matrices alone that learn", biases, ()),
            ("with the parameters of the first layer frozen", parameters[:of_one], ()),
            ("with the parameters of the last layer frozen", parameters[-of_one:], ()),
            ("with every parameter frozen", parameters, None),
            *((f"with {name} alone that learns", parameters, (name,)) for name in life.cell.inputs()),
            ("after its parameters were frozen", [], None),
        ):
            for parameter in parameters:
                parameter.requires_grad_(not any(parameter is one for one in frozen))
            if learning != () or len(frozen) < len(parameters):
                yield life.judge(module, given, mode, f"{when}, in {mode}", learning=learning)
    other = life.draw(weights_of=1)
    _lived(life, given, module.requires_grad_(False))
    copy_weights(other.stimulus.weights, module)  # as a moving average of another module does
    yield from _follows(life, module, other, given, "after its weights change while they are frozen")
    for mode, part in ((life.quiet, slice(None, None, 2)), (life.learning_modes[-1], slice(of_one))):
        early = life.build(given)
        for when, learns in (("with some parameters frozen", False), ("after its parameters were frozen", True)):
            for parameter in list(early.parameters())[part]:
                parameter.requires_grad_(learns)
            yield life.judge(early, given, mode, f"{when} from its first call on, in {mode}")
