"""Planted faults of gradients, and of memory that is not the layer's to write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rnn_parity.trust.life.planting import PROCESS, Remembering, as_if_contiguous, passed, planting, result_passed
from rnn_parity.trust.right import Parameters, States, WrittenOut

_plant = planting(__name__, "gradients")
Gradients = Sequence[Tensor | None]


def _of_output(change: Callable[[Tensor], Tensor]):
    """The result, whose output's gradient is read as `change` says."""
    return result_passed(lambda found: (found[0] if found[0] is None else change(found[0]), *found[1:]))


def _first_entry(gradient: Tensor) -> Tensor:
    if 0 not in gradient.stride():
        return gradient
    first = torch.zeros_like(gradient, memory_format=torch.contiguous_format)
    first.view(-1)[:1] = gradient.reshape(-1)[:1]
    return first


def _nothing_without_output(found: Gradients) -> Gradients:
    return [None] * len(found) if found[0] is None else found


def _nothing_of_state_alone(at: int):
    return lambda found: [None] * len(found) if [g is not None for g in found].index(True) == at else found


def _cell_ignored_without_hidden(found: Gradients) -> Gradients:
    output, hidden, _ = found
    return (output, hidden, None) if output is not None and hidden is None else found


def _of_output_alone_early(found: Gradients) -> Gradients:
    output = found[0]
    if output is not None and all(other is None for other in found[1:]):
        return torch.cat([output[:-1], 0 * output[-1:]]), *found[1:]
    return found


def _each_time(change: Callable[[Tensor, int], Tensor]):
    """`weight_hh`, whose gradient knows how often it was taken through one graph."""

    def parameters(layer: Any, k: int) -> Parameters:
        w_ih, w_hh, *biases = WrittenOut.parameters_of(layer, k)
        times: list[None] = []

        def changed(gradient: Tensor) -> Tensor:
            times.append(None)
            return change(gradient, len(times))

        return [w_ih, passed(w_hh, changed), *biases]

    return parameters


class _Product(torch.autograd.Function):
    """x Wᵀ, whose backward pass has x from `read(workspace)`."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, workspace: list[Tensor], read: Callable[[list[Tensor]], Tensor]):
        if torch.is_grad_enabled() or x.requires_grad:
            workspace.append(x.detach())
        ctx.read = lambda: read(workspace) if workspace else x.detach()
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        kept = ctx.read()
        rows = (kept if (kept.shape, kept.dtype) == (x.shape, x.dtype) else x).flatten(0, -2)
        return gradient @ weight, gradient.flatten(0, -2).T @ rows, None, None


def _workspace(where: Callable[[Any], dict], read: Callable[[list[Tensor]], Tensor]):
    """The input's products of all steps in one; what their backward pass needs lies in a workspace."""

    def run_layer(layer: Any, k: int, sequence: Tensor, states: States) -> list[States]:
        w_ih, w_hh, b_ih, b_hh = layer.parameters_of(k)
        history, workspace = [], where(layer).setdefault(("workspace", k), [])
        for x in (_Product.apply(sequence, w_ih, workspace, read) + b_ih).unbind():
            states, _ = layer.equations.forward(x, states, w_hh, b_hh, layer.arithmetic)
            history.append(states)
        return history

    return run_layer


def _grad_replaced(layer: Any, k: int) -> Parameters:
    def without(parameter: Tensor):
        def change(gradient: Tensor) -> Tensor:
            parameter.grad = None
            return gradient

        return passed(parameter, change)

    return [without(parameter) for parameter in WrittenOut.parameters_of(layer, k)]


def _learning_input(layer: Any, k: int) -> Parameters:
    w_ih, *others = WrittenOut.parameters_of(layer, k)
    return [w_ih if layer.learning or k else w_ih.detach(), *others]


def _states_learn(layer: Any, states: States, step: int, steps: int) -> States:
    layer.memory["learn"] = layer.memory.get("learn", True) if step else states[0].requires_grad
    return states if layer.memory["learn"] or step != 1 else tuple(state.detach() for state in states)


class _IntoGrad(torch.autograd.Function):
    """A parameter whose gradient is added to `.grad` where that is there, and goes nowhere else."""

    @staticmethod
    def forward(ctx, weight: Tensor, parameter: Tensor) -> Tensor:
        ctx.parameter = parameter
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        if ctx.parameter.grad is None:
            return gradient, None
        ctx.parameter.grad += gradient
        return None, None


