"""What the project itself costs, each claim with its target: `make bench`, or `python -m benchmarks NAME …`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # whose made-up tables and copied project serve here too
