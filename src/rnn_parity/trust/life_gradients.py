"""Planted faults of the life, of gradients, memory and sizes: layers of any kind that one call shows right.

Import paths are `rnn_parity.trust.life_gradients:NAME`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rnn_parity.trust.life_planting import PROCESS, as_if_contiguous, passed, planting, result_passed
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
_plant("SecondDerivativesPartial", "Second derivatives leave out what goes through the input's gradient",
       "second_derivatives", given=lambda layer, x: passed(x, torch.detach))  # fmt: skip

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


class _ReadsItsResult(torch.autograd.Function):
    """The output as it is; the backward pass reads it once more from where it was handed out."""

    @staticmethod
    def forward(ctx, output: Tensor) -> Tensor:
        handed_out = output.clone()
        ctx.there, ctx.computed = handed_out.detach(), handed_out.detach().clone()
        return handed_out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * (1 + ctx.there - ctx.computed)


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
       result=lambda layer, sequence, last: (_ReadsItsResult.apply(sequence), last))  # fmt: skip
_plant("LastStateIsFirst", "Without gradients the last state is written into the first, and given back", "first_call",
       initial=_remember_states, result=_first_handed_out)  # fmt: skip

# Sizes: tiles, chunks, blocks and offsets.
_plant = planting(__name__, "sizes")


def _rows_from(x: Tensor, row: int) -> Tensor:
    """(T, B, ·) that is zero from a row on."""
    return torch.cat([x[:, :row], 0 * x[:, row:]], 1)


def _without_last_units(multiple: int) -> Callable[[Any, int], Parameters]:
    """`weight_hh` without the columns that fill no whole tile, where there is one whole."""

    def parameters(layer: Any, k: int) -> Parameters:
        w_ih, w_hh, *biases = WrittenOut.parameters_of(layer, k)
        whole = w_hh.shape[1] // multiple * multiple or w_hh.shape[1]
        return [w_ih, torch.cat([w_hh[:, :whole], 0 * w_hh[:, whole:]], 1), *biases]

    return parameters


def _at_boundary(length: int, least: int, change: Callable[[Tensor], Tensor]):
    """The states at every multiple of a length, in sequences longer than `least`, are changed."""

    def carried(layer: WrittenOut, states: States, step: int, steps: int) -> States:
        at = steps > least and step > 0 and step % length == 0
        return tuple(map(change, states)) if at else states

    return carried


def _wrapped(layer: WrittenOut, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    if sequence.numel() > 2**16:
        flat = sequence.reshape(-1)
        sequence = flat[torch.arange(len(flat), device=flat.device) % 2**16].view(sequence.shape)
    return sequence, last


def _no_bias(when: Callable[[Any], bool]):
    def parameters(layer: Any, k: int) -> Parameters:
        *weights, b_ih, b_hh = WrittenOut.parameters_of(layer, k)
        return [*weights, 0 * b_ih, 0 * b_hh] if when(layer) else [*weights, b_ih, b_hh]

    return parameters


_plant("RowsOver128", "Rows beyond 128 read zeros", ("batches", "many_rows"), given=lambda layer, x: _rows_from(x, 128))
_plant("TileOf32Rows", "Of more than 32 rows those that fill no whole tile of 32 read zeros", "batches",
       given=lambda layer, x: _rows_from(x, layer.rows // 32 * 32 or layer.rows))  # fmt: skip
_plant("TileOf64RowsExactly", "At a multiple of 64 rows the last one reads zeros", "batches",
       given=lambda layer, x: _rows_from(x, layer.rows - (layer.rows % 64 == 0)))  # fmt: skip
_plant("WidthInEights", "Where H is over 8 and no multiple, the last units are left out of the product", "widths",
       parameters_of=_without_last_units(8))  # fmt: skip
_plant("WidthInThirtyTwos", "Where H is over 32 and no multiple, the last units are left out of the product", "widths",
       parameters_of=_without_last_units(32))  # fmt: skip
_plant("InputInThirtyTwos", "Where I is over 32 and no multiple, the last inputs are left out", "widths",
       given=lambda layer, x: torch.cat([x[..., : x.shape[2] // 32 * 32 or None],
                                         0 * x[..., x.shape[2] // 32 * 32 or x.shape[2] :]], 2))  # fmt: skip
_plant("WidthOfOne", "At H = 1 bias_hh is left out", "widths",
       step=lambda layer, x, states, w_ih, w_hh, b_ih, b_hh: WrittenOut.step(
           layer, x, states, w_ih, w_hh, b_ih, b_hh if w_hh.shape[1] > 1 else 0 * b_hh))  # fmt: skip
_plant("ChunksOf64", "In sequences over 64 steps no gradient passes a boundary of 64", "lengths",
       carried=_at_boundary(64, 64, torch.detach))  # fmt: skip
_plant("ChunksOf256", "In sequences over 256 steps the states are wiped at 256", "lengths",
       carried=_at_boundary(256, 256, lambda state: 0 * state))  # fmt: skip
_plant("WipedAt100", "In sequences over 100 steps the states are wiped at 100", "lengths",
       carried=_at_boundary(100, 100, lambda state: 0 * state))  # fmt: skip
_plant("CellChunksOf128", "In sequences over 128 steps no gradient of c passes 128", "lengths", ("lstm",),
       carried=lambda layer, s, step, steps: (s[0], s[1].detach()) if steps > step == 128 else s)  # fmt: skip
_plant("BiasSkippedAbove65536", "Biases are not added where T·B > 65,536", "many_rows",
       parameters_of=_no_bias(lambda layer: layer.steps * layer.rows > 65536))  # fmt: skip
_plant("RowsOver65535", "Rows beyond 65,535 read zeros", "many_rows", given=lambda layer, x: _rows_from(x, 65535))
_plant("OffsetsWrap", "What lies beyond 2¹⁶ numbers of the output is read from its start again", "many_rows",
       result=_wrapped)  # fmt: skip
