"""Snakemake in a process of its own, whose errors are told from a gate that fails: to Snakemake both are a 1."""

from __future__ import annotations

import os
import sys

from snakemake.cli import main

from rnn_parity.commands.processes import GATE_VARIABLE
from rnn_parity.experiment.errors import in_one_line

_GATE, _ERROR = 10, 1


def run() -> None:
    """Run Snakemake with the arguments of this process; its own errors are bad input, or surroundings: 2."""
    os.environ[GATE_VARIABLE] = str(_GATE)
    try:
        main()
    except SystemExit as ended:
        if ended.code == _ERROR:
            print("error: Snakemake ended with an error of its own, see above", file=sys.stderr)
        sys.exit({_GATE: 1, _ERROR: 2}.get(ended.code, ended.code))  # type: ignore[arg-type, call-overload]
    except Exception as error:
        print(f"error: Snakemake cannot run: {in_one_line(error)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run()
