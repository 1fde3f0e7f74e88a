"""Planted faults of dropout masks and of modes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_parity.trust.life.planting import PROCESS, Remembering, planting, replaced
from rnn_parity.trust.life.repetition import first_step_of_process
from rnn_parity.trust.right import States, WrittenOut

_plant = planting(__name__, "masks")


def _dropped(apply: Callable[[Any, int, Tensor], Tensor]):
    """Dropout by `apply` wherever there is any."""
    return lambda layer, k, x: apply(layer, k, x) if layer.training and layer.dropout else x


def _mask(layer: Any, x: Tensor) -> Tensor:
    return F.dropout(torch.ones_like(x), layer.dropout, True)


def _seen(seen: Callable[[Any, int, Tensor], Tensor]):
    """Dropout whose backward pass sees another mask."""

    def apply(layer: Any, k: int, x: Tensor) -> Tensor:
        mask = _mask(layer, x)
        return replaced(x * seen(layer, k, mask), (x * mask).detach())

    return _dropped(apply)


def _before(layer: Any, k: int, mask: Tensor) -> Tensor:
    before, layer.memory[k] = layer.memory.get(k, mask), mask
    return before if (before.shape, before.dtype) == (mask.shape, mask.dtype) else mask


def _kept(where: Callable[[Any], dict], key: Callable[[int, Tensor], Any]):
    """Dropout whose masks are drawn once, and kept until the shape changes."""

    def apply(layer: Any, k: int, x: Tensor) -> Tensor:
        kept, at = where(layer), (key(k, x), x.dtype, layer.dropout)
        if at not in kept or kept[at].shape != x.shape:
            kept[at] = _mask(layer, x)
        return x * kept[at]

    return _dropped(apply)


def _drawn_by(draw: Callable[[Any, Tensor], Tensor]):
    """Dropout whose entries `draw` keeps with probability 1 − p."""

    def apply(layer: Any, k: int, x: Tensor) -> Tensor:
        return x * draw(layer, torch.full_like(x, 1 - layer.dropout)) / (1 - layer.dropout if layer.dropout < 1 else 1)

    return _dropped(apply)


def _own_generator(layer: Any, keep: Tensor) -> Tensor:
    return torch.bernoulli(keep, generator=PROCESS.setdefault("generator", torch.Generator(keep.device)))


def _out_of_sight(layer: Any, keep: Tensor) -> Tensor:
    generator = PROCESS.setdefault("random", random.Random(0))
    return keep.new_tensor([generator.random() < p for p in keep.flatten().tolist()]).view(keep.shape)


def _mask_of(gap: int):
    """Dropout whose mask is that of another gap, drawn in the same call."""

    def apply(layer: Any, k: int, x: Tensor) -> Tensor:
        if k < gap:
            layer.memory[k] = _mask(layer, x)
        return x * layer.memory[k % gap]

    return _dropped(apply)


class _SetsBack(torch.autograd.Function):
    """Dropout whose backward pass sets torch's generator to where it was before the mask was drawn."""

    @staticmethod
    def forward(ctx, x: Tensor, layer: Any) -> Tensor:
        ctx.state, mask = torch.get_rng_state(), _mask(layer, x)
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx, gradient: Tensor):
        torch.set_rng_state(ctx.state)
        return gradient * ctx.saved_tensors[0], None


class _ModeOfBackward(torch.autograd.Function):
    """Dropout that is left out of a backward pass in evaluation."""

    @staticmethod
    def forward(ctx, x: Tensor, mask: Tensor, layer: Any) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient * ctx.saved_tensors[0] if ctx.layer.training else gradient, None, None


