"""Points of a life: gradients in every form in which they come back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from rnn_parity.cells.base import Arithmetic, load_cell
from rnn_parity.cells.stack import run_stack
from rnn_parity.compare.reference import PERTURBATIONS, Reference, perturb
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.parameters import canonical_parameters, gradient_sources, loads_by_itself, unwrapped
from rnn_parity.layers.stimulus import Stimulus
from rnn_parity.life.course import Life, Pass
from rnn_parity.life.judging import Found
from rnn_parity.life.one_call import Given, Results, many, results_of
from rnn_parity.life.points import point

OF_OUTPUT: Mapping[str, Callable[[Tensor], Tensor]] = {
    "its sum": torch.sum,
    "its mean over steps": lambda output: output.mean(0),
    "its last step": lambda output: output[-1],
    "its first step": lambda output: output[0],
    "it transposed": lambda output: output.transpose(0, 1),
    "it permuted": lambda output: output.permute(1, 2, 0),
    "every second unit": lambda output: output[..., ::2],
    "it concatenated with itself": lambda output: torch.cat([output, 2 * output], -1),
    "one row": lambda output: output[:, 0],
    "its first unit less its last": lambda output: output[..., :1] - output[..., -1:],
}
OF_STATES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "its sum": torch.sum,
    "its last layer": lambda state: state[-1],
    "it transposed": lambda state: state.transpose(0, 1),
    "its layers side by side": lambda state: torch.cat(list(state), -1),
}
WAITING = 70
"""Forward passes before the backward pass of the first, as over the pieces of a long sequence."""

SCALES = {"its mean over steps": -60, "one row": 20}
"""Powers of 2 times the loss: gradients are as much smaller, or larger. Float16 has no room for them."""


@point("Gradients in other forms")
def forms(life: Life) -> Iterator[Found]:
    """The loss reads one result in a form that hands the gradient back expanded, strided, or of a part."""
    given = life.draw()
    module = life.build(given)
    modes = itertools.cycle(life.learning_modes)
    for name in life.cell.outputs():
        for (words, view), mode in zip((OF_OUTPUT if name == "output" else OF_STATES).items(), modes, strict=False):
            power = SCALES.get(words, 0) if life.case.dtype != "float16" else 0
            loss = given.with_loss(**{name: _times(power, view) if power else view})
            scaled = f", times 2^{power}" if power else ""
            yield life.judge(module, loss, mode, f"from a loss of {name}, {words}{scaled}, in {mode}")
    whole = dict.fromkeys(life.cell.outputs(), lambda value: value)
    losses = {
        "two steps and the last states": given.with_loss(**whole | {"output": lambda output: output[:2]}),
        "little of output and all of the last states": given.with_loss(
            **whole | {"output": _times(-18, whole["output"])}
        ),
        "rows of different lengths": given.with_loss(output=_of_lengths),
    }
    for (words, loss), mode in itertools.product(losses.items(), life.learning_modes):
        yield life.judge(module, loss, mode, f"from a loss of {words}, in {mode}")


def _of_lengths(output: Tensor) -> Tensor:
    """One step of the first row, two of the second, and so on."""
    return torch.cat([output[: row + 1, row] for row in range(output.shape[1])])


def _times(power: int, view: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda value: 2.0**power * view(value)


@point("Gradients of one result alone")
def one_result(life: Life) -> Iterator[Found]:
    """A loss of one result, or of all but one, gives the gradients of that; the others then have none."""
    given, names = life.draw(), life.cell.outputs()
    module = life.build(given)
    for mode in life.learning_modes:
        for name in names:
            whole = given.with_loss(**{name: lambda value: value})
            yield life.judge(module, whole, mode, f"from a loss of {name} alone, in {mode}")
            others = given.with_loss(**{other: lambda value: value for other in names if other != name})
            yield life.judge(module, others, mode, f"from a loss of all but {name}, in {mode}")


@point("Gradients of some tensors alone")
def some_tensors(life: Life) -> Iterator[Found]:
    """Where the input, the states, or both ask for no gradient, the others get theirs; so do arguments that are
    parameters, as a learned prompt or learned states are.
    """
    given = life.draw()
    module, names = life.build(given), life.cell.inputs()

    for mode in life.learning_modes:
        yield life.judge(module, given, mode, f"with parameters alone that learn, in {mode}", learning=())
        for name in names if life.takes_states else ():
            yield life.judge(module, given, mode, f"with {name} and parameters that learn, in {mode}", learning=(name,))
        yield life.judge(module, given, mode, f"with arguments that are parameters, in {mode}", as_parameters=True)


@point(
    "Gradients through `torch.func.functional_call`",
    may_refuse=True,
    condition="no gradients are taken through torch.func.functional_call",
)
def functional_gradients(life: Life) -> Iterator[Found]:
    """The weights that it was called with get the gradients, as where one is trained through another's steps."""
    own, given = life.draw(), life.draw(weights_of=1)
    module, other = life.build(own), life.build(given)
    if loads_by_itself(other):
        return
    for mode in reversed(life.modes):
        life.call(module, own, mode)
    weights: dict[str, Tensor] = dict(other.named_parameters())

    def run() -> Results:
        one = life.start(module, given, life.quiet, through=lambda *a: torch.func.functional_call(module, weights, a))
        return replace(one, module=other).finish()

    yield life.hold(given, run, "with gradients through functional_call")


