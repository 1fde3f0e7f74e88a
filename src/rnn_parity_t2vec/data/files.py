"""Trajectories in files: t2vec's token files (`*.t`) and GPS tables with Porto's `POLYLINE` column.

A bad line is skipped and counted, or the file is refused at the first one, as the reader is asked.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from rnn_parity.experiment.errors import InputError
from rnn_parity_t2vec.data.city import CELL_M, Cells
from rnn_parity_t2vec.model import SPECIAL_TOKENS
from rnn_parity_t2vec.settings import OnBadLine

_EARTH_RADIUS_M = 6_371_000.0
_NAMED = 3
_LARGEST_FIELD = 2**24


@dataclass
class Trajectories:
    """What a file holds.

    Attributes:
        tokens: the trajectories. cells: of the vocabulary; None where the file says nothing of them.
        bad: number of a skipped line, from 1, to what is wrong with it.
    """

    tokens: list[list[int]] = field(default_factory=list)
    cells: Cells | None = None
    bad: dict[int, str] = field(default_factory=dict)

    @property
    def vocabulary(self) -> int:
        """The smallest that has all the tokens."""
        highest = max((max(trajectory) for trajectory in self.tokens), default=SPECIAL_TOKENS)
        return self.cells.vocabulary if self.cells else highest + 1

    def describe_bad(self) -> str:
        """`2 lines skipped: line 3: …; line 9: …`; empty where none was."""
        named = [f"line {line}: {reason}" for line, reason in list(self.bad.items())[:_NAMED]]
        more = ["…"] * (len(self.bad) > _NAMED)
        return f"{len(self.bad)} lines skipped: {'; '.join(named + more)}" if self.bad else ""


def read_trajectories(path: Path, on_bad_line: OnBadLine = "refuse", **gps_options: Any) -> Trajectories:
    """Read a `*.t` file or a GPS table, `*.csv`; `InputError` for another suffix and as the two readers say."""
    if path.suffix == ".t":
        return read_tokens(path, on_bad_line)
    if path.suffix == ".csv":
        return read_gps(path, on_bad_line, **gps_options)
    raise InputError(f"{path}: has the suffix {path.suffix!r}, expected .t (tokens) or .csv (GPS)")


def read_tokens(path: Path, on_bad_line: OnBadLine = "refuse") -> Trajectories:
    """t2vec's own format: one trajectory per line, its tokens separated by spaces."""
    found = Trajectories()

    def parse(line: str) -> None:
        words = line.split()
        if len(words) < 2:
            raise ValueError(f"it has {len(words)} tokens, expected at least 2")
        odd = [word for word in words if not (word.isascii() and word.isdigit() and len(word) < 10)]
        if odd:
            raise ValueError(f"holds {odd[0][:20]!r}, expected a token, a number from {SPECIAL_TOKENS} on")
        tokens = [int(word) for word in words]
        if min(tokens) < SPECIAL_TOKENS:
            raise ValueError(f"holds the special token {min(tokens)}, expected numbers from {SPECIAL_TOKENS} on")
        found.tokens.append(tokens)

    with _opened(path) as file:
        _parse_lines(path, enumerate(file, 1), parse, found, on_bad_line)
    return found


def read_gps(path: Path, on_bad_line: OnBadLine = "refuse", min_points: int = 50, min_trips: int = 2) -> Trajectories:
    """GPS tracks, one trip per line, in a column `POLYLINE`: a JSON list of [longitude, latitude] in degrees.

    Cells are squares of 100 m on the ground. Those with at least `min_points` points are the vocabulary, the fullest
    first; every point goes to the nearest of them. `InputError` where there is no such cell, or no trip of two points.
    """
    found, trips = Trajectories(), []

    def parse(row: dict[str, str | None]) -> None:
        trips.append(_points(row.get("POLYLINE")))

    csv.field_size_limit(_LARGEST_FIELD)  # of 2^17, the default, a day's track has more
    with _opened(path, newline="") as file:
        table = csv.DictReader(file)
        try:
            if "POLYLINE" not in (table.fieldnames or []):
                raise InputError(f"{path}: has the columns {table.fieldnames}, expected POLYLINE among them")
            rows = ((table.line_num, row) for row in table)
            _parse_lines(path, rows, parse, found, on_bad_line)
        except csv.Error as error:
            raise InputError(f"{path}: after line {table.line_num}: {error}") from error
    if len(trips) < min_trips:
        raise InputError(f"{path}: holds {len(trips)} trips, expected at least {min_trips}")
    on_ground = _metres(trips)
    counts = Counter(map(tuple, np.floor(np.concatenate(on_ground) / CELL_M).astype(int).tolist()))
    full = [cell for cell, count in counts.most_common() if count >= min_points]
    if not full:
        raise InputError(f"{path}: no cell of {CELL_M:g} m has {min_points} points, expected a larger file")
    found.cells = Cells((np.array(full) + 0.5) * CELL_M)
    found.tokens = [found.cells.nearest_token(points).tolist() for points in on_ground]
    return found


def _points(text: str | None) -> np.ndarray:
    """(points, 2) of longitude and latitude; `ValueError` for what is no track."""
    try:
        points = np.array(json.loads(text or ""), dtype=float)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"POLYLINE holds {(text or '')[:20]!r}, expected a list of [longitude, latitude]") from error
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
        raise ValueError(f"POLYLINE has the shape {points.shape}, expected at least 2 points of 2 numbers")
    if not (np.abs(points) <= [180, 85]).all():
        raise ValueError("POLYLINE has a point outside ±180° of longitude and ±85° of latitude")
    return points


def _metres(trips: list[np.ndarray]) -> list[np.ndarray]:
    """Metres east and north, on the plane that touches the earth at the median latitude."""
    latitude = np.radians(np.median(np.concatenate(trips)[:, 1]))
    scale = math.radians(1) * _EARTH_RADIUS_M * np.array([np.cos(latitude), 1.0])
    return [points * scale for points in trips]


def _parse_lines(
    path: Path, lines: Iterator, parse: Callable[[Any], None], found: Trajectories, on_bad_line: OnBadLine
) -> None:
    for number, line in lines:
        try:
            parse(line)
        except ValueError as error:
            if on_bad_line == "refuse":
                raise InputError(f"{path}: line {number}: {error}") from error
            found.bad[number] = str(error)


@contextmanager
def _opened(path: Path, **options: Any) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8", **options) as file:
            yield file
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a file of trajectories") from error
