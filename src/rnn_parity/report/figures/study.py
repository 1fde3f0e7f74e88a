"""What is drawn, and how it falls into panels: the tables of a study, its swept axes, their words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rnn_parity.experiment.vocabulary import Dtype, axis_word
from rnn_parity.findings.cases import swept_axes

WIDTHS_MM = {"page": 178, "column": 85}
"""By `report.width`: two columns of a journal, or one."""


@dataclass(frozen=True)
class Study:
    """The completed config, the tables that are drawn, and the machine they were measured on."""

    config: Mapping[str, Any]
    equivalence: pd.DataFrame
    timing: pd.DataFrame
    masks: pd.DataFrame
    environment: Mapping[str, Any]

    @property
    def width_mm(self) -> int:
        """How wide the figures are."""
        return WIDTHS_MM[self.config["report"]["width"]]

    @property
    def baseline(self) -> str:
        """What might be replaced."""
        return self.config["baseline"]

    @property
    def candidates(self) -> list[str]:
        """The candidates in the order of the config."""
        return list(self.config["candidates"])

    @property
    def implementations(self) -> list[str]:
        """The baseline, then the candidates."""
        return [self.config["baseline"], *self.candidates]


@dataclass(frozen=True)
class Panel:
    """The rows of one sweep that differ in the axis `x` only."""

    title: str
    x: str
    rows: pd.DataFrame

    @property
    def values(self) -> list:
        """The values of the axis `x`, in order."""
        values = self.rows[self.x].unique().tolist()
        return sorted(values, key=list(Dtype).index if self.x == "dtype" else None)

    @property
    def places(self) -> dict[Any, int]:
        """Value of the axis `x` to its place on an axis with the values side by side."""
        return {value: at for at, value in enumerate(self.values)}


def panels(table: pd.DataFrame, x: str | None = None) -> Iterator[Panel]:
    """Split a table by sweep, and by every swept axis but one: `x`, or else the numeric axis with the most values."""
    for sweep, rows in table.groupby("sweep", sort=False):
        swept = swept_axes(rows)
        if x is None:
            numeric = [axis for axis in swept if rows[axis].dtype.kind in "if"]
            along = max(numeric or swept or ["sequence_length"], key=lambda axis: rows[axis].nunique())
        else:
            along = x
        others = [axis for axis in swept if axis != along]
        for values, group in rows.groupby(others, sort=False) if others else [((), rows)]:
            words = [axis_word(axis, value) for axis, value in zip(others, values, strict=True)]
            yield Panel(", ".join([str(sweep), *words]), along, group)
