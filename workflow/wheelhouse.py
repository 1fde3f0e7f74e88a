"""Collect the wheels that a machine without a package index lacks: `make wheelhouse`, docs/offline.md.

What comes with torch, numpy, pandas, pyarrow, scipy and seaborn is taken to be there; what only tests, format or model
flavours of MLflow need is left out. The versions are those of `requirements.txt`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HAS = ("torch", "numpy", "pandas", "pyarrow", "scipy", "matplotlib", "seaborn")
LEFT_OUT = {"scikit-learn", "joblib", "threadpoolctl", "skops"}
"""MLflow imports these when a model of scikit-learn is logged; nothing here does."""

PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
PINS = Path(__file__).parents[1] / "requirements.txt"


def closure(names: Iterable[str], python: str, without: set[str] = frozenset()) -> set[str]:
    """The packages, and all that they need under that version of Python."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found or name in without:
            continue
        found.add(name)
        try:
            needs = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # of another platform
            continue
        waiting += [canonicalize_name(r.name) for r in needs if r.marker is None or r.marker.evaluate(environment)]
    return found


def main(python: str, machine: str, folder: Path) -> None:
    """Fill the folder; what is published as source only is built here, which is right for pure Python alone."""
    wanted = closure(["rnn-parity"], python, LEFT_OUT) - closure(HAS, python) - {"rnn-parity"}
    pins = [line for line in PINS.read_text().splitlines() if "==" in line]
    chosen = [line for line in pins if canonicalize_name(Requirement(line).name) in wanted]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    platforms = [f"--platform={platform}_{machine}" for platform in PLATFORMS] + ["--platform=any"]
    place = ["--no-deps", f"--python-version={python}", *platforms, f"--dest={folder}"]
    subprocess.run([*pip, "download", *place, *chosen], check=True)
    for source in folder.glob("*.tar.gz"):
        subprocess.run([*pip, "wheel", "--no-deps", f"--wheel-dir={folder}", source], check=True)
        source.unlink()
    wheels = list(folder.glob("*.whl"))
    impure = [wheel.name for wheel in wheels if not wheel.stem.endswith(("-any", machine))]
    if impure:
        sys.exit(f"error: built for this machine and not for the other: {', '.join(impure)}")
    size = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{folder}: {len(wheels)} wheels, {size / 2**20:.1f} MiB")


main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
