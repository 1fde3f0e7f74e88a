"""The names of implementations: a registered name, or an import path `package.module:Class`. Imports no torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

from rnn_parity.experiment.errors import InputError

REGISTRY: dict[str, str | Callable[..., Any]] = {
    "stacking_gru_cell": "rnn_parity.layers.stepwise:StackingGRUCellLoop",
    "stacking_gru": "rnn_parity.layers.fused:StackingGRU",
}
"""Registered name to import path. Add a line to compare a layer of your own under a short name. A class without a path
stands here itself while `rnn_parity.layers.registry.named` lends it a name."""

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def check_name(name: str, key: str) -> None:
    """Raise `InputError`, naming the config's `key`, for a name that is neither registered nor an import path."""
    if name not in REGISTRY and not IMPORT_PATH.fullmatch(name):
        close = difflib.get_close_matches(name, REGISTRY, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        known = ", ".join(REGISTRY)
        raise InputError(f"{key}: holds {name!r}, expected one of {known}, or package.module:Class{hint}")
