"""May I replace this recurrent layer by that one, when not, and what do I gain? Imports nothing heavy."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """What the package offers, imported when asked for: `check` needs torch, which the Snakefile must not import."""
    if name == "check":
        from rnn_parity.api import check

        return check
    if name == "parametrize_with_checks":
        from rnn_parity.testing.plugin import parametrize_with_checks

        return parametrize_with_checks
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
