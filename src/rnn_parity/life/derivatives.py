"""Points of a life: derivatives other than the gradient of a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from rnn_parity.cells.base import Arithmetic, Cell, load_cell
from rnn_parity.cells.stack import run_forward
from rnn_parity.compare.reference import PERTURBATIONS, Reference, perturb
from rnn_parity.layers.parameters import gradient_sources, loads_by_itself
from rnn_parity.layers.stimulus import Stimulus
from rnn_parity.life.course import Life
from rnn_parity.life.judging import Found
from rnn_parity.life.one_call import Given, Results, results_of
from rnn_parity.life.points import point


@point("Second derivatives", may_refuse=True, condition="no second derivatives are taken")
def second_derivatives(life: Life) -> Iterator[Found]:
    """Where `create_graph=True` does not raise, the gradients of the squared norm of all gradients hold."""
    if life.quiet not in life.modes:
        return
    given = life.draw()
    module = life.build(given)
    if loads_by_itself(module):
        return

    def run() -> Results:
        one = life.start(module, given, life.quiet)
        first = one.gradients(create_graph=True)
        # `backward`, not `autograd.grad`, which never runs the node by which `once_differentiable` raises.
        torch.stack([gradient.square().sum() for gradient in first.values()]).sum().backward()
        sources = one.inputs | gradient_sources(module)
        found = {f"grad_{name}": t.grad for name, t in sources.items() if f"grad_{name}" in first}
        module.zero_grad()
        zero = torch.zeros(())
        return Results({q: zero.expand_as(first[q]) if g is None else g.cpu() for q, g in found.items()})

    yield life.hold(
        given, run, "with create_graph=True", reference=partial(_second_derivatives, given, life.takes_states)
    )


def _second_derivatives(given: Given, takes_states: bool) -> Reference:
    """The oracle's equations, twice through autograd in float64; of states only where a layer takes any."""
    case, cell = given.case, load_cell(given.case.cell)

    def run(stimulus, rounding) -> dict[str, Tensor]:
        leaves = stimulus.map(lambda tensor: tensor.detach().requires_grad_())
        forward = run_forward(cell, leaves.input, leaves.states, leaves.weights, arithmetic=Arithmetic(rounding))
        results = zip((forward.output, *forward.states), stimulus.cotangents, strict=True)
        loss = torch.stack([(value * cotangent).sum() for value, cotangent in results]).sum()
        inputs = (leaves.input, *leaves.states) if takes_states else (leaves.input,)
        sources = dict(zip(cell.inputs(), inputs, strict=False)) | dict(leaves.weights)
        first = torch.autograd.grad(loss, list(sources.values()), create_graph=True)
        norm = torch.stack([gradient.square().sum() for gradient in first]).sum()
        return {
            f"grad_{name}": gradient
            for name, gradient in zip(sources, torch.autograd.grad(norm, list(sources.values())), strict=True)
        }

    return perturb(case, given.references.seed, given.stimulus, run, PERTURBATIONS[True], side_by_side=True)


@point("Forward-mode derivatives", may_refuse=True, condition="no derivatives are taken in forward mode")
def forward_mode(life: Life) -> Iterator[Found]:
    """The derivative of every result in one direction of the input and the states, as `torch.func.jvp` takes it, and in
    one of the weights.
    """
    given, towards, cell = life.draw(), life.draw(weights_of=1), life.cell
    module, tensors = life.build(given).eval(), given.tensors()
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(tensor.shape, generator=generator, dtype=torch.float64) for tensor in tensors]
    directions = [one if life.takes_states or not at else 0 * one for at, one in enumerate(drawn)]

    def of_inputs(stimulus: Stimulus, rounding: Any) -> dict[str, Tensor]:
        def forward(input: Tensor, *states: Tensor) -> list[Tensor]:
            one = run_forward(cell, input, states, stimulus.weights, arithmetic=Arithmetic(rounding))
            return [one.output, *one.states]

        return _derivatives(cell, forward, (stimulus.input, *stimulus.states), directions)

    def of_weights(stimulus: Stimulus, rounding: Any) -> dict[str, Tensor]:
        def forward(*weights: Tensor) -> list[Tensor]:
            named = dict(zip(stimulus.weights, weights, strict=True))
            one = run_forward(cell, stimulus.input, stimulus.states, named, arithmetic=Arithmetic(rounding))
            return [one.output, *one.states]

        directions = [towards.stimulus.weights[name] for name in stimulus.weights]
        return _derivatives(cell, forward, stimulus.weights.values(), directions)

    def run() -> Results:
        return Results(_derivatives(cell, lambda *x: results_of(cell, module, *x).values(), tensors, directions))

    def run_weights() -> Results:
        own, others = (dict(one.named_parameters()) for one in (module, life.build(towards)))

        def call(*weights: Tensor) -> Iterable[Tensor]:
            named = dict(zip(own, weights, strict=True))
            return results_of(cell, lambda *x: torch.func.functional_call(module, named, x), *tensors).values()

        return Results(_derivatives(cell, call, own.values(), [others[name] for name in own]))

    exactly = partial(perturb, given.case, 0, given.stimulus, perturbations=PERTURBATIONS[True], side_by_side=True)
    yield life.hold(given, run, "in forward mode", reference=partial(exactly, of_inputs))
    if not loads_by_itself(module):
        yield life.hold(given, run_weights, "in forward mode by the weights", reference=partial(exactly, of_weights))


def _derivatives(
    cell: type[Cell],
    call: Callable[..., Iterable[Tensor]],
    inputs: Iterable[Tensor],
    directions: Iterable[Tensor],
) -> dict[str, Tensor]:
    with forward_ad.dual_level():
        pairs = zip(inputs, directions, strict=True)
        found = call(*(forward_ad.make_dual(x.detach(), to.detach().to(x).expand_as(x)) for x, to in pairs))
        tangents = [forward_ad.unpack_dual(value).tangent for value in found]
    return {name: tangent.detach().cpu() for name, tangent in zip(cell.outputs(), tangents, strict=True)}
