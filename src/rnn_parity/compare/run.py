"""What one implementation makes of a stimulus, forward and backward, and under which dropout masks."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rnn_parity.dropout.masks import DropoutRecorder, MaskLayout, UnknownDraw, draws_out_of_sight
from rnn_parity.dropout.recovery import Replay, Unrecoverable, recover_masks
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.parameters import canonical_parameters, canonical_shapes
from rnn_parity.layers.running import classify_exception
from rnn_parity.layers.stimulus import Stimulus, build_loaded

FORWARD_QUANTITIES = ("output", "hn")


@dataclass
class RunResult:
    """What one implementation made of a stimulus: its quantities, or why there are none.

    Attributes:
        values: quantity to tensor, on the CPU. faults: quantity to (verdict, reason) where there is no tensor.
        draws: the dropout that was seen. masks: what was applied, (G, T, B, H): imposed, seen, or recovered; None for
            no dropout, or where it cannot be had. out_of_sight: whether the masks were the layer's own, drawn unseen.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    faults: dict[str, tuple[Verdict, str]] = field(default_factory=dict)
    draws: DropoutRecorder | None = None
    masks: Tensor | None = None
    out_of_sight: bool = False


def quantities(num_layers: int) -> list[str]:
    """Every compared tensor of a stacked GRU."""
    parameters = canonical_shapes(1, 1, num_layers)
    return [*FORWARD_QUANTITIES, "grad_input", "grad_h0", *(f"grad_{name}" for name in parameters)]


def run_implementation(
    case: Case, name: str, stimulus: Stimulus, seed: int, regime: str, masks: Tensor | None
) -> RunResult:
    """Run one implementation forward and backward under a regime. Everything it raises becomes a fault in the outcome.

    In training `torch.manual_seed(seed)` comes right before the forward; `masks` (G, T, B, H), where given, replace
    every dropout draw. What draws out of sight applies its own masks of this seed, and they are recovered. Raises
    `InputError` only for an implementation that cannot be built at all.
    """
    outcome = RunResult()
    every = quantities(case.num_layers)
    try:
        module = build_loaded(case, name, stimulus).train(regime != "eval")
        inputs = tuple(t.to(case.device).requires_grad_() for t in (stimulus.input.clone(), stimulus.h0.clone()))
        if case.draws_dropout and regime != "eval":
            output, hn = _forward_with_masks(case, name, module, inputs, seed, masks, outcome)
        else:
            output, hn = module(*inputs)
        for quantity, value, like in (("output", output, stimulus.cotangents[0]), ("hn", hn, stimulus.h0)):
            _record(outcome, quantity, value, like)
    except InputError:
        raise
    except Unrecoverable as error:
        outcome.faults |= {quantity: (Verdict.NOT_JUDGED, str(error)) for quantity in every}
        return outcome
    except Exception as error:  # whatever an implementation under test raises is a result
        outcome.faults |= dict.fromkeys(every, _describe(error, case.device))
        return outcome
    if "output" in outcome.values and "hn" in outcome.values:
        _run_backward(case, module, inputs, (output, hn), stimulus, outcome)
    else:
        outcome.faults |= {q: (Verdict.FAILED, "the forward pass gave no usable output") for q in every[2:]}
    return outcome


def _forward_with_masks(
    case: Case, name: str, module: nn.Module, inputs, seed: int, masks: Tensor | None, outcome: RunResult
) -> tuple[Tensor, Tensor]:
    """Output and hn; the masks that were applied go into the outcome. Raises `Unrecoverable` where they are unknown."""
    draws = outcome.draws = DropoutRecorder(MaskLayout.of(case), masks)
    torch.manual_seed(seed)
    try:
        with draws:
            result = module(*inputs)
        drawn_inside = not draws.drawn and case.dropout < 1 and draws_out_of_sight(lambda: module(*inputs)[0])
    except UnknownDraw:
        drawn_inside = True
    if drawn_inside:
        outcome.draws, outcome.out_of_sight, replay = None, True, Replay(seed)
        outcome.masks = recover_masks(case, name, replay)
        with replay:
            return module(*inputs)
    outcome.masks = masks if masks is not None else draws.assembled()
    if case.dropout == 1:  # everything is dropped, so nothing is drawn
        outcome.masks = torch.zeros(draws.layout.shape, dtype=torch.float64)
    return result


def _run_backward(case: Case, module: nn.Module, inputs, outputs, stimulus: Stimulus, outcome: RunResult) -> None:
    """Gradients of ⟨C_output, output⟩ + ⟨C_hn, hn⟩ with respect to the inputs and every parameter."""
    parameters = canonical_parameters(module)
    given = {"input": inputs[0], "h0": inputs[1]}
    given |= {name: parameters[name] for name in stimulus.weights}
    try:
        sources = [
            (value, cotangent.to(case.device))
            for value, cotangent in zip(outputs, stimulus.cotangents, strict=True)
            if value.requires_grad
        ]
        gradients = [None] * len(given)
        if sources:
            values, cotangents = zip(*sources, strict=True)
            gradients = torch.autograd.grad(values, list(given.values()), cotangents, allow_unused=True)
        for (name, tensor), gradient in zip(given.items(), gradients, strict=True):
            # No gradient is a gradient of zero, and is judged as one.
            gradient = torch.zeros_like(tensor) if gradient is None else gradient
            _record(outcome, f"grad_{name}", gradient, tensor)
    except Exception as error:  # as in the forward pass; a GPU's own faults show when a result is read
        outcome.faults |= dict.fromkeys((f"grad_{name}" for name in given), _describe(error, case.device))


def _describe(error: Exception, device: str) -> tuple[Verdict, str]:
    """As `classify_exception`; where the GPU answers no more, that is said, since every layer fails from then on."""
    verdict, reason = classify_exception(error)
    if device == "cuda":
        try:
            torch.cuda.synchronize()
        except Exception:
            return verdict, f"{reason}; the device is lost, by this or by what ran before it"
    return verdict, reason


def _record(outcome: RunResult, quantity: str, value: Tensor, like: Tensor) -> None:
    if value.shape == like.shape and value.dtype == like.dtype:
        outcome.values[quantity] = value.detach().cpu()
    else:
        got, expected = (f"{tuple(t.shape)} {t.dtype}" for t in (value, like))
        outcome.faults[quantity] = (Verdict.DIFFERENT, f"gives {got}, expected {expected}")