class _Kept(torch.autograd.Function):
    """Dropout that takes for kept what is not zero."""

    @staticmethod
    def forward(ctx, x: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(x * mask, mask.max())
        return x * mask

    @staticmethod
    def backward(ctx, gradient: Tensor):
        result, scale = ctx.saved_tensors
        return gradient * (result != 0) * scale, None


def _seed_set(layer: Any, k: int, x: Tensor) -> Tensor:
    if k == 0:
        torch.manual_seed(7)
    return WrittenOut.between(layer, k, x)


def _noise_drawn(layer: Any, x: Tensor) -> Tensor:
    torch.rand(1)
    return x


_plant(
    "AllDroppedLater", "From a module's second training step on the backward pass sees everything dropped", "same_seed",
    between=_seen(lambda layer, k, mask: mask if layer.trained == 1 else 0 * mask),
)  # fmt: skip
_plant(
    "AllDroppedLaterInProcess", "From the process's second training step on backward sees everything dropped",
    "same_seed", between=_seen(lambda layer, k, mask: mask if first_step_of_process(layer) else 0 * mask),
)  # fmt: skip
_plant(
    "MaskOfStepBefore", "The backward pass sees the masks of the step before", "without_seed", between=_seen(_before),
)  # fmt: skip
_plant(
    "MasksKept", "Masks are drawn once for a shape and kept by the module", ("first_call", "same_seed"),
    between=_kept(lambda layer: layer.memory, lambda k, x: (k, x.shape)),
)  # fmt: skip
_plant(
    "MasksKeptUntilShapeChanges", "Masks are kept by the module until the shape changes", ("first_call", "same_seed"),
    between=_kept(lambda layer: layer.memory, lambda k, x: k),
)  # fmt: skip
_plant(
    "MasksKeptInProcess", "Masks are drawn once for a shape and kept by the process", ("first_call", "same_seed"),
    between=_kept(lambda layer: PROCESS, lambda k, x: (k, x.shape)),
)  # fmt: skip
_plant(
    "SeedSetInside", "Every training call sets the global seed to one number", "without_seed",
    between=_dropped(_seed_set),
)  # fmt: skip
_plant(
    "OwnGenerator", "Masks come from a generator that no seed reaches", ("first_call", "same_seed"),
    between=_drawn_by(_own_generator),
)  # fmt: skip
_plant(
    "OwnGeneratorOutOfSight", "Masks come from a generator outside torch, which no seed reaches",
    ("first_call", "same_seed"), between=_drawn_by(_out_of_sight),
)  # fmt: skip
_plant(
    "NoiseDrawnInEvaluation", "It draws a random number in evaluation too, and does not use it", "modes_in_turn",
    given=lambda layer, x: x if layer.training else _noise_drawn(layer, x),
)  # fmt: skip
_plant(
    "DropsInEvaluationLater", "From its third call on it drops in evaluation too", ("modes_in_turn", "shapes_in_turn"),
    between=lambda layer, k, x: F.dropout(x, layer.dropout, layer.training or layer.number > 2),
)  # fmt: skip
_plant(
    "NaNAtOne", "At dropout 1 the scale 1/(1 − p) is infinite, and 0 · inf is NaN", "dropout_of_one",
    between=_dropped(lambda layer, k, x: (
        x * (torch.bernoulli(torch.full_like(x, 1 - layer.dropout)) / x.new_tensor(1 - layer.dropout))
    )),
)  # fmt: skip


def _kept_with(chance: Callable[[float], float]):
    """Dropout that keeps entries with another chance than 1 − p, and scales them as it should."""
    return _dropped(lambda layer, k, x: (
        x * torch.bernoulli(torch.full_like(x, chance(layer.dropout))) / (1 - layer.dropout)
        if layer.dropout < 1 else 0 * x
    ))  # fmt: skip


_plant(
    "KeepsForDrops", "Entries are kept with the chance p, not 1 − p", ("first_call", "dropout_of"),
    between=_kept_with(lambda p: p),
)  # fmt: skip
_plant(
    "HalfDropped", "From p = 0.5 on, every entry is dropped with a chance of one half", "dropout_of",
    between=_kept_with(lambda p: max(0.5, 1 - p)),
)  # fmt: skip

_plant(
    "MasksOfTwoGaps", "The third gap between layers has the mask of the first", "depths", between=_mask_of(2),
)  # fmt: skip
_plant(
    "GeneratorSetBack", "The backward pass leaves torch's generator where the forward pass had it", "without_seed",
    between=_dropped(lambda layer, k, x: _SetsBack.apply(x, layer)),
)  # fmt: skip
_plant(
    "DropsNothingAfterHundred", "From its hundredth call on it drops nothing", "many_calls",
    between=_dropped(lambda layer, k, x: x * _mask(layer, x) if layer.number < 100 else x),
)  # fmt: skip
_plant(
    "KeptIsNotZero", "Its backward pass takes what is not zero for kept", "zero_biases",
    between=_dropped(lambda layer, k, x: _Kept.apply(x, _mask(layer, x))),
)  # fmt: skip

# Modes: graphs captured in one and run in another.
_plant = planting(__name__, "modes")


def _captured(key: Callable[[Any, Tensor], Any]):
    """Dropout as in the mode of the first call."""

    def between(layer: Any, k: int, x: Tensor) -> Tensor:
        return F.dropout(x, layer.dropout, layer.memory.setdefault(("mode", key(layer, x)), layer.training))

    return between


def _times_constant(layer: Any, x: Tensor) -> Tensor:
    return x * layer.memory.setdefault((x.dtype, x.device), torch.ones_like(x[:1, :1, :1]))


def _needs_gradient_captured(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    if layer.memory.setdefault(("grad", sequence.shape), torch.is_grad_enabled()):
        return sequence, last
    return sequence.detach(), tuple(state.detach() for state in last)


def _drops_nothing(layer: Any, x: Tensor) -> Tensor:
    if not layer.training:
        layer.memory["dropout"], layer.dropout = layer.dropout, 0.0
    return x


def _drops_again(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    if not layer.training:
        layer.dropout = layer.memory["dropout"]
    return sequence, last


_plant(
    "GraphOfFirstMode", "A graph is kept for each shape, with the mode of the first call", "modes_in_turn",
    between=_captured(lambda layer, x: x.shape),
)  # fmt: skip
_plant(
    "ModeOfFirstCall", "The mode of a module's first call stays", "modes_in_turn",
    between=_captured(lambda layer, x: None),
)  # fmt: skip
_plant(
    "NoGradientAfterInference", "Where the first call of a shape wants no gradient, none has one later",
    "modes_in_turn", result=_needs_gradient_captured,
)  # fmt: skip
_plant(
    "DropsOnlyWhenItLearns", "In training mode it drops nothing where no gradient is asked for", "sampled",
    between=lambda layer, k, x: F.dropout(x, layer.dropout, layer.training and torch.is_grad_enabled()),
)  # fmt: skip
_plant(
    "ModeOfBackward", "In a backward pass in evaluation nothing is dropped, whatever the forward pass dropped",
    "two_graphs", between=_dropped(lambda layer, k, x: _ModeOfBackward.apply(x, _mask(layer, x), layer)),
)  # fmt: skip
_plant(
    "LeftHalfDone", "A call in evaluation that raises leaves dropout off", "after_error",
    given=_drops_nothing, result=_drops_again,
)  # fmt: skip
_plant(
    "ConstantOfInferenceMode", "A constant made at the first call stops training where that was in inference mode",
    "inference_mode", given=_times_constant,
)  # fmt: skip


def _one_layer_dropped(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    return F.dropout(sequence, layer.dropout, layer.training and layer.num_layers == 1), last


def _leaves_training(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    layer.train(layer.training and torch.is_grad_enabled())
    return sequence, last


def _not_under_autocast(layer: Any, k: int, x: Tensor) -> Tensor:
    return F.dropout(x, layer.dropout, layer.training and not torch.is_autocast_enabled(x.device.type))


_plant("OneLayerDropped", "With one layer, it drops its output", "depths", result=_one_layer_dropped)
_plant("LeavesTraining", "After a call in training mode without gradients it is in evaluation mode", "sampled",
       result=_leaves_training)  # fmt: skip
_plant("NotDroppedUnderAutocast", "Under autocast it drops nothing", "autocast", between=_not_under_autocast)


def _pooled(layer: Any, k: int, x: Tensor) -> Tensor:
    """Dropout by a mask of at most 2¹⁶ entries, used again from its start for what is left."""
    entries = min(x.numel(), 2**16)
    pool = _mask(layer, torch.ones(entries, dtype=x.dtype, device=x.device))
    return x * pool[torch.arange(x.numel(), device=x.device) % entries].view(x.shape)


_plant("MasksOfAPool", "From entry 65,536 on the masks repeat", "many_masks", between=_dropped(_pooled))


class _AsBuilt(Remembering):
    """Knows the probability that it was built with."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, dropout: float, *, cell: str = "gru"
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, dropout, cell=cell)
        self.memory["p"] = dropout


_plant("DropoutAsBuilt", "Setting its attribute `dropout` does nothing", "dropout_attribute", base=_AsBuilt,
       between=lambda layer, k, x: F.dropout(x, layer.memory["p"], layer.training))  # fmt: skip
