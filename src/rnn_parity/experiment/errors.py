"""The error that is the user's to mend: one line that names the key or file, what it holds and what was expected."""


class InputError(ValueError):
    """Bad input. Its message is shown as it is, without a traceback; the exit code is 2."""
