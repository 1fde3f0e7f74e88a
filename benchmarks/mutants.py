"""What lived of the faults that `mutmut run` planted; ends with 1 where the tests saw fewer than 95 % of them."""

from __future__ import annotations

import subprocess
import sys

LEAST_SHARE_SEEN = 0.95
SEEN = ("killed", "timeout", "segfault")


def main() -> int:
    """Print the mutants that no test saw, and the share of those that one did."""
    command = [sys.executable, "-m", "mutmut", "results", "--all", "true"]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    outcomes = dict(line.strip().rsplit(": ", 1) for line in lines if ": " in line)
    tried = {name: outcome for name, outcome in outcomes.items() if outcome not in ("not checked", "skipped")}
    lived = [f"{name}: {outcome}" for name, outcome in tried.items() if outcome not in SEEN]
    print(*lived, sep="\n")
    seen = len(tried) - len(lived)
    print(f"{seen} of {len(tried)} mutants seen by a test; `python -m mutmut show NAME` shows one that lived.")
    return 0 if tried and seen >= LEAST_SHARE_SEEN * len(tried) else 1


if __name__ == "__main__":
    sys.exit(main())
