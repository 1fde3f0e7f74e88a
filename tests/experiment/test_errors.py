"""What others raise, in one line that a terminal can show."""

import pytest

from rnn_parity.experiment.errors import in_one_line


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("first\n  second\tthird", "ValueError: first second third"),
        ("", "ValueError"),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07", "ValueError: red ?]0;title?"),
    ],
)
def test_an_error_is_one_line_without_controls(message, line):
    assert in_one_line(ValueError(message)) == line
