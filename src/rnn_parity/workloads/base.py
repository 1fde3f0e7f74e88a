"""The interface: what a workload offers to be compared and timed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from rnn_parity.compare import criterion
from rnn_parity.compare.case import ComparedTask
from rnn_parity.compare.reference import Reference, References
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Dtype
from rnn_parity.experiment.workloads import WorkloadEntry, load_object
from rnn_parity.timing.calls import TimedTask, TimedWorkload


class Task(ComparedTask, TimedTask, Protocol):
    """What one seed gives to every implementation of a case: builds, runs and times them, and knows what is right."""


@dataclass
class ReferencedTask(ABC):
    """The part of a task that is the same in every workload: one stimulus, with its references."""

    references: References

    @abstractmethod
    def draw_masks(self) -> Tensor | None:
        """Masks of dropout; None where there is none."""

    @abstractmethod
    def terms(self, quantity: str) -> int:
        """The terms of the longest sum on the way to a quantity."""

    @property
    def case(self) -> Case:
        """The case that it was drawn for."""
        return self.references.case

    @property
    def seed(self) -> int:
        """The seed that it was drawn from."""
        return self.references.seed

    @property
    def stimulus(self) -> Any:
        """Everything that was drawn, on the CPU."""
        return self.references.stimulus

    def reference(self, masks: Tensor | None) -> Reference:
        """The float64 reference under some masks."""
        return self.references.with_masks(masks)

    def otherwise(self, masks: Tensor) -> Iterator[tuple[str, Reference]]:
        """Yield what a layer may compute in place of the equations, in words, and the reference of that."""
        if self.case.dtype == Dtype.FLOAT64:  # in which it shows; cuDNN takes its dropout probability in float32
            yield "is what a dropout probability in float32 gives", self._of_rounded_dropout.with_masks(masks)

    @cached_property
    def _of_rounded_dropout(self) -> References:
        case = replace(self.case, dropout=float(np.float32(self.case.dropout)))
        return replace(self.references, case=case, known={})

    def split(self, baseline: str, candidates: Sequence[str]) -> list[tuple[Any, Sequence[str]]]:
        """The task that each candidate is compared in: this one, unless a workload has another for some."""
        return [(self, candidates)]

    def compare_distributions(self, *_: Any) -> Iterator[dict[str, Any]]:
        """Yield nothing, unless a workload compares the law of many draws."""
        return iter(())

    def limits(self, quantity: str) -> criterion.Pair | None:
        """How far a quantity may be off, in both norms; None where nothing can be judged.

        A quantity that is timed and never compared has the largest limit of all.
        """
        known = [limits for limits in self._limits.values() if limits]
        return self._limits.get(quantity, max(known, default=None))

    def least_limit(self, quantity: str) -> float:
        """What a quantity may be off whatever its sensitivity, which takes a run of the oracle to know."""
        return criterion.limit(0.0, criterion.floor_of_sums(self.terms(quantity), self.case))

    @cached_property
    def _limits(self) -> dict[str, criterion.Pair | None]:
        sensitivities = self.reference(self.draw_masks()).sensitivities
        return {name: criterion.judged_limits(of, self.terms(name), self.case) for name, of in sensitivities.items()}

    def rates(self, phase: str) -> dict[str, Any]:
        """None, unless a workload counts its operations and bytes."""
        return {}


class Workload(TimedWorkload, Protocol):
    """What the recurrent layer is used in."""

    def draw(self, case: Case, seed: int) -> Task:
        """Draw parameters, inputs and cotangents in float64 from a seed, and round them to the case's dtype."""


def load_workload(entry: WorkloadEntry, settings: Mapping[str, Any]) -> Workload:
    """The workload behind an entry, with its settings from the completed config."""
    return load_object(entry.factory)(**settings)
