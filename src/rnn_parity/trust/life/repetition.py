"""Planted faults of repetition and of shapes: what a call keeps for the next, and what was laid out for one shape."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rnn_parity.trust.life.planting import ANYWHERE, PROCESS, in_states, passed, planting, replaced
from rnn_parity.trust.planting import to_bfloat16
from rnn_parity.trust.right import Parameters, States, WrittenOut

# Repetition: at the second call, at the second training step, now and then.
_plant = planting(__name__, "repetition")
_AGAIN = ("same_seed", "modes_in_turn")


def _bias_learns(learns: Callable[[Any], bool]):
    def parameters(layer: Any, k: int) -> Parameters:
        *others, bias = WrittenOut.parameters_of(layer, k)
        return [*others, bias if not layer.training or learns(layer) else bias.detach()]

    return parameters


def first_step_of_process(layer: Any) -> bool:
    return PROCESS.setdefault("first", (layer, layer.trained)) == (layer, layer.trained)


def _kept_state(layer: Any, states: States) -> States:
    kept = layer.memory.get("last", states)
    return kept if kept[0].shape == states[0].shape and kept[0].dtype == states[0].dtype else states


def _keep_state(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    layer.memory["last"] = tuple(state.detach().clone() for state in last)
    return sequence, last


def _goes_on(when: Callable[[Any], bool]) -> dict[str, Any]:
    """Steps of a layer that goes on from the last state of the call before; it knows of calls like this one alone."""
    return {
        "initial": lambda layer, states: _kept_state(layer, states) if when(layer) else states,
        "result": lambda layer, *found: _keep_state(layer, *found) if when(layer) else found,
    }


def _one_in_nine(layer: Any, k: int) -> Parameters:
    w_ih, w_hh, *biases = WrittenOut.parameters_of(layer, k)
    wrong = random.SystemRandom().random() < 1 / 9
    return [w_ih, passed(w_hh, lambda gradient: 1.5 * gradient) if wrong else w_hh, *biases]


def _values_of_first(layer: Any, x: Tensor) -> Tensor:
    tensor, values = layer.memory.setdefault("first", (x.detach(), x.detach().clone()))
    return replaced(x, values) if (x.data_ptr(), x.shape) == (tensor.data_ptr(), tensor.shape) else x


def _values_of_version(layer: Any, x: Tensor) -> Tensor:
    if torch.is_grad_enabled() or torch.is_inference_mode_enabled():
        return x
    key = x.data_ptr(), x._version, x.shape
    if layer.memory.get("key") != key:
        layer.memory.update(key=key, values=x.clone())
    return replaced(x, layer.memory["values"])


def _keep_graph(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    layer.memory["last"] = last
    return sequence, last


def _own_copy(layer: Any, states: States) -> States:
    given, copies = layer.memory.get("returned", ((), ()))
    return copies if given and states[0] is given[0] and not torch.is_grad_enabled() else states


def _keep_copy(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    layer.memory["returned"] = last, tuple(state.detach().clone() for state in last)
    return sequence, last


def _streams(layer: Any) -> bool:
    return layer.stateless and layer.steps == 1 and not torch.is_grad_enabled()


def _ring(layer: Any, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    if torch.is_grad_enabled() or torch.is_inference_mode_enabled():
        return sequence, last
    turn = layer.number % 8, sequence.shape, sequence.dtype
    return layer.memory.setdefault(turn, torch.empty_like(sequence)).copy_(sequence), last


_plant(
    "StateCarried", "From its second call on it starts from the last state of the call before", _AGAIN,
    **_goes_on(lambda layer: True),
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
    ("first_call", *_AGAIN), parameters_of=_bias_learns(first_step_of_process),
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

_plant(
    "OwnStatesKept", "Given the states that it gave, it goes on from its own copy, whatever was written to them",
    "rewritten", initial=_own_copy, result=_keep_copy,
)  # fmt: skip
_plant(
    "StreamWithoutStates", "One step without states goes on from the step before, in inference", "no_states",
    **_goes_on(_streams),
)  # fmt: skip
_plant(
    "TrainingWithoutStates", "Without states, a training step goes on from the step before", "no_states",
    **_goes_on(lambda layer: layer.stateless and layer.training),
)  # fmt: skip
_plant(
    "KeptByVersion", "An input of the address and the version of the one before has the values of that",
    "rewritten", given=_values_of_version,
)  # fmt: skip
_plant(
    "LastGraphKept", "It keeps its last state, which cannot be copied while it has a graph", "copied",
    result=_keep_graph,
)  # fmt: skip
_plant(
    "ResultsInRing", "Results of calls without gradients lie in a ring of eight buffers", "many_calls", result=_ring,
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


def _through_one_place(layer: Any, k: int, sequence: Tensor, states: States) -> list[States]:
    """Steps whose state lies where every call of the module puts its own."""
    history, (w_ih, w_hh, b_ih, b_hh) = [], layer.parameters_of(k)
    for x in sequence.unbind():
        PROCESS[id(layer)] = states
        from_input = layer.arithmetic.product(x, w_ih) + b_ih
        states = layer.equations.forward(from_input, PROCESS[id(layer)], w_hh, b_hh, layer.arithmetic)[0]
        history.append(states)
    return history


_plant("StateOfTheModule", "The state of a call lies in the module", "two_threads", run_layer=_through_one_place)


def _coarse_in_another(layer: Any, x: Tensor) -> Tensor:
    own = PROCESS.setdefault("dtype", x.dtype)
    return x if x.dtype == own else to_bfloat16(x)


_plant("PrecisionOfTheFirst", "In another precision than its first one it computes in bfloat16", "other_precision",
       given=_coarse_in_another)  # fmt: skip
