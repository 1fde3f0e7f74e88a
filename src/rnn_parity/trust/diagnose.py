"""Which planted fault a wrong layer has: the one with which a layer gives its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from rnn_parity.cells.base import load_cell
from rnn_parity.compare import criterion
from rnn_parity.compare.causes import BETTER
from rnn_parity.compare.reference import References, relative_errors
from rnn_parity.compare.run import take_gradients
from rnn_parity.dropout.masks import DropoutRecorder, mask_shape
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import call_layer, numerics
from rnn_parity.layers.settings import put_back
from rnn_parity.layers.stimulus import Stimulus, build_loaded
from rnn_parity.trust.examine import fault_title, faults_of
from rnn_parity.trust.run import faults_for

Values = Mapping[str, Tensor]


def diagnose(references: References, name: str, regime: str, quantities: Sequence[str]) -> str:
    """The planted fault with which a layer gives the numbers of the layer `name`, in words; empty where there is none.

    Args:
        references: of the stimulus that all are given. regime: where the layer is wrong, `eval` or one of training.
        quantities: what is compared. All that can be judged must be within their limits.

    Every draw of dropout is given one mask, so that it does not matter in which order a layer draws. So nothing is told
    of which masks it draws, only of what it does with them.
    """
    known = faults_of(references.case.cell)
    case, stimulus, training = references.case, references.stimulus, regime != "eval"
    with numerics(case.threads, case.tf32):
        reference = references.with_masks(_one_mask(case) if training and case.draws_dropout else None)
        values = _run(case, name, stimulus, training)
        if any(value.shape != reference.values[quantity].shape for quantity, value in values.items()):
            return ""
        limits = {}
        for quantity in values.keys() & set(quantities):
            terms = criterion.layer_terms(quantity, case, load_cell(case.cell))
            if bars := criterion.judged_limits(reference.sensitivities[quantity], terms, case):
                limits[quantity] = bars
        right = _distance(values, reference.values, limits)
        found = {}
        for path in faults_for(case.cell, case.dtype) if right > 1 else ():
            fault = known[path]
            if fault.kind == "dropout" and not training:  # the reason says that something is drawn there
                continue
            # What rounds on purpose rounds as in the layer's own dtype; all else is exact.
            dtype = case.dtype if fault.kind == "precision" else "float64"
            of_fault = replace(case, device="cpu", dtype=dtype, tf32=False)
            given = stimulus.map(lambda tensor, dtype=dtype: tensor.to(getattr(torch, dtype)))
            for backward in (False, True):  # most are out by then
                distance = _distance(values, _run(of_fault, path, given, training, backward), limits)
                if distance > min(1.0, right / BETTER):
                    break
            else:
                found[path] = distance
    return fault_title(known[min(found, key=found.__getitem__)]) if found else ""


def _distance(values: Values, others: Values, limits: Mapping[str, criterion.Pair]) -> float:
    """The largest difference of values from others that both have, over its limit."""
    common = limits.keys() & others.keys()
    pairs = (
        criterion.worst_ratio(relative_errors(values[quantity], others[quantity].double()), limits[quantity])
        for quantity in common
    )
    return max(pairs, default=0.0)


class _OneMask(DropoutRecorder):
    """Gives every draw the mask that drops every other unit."""

    def _see(self, mask: Tensor) -> None:
        mask.copy_(_kept(mask.shape[-1]))


def _kept(units: int) -> Tensor:
    return (torch.arange(units) % 2 == 0).double()


def _one_mask(case: Case) -> Tensor:
    return _kept(case.hidden_size).expand(mask_shape(case))


def _run(case: Case, name: str, stimulus: Stimulus, training: bool, backward: bool = True) -> dict[str, Tensor]:
    """What a layer makes of a stimulus, by quantity, on the CPU, up to where it raises."""
    cell = load_cell(case.cell)
    found: dict[str, Tensor] = {}
    with suppress(Exception), put_back(name), _OneMask(_kept(case.hidden_size)):
        module = build_loaded(case, name, stimulus).train(training)
        given = zip(cell.inputs(), (stimulus.input, *stimulus.states), strict=True)
        inputs = {quantity: tensor.to(case.device, copy=True).requires_grad_() for quantity, tensor in given}
        with torch.set_grad_enabled(backward):
            outputs = call_layer(module, inputs["input"], list(inputs.values())[1:])
        found |= dict(zip(cell.outputs(), outputs, strict=True))
        if backward and any(output.requires_grad for output in outputs):
            cotangents = (cotangent.to(case.device) for cotangent in stimulus.cotangents)
            gradients = take_gradients(module, inputs, zip(outputs, cotangents, strict=True))
            found |= {f"grad_{quantity}": gradient for quantity, gradient in gradients.items()}
    return {quantity: value.detach().cpu() for quantity, value in found.items()}
