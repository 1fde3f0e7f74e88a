"""Planted faults of the life, of weights that are packed or captured, and of states and inputs at the edge.

Import paths are `rnn_parity.trust.life_weights:NAME`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from rnn_parity.cells.base import PARAMETERS
from rnn_parity.trust.life_planting import (
    PROCESS,
    Remembering,
    as_if_contiguous,
    in_states,
    passed,
    planting,
    replaced,
)
from rnn_parity.trust.planting import coarse, given_state
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


def _shared_by_copies(layer: Any, k: int) -> Parameters:
    fresh, token = WrittenOut.parameters_of(layer, k), layer.memory.setdefault("token", id(layer))
    kept = PROCESS.setdefault((token, k), {})
    if layer.memory.get("own", id(layer)) == id(layer):
        layer.memory["own"] = id(layer)
        kept["packed"] = [weight.detach().clone() for weight in fresh]
    return [replaced(*pair) for pair in zip(fresh, kept["packed"], strict=True)]


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


class _LoadsAllButOne(Remembering):
    """Its hook of `load_state_dict` forgets the last layer."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        at = self.num_layers - 1
        own = {f"{prefix}{name}_l{at}": getattr(self, f"{name}_l{at}").detach() for name in PARAMETERS}
        super()._load_from_state_dict({**state_dict, **own}, prefix, *others)


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
_plant("CopiesSharePacked", "A deep copy reads the packed weights of the original", "copied",
       parameters_of=_shared_by_copies)  # fmt: skip
_plant("CopiesOfFirstAutocast", "Copies of the weights that it makes under autocast are kept", "autocast",
       parameters_of=_packed(lambda layer: any(map(torch.is_autocast_enabled, ("cpu", "cuda")))))  # fmt: skip
_plant("WeightsReadLater", "Its backward pass reads the weights that the module has by then", "functional_gradients",
       parameters_of=_read_later)  # fmt: skip
_plant("FunctionalCallIgnored", "functional_call is not heard: it reads the parameters it has", "functional_call",
       base=_Named)  # fmt: skip
_plant("AssignIgnored", "load_state_dict(assign=True) is not heard: it reads the parameters it had", "loaded",
       base=_Named, loads=False)  # fmt: skip
_plant("LoadsAllButOne", "load_state_dict forgets the last layer", "loaded", base=_LoadsAllButOne)
_plant("OthersFrozen", "Where one parameter is frozen, weight_hh has no gradient", "frozen",
       parameters_of=_others_frozen)  # fmt: skip
_plant("StaysFrozen", "What was frozen once has no gradient ever after", "frozen", parameters_of=_stays_frozen)
_plant("LearnsAsAtFirst", "What was frozen at a module's first call has no gradient ever after", "frozen",
       parameters_of=_learns_as_at_first)  # fmt: skip
_plant("WeightsWritten", "A call without gradients halves weight_hh", "first_call", result=_written_after)

# States, inputs and weights at the edge.
_plant = planting(__name__, "edges")


def _first_step(leaves_out: Callable[[Any, States], bool]):
    """`bias_hh` is left out of the first step where the states say so."""

    def run_layer(layer: Any, k: int, sequence: Tensor, states: States) -> list[States]:
        w_ih, w_hh, b_ih, b_hh = layer.parameters_of(k)
        history, without = [], leaves_out(layer, states)
        for step, x in enumerate(sequence.unbind()):
            bias = 0 * b_hh if without and step == 0 else b_hh
            states = layer.step(x, states, w_ih, w_hh, b_ih, bias)
            history.append(states)
        return history

    return run_layer


def _zero_step_is_padding(layer: Any, k: int, sequence: Tensor, states: States) -> list[States]:
    history, parameters = [], layer.parameters_of(k)
    for x in sequence.unbind():
        states = layer.step(x, states, *parameters) if k or x.detach().any() else states
        history.append(states)
    return history


def _zero_row_is_padding(layer: Any, k: int, sequence: Tensor, states: States) -> list[States]:
    history, there = [], (sequence.detach() != 0).any(-1).any(0)[:, None]
    for x in sequence.unbind():
        new = layer.step(x, states, *layer.parameters_of(k))
        states = tuple(torch.where(there, *pair) for pair in zip(new, states, strict=True)) if k == 0 else new
        history.append(states)
    return history


