"""What one implementation makes of a stimulus, forward and backward, and under which dropout masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rnn_parity.cells.base import load_cell
from rnn_parity.dropout.masks import DropoutRecorder, mask_shape
from rnn_parity.dropout.order import UnknownOrder, UnlawfulDraws, order_of
from rnn_parity.dropout.recovery import Replay, Unrecoverable, recover_masks
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.parameters import canonical_gradients, gradient_sources, loads_by_itself
from rnn_parity.layers.running import (
    SpoiledGradient,
    call_layer,
    classify_exception,
    compiled_as_often_as_needed,
    same,
    seed_generators,
)
from rnn_parity.layers.settings import put_back
from rnn_parity.layers.stimulus import Stimulus, build_loaded

WITHOUT_GRADIENTS = "without gradients"


class Role(StrEnum):
    """Whether an implementation might be replaced, or is what it might be replaced by."""

    BASELINE = "baseline"
    CANDIDATE = "candidate"


@dataclass
class RunResult:
    """What one implementation made of a stimulus: its quantities, or why there are none.

    Attributes:
        values: quantity to tensor, on the CPU. missing: quantity to (verdict, reason) where there is no tensor.
        inference: in evaluation, output and last states once more, computed without gradients.
        recorder: the dropout that was seen. masks: the masks that were applied, imposed, seen, or recovered; None for
            no dropout, or where they cannot be had. own_masks: whether the layer takes no masks of ours, since it draws
            out of sight, in an unknown order, or in its backward pass again. wrong_draws: what is wrong with what it
            draws, for example that it draws in evaluation; empty where nothing is.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    missing: dict[str, tuple[Verdict, str]] = field(default_factory=dict)
    inference: dict[str, Tensor] = field(default_factory=dict)
    recorder: DropoutRecorder | None = None
    masks: Tensor | None = None
    own_masks: bool = False
    wrong_draws: str = ""


def run_implementation(
    case: Case, name: str, stimulus: Stimulus, seed: int, regime: str, masks: Tensor | None
) -> RunResult:
    """Run one implementation forward and backward under a regime. Whatever it raises is a missing quantity.

    In training `torch.manual_seed(seed)` comes right before the forward; `masks` (G, T, B, H), where given, replace
    every dropout draw. A layer that takes none of ours, or draws again in its backward pass, applies its own masks of
    this seed, which are seen or recovered.
    Raises `InputError` only for an implementation that cannot be built at all. Settings that it changes are put back.
    """
    with compiled_as_often_as_needed(), put_back(name):
        return _run(case, name, stimulus, seed, regime, masks)


def _run(case: Case, name: str, stimulus: Stimulus, seed: int, regime: str, masks: Tensor | None) -> RunResult:
    result = RunResult()
    cell = load_cell(case.cell)
    every, forward = cell.quantities(case.num_layers), cell.outputs()
    try:
        module = build_loaded(case, name, stimulus).train(regime != "eval")
        given = (tensor.clone() for tensor in (stimulus.input, *stimulus.states))
        inputs = tuple(tensor.to(case.device).requires_grad_() for tensor in given)
        if regime != "eval":
            seed_generators(seed)  # also where nothing should be drawn: a wrong layer may draw there
        if case.draws_dropout and regime != "eval":
            outputs = _forward_with_masks(case, name, module, inputs, seed, masks, result)
        else:
            outputs = call_layer(module, inputs[0], inputs[1:])
        _record_outputs(result, forward, outputs, stimulus)
    except InputError:
        raise
    except Unrecoverable as error:
        result.missing |= {quantity: (Verdict.NOT_JUDGED, str(error)) for quantity in every}
        return result
    except Exception as error:  # whatever an implementation under test raises is a result
        result.missing |= dict.fromkeys(every, classify_exception(error))
        return result
    if result.values.keys() >= set(forward):
        computed = [output.detach().clone() for output in outputs]
        imposed = result.recorder is not None and result.recorder.imposed is not None
        with DropoutRecorder() if imposed else nullcontext() as again:
            _run_backward(case, module, inputs, outputs, stimulus, result)
        if again is not None and again.drawn:  # it computes its forward pass again, under masks that are not ours
            own = _run(case, name, stimulus, seed, regime, None)
            own.own_masks = True
            return own
        for quantity, output, before in zip(forward, outputs, computed, strict=True):
            if not same(output, before):
                result.missing[quantity] = Verdict.DIFFERENT, "its backward pass overwrites it"
        if regime == "eval":
            _run_inference(case, module, stimulus, result)
    else:
        gradients = every[len(forward) :]
        result.missing |= {q: (Verdict.FAILED, "the forward pass gave no usable output") for q in gradients}
    return result


