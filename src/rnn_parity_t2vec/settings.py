"""The settings of the decoder beside the axes of a case. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from rnn_parity.experiment.config import Section, Seeds
from rnn_parity.experiment.errors import InputError


def _check_file(file: str | None) -> str | None:
    if file is not None and not Path(file).is_file():
        raise ValueError("trajectories in a file that is there, or null")
    return file


class TrainingSettings(Section):
    """The short training with baseline and candidate side by side."""

    steps: int = Field(100, ge=2)
    """Training steps, a batch each."""
    seeds: Seeds = Field([0, 1, 2, 3, 4])
    """Seeds of the trainings with masks of their own."""


class DecoderSettings(Section):
    """The model and the data of the sweeps with `workload: decoder`."""

    vocabulary: int = Field(18_864, ge=8)
    """V, the four special tokens among them."""
    file: Annotated[str | None, AfterValidator(_check_file)] = None
    """Trajectories in place of the made-up ones, in t2vec's format: one per line, its tokens separated by spaces."""
    training: TrainingSettings = TrainingSettings.model_validate({})


def check_axes(axes: Mapping[str, Sequence[Any]]) -> None:
    """Raise `InputError` for an odd hidden size, which the encoder halves, and for any kind of cell but t2vec's."""
    if other := [cell for cell in axes["cell"] if cell != "gru"]:
        raise InputError(f"cell: holds {other[0]}, expected gru: t2vec's decoder has no other")
    odd = [size for size in axes["hidden_size"] if size % 2]
    if odd:
        raise InputError(f"hidden_size: holds {odd[0]}, expected even: the encoder halves it")