def _no_bias_where_zero(layer: Any, k: int) -> Parameters:
    w_ih, w_hh, b_ih, b_hh = WrittenOut.parameters_of(layer, k)
    return [w_ih, w_hh, b_ih, b_hh if b_ih.detach().any() else 0 * b_hh]


def _one_without_other(layer: Any, states: States) -> States:
    return states if all(state.detach().any() for state in states) else tuple(0 * state for state in states)


def _beyond(limit: float, function: Callable[[Tensor], Tensor]):
    return lambda x: torch.where(x.abs() > limit, torch.zeros_like(x), function(x))


_plant(
    "FirstBiasWithoutStates", "Without states the first step leaves out bias_hh", "no_states",
    run_layer=_first_step(lambda layer, states: layer.stateless),
)  # fmt: skip
_plant(
    "FirstBiasOfZeroStates", "From states of zero the first step leaves out bias_hh", "zero_states",
    run_layer=_first_step(lambda layer, states: not any(state.detach().any() for state in states)),
)  # fmt: skip
_plant(
    "FirstBiasOfZeroRow", "Where the states of one row are zero, the first step leaves out bias_hh", "zero_states",
    run_layer=_first_step(lambda layer, states: not all(states[0].detach().any(-1))),
)  # fmt: skip
_plant(
    "OneStateWithoutOther", "Where h0 or c0 is zero, the other is ignored", "zero_states", ("lstm",),
    initial=_one_without_other,
)  # fmt: skip
_plant("ZeroStepIsPadding", "A step whose inputs are all zero is taken for padding", "zero_inputs",
       run_layer=_zero_step_is_padding)  # fmt: skip
_plant("ZeroRowIsPadding", "A row whose inputs are all zero is taken for padding", "zero_inputs",
       run_layer=_zero_row_is_padding)  # fmt: skip
_plant("NoBiasWhereZero", "Where bias_ih is zero, bias_hh is left out too", "zero_biases",
       parameters_of=_no_bias_where_zero)  # fmt: skip
_plant("SumOfZeroIsPadding", "A row whose inputs add up to zero is taken for padding", "zero_inputs",
       given=lambda layer, x: torch.where((x.detach().sum(-1) == 0).all(0)[:, None], 0 * x, x))  # fmt: skip
_plant("NotFiniteSpreads", "Every row is NaN where one is not finite", "not_finite",
       given=lambda layer, x: x + 0 * x.detach().sum())  # fmt: skip
_plant("InputsClipped", "Inputs are clipped at ±20", "large", given=lambda layer, x: x.clamp(-20, 20))
_plant("StatesClipped", "h0 is clipped at ±2", "large", initial=given_state(0, lambda h: h.clamp(-2, 2)))
_plant(
    "CellClippedAtFifty", "c is clipped at ±50", "large", ("lstm",),
    carried=given_state(1, lambda c, step, steps: c.clamp(-50, 50)),
)  # fmt: skip
_plant("TanhOfTable", "tanh is read from a table that ends at ±12, and is 0 beyond", "large",
       arithmetic=coarse(tanh=_beyond(12.0, torch.tanh)))  # fmt: skip
_plant("InputReadAsContiguous", "The input is read as if it were contiguous", "strided",
       given=lambda layer, x: replaced(x, as_if_contiguous(x.detach())))  # fmt: skip
_plant("StatesReadAsContiguous", "States are read as if they were contiguous", "strided",
       initial=in_states(lambda layer, state: replaced(state, as_if_contiguous(state.detach()))))  # fmt: skip
_plant("InputOffsetIgnored", "The input is read from where its storage begins", ("pieces", "strided"),
       given=lambda layer, x: replaced(x, as_if_contiguous(x.detach(), at_offset=not x.is_contiguous())))  # fmt: skip


class _Padded(Remembering):
    """Takes a packed batch, and pads it."""

    def forward(self, input: Any, states: Any = None) -> Any:
        if not isinstance(input, PackedSequence):
            return super().forward(input, states)
        padded, lengths = pad_packed_sequence(input)
        output, last = super().forward(padded, states)
        return pack_padded_sequence(output, lengths, enforce_sorted=False), last


_plant("PaddingRead", "In a packed batch it reads the padding as steps", "packed", base=_Padded)
