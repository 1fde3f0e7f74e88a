"""The names of implementations: a registered name, or an import path `package.module:Class`. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rnn_parity.experiment.errors import InputError, did_you_mean

CELLS = {
    "gru": "rnn_parity.cells.gru:GRU",
    "gru_reset_before": "rnn_parity.cells.gru_reset_before:GRUResetBefore",
    "lstm": "rnn_parity.cells.lstm:LSTM",
}
"""Kinds of cells by name. A kind of your own is named by its import path `package.module:Class`."""

REGISTRY: dict[str, str | Callable[..., Any]] = {
    "stacking_gru_cell": "rnn_parity.layers.stepwise:StackingGRUCellLoop",
    "stacking_gru": "rnn_parity.layers.fused:StackingGRU",
    "stacking_gru_reset_before_cell": "rnn_parity.layers.stepwise:StackingGRUResetBeforeCellLoop",
    "compiled_loop": "rnn_parity.layers.faster_loops:CompiledLoop",
    "graphed_loop": "rnn_parity.layers.faster_loops:GraphedLoop",
    "stacking_lstm_cell": "rnn_parity.layers.stepwise:StackingLSTMCellLoop",
    "stacking_lstm": "rnn_parity.layers.fused:StackingLSTM",
}
"""Registered name to import path. Add a line to compare a layer of your own under a short name. A class without a path
stands here itself while `rnn_parity.layers.registry.named` lends it a name."""

BASELINES = {
    "gru": "stacking_gru_cell",
    "gru_reset_before": "stacking_gru_reset_before_cell",
    "lstm": "stacking_lstm_cell",
}
"""Kind of cell to the baseline of `rnn-parity check`, where none is named."""

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def with_kind(name: str, cell: str, cells: Mapping[str, Mapping[str, Any]]) -> str:
    """A layer's name where several kinds are reported together: with its kind, if the config has it in several.

    A factory with a parameter `cell` builds layers of any kind. To a reader these are as many layers as kinds.
    """
    kinds = [kind for kind, one in cells.items() if name in (one["baseline"], *one["candidates"])]
    return f"{name} ({cell})" if len(kinds) > 1 else name


def check_name(name: str, key: str, known: Iterable[str] = REGISTRY, path: str = "package.module:Class") -> None:
    """Raise `InputError`, naming the config's `key`, for a name that is neither known nor an import path."""
    if name not in known and not IMPORT_PATH.fullmatch(name):
        colon = ":".join(name.rsplit(".", 1))
        hint = did_you_mean(name, known) or (f"; did you mean {colon}?" if IMPORT_PATH.fullmatch(colon) else "")
        raise InputError(f"{key}: holds {name!r}, expected one of {', '.join(known)}, or {path}{hint}")
