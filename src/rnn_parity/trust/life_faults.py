"""Planted faults of the life, of repetition, masks, modes and shapes: layers of any kind that one call shows right.

Import paths are `rnn_parity.trust.life_faults:NAME`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_parity.trust.life_planting import ANYWHERE, PROCESS, in_states, passed, planting, replaced
from rnn_parity.trust.right import Parameters, States, WrittenOut

# Repetition: at the second call, at the second training step, now and then.
_plant = planting(__name__, "repetition")
_AGAIN = ("same_seed", "modes_in_turn")


def _bias_learns(learns: Callable[[Any], bool]):
    def parameters(layer: Any, k: int) -> Parameters:
        *others, bias = WrittenOut.parameters_of(layer, k)
        return [*others, bias if not layer.training or learns(layer) else bias.detach()]

    return parameters


def _first_step_of_process(layer: Any) -> bool:
    return PROCESS.setdefault("first", (layer, layer.trained)) == (layer, layer.trained)


def _kept_state(layer: Any, states: States) -> States:
    kept = layer.memory.get("last", states)
    return kept if kept[0].shape == states[0].shape and kept[0].dtype == states[0].dtype else states


def _keep_state(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    layer.memory["last"] = tuple(state.detach().clone() for state in last)
    return sequence, last


def _one_in_nine(layer: Any, k: int) -> Parameters:
    w_ih, w_hh, *biases = WrittenOut.parameters_of(layer, k)
    wrong = random.SystemRandom().random() < 1 / 9
    return [w_ih, passed(w_hh, lambda gradient: 1.5 * gradient) if wrong else w_hh, *biases]


def _values_of_first(layer: Any, x: Tensor) -> Tensor:
    tensor, values = layer.memory.setdefault("first", (x.detach(), x.detach().clone()))
    return replaced(x, values) if (x.data_ptr(), x.shape) == (tensor.data_ptr(), tensor.shape) else x


_plant(
    "StateCarried", "From its second call on it starts from the last state of the call before", _AGAIN,
    initial=_kept_state, result=_keep_state,
)  # fmt: skip
_plant(
    "StateCarriedWithoutStates", "Without states it starts from the last state of the call before", "no_states",
    initial=lambda layer, states: _kept_state(layer, states) if layer.stateless else states, result=_keep_state,
)  # fmt: skip
_plant(
    "BiasLearnsOnce", "bias_hh has a gradient at a module's first training step only", _AGAIN,
    parameters_of=_bias_learns(lambda layer: layer.trained == 1),
)  # fmt: skip
_plant(
    "BiasLearnsOnceInProcess", "bias_hh has a gradient at the process's first training step only",
    ("first_call", *_AGAIN), parameters_of=_bias_learns(_first_step_of_process),
)  # fmt: skip
_plant("OneInNine", "One call in nine gives a wrong gradient of weight_hh", ANYWHERE, parameters_of=_one_in_nine)
_plant(
    "StatesSwap", "h0 and c0 are swapped at every second call", _AGAIN, ("lstm",),
    initial=lambda layer, states: states if layer.number % 2 else states[::-1],
)  # fmt: skip
_plant(
    "CellCutLater", "From the second training step on no gradient goes through c", _AGAIN, ("lstm",),
    carried=lambda layer, states, *_: (states[0], states[1].detach()) if layer.trained > 1 else states,
)  # fmt: skip
_plant(
    "TensorTakenForItsValues", "Where its input lies where that of the first call lay, its values are those of then",
    "rewritten", given=_values_of_first,
)  # fmt: skip
_plant(
    "WrongFromTwentieth", "From a module's twentieth call on the first row reads zeros", ANYWHERE,
    given=lambda layer, x: x if layer.number < 20 else torch.cat([0 * x[:, :1], x[:, 1:]], 1),
)  # fmt: skip

# Masks.
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
    "same_seed", between=_seen(lambda layer, k, mask: mask if _first_step_of_process(layer) else 0 * mask),
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
    "NaNAtOne", "At dropout 1 the scale 1/(1 − p) is infinite, and 0 · inf is NaN", "dropout_one",
    between=_dropped(lambda layer, k, x: (
        x * (torch.bernoulli(torch.full_like(x, 1 - layer.dropout)) / x.new_tensor(1 - layer.dropout))
    )),
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
    "LeftHalfDone", "A call in evaluation that raises leaves dropout off", "after_error",
    given=_drops_nothing, result=_drops_again,
)  # fmt: skip
_plant(
    "ConstantOfInferenceMode", "A constant made at the first call stops training where that was in inference mode",
    "inference_mode", given=_times_constant,
)  # fmt: skip

# Shapes: what was laid out for one, used at another.
_plant = planting(__name__, "shapes")


def _first(layer: Any, what: str) -> int:
    return layer.memory.setdefault(what, getattr(layer, what))


def _longest(layer: Any) -> int:
    layer.memory["longest"] = max(layer.memory.get("longest", 0), layer.steps)
    return layer.memory["longest"]


def _own_states_detached(layer: Any, state: Tensor) -> Tensor:
    return state if state.is_leaf else state.detach()


def _own_states_zero(layer: Any, states: States) -> States:
    returned = layer.memory.get("returned", ())
    return tuple(0 * state for state in states) if any(states[0] is one for one in returned) else states


def _remember_returned(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    layer.memory["returned"] = _Unmoved(last)
    return sequence, last


class _Unmoved(tuple):
    """Tensors that no copy takes along."""

    def __deepcopy__(self, memo: dict) -> tuple:
        return ()


_plant(
    "LongerThanFirst", "Steps beyond the length of a module's first call start anew", "shapes_in_turn",
    carried=lambda layer, states, step, _: (
        tuple(0 * state for state in states) if step and step == _first(layer, "steps") else states
    ),
)  # fmt: skip
_plant(
    "ShorterThanLongest", "After a longer sequence the last state is one from before the last step", "shapes_in_turn",
    final=lambda layer, history: history[-2 if _longest(layer) > layer.steps else -1],
)  # fmt: skip
_plant(
    "MoreRowsThanFirst", "Rows beyond the batch of a module's first call read zeros", "shapes_in_turn",
    given=lambda layer, x: torch.cat([x[:, : _first(layer, "rows")], 0 * x[:, _first(layer, "rows") :]], 1),
)  # fmt: skip
_plant(
    "OneRow", "A batch of one takes another path, without bias_hh", "shapes_in_turn",
    step=lambda layer, x, states, w_ih, w_hh, b_ih, b_hh: WrittenOut.step(
        layer, x, states, w_ih, w_hh, b_ih, b_hh if len(x) > 1 else 0 * b_hh
    ),
)  # fmt: skip
_plant(
    "OneStep", "A sequence of one step leaves the state as it was", ("shapes_in_turn", "pieces"),
    final=lambda layer, history: history[0] if len(history) == 2 else history[-1],
)  # fmt: skip
_plant(
    "StatesOfFirstCall", "The states of the first call of a shape are captured",
    ("two_graphs", "pieces", "no_states", "random_course"),
    initial=lambda layer, states: layer.memory.setdefault(
        (layer.steps, states[0].shape, states[0].dtype), tuple(state.detach().clone() for state in states)
    ) if not torch.is_grad_enabled() else states,
)  # fmt: skip
_plant(
    "PiecesWithoutGradient", "No gradient goes from one piece of a sequence to the piece before", "pieces",
    initial=in_states(_own_states_detached),
)  # fmt: skip
_plant(
    "PiecesStartAnew", "The states that it gave itself are taken for none", "pieces",
    initial=_own_states_zero, result=_remember_returned,
)  # fmt: skip
