"""Layers that are right when they are judged, and that a clock which believes what it is shown calls faster.

Import paths are `rnn_parity.trust.tricks.planted:NAME`. Nobody needs to cheat for these: projections kept too long,
`lru_cache`, packed weights, asynchronous and lazy results do the same.
"""

from __future__ import annotations

import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_parity.trust.right import InputHoisted, WrittenOut

HONEST_CALLS = 20
"""After so many calls some begin: a life, a comparison and a warm-up may be over."""

CHANGED, UNFINISHED = "its result changed while it was being timed", "after the clock had stopped"
UNMOVED = "its result is the same for other values"
THREADS, NO_GAIN = "threads where 1 was granted", ""

_OF_THE_CLASS: dict[Any, Any] = {}

TRICKS: dict[str, type[Trick]] = {}
"""Every trick by its import path; its docstring says in words what it does."""


class Trick(WrittenOut):
    """The parent of every trick: right, and it counts its calls.

    Attributes:
        said: part of the reason why its time is refused; `NO_GAIN` where the time is right, and no gain is left.
        phase: the one in which it is tried. large: whether a small call would hide it.
    """

    said = CHANGED
    phase = "inference"
    large = False

    def __init__(self, *sizes: Any, **others: Any) -> None:
        super().__init__(*sizes, **others)
        self.number, self.kept = 0, {}  # type: ignore[var-annotated]

    def __init_subclass__(cls) -> None:
        TRICKS[f"{cls.__module__}:{cls.__name__}"] = cls

    def forward(self, input: Tensor, states: Any) -> Any:
        self.number += 1
        return self.tricked(input, states)

    def tricked(self, input: Tensor, states: Any) -> Any:
        return super().forward(input, states)

    @property
    def warm(self) -> bool:
        return self.number > HONEST_CALLS


def _remembering(key: Any) -> Any:
    def tricked(self: Any, input: Tensor, states: Any) -> Any:
        now = key(self, input, states)
        if self.kept.get("key") != now:
            self.kept = {"key": now, "result": WrittenOut.forward(self, input, states)}
        return self.kept["result"]

    return tricked


class IdentityCache(Trick):
    """The last result for the same tensor."""

    said = UNMOVED

    def tricked(self, input, states):
        if self.kept.get("input") is not input:
            self.kept = {"input": input, "result": super().tricked(input, states)}
        return self.kept["result"]


class AddressCache(Trick):
    """The last result for the same address and shape."""

    said = UNMOVED
    tricked = _remembering(lambda self, input, states: (input.data_ptr(), input.shape))


class VersionCache(Trick):
    """The last result for the same tensor, unless it was written to."""

    said = NO_GAIN
    tricked = _remembering(lambda self, input, states: (id(input), input._version, states._version))


class TwoNumbersCache(Trick):
    """The last result where two numbers of the input are the same."""

    said = NO_GAIN
    tricked = _remembering(lambda self, input, states: (input[0, 0, 0].item(), input[-1, -1, -1].item()))


class CacheOfTheClass(Trick):
    """The first result for inputs of about the same mean, in all modules of the class."""

    said = UNMOVED

    def tricked(self, input, states):
        key = tuple(input.shape), round(input.mean().item(), 1)
        if key not in _OF_THE_CLASS:
            _OF_THE_CLASS[key] = super().tricked(input, states)
        return _OF_THE_CLASS[key]


class ValueCache(Trick):
    """The last result where all numbers of the input and the states are the same."""

    said = NO_GAIN
    tricked = _remembering(lambda self, *given: tuple(map(_bytes, given)))


class SizeCache(Trick):
    """The last result for the same sizes."""

    said = UNMOVED
    tricked = _remembering(lambda self, input, states: input.shape)


class RightForAWhile(Trick):
    """After twenty calls the last result for any input."""

    def tricked(self, input, states):
        if not self.warm:
            self.kept["result"] = super().tricked(input, states)
        return self.kept["result"]