def _forward_with_masks(
    case: Case, name: str, module: nn.Module, inputs, seed: int, masks: Tensor | None, result: RunResult
) -> tuple[Tensor, ...]:
    """Output and last states; the masks that were applied go into the result.

    Raises `Unrecoverable` where they are unknown.
    """

    def run(draws: AbstractContextManager) -> tuple[Tensor, ...]:
        with draws:
            return call_layer(module, inputs[0], inputs[1:])

    order = None
    if case.dropout < 1:  # else everything is dropped, and nothing need be drawn
        try:
            order = order_of(case, name)
        except UnlawfulDraws as error:
            result.wrong_draws = str(error)
        except UnknownOrder as error:
            result.own_masks, replay = True, Replay(seed, error.may_be_watched)
            result.masks = recover_masks(case, name, replay)
            return run(replay)
    stream = None
    if masks is not None:
        stream = masks.flatten() if order is None else order.to_stream(masks)
    draws = result.recorder = DropoutRecorder(stream)
    seed_generators(seed)
    outputs = run(draws)
    if order is not None:
        result.masks = order.to_masks(draws.stream())
    elif case.dropout == 1:
        result.masks = torch.zeros(mask_shape(case), dtype=torch.float64)
    else:
        result.masks = masks
    return outputs


def _run_backward(case: Case, module: nn.Module, inputs, outputs, stimulus: Stimulus, result: RunResult) -> None:
    """Gradients of Σ⟨C_q, q⟩ over output and last states with respect to the inputs and every parameter."""
    wanted = dict(zip(load_cell(case.cell).inputs(), inputs, strict=True))
    like = wanted | dict(stimulus.weights)
    try:
        cotangents = (cotangent.to(case.device) for cotangent in stimulus.cotangents)
        gradients = take_gradients(module, wanted, zip(outputs, cotangents, strict=True))
        for name, tensor in like.items():
            if name in gradients:
                record(result, f"grad_{name}", gradients[name], tensor.shape, tensor.dtype)
            else:  # nothing is raised where it is trained: it stays as it is
                named = loads_by_itself(module)
                why = "canonical_gradients() names none" if named else "it asks for none: requires_grad is False"
                result.missing[f"grad_{name}"] = Verdict.DIFFERENT, why
    except Exception as error:  # as in the forward pass; a GPU's own faults show when a result is read
        result.missing |= dict.fromkeys((f"grad_{name}" for name in like), classify_exception(error))


def _run_inference(case: Case, module: nn.Module, stimulus: Stimulus, result: RunResult) -> None:
    """Forward once more without gradients, where many layers take another path."""
    again, names = RunResult(), load_cell(case.cell).outputs()
    try:
        _call_again(case, module, stimulus, again)
    except Exception as error:  # as in the forward pass
        again.missing |= dict.fromkeys(names, classify_exception(error))
    result.inference = again.values
    if not all(same(value, result.values[quantity]) for quantity, value in again.values.items()):
        result.wrong_draws = _drawn_in_evaluation(case, module, stimulus, again)
    result.missing |= {
        quantity: (verdict, f"{WITHOUT_GRADIENTS}, {why}") for quantity, (verdict, why) in again.missing.items()
    }


