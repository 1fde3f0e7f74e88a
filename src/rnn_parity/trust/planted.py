"""The planted faults of each kind of cell."""

from __future__ import annotations

from rnn_parity.trust import faults, gru_faults, lstm_faults  # noqa: F401, each plants its own
from rnn_parity.trust.planting import FAULTS
from rnn_parity.trust.right import WrittenOut


def faults_of(cell: str) -> dict[str, type[WrittenOut]]:
    """The faults that a kind of cell can have, by their import paths."""
    return {path: fault for path, fault in FAULTS.items() if not fault.cells or cell in fault.cells}
