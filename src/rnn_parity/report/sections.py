"""The sections that workloads from outside add to the report of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rnn_parity.experiment.workloads import load_object, workloads_of


@dataclass(frozen=True)
class Section:
    """The part of a workload in the report.

    Attributes:
        package: whose folder `templates` has the templates. answer: the template of its paragraphs after the answer.
        body: that of a section of its own. facts: the names that both see beside the report's.
    """

    package: str
    answer: str
    body: str
    facts: Mapping[str, Any]


def workload_sections(config: Mapping[str, Any], results: Mapping[str, pd.DataFrame]) -> list[Section]:
    """The sections of the config's workloads."""
    return [load_object(entry.section)(config, results) for entry in workloads_of(config) if entry.section]
