"""What a sweep costs beside its measurements: overhead per case, efficiency, and the time to plan it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import yaml

from benchmarks.result import Result, Spent, run
from project import copy_project
from rnn_parity.commands import job_server

CORES = 2
_CLIENT = job_server.__name__
_SERVER = ", ".join(job_server.IMPORTED)
TINY = {
    "study": "bench",
    "baseline": "stacking_gru_cell",
    "candidates": ["stacking_gru"],
    "device": "cpu",
    "defaults": {"input_size": 3, "hidden_size": 4, "num_layers": 1, "batch_size": 2, "dropout": 0.0},
    "equivalence": {"seeds": [0], "regimes": ["eval"]},
    "timing": {"phases": ["step"], "min_rounds": 6, "max_seconds": 0.001},
    "self_test": {"cases": 0, "own_cases": True},
    "capabilities": False,
}
"""Cases whose measurements take next to nothing, so that what is left is overhead."""

REAL = {
    "study": "bench",
    "baseline": "stacking_gru_cell",
    "candidates": ["stacking_gru"],
    "device": "cpu",
    "defaults": {"input_size": 64, "num_layers": 3, "batch_size": 16, "dropout": 0.2},
    "sweeps": {"width": {"hidden_size": [16, 32, 64, 128], "sequence_length": [4, 8, 16, 32, 64]}},
    "timing": {"max_seconds": 1},
    "self_test": {"cases": 0, "own_cases": True},
    "capabilities": False,
}
"""Twenty cases in four jobs with the checks and phases of the default experiment."""


@dataclass(frozen=True)
class Sweep:
    """A finished run of the pipeline. `inside_s`: seconds that measuring took of the machine; so many cases."""

    cases: int
    wall_s: float
    inside_s: float

    @property
    def overhead_s(self) -> float:
        """What was not measuring."""
        return self.wall_s - self.inside_s


def measure() -> Iterator[Result]:
    """Run generated grids."""
    yield from _overhead(1, (2, 10), None)
    yield from _overhead(10, (2, 6), None)
    yield from _overhead(20, (2, 5, 10), 0.4)
    yield from _overhead(50, (2, 5), 0.2)
    real = run_sweep(REAL)
    note = f"{real.inside_s:.0f} s of measuring in {real.wall_s:.0f} s, {real.cases} cases with the default checks"
    yield Result("efficiency of a sweep", 100 * real.inside_s / real.wall_s, "%", note=note)
    for cases in (100, 1_000, 10_000):
        spent = plan(cases)
        limit = 4.0 if cases == 10_000 else None
        yield Result(f"snakemake -n, {cases:,} cases in {cases // 20} jobs", spent.wall_s, "s", at_most=limit)
        yield Result("… its memory", spent.memory_bytes / 2**20, "MiB")


def _overhead(per_job: int, jobs: tuple[int, ...], target_s: float | None) -> Iterator[Result]:
    """Overhead of a case by the least-squares line through sweeps of different length: its slope, and what is fixed."""
    sweeps = [run_sweep(TINY | {"sweeps": {"a": axes(n, per_job)}}) for n in jobs]
    cases, overhead = [s.cases for s in sweeps], [s.overhead_s for s in sweeps]
    slope, fixed = np.polyfit(cases, overhead, 1)
    note = f"sweeps of {', '.join(map(str, cases))} cases; beside it {fixed:.1f} s once a run"
    yield Result(f"overhead per case at {per_job} a job", slope, "s", at_most=target_s, note=note)
    if len(cases) > 2:
        early, late = np.diff(overhead) / np.diff(cases)
        words = f"{early:.3f} s a case first, {late:.3f} s a case later"
        yield Result(
            "… growth of the cost of a case, per 100 cases", 100 * (late - early) / np.mean(cases), "s", note=words
        )


def axes(jobs: int, per_job: int) -> dict[str, list[int]]:
    """A sweep of so many jobs, each of so many cases."""
    return {"hidden_size": list(range(2, 2 + jobs)), "sequence_length": list(range(1, 1 + per_job))}


def run_sweep(config: dict[str, Any]) -> Sweep:
    """Run the pipeline in a copy of the project."""
    with tempfile.TemporaryDirectory() as name:
        folder = _copy(Path(name), config)
        command = [sys.executable, "-m", "snakemake", "--cores", str(CORES), "--configfile", "own.yaml"]
        spent = run(command, folder)
        start_s, server_s = (_import_s(modules, folder) for modules in (_CLIENT, _SERVER))
        benchmarks = folder / "results/benchmarks"
        seconds = {kind: _inside(benchmarks / kind, start_s) for kind in ("equivalence", "life", "timing")}
        cases = pq.read_table(folder / "results/timing.parquet", columns=["case_id"])["case_id"].unique()
        shared_s = (seconds["equivalence"] + seconds["life"]) / CORES
        return Sweep(len(cases), spent.wall_s, shared_s + seconds["timing"] - server_s)  # the first jobs wait for it


def _import_s(modules: str, folder: Path) -> float:
    """Seconds that a new process takes to import some modules."""
    return run([sys.executable, "-c", f"import {modules}"], folder).wall_s


def _inside(folder: Path, start_s: float) -> float:
    """Seconds that the processes of a rule measured: what `benchmark:` says of each, less the time of its start."""
    wall_s = [pd.read_csv(path, sep="\t")["s"].item() for path in folder.rglob("*.tsv")]
    return sum(max(seconds - start_s, 0.0) for seconds in wall_s)


def plan(cases: int, *arguments: str) -> Spent:
    """Plan a sweep of twenty cases a job, and run nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = _copy(Path(name), REAL | {"sweeps": {"a": axes(cases // 20, 20)}})
        command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "--cores", "1", "--configfile", "own.yaml"]
        return run([*command, *arguments], folder)


def _copy(folder: Path, config: dict[str, Any]) -> Path:
    """The project, with a config `own.yaml`."""
    copy_project(folder)
    (folder / "own.yaml").write_text(yaml.safe_dump(config))
    return folder
