"""May I replace this recurrent layer with that one? If not, why not? And what would I gain? Imports nothing heavy."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """`rnn_parity.check`, imported when it is asked for: it needs torch, which the Snakefile must not import.

    Likewise `rnn_parity.InputError`.
    """
    if name == "check":
        from rnn_parity.api import check

        return check
    if name == "InputError":
        from rnn_parity.experiment.errors import InputError

        return InputError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def parametrize_with_checks(
    layers: Iterable[str | Callable[..., Any]],
    *,
    expected_failures: Mapping[str, str] | Iterable[str] = (),
    **options: Any,
) -> Any:
    """Make a test of `layer` and `check` one item per layer, case, regime and group of quantities: a mark of pytest.

    @rnn_parity.parametrize_with_checks([FastGRU], hidden_size=128)
    def test_fast_gru_may_replace_the_loop(layer, check):
        check(layer)

    Args:
        layers: classes, other callables, or names `package.module:Class`.
        expected_failures: name of a check, or pattern of names as `NoDropout-*`, to the reason why it must fail; or
            lines `NAME: reason`.
        options: those of `rnn_parity.check` that are about what is compared; `like` may be a list.
    """
    import pytest

    # What is no list is refused where pytest collects the test, in one line.
    given = list(layers) if isinstance(layers, Iterable) and not isinstance(layers, str) else layers
    return pytest.mark.rnn_layers.with_args(given, expected_failures, **options)
