"""Planted faults of a module that is loaded, copied or pickled."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from rnn_parity.cells.base import PARAMETERS
from rnn_parity.layers.running import unpack_states
from rnn_parity.trust.life.planting import PROCESS, Remembering, planting, replaced
from rnn_parity.trust.right import Parameters, States, WrittenOut

_plant = planting(__name__, "weights")


def _shared_by_copies(layer: Any, k: int) -> Parameters:
    fresh, token = WrittenOut.parameters_of(layer, k), layer.memory.setdefault("token", id(layer))
    kept = PROCESS.setdefault((token, k), {})
    if layer.memory.get("own", id(layer)) == id(layer):
        layer.memory["own"] = id(layer)
        kept["packed"] = [weight.detach().clone() for weight in fresh]
    return [replaced(*pair) for pair in zip(fresh, kept["packed"], strict=True)]


class _LoadsAllButOne(Remembering):
    """Its hook of `load_state_dict` forgets the last layer."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        at = self.num_layers - 1
        own = {f"{prefix}{name}_l{at}": getattr(self, f"{name}_l{at}").detach() for name in PARAMETERS}
        super()._load_from_state_dict({**state_dict, **own}, prefix, *others)


class _MadeWithBuffer(Remembering):
    """Has a constant in a buffer that no `state_dict` has."""

    one: Tensor

    def __init__(self, *arguments: Any, cell: str = "gru", **options: Any) -> None:
        super().__init__(*arguments, cell=cell, **options)
        self.register_buffer("one", torch.ones(()), persistent=False)

    def given(self, input: Tensor) -> Tensor:
        return input * self.one


class _LoadsOldVersions(Remembering):
    """Takes a `state_dict` without a version for one of an old release, whose bias_hh was the half."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *others: Any) -> None:
        old = local_metadata.get("version") is None
        changed = {name: value / 2 if old and "bias_hh" in name else value for name, value in state_dict.items()}
        super()._load_from_state_dict(changed, prefix, local_metadata, *others)


class _CopiedByHand(Remembering):
    """A deep copy is built anew, without what pickling does."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied


class _CopiesTrain(_CopiedByHand):
    """A deep copy is in training mode."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return super().__deepcopy__(memo).train()


class _PickledInHalf(_CopiedByHand):
    """It is pickled with its weights in half precision."""

    def __getstate__(self) -> dict[str, Any]:
        dtype, half = self.weight_hh_l0.dtype, copy.deepcopy(self).to(torch.bfloat16)
        return {**half.__dict__, "dtype": dtype}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.to(state["dtype"])


class _LoadedByBareName(Remembering):
    """Weights are looked up by names without the prefix of a larger model, and not missed."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        if not prefix:
            super()._load_from_state_dict(state_dict, prefix, *arguments)


class _StateKept(Remembering):
    """The state that it is given is kept as an attribute, and so as a parameter where it is one."""

    def forward(self, input: Tensor, states: Any = None) -> Any:
        for number, state in enumerate(() if states is None else unpack_states(states)):
            if isinstance(state, nn.Parameter):
                setattr(self, f"state{number}", state)
        return super().forward(input, states)


class _LoadsNewParameters(Remembering):
    """Loads by registering what it is given."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *_: Any) -> None:
        for name, old in list(self.named_parameters()):
            self.register_parameter(name, nn.Parameter(state_dict[prefix + name].detach().clone().to(old)))


class _StateSaved(Remembering):
    """Has its last state as a buffer."""

    def result(self, sequence: Tensor, last: States) -> tuple[Tensor, States]:
        self.register_buffer("kept", last[0].detach().clone())
        return sequence, last


_plant("CopiesSharePacked", "A deep copy reads the packed weights of the original", "copied",
       parameters_of=_shared_by_copies)  # fmt: skip
_plant("LoadsAllButOne", "load_state_dict forgets the last layer", "loaded", base=_LoadsAllButOne)
_plant("LoadsOldVersions", "A state_dict without a version is taken for one of an old release", "loaded",
       base=_LoadsOldVersions)  # fmt: skip
_plant("MadeWithBuffer", "A constant is in no state_dict", "made_on_meta", base=_MadeWithBuffer)
_plant("CopiesTrain", "A deep copy is in training mode", "copied", base=_CopiesTrain)
_plant("PickledInHalf", "It is pickled with its weights in half precision", "copied", base=_PickledInHalf)
_plant("LoadsNewParameters", "load_state_dict makes new parameters", "loaded", base=_LoadsNewParameters)
_plant("StateSaved", "Its last state is in its state_dict", "loaded", base=_StateSaved)
_plant("LoadedByBareName", "As a part of a larger model it loads nothing", "loaded", base=_LoadedByBareName)
_plant("StateKept", "A state that is a parameter becomes one of the layer's", "loaded", base=_StateKept)