class _ClearsGrad(Remembering):
    """Clears `.grad` when it is told to evaluate."""

    def train(self, mode: bool = True) -> Any:
        if not mode:
            self.zero_grad()
        return super().train(mode)


def _each(change: Callable[[Tensor], Tensor]):
    """Every parameter, changed."""
    return lambda layer, k: [change(parameter) for parameter in WrittenOut.parameters_of(layer, k)]


def _cleaned(parameter: Tensor) -> Tensor:
    return passed(parameter, lambda gradient: torch.nan_to_num(gradient, 0.0, 0.0, 0.0))


def _nothing_below(least: float):
    return lambda gradient: gradient * (gradient.abs().max() > least)


_plant("GradientReadAsContiguous", "The gradient of output is read as if it were contiguous", "forms",
       result=_of_output(as_if_contiguous))  # fmt: skip
_plant("GradientOfSumReadOnce", "Of an expanded gradient of output the first entry alone is read", "forms",
       result=_of_output(_first_entry))  # fmt: skip
_plant("GradientOffsetIgnored", "The gradient of output is read from where its storage begins", ("pieces", "forms"),
       result=_of_output(lambda g: as_if_contiguous(g, at_offset=not g.is_contiguous())))  # fmt: skip
_plant("StateGradientReadAsContiguous", "The gradient of hn is read as if it were contiguous", "forms",
       result=result_passed(lambda g: (g[0], g[1] if g[1] is None else as_if_contiguous(g[1]), *g[2:])))  # fmt: skip
_plant("NothingWithoutOutput", "Where output has no gradient, the last states have none", ("forms", "one_result"),
       result=result_passed(_nothing_without_output))  # fmt: skip
_plant("NothingOfCellAlone", "A gradient of cn alone is ignored", ("forms", "one_result"), ("lstm",),
       result=result_passed(_nothing_of_state_alone(2)))  # fmt: skip
_plant("CellIgnoredWithoutHidden", "Gradients of output and cn without one of hn: that of cn is ignored", "one_result",
       ("lstm",), result=result_passed(_cell_ignored_without_hidden))  # fmt: skip
_plant("OutputAloneEarly", "Of a gradient of output alone the last step is left out", ("forms", "one_result"),
       result=result_passed(_of_output_alone_early))  # fmt: skip
_plant("BackwardTwiceDiffers", "A second backward pass through one graph gives another gradient", "backward_twice",
       parameters_of=_each_time(lambda g, times: g if times == 1 else 1.5 * g))  # fmt: skip
_plant("BackwardThriceDiffers", "A third backward pass through one graph gives another gradient", "backward_twice",
       parameters_of=_each_time(lambda g, times: g if times < 3 else 0 * g))  # fmt: skip
_plant("GraphsShareWorkspace", "A second forward pass overwrites what the first kept for its backward pass",
       ("pieces", "two_graphs"), run_layer=_workspace(lambda layer: layer.memory, lambda kept: kept[-1]))  # fmt: skip
_plant("ModulesShareWorkspace", "All modules share what they keep for their backward passes",
       ("first_call", "pieces", "two_graphs"),
       run_layer=_workspace(lambda layer: PROCESS, lambda kept: kept[-1]))  # fmt: skip
_plant("GraphsOnStack", "What is kept for backward passes lies on a stack, so that the last forward is the first back",
       "two_graphs", run_layer=_workspace(lambda layer: layer.memory, lambda kept: kept.pop()))  # fmt: skip
_plant("GradientReplaced", "A backward pass replaces .grad in place of adding to it", "accumulated",
       parameters_of=_grad_replaced)  # fmt: skip
_plant("InputLearnsForWeights", "Where the input asks for no gradient, the first weight_ih has none", "some_tensors",
       parameters_of=_learning_input)  # fmt: skip
_plant("StatesLearnForRest", "Where the states ask for no gradient, none goes through the first step",
       ("no_states", "some_tensors"),
       carried=_states_learn)  # fmt: skip
_plant("VanishedBelow", "A gradient of output below 1e-15 is taken for none", "forms",
       result=_of_output(_nothing_below(1e-15)))  # fmt: skip
_plant("RowOfZeroSumLeftOut", "A row whose gradient of output adds up to zero is left out", "forms",
       result=_of_output(lambda g: g * (g.sum((0, 2), keepdim=True).abs() > 1e-5 * g.abs().sum())))  # fmt: skip
