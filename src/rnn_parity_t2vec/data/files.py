"""Trajectories of one's own, in t2vec's format: a trajectory per line, its tokens separated by spaces."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rnn_parity.experiment.errors import InputError
from rnn_parity_t2vec.model import SPECIAL_TOKENS


@cache
def read_trajectories(path: Path, vocabulary: int) -> list[list[int]]:
    """The trajectories of a file; `InputError` for the first line without two tokens or with one that is no cell's."""
    cells, trajectories = set(map(str, range(SPECIAL_TOKENS, vocabulary))), []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                words = line.split()
                if len(words) < 2:
                    raise InputError(f"{path}: line {number}: has {len(words)} tokens, expected at least 2")
                if odd := [word for word in words if word not in cells]:
                    raise InputError(
                        f"{path}: line {number}: holds {odd[0][:20]!r}, expected tokens from {SPECIAL_TOKENS} to "
                        f"{vocabulary - 1}, since workloads.decoder.vocabulary is {vocabulary}"
                    )
                trajectories.append([int(word) for word in words])
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected lines of tokens, in UTF-8") from error
    return trajectories