@point("Gradients that add up in `.grad`")
def accumulated(life: Life) -> Iterator[Found]:
    """After two backward passes without `zero_grad` between, `.grad` of a parameter holds the sum, an evaluation in
    between or not; also where the parameters alone learn, when autograd takes gradients that share memory as they are.
    What is there already changes nothing that `torch.autograd.grad` gives.
    """
    if loads_by_itself(life.build(life.draw())):
        return
    for mode in life.learning_modes:
        given = life.draw_undropped(mode)
        for learning, of in ((None, ""), ((), " of the parameters alone")):
            module = life.build(given)
            into = partial(_twice_into_grad, life, module, given, mode, learning)
            found = life.hold(given, into, f"after two backward passes into .grad{of}, in {mode}")
            yield found
        if found.verdict != Verdict.NOT_JUDGED:  # nothing asks for a gradient
            yield life.judge(module, given, mode, f"where .grad is there already, in {mode}")


def _twice_into_grad(
    life: Life, module: nn.Module, given: Given, mode: str, learning: tuple[str, ...] | None
) -> Results:
    sources = gradient_sources(module)
    for again in range(2):
        if again:
            with torch.no_grad():
                results_of(life.cell, module.eval(), *given.tensors())
        one = life.start(module, given, mode, learning=learning)
        loss = torch.stack([(value * cotangent).sum() for value, cotangent in given.weighed(one.values)]).sum()
        if loss.requires_grad:
            loss.backward()
    learnt = {name: parameter for name, parameter in sources.items() if parameter.requires_grad}
    found = {n: torch.zeros_like(p) if p.grad is None else p.grad / 2 for n, p in learnt.items()}
    return Results({f"grad_{name}": value.cpu() for name, value in found.items()})


@point("Two graphs at once")
def two_graphs(life: Life) -> Iterator[Found]:
    """Two forward passes, of one module or of two, then their backward passes in either order, or after a call without
    gradients in the other mode, which stays: each has its own values. In another mode a layer may refuse. And many
    forward passes, then the backward pass of the first.
    """
    one, other = life.draw(), life.draw(1, weights_of=0)
    module = life.build(one)
    for mode in life.learning_modes:
        pair, in_other_mode = (life.build(one), life.build(one)), " and a call in the other mode"
        for words, modules, order in (
            (", backward in the same order", (module, module), (0, 1)),
            (", backward in the other order", (module, module), (1, 0)),
            (", of two modules, backward in the other order", pair, (1, 0)),
            (in_other_mode, (module, module), (1, 0)),
        ):
            when = f"after two forward passes{words}, in {mode}"
            passes: list[Pass] = []
            for called, given in zip(modules, (one, other), strict=True):
                yield life.hold(given, partial(_forward, life, called, given, mode, passes), when)
            if words == in_other_mode:
                with torch.no_grad():
                    results_of(life.cell, module.train(mode == "eval"), *other.tensors())
            for at in order:
                found = life.hold((one, other)[at], passes[at].finish, when)
                refused = words == in_other_mode and found.verdict == Verdict.FAILED
                yield replace(found, verdict=Verdict.UNSUPPORTED) if refused else found
    one_step = life.draw(sequence_length=1)
    for mode in life.learning_modes[-1:]:
        module, passes, when = life.build(one_step), list[Pass](), f"after {WAITING} forward passes, in {mode}"
        yield life.hold(one_step, partial(_forward, life, module, one_step, mode, passes), when)
        waiting = [results_of(life.cell, module, *one_step.tensors()) for _ in many(WAITING)]
        yield life.hold(one_step, passes[0].finish, f"in the backward pass of the first call, {when}")
        del waiting


def _forward(life: Life, module: nn.Module, given: Given, mode: str, passes: list[Pass]) -> Results:
    passes.append(life.start(module, given, mode))
    return passes[-1].forward()


