"""The seam to a workload: what of it is timed, and the calls that each phase asks of a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rnn_parity.compare.run import Role
from rnn_parity.experiment.grid import Case

Calls = tuple[Callable[[], Any], Callable[[Any], Any]]
"""What is made before the clock starts, and what the clock sees, which is given what was made."""


class TimedTask(Protocol):
    """What every implementation of a case is timed with."""

    def calls(self, implementation: str, role: Role, phase: str) -> Calls:
        """Build an implementation and what a phase asks of it; raises what keeps it from being timed."""

    def rates(self, phase: str) -> dict[str, Any]:
        """Columns of the timing table that follow from the case: operations, bytes, and the rate of one step."""


class TimedWorkload(Protocol):
    """Draws the task of a case, and says what is timed of it."""

    def draw(self, case: Case, seed: int) -> TimedTask:
        """Draw what one seed gives to every implementation."""

    def phases(self, asked: Sequence[str]) -> Sequence[str]:
        """The phases that are timed where these are asked for."""


def phase_calls(
    phase: str,
    module: nn.Module,
    forward: Callable[[], Sequence[Tensor]],
    leaves: Sequence[Tensor],
    cotangents: Sequence[Tensor],
) -> Calls:
    """The calls of a phase: `forward` gives outputs, whose gradients by the leaves and the parameters are taken.

    Args:
        module: has the parameters, and is switched between training and evaluation. leaves: the inputs that get a
            gradient. cotangents: of the first outputs.
    """
    module.train(phase != "inference")
    if phase == "inference":

        def infer(_):
            with torch.no_grad():  # as a decorator it takes a microsecond more of each call
                return forward()

        return lambda: None, infer

    for leaf in leaves:
        leaf.requires_grad_()

    def clear() -> None:
        module.zero_grad(set_to_none=True)
        for leaf in leaves:
            leaf.grad = None

    def backward(outputs):
        torch.autograd.backward(outputs[: len(cotangents)], cotangents)

    def forward_untimed():
        clear()
        return forward()

    return {
        "forward": (clear, lambda _: forward()),
        "backward": (forward_untimed, backward),
        "step": (clear, lambda _: backward(forward())),
    }[phase]