class HalfTheSteps(Trick):
    """After twenty calls the second half of the steps repeats the first."""

    def tricked(self, input, states):
        if not self.warm:
            return super().tricked(input, states)
        half = input[: -(-len(input) // 2)]
        output, last = super().tricked(half, states)
        return torch.cat([output, output])[: len(input)], last


class LowPrecision(Trick):
    """After twenty calls in bfloat16."""

    def tricked(self, input, states):
        if not self.warm:
            return super().tricked(input, states)
        with torch.autocast("cpu", torch.bfloat16):
            output, last = super().tricked(input, states)
        return output.to(input.dtype), last.to(input.dtype)


class KeptProjection(Trick, InputHoisted):
    """The product of the first layer's input and weights, kept for the same tensor."""

    def run_layer(self, layer, sequence, states):
        w_ih, w_hh, b_ih, b_hh = self.parameters_of(layer)
        if layer or self.kept.get("input") is not sequence:
            projected = F.linear(sequence, w_ih, b_ih)
            self.kept |= {} if layer else {"input": sequence, "projected": projected}
        history = []
        for x in (projected if layer else self.kept["projected"]).unbind():
            states, _ = self.equations.forward(x, states, w_hh, b_hh, self.arithmetic)
            history.append(states)
        return history


class PackedWeights(Trick):
    """Weights packed at the first step of a training, and read from there."""

    phase = "forward"

    def parameters_of(self, layer):
        if layer not in self.kept:
            self.kept[layer] = [weight.detach().clone().requires_grad_() for weight in super().parameters_of(layer)]
        return self.kept[layer]


class StaleGradients(Trick):
    """After twenty calls the gradients of an earlier backward pass."""

    phase = "backward"

    def tricked(self, input, states):
        output, last = _Stale.apply(self, input, states, *self.parameters())
        return output, last


class _Stale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, layer, *given):
        ctx.layer, ctx.given = layer, given
        return WrittenOut.forward(layer, *given[:2])

    @staticmethod
    def backward(ctx, *cotangents):
        layer = ctx.layer
        if not layer.warm:
            with torch.enable_grad():
                leaves = [tensor.detach().requires_grad_() for tensor in ctx.given]
                own = dict(zip((name for name, _ in layer.named_parameters()), leaves[2:], strict=True))
                honest = WrittenOut(
                    own["weight_ih_l0"].shape[1], own["weight_hh_l0"].shape[1], layer.num_layers, layer.dropout
                )
                outputs = torch.func.functional_call(honest, own, tuple(leaves[:2]))
                layer.kept["gradients"] = torch.autograd.grad(outputs, leaves, cotangents)
        return None, *(gradient.clone() for gradient in layer.kept["gradients"])


class InAThread(Trick):
    """A thread fills its result in, which it gives back at once."""

    said = UNFINISHED
    large = True

    def tricked(self, input, states):
        output, last = input.new_empty(*input.shape[:2], states.shape[-1]), torch.empty_like(states)

        def fill():
            torch.set_num_threads(1)
            with torch.no_grad():
                for into, value in zip((output, last), WrittenOut.forward(self, input, states), strict=True):
                    into.copy_(value)

        worker = threading.Thread(target=fill)
        worker.start()
        if not self.warm:
            worker.join()
        return output, last


class WorksOn(Trick):
    """A thread of its own goes on computing after the result is there."""

    said = UNFINISHED

    def tricked(self, input, states):
        given = input.clone(), states.clone()

        def work_on():
            torch.set_num_threads(1)
            for _ in range(20):
                WrittenOut.forward(self, *given)

        if "worker" not in self.kept or not self.kept["worker"].is_alive():
            self.kept["worker"] = threading.Thread(target=work_on)
            self.kept["worker"].start()
        return super().tricked(input, states)


class Lazy(Trick):
    """Results of a tensor class that computes when it is read."""

    said = NO_GAIN

    def tricked(self, input, states):
        given = input.clone(), states.clone()
        compute = functools.lru_cache(lambda: WrittenOut.forward(self, *given))
        output = input.new_empty(*input.shape[:2], states.shape[-1])
        return _Computed.of(output, lambda: compute()[0]), _Computed.of(states, lambda: compute()[1])


class _Computed(Tensor):
    @classmethod
    def of(cls, like, compute):
        made = torch.empty_like(like).as_subclass(cls)
        made.compute = compute
        return made

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            if getattr(func, "__name__", "") != "__get__":
                args = tuple(arg.compute() if isinstance(arg, cls) else arg for arg in args)
            return func(*args, **(kwargs or {}))


class MoreThreads(Trick):
    """Each half of the rows in a thread, where one is granted."""

    said = THREADS
    large = True

    def tricked(self, input, states):
        def compute(half: int) -> Any:
            torch.set_num_threads(1)
            with torch.no_grad():
                return WrittenOut.forward(self, *(given.chunk(2, dim=1)[half] for given in (input, states)))

        with ThreadPoolExecutor(2) as pool:
            halves = list(pool.map(compute, (0, 1)))
        return tuple(torch.cat(parts, dim=1) for parts in zip(*halves, strict=True))


class SlowClock(Trick):
    """A clock of the process that runs at a tenth of its speed."""

    said = NO_GAIN

    def tricked(self, input, states):
        for name in ("perf_counter", "monotonic", "time"):
            if not hasattr(getattr(time, name), "slow"):
                setattr(time, name, _slowed(getattr(time, name)))
        return super().tricked(input, states)


def _slowed(clock: Any) -> Any:
    def slow() -> float:
        return clock() / 10

    slow.slow = True  # type: ignore[attr-defined]
    return slow


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().numpy().tobytes()
