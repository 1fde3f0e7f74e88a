"""The seam: what a workload offers to be compared and timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rnn_parity.compare.case import ComparedTask
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.workloads import WorkloadEntry, load_object
from rnn_parity.timing.rounds import TimedTask


class Task(ComparedTask, TimedTask, Protocol):
    """What one seed gives to every implementation of a case: builds, runs and times them, and knows what is right."""


class Workload(Protocol):
    """What the recurrent layer is used in."""

    def draw(self, case: Case, seed: int) -> Task:
        """Draw parameters, inputs and cotangents in float64 from a seed, and round them to the case's dtype."""

    def phases(self, asked: Sequence[str]) -> Sequence[str]:
        """The phases that are timed where these are asked for."""


def load_workload(entry: WorkloadEntry, settings: Mapping[str, Any]) -> Workload:
    """The workload behind an entry, with its settings from the completed config."""
    return load_object(entry.factory)(**settings)