def _call_again(case: Case, module: nn.Module, stimulus: Stimulus, again: RunResult) -> None:
    """Put the output and last states of a call without gradients into a result."""
    with torch.no_grad():
        input, *states = (tensor.to(case.device, copy=True) for tensor in (stimulus.input, *stimulus.states))
        outputs = call_layer(module, input, states)
    _record_outputs(again, load_cell(case.cell).outputs(), outputs, stimulus)


def _drawn_in_evaluation(case: Case, module: nn.Module, stimulus: Stimulus, before: RunResult) -> str:
    """What is random in evaluation, in words; empty where a layer draws nothing and gives what it gave `before`."""
    again = RunResult()
    with suppress(Exception), DropoutRecorder() as draws:  # what raises now has been told before
        _call_again(case, module, stimulus, again)
        if draws.drawn:
            return f"it draws dropout in evaluation ({draws.describe()})"
    changed = any(not same(value, before.values[quantity]) for quantity, value in again.values.items())
    return "in evaluation its numbers change from call to call" if changed else ""


def take_gradients(
    module: nn.Module, inputs: Mapping[str, Tensor], weighed: Iterable[tuple[Tensor, Tensor]], **options: bool
) -> dict[str, Tensor]:
    """Gradients of Σ⟨C_q, q⟩ over `weighed` pairs (q, C_q), by name, of the inputs and of every canonical parameter.

    No gradient is a gradient of zero, and is judged as one. What asks for none is left out. `options` are those of
    `torch.autograd.grad`. Raises `SpoiledGradient` for a backward pass that writes into what it is handed.
    """
    leaves = gradient_sources(module)
    named = {name: tensor for name, tensor in (dict(inputs) | leaves).items() if tensor.requires_grad}
    pairs = [(value, cotangent) for value, cotangent in weighed if value.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(named)
    if pairs and named:
        values, cotangents = zip(*pairs, strict=True)
        handed = [cotangent.clone() for cotangent in cotangents]
        take = _by_backward if _is_checkpointed(values) else partial(torch.autograd.grad, allow_unused=True)
        found = take(values, list(named.values()), handed, **options)
        if not all(map(same, handed, cotangents)):
            raise SpoiledGradient("its backward pass writes into the gradient that it is handed")
    filled = (torch.zeros_like(t) if g is None else g for t, g in zip(named.values(), found, strict=True))
    gradients = dict(zip(named, filled, strict=True))
    of_parameters = {name: gradients.pop(name) for name in leaves if name in gradients}
    return gradients | dict(canonical_gradients(module, of_parameters))


def _is_checkpointed(values: Iterable[Tensor]) -> bool:
    """Whether a checkpoint with `use_reentrant=True` is on the way back: it takes `.backward()`, and no other call."""
    seen, left = set[Any](), [value.grad_fn for value in values]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            if node.name() == "CheckpointFunctionBackward":
                return True
            seen.add(node)
            left += [before for before, _ in node.next_functions]
    return False


def _by_backward(values, sources: Sequence[Tensor], cotangents, **options: Any) -> list[Tensor | None]:
    """The gradients of leaves, by way of `.grad`, which stays as it was."""
    before = [source.grad for source in sources]
    for source in sources:
        source.grad = None
    try:
        torch.autograd.backward(values, cotangents, **options)
        return [source.grad for source in sources]
    finally:
        for source, gradient in zip(sources, before, strict=True):
            source.grad = gradient


def _record_outputs(result: RunResult, names: Sequence[str], outputs: Sequence[Tensor], stimulus: Stimulus) -> None:
    for quantity, value, like in zip(names, outputs, stimulus.cotangents, strict=True):
        record(result, quantity, value, like.shape, like.dtype)


def record(result: RunResult, quantity: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Put a tensor among the values, or among the missing where it has another shape or dtype than expected."""
    if tuple(value.shape) == tuple(shape) and value.dtype == dtype:
        result.values[quantity] = value.detach().cpu()
    else:
        reason = f"gives {tuple(value.shape)} {value.dtype}, expected {tuple(shape)} {dtype}"
        result.missing[quantity] = (Verdict.DIFFERENT, reason)
