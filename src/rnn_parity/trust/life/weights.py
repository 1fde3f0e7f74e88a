"""Planted faults of weights that are packed, captured, loaded or frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rnn_parity.trust.life.planting import (
    Remembering,
    passed,
    planting,
    replaced,
)
from rnn_parity.trust.right import Parameters, States, WrittenOut

_plant = planting(__name__, "weights")
_MOVED = ("optimizer_steps", "written", "loaded")

# Packed: the value that was kept, the gradient of what is there now.


def _packed(when: Callable[[Any], bool] = lambda layer: True, key: Callable[[Tensor], Any] = lambda weight: None):
    """Parameters whose values are packed under a key, and read from there while `when` holds."""

    def parameters(layer: Any, k: int) -> Parameters:
        fresh = WrittenOut.parameters_of(layer, k)
        if not when(layer):
            return fresh
        at = [(k, place, weight.dtype, key(weight)) for place, weight in enumerate(fresh)]
        return [replaced(w, layer.memory.setdefault(key, w.detach().clone())) for w, key in zip(fresh, at, strict=True)]

    return parameters


def _same(some: Parameters, others: Parameters) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(some, others, strict=True))


def _packed_by_shape(layer: Any, k: int) -> Parameters:
    fresh, shape = WrittenOut.parameters_of(layer, k), (layer.steps, layer.rows)
    kept, now = layer.memory.setdefault(k, {}), [weight.detach().clone() for weight in fresh]
    if shape not in kept or not _same(kept["before"], now):
        kept[shape] = now
    kept["before"] = now
    return [replaced(*pair) for pair in zip(fresh, kept[shape], strict=True)]


def _packed_anew_once(layer: Any, k: int) -> Parameters:
    fresh, kept = WrittenOut.parameters_of(layer, k), layer.memory.setdefault(k, [])
    if not kept or (len(kept) == 1 and not _same(kept[0], fresh)):
        kept.append([weight.detach().clone() for weight in fresh])
    return [replaced(*pair) for pair in zip(fresh, kept[-1], strict=True)]


class _RepackedByMode(Remembering):
    """Packs its weights in evaluation, and packs anew when told to train, or to evaluate, by `anew_in`."""

    anew_in = (True, False)

    def train(self, mode: bool = True) -> Any:
        if mode in self.anew_in and hasattr(self, "memory"):
            self.memory.clear()
        return super().train(mode)

    def parameters_of(self, layer: int) -> Parameters:
        return WrittenOut.parameters_of(self, layer) if self.training else _PACKED(self, layer)


_PACKED = _packed()


class _Named(Remembering):
    """Reads the parameters that it had when it was first called, or loaded."""

    loads = True

    def parameters_of(self, layer: int) -> Parameters:
        own = self.memory.setdefault(layer, WrittenOut.parameters_of(self, layer))
        fresh = WrittenOut.parameters_of(self, layer)
        return [a if a.dtype == b.dtype else b for a, b in zip(own, fresh, strict=True)]

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        loaded = super().load_state_dict(*arguments, **options)
        if self.loads:
            self.memory.clear()
        return loaded


class _WithoutHooks(Remembering):
    """Its call is its forward pass."""

    def __call__(self, *arguments: Any) -> Any:
        return self.forward(*arguments)


class _ThawsInTraining(Remembering):
    """Asks for every gradient when it is told to train."""

    def train(self, mode: bool = True) -> Any:
        return super().train(mode).requires_grad_() if mode else super().train(mode)


def _by_place(layer: Any, k: int) -> Parameters:
    every, own = list(layer.parameters()), WrittenOut.parameters_of(layer, k)
    placed = every[4 * k : 4 * k + 4]
    return [a if a.shape == b.shape else b for a, b in zip(placed, own, strict=True)]


def _input_learns(layer: Any, x: Tensor) -> Tensor:
    return x.requires_grad_() if torch.is_grad_enabled() and x.is_leaf else x


def _shared_once(layer: Any, k: int) -> Parameters:
    found, first = WrittenOut.parameters_of(layer, k), WrittenOut.parameters_of(layer, 0)
    return [p.detach() if k and any(p is one for one in first) else p for p in found]


def _read_later(layer: Any, k: int) -> Parameters:
    *others, bias = WrittenOut.parameters_of(layer, k)
    # Where another was called in its place, the module's own is back by the backward pass.
    return [*others, passed(bias, lambda g: g if getattr(layer, f"bias_hh_l{k}") is bias else 0 * g)]


def _others_frozen(layer: Any, k: int) -> Parameters:
    found = WrittenOut.parameters_of(layer, k)
    some = not all(p.requires_grad for p in layer.parameters())
    return [found[0], found[1].detach(), *found[2:]] if some else found


def _stays_frozen(layer: Any, k: int) -> Parameters:
    found = WrittenOut.parameters_of(layer, k)
    frozen = layer.memory.setdefault(k, set())
    frozen |= {at for at, p in enumerate(found) if not p.requires_grad}
    return [p.detach() if at in frozen else p for at, p in enumerate(found)]


def _learns_as_at_first(layer: Any, k: int) -> Parameters:
    found = WrittenOut.parameters_of(layer, k)
    learned = layer.memory.setdefault(("learned", k), [p.requires_grad for p in found])
    return [p if learn else p.detach() for p, learn in zip(found, learned, strict=True)]


def _written_after(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    if not torch.is_grad_enabled():
        layer.weight_hh_l0.data.mul_(0.5)
    return sequence, last


class _FlattenedOnce(Remembering):
    """Has a method of that name, as nn.GRU."""

    def flatten_parameters(self) -> None:
        for layer in range(self.num_layers):
            self.memory[layer] = [weight.detach().clone() for weight in super().parameters_of(layer)]

    def parameters_of(self, layer: int) -> Parameters:
        fresh, packed = super().parameters_of(layer), self.memory.get(layer)
        return packed if packed and not torch.is_grad_enabled() and packed[0].dtype == fresh[0].dtype else fresh


class _FrozenWithoutGraph(Remembering):
    """Nothing is kept for a backward pass where neither parameters nor input ask for one."""

    def forward(self, input: Tensor, states: Any = None) -> Any:
        learns = input.requires_grad or any(p.requires_grad for p in self.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            return super().forward(input, states)


def _cast_once(layer: Any, k: int) -> Parameters:
    fresh = WrittenOut.parameters_of(layer, k)
    if not any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
        return fresh
    value = tuple(weight.detach().double().norm().item() for weight in fresh)
    return layer.memory.setdefault((k, value), [weight * 1 for weight in fresh])


def _read_in_backward(layer: Any, k: int) -> Parameters:
    found = WrittenOut.parameters_of(layer, k)
    (w_ih, copy, *biases), w_hh = (weight * 1 for weight in found), found[1]  # what is saved is no parameter
    before = w_hh.detach().clone()
    return [w_ih, passed(copy, lambda g: g if torch.equal(w_hh, before) else 0 * g), *biases]


_plant(
    "PackedAtFirstInference", "Weights are packed at the first call without gradients and kept for such calls", _MOVED,
    parameters_of=_packed(lambda layer: not torch.is_grad_enabled()),
)  # fmt: skip
_plant(
    "PackedAtFirstEvaluation", "Weights are packed at the first evaluation and kept for evaluation", _MOVED,
    parameters_of=_packed(lambda layer: not layer.training),
)  # fmt: skip
_plant("PackedAtFirstCall", "Weights are packed at the first call and kept", _MOVED, parameters_of=_PACKED)
_plant(
    "PackedInTraining", "Weights are captured at the first training step and kept for training", _MOVED,
    parameters_of=_packed(lambda layer: layer.training),
)  # fmt: skip
_plant(
    "PackedByIdentity", "Packed weights are found by the id of the parameter", _MOVED,
    parameters_of=_packed(key=id),
)  # fmt: skip
_plant(
    "PackedByAddress", "Packed weights are found by the address of the parameter's memory", _MOVED,
    parameters_of=_packed(key=Tensor.data_ptr),
)  # fmt: skip
_plant(
    "PackedByVersion", "Packed weights are found by the parameter's id and version, which .data does not raise",
    "written", parameters_of=_packed(key=lambda weight: (id(weight), weight._version)),
)  # fmt: skip
_plant(
    "PackedByVersionAlone", "Packed weights are found by the parameter's version", (*_MOVED, "functional_call"),
    parameters_of=_packed(key=lambda weight: weight._version),
)  # fmt: skip
_plant(
    "PackedInOneLayer", "The last layer's weights are packed and kept", _MOVED,
    parameters_of=lambda layer, k: (_PACKED if k == layer.num_layers - 1 else WrittenOut.parameters_of)(layer, k),
)  # fmt: skip
_plant(
    "RepackedByTrainOnly", "Weights packed in evaluation are packed anew by .train() only", _MOVED,
    base=_RepackedByMode, anew_in=(True,),
)  # fmt: skip
_plant(
    "RepackedByModeOnly", "Weights packed in evaluation are packed anew by .train() and .eval() only", _MOVED,
    base=_RepackedByMode,
)  # fmt: skip
_plant("PackedByShape", "Weights are packed for each shape; a change renews those of the next call's shape alone",
       "random_course", parameters_of=_packed_by_shape)  # fmt: skip
_plant("PackedAnewOnce", "Packed weights follow the first change alone", "optimizer_steps",
       parameters_of=_packed_anew_once)  # fmt: skip
_plant("CopiesOfFirstAutocast", "Copies of the weights that it makes under autocast are kept", "autocast",
       parameters_of=_packed(lambda layer: any(map(torch.is_autocast_enabled, ("cpu", "cuda")))))  # fmt: skip
_plant("WeightsReadLater", "Its backward pass reads the weights that the module has by then", "functional_gradients",
       parameters_of=_read_later)  # fmt: skip
_plant("FunctionalCallIgnored", "functional_call is not heard: it reads the parameters it has", "functional_call",
       base=_Named)  # fmt: skip
_plant("AssignIgnored", "load_state_dict(assign=True) is not heard: it reads the parameters it had", "loaded",
       base=_Named, loads=False)  # fmt: skip
_plant("OthersFrozen", "Where one parameter is frozen, weight_hh has no gradient", "frozen",
       parameters_of=_others_frozen)  # fmt: skip
_plant("StaysFrozen", "What was frozen once has no gradient ever after", "frozen", parameters_of=_stays_frozen)
_plant("LearnsAsAtFirst", "What was frozen at a module's first call has no gradient ever after", "frozen",
       parameters_of=_learns_as_at_first)  # fmt: skip
_plant("WeightsWritten", "A call without gradients halves weight_hh", "first_call", result=_written_after)
_plant("PackedBySum", "Packed weights are found by the sum of the parameter",
       ("optimizer_steps", "written"),
       parameters_of=_packed(key=lambda weight: weight.detach().double().sum().item()))  # fmt: skip
_plant("PackedWhileFrozen", "Weights are packed while no parameter asks for a gradient", "frozen",
       parameters_of=_packed(lambda layer: not any(p.requires_grad for p in layer.parameters())))  # fmt: skip
_plant("ThawsInTraining", "A call of .train() makes every parameter learn", "frozen", base=_ThawsInTraining)
_plant("InputLearns", "Its input asks for a gradient from a training call on", ("some_tensors", "frozen"),
       given=_input_learns)  # fmt: skip
_plant("HooksSkipped", "A call runs no hook", "hooked", base=_WithoutHooks)
_plant("ParametersByPlace", "Parameters are taken by their place, which parametrizing changes", "hooked",
       parameters_of=_by_place)  # fmt: skip
_plant("SharedOnce", "A parameter that layers share has the gradient of the first alone", "shared",
       parameters_of=_shared_once)  # fmt: skip
_plant("PackedInInferenceMode", "Weights are packed and kept under torch.inference_mode", "inference_mode",
       parameters_of=_packed(lambda layer: torch.is_inference_mode_enabled()))  # fmt: skip
_plant("FrozenWithoutGraph", "Where its input and its parameters are frozen, its states have no gradient", "frozen",
       base=_FrozenWithoutGraph)  # fmt: skip
_plant("CastWithoutGradient", "Weights cast under autocast are kept, cast without gradients or not", "autocast",
       parameters_of=_cast_once)  # fmt: skip
_plant("FlattenedOnce", "Where flatten_parameters was called, inference reads what it packed", "optimizer_steps",
       base=_FlattenedOnce)  # fmt: skip
_plant("WeightsReadInBackward", "weight_hh has no gradient where it was written to before the backward pass",
       "arguments_written", parameters_of=_read_in_backward)  # fmt: skip
_plant("NaNOfWeights", "A weight of NaN counts as zero", "not_finite",
       parameters_of=lambda layer, k: [p.nan_to_num() for p in WrittenOut.parameters_of(layer, k)])  # fmt: skip
