"""May I replace this recurrent layer by that one, when not, and what do I gain? Imports nothing heavy."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`rnn_parity.check`, imported when it is asked for: it needs torch, which the Snakefile must not import."""
    if name == "check":
        from rnn_parity.api import check

        return check
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