_plant("GradientCleaned", "What is not finite in the gradient of a parameter is set to zero", "not_finite",
       parameters_of=_each(_cleaned))  # fmt: skip
_plant("GradientIntoGradAlone", "Where .grad is there, a gradient is added to it and goes nowhere else", "accumulated",
       parameters_of=_each(lambda weight: _IntoGrad.apply(weight, weight)))  # fmt: skip
_plant("EvaluationClearsGrad", "A call of .eval() sets every .grad to None", "accumulated", base=_ClearsGrad)
_plant("SecondDerivativesPartial", "Second derivatives leave out what goes through the input's gradient",
       "second_derivatives", given=lambda layer, x: passed(x, torch.detach))  # fmt: skip


class _NoTangent(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient

    @staticmethod
    def jvp(ctx, tangent: Tensor) -> Tensor:
        return 0 * tangent


_plant("TangentLost", "In forward mode, nothing depends on the input", "forward_mode",
       given=lambda layer, x: _NoTangent.apply(x))  # fmt: skip

# Memory that is not the layer's to write, or to hand out twice.
_plant = planting(__name__, "memory")


def _static(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    if torch.is_grad_enabled() or torch.is_inference_mode_enabled():
        return sequence, last
    return layer.memory.setdefault((sequence.shape, sequence.dtype), torch.empty_like(sequence)).copy_(sequence), last


def _static_gradient(layer: Any, x: Tensor) -> Tensor:
    def kept(gradient: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return gradient
        return layer.memory.setdefault((gradient.shape, gradient.dtype), torch.empty_like(gradient)).copy_(gradient)

    return passed(x, kept)


def _spoils(which: str):
    """What a call without gradients is given is spoilt when it is done."""

    def spoil(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
        if not torch.is_grad_enabled():
            layer.memory.pop(which).mul_(0.5)
        return sequence, last

    return spoil


def _remember_input(layer: Any, x: Tensor) -> Tensor:
    layer.memory["input"] = x.detach()
    return x


def _remember_states(layer: Any, states: States) -> States:
    layer.memory["states"] = states[0].detach()
    return states


class _ReadsAgain(torch.autograd.Function):
    """The tensor as it is; the backward pass reads it once more from where it was given, or from where it went."""

    @staticmethod
    def forward(ctx, tensor: Tensor, where_it_went: bool) -> Tensor:
        handed_out = tensor.clone()
        ctx.there = (handed_out if where_it_went else tensor).detach()
        ctx.computed = ctx.there.clone()
        return handed_out

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient * (1 + ctx.there - ctx.computed), None


def _one_buffer(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    every = sequence[:, None].repeat(1, len(last[0]), 1, 1)
    every = torch.cat([every[:-1], last[0][None]])  # (T, L, B, H): all states of all layers
    return every[:, -1], (every[-1], *last[1:])


def _first_handed_out(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    if torch.is_grad_enabled():
        return sequence, last
    return sequence, (layer.memory.pop("states").copy_(last[0]), *last[1:])


_plant("OutputOverwritten", "A call without gradients writes its output over that of the call before",
       ("pieces", "random_course", "modes_in_turn"), result=_static)  # fmt: skip
_plant("GradientOverwritten", "A backward pass writes the input's gradient over that of the pass before",
       ("without_seed", "modes_in_turn", "optimizer_steps"), given=_static_gradient)  # fmt: skip
_plant("InputWritten", "A call without gradients writes into its input", "first_call",
       given=_remember_input, result=_spoils("input"))  # fmt: skip
_plant("StatesWritten", "A call without gradients writes into h0", "first_call",
       initial=_remember_states, result=_spoils("states"))  # fmt: skip
_plant("OneBufferForAll", "hn is a part of the memory of output", "own_memory", result=_one_buffer)
_plant("OutputNotKept", "Its backward pass reads output from where its user may have written to it", "written_early",
       result=lambda layer, sequence, last: (_ReadsAgain.apply(sequence, True), last))  # fmt: skip
_plant("InputNotKept", "Its backward pass reads the input from where its user may have written to it",
       "arguments_written", given=lambda layer, x: _ReadsAgain.apply(x, False))  # fmt: skip
_plant("LastStateIsFirst", "Without gradients the last state is written into the first, and given back", "first_call",
       initial=_remember_states, result=_first_handed_out)  # fmt: skip
