"""Snakemake, with its own errors told apart from a gate that fails: by itself it ends with 1 for both."""

from __future__ import annotations

import os
import sys
from typing import Any

from snakemake.cli import main

from rnn_parity.commands.processes import GATE_VARIABLE
from rnn_parity.experiment.errors import in_one_line

_GATE, _ERROR = 10, 1
_ENDS: dict[Any, int] = {_GATE: 1, _ERROR: 2}


def run() -> None:
    """Run Snakemake with the arguments of this process; an error of its own ends with 2, as bad input does."""
    os.environ[GATE_VARIABLE] = str(_GATE)
    try:
        main()
    except SystemExit as ended:
        if ended.code == _ERROR:
            print("error: Snakemake ended with an error of its own, see above", file=sys.stderr)
        sys.exit(_ENDS.get(ended.code, ended.code))
    except Exception as error:
        print(f"error: Snakemake cannot run: {in_one_line(error)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run()