@point(
    "Results written to before the backward pass",
    condition="its results are not written to in place",
)
def written_early(life: Life) -> Iterator[Found]:
    """As by `output.masked_fill_(…)`: it raises, or the gradients are those of what it computed."""
    given = life.draw()
    module = life.build(given)

    def write(mode: str) -> Results:
        one = life.start(module, given, mode)
        computed = {name: value.clone() for name, value in one.values.items()}
        for value in one.values.values():
            value.add_(1)
        return replace(one, values=computed).finish()

    for mode in life.learning_modes:
        when = f"with results written to before the backward pass, in {mode}"
        yield _right_or_raised(life.hold(given, partial(write, mode), when))


@point(
    "Arguments and weights written to before the backward pass",
    condition="its arguments and weights are not written to before the backward pass",
)
def arguments_written(life: Life) -> Iterator[Found]:
    """The next batch may be read into the same memory, and an optimizer may step: it raises, or the gradients are those
    of what it was given.
    """
    given = life.draw()

    def write(name: str, mode: str) -> Results:
        module = life.build(given)
        one = life.start(module, given, mode)
        with torch.no_grad():
            for tensor in [one.inputs[name]] if name in one.inputs else module.parameters():
                tensor.add_(1)
        return one.results(one.gradients())

    of_weights = () if loads_by_itself(life.build(given)) else ("its weights",)  # it may read those that it has now
    for name in (*life.cell.inputs(), *of_weights):
        for mode in life.learning_modes:
            when = f"with {name} written to before the backward pass, in {mode}"
            yield _right_or_raised(life.hold(given, partial(write, name, mode), when))


def _right_or_raised(found: Found) -> Found:
    """An error warns the user, as autograd does for the tensors that it keeps: nothing is wrong."""
    raised = found.verdict in (Verdict.FAILED, Verdict.UNSUPPORTED)
    return Found(Verdict.EQUIVALENT, when=found.when) if raised else found


@point("Backward twice through one graph", may_refuse=True)
def backward_twice(life: Life) -> Iterator[Found]:
    """With `retain_graph=True` every further backward pass gives the gradients of the first."""
    given = life.draw()
    module = life.build(given)
    for mode in life.learning_modes:
        one = life.start(module, given, mode)
        for words in ("first", "second", "third"):
            when = f"at the {words} backward pass through one graph, in {mode}"
            yield life.hold(given, partial(one.finish, retain_graph=True), when)


@point("Parameters that layers share", may_refuse=True, condition="no two of its layers share a parameter")
def shared(life: Life) -> Iterator[Found]:
    """Where all layers have one weight_hh and one pair of biases between them, each computes with these, and the
    gradient is the sum of theirs.
    """
    given, own = life.draw(), unwrapped(layer := life.build(life.draw()))
    if life.case.num_layers == 1 or loads_by_itself(layer):
        return
    weights = given.stimulus.weights
    first_of = {name: f"{name.rpartition('_l')[0]}_l0" for name in weights if not name.startswith("weight_ih")}
    summed = replace(given.references, compute=partial(_sum_shared, first_of), known={})
    given = replace(given, references=summed)
    named, paths = canonical_parameters(layer), {id(p): path for path, p in own.named_parameters()}
    for name, first in first_of.items():
        owner, _, attribute = paths[id(named[name])].rpartition(".")
        setattr(own.get_submodule(owner), attribute, named[first])
    module = _Sharing(layer, {name: named[name] for name in weights if first_of.get(name, name) == name})
    for mode in life.modes:
        yield life.judge(module, given, mode, f"with parameters that layers share, in {mode}")


class _Sharing(nn.Module):
    """A layer, and the names under which its parameters, some of which several layers share, are known."""

    def __init__(self, layer: nn.Module, named: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.layer = layer
        self.named = {id(parameter): (name, parameter) for name, parameter in named.items()}  # one bias has two

    def canonical_parameters(self) -> dict[str, Tensor]:
        return dict(self.named.values())

    def forward(self, *given):
        return self.layer(*given)


def _sum_shared(
    first_of: Mapping[str, str], case: Case, stimulus: Stimulus, masks: Tensor | None, seed: int
) -> Reference:
    """The oracle's quantities, where a parameter has the gradients of all layers that share it."""

    def run(stimulus, rounding) -> dict[str, Tensor]:
        weights = {name: stimulus.weights[first_of.get(name, name)] for name in stimulus.weights}
        inputs = stimulus.input, stimulus.states, weights, stimulus.cotangents
        found = run_stack(load_cell(case.cell), *inputs, masks, case.dropout, Arithmetic(rounding))
        for name, first in first_of.items():
            if name != first:
                found[f"grad_{first}"] = found[f"grad_{first}"] + found.pop(f"grad_{name}")
        return found

    return perturb(case, seed, stimulus, run, PERTURBATIONS[True], side_by_side=True)
