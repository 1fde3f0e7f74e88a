"""Every file that a run leaves under `results/`. Rules and commands ask here; no other module joins such paths."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnn_parity.experiment.devices import Cuda
from rnn_parity.experiment.grid import Grid, Job


@dataclass(frozen=True)
class Results:
    """The files of one run. Paths of parts hold the wildcards of the rules where no names are given."""

    folder: Path = Path("results")

    @property
    def config(self) -> Path:
        """The experiment as it is run: every default filled in, `auto` resolved."""
        return self.folder / "config.json"

    @property
    def environment(self) -> Path:
        """The machine, its versions, and the peak rates that it reached."""
        return self.folder / "environment.json"

    def machine(self, sweep: str = "*", job: str = "*") -> Path:
        """The same of another kind of machine, written by the timing job that first met it."""
        return self.folder / "machines" / sweep / f"{job}.json"

    @property
    def machines(self) -> list[Path]:
        """Everything that is known of the machines that timed: the environment first."""
        others = sorted(self.folder.glob(str(self.machine().relative_to(self.folder))))
        return [path for path in (self.environment, *others) if path.exists()]

    @property
    def cuda(self) -> Cuda | None:
        """The GPU that these results come from, on whatever machine they are read; None where there is none."""
        try:
            major = json.loads(self.environment.read_text(encoding="utf-8"))["gpu"]["capability"][0]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return Cuda(major)

    @property
    def store(self) -> Path:
        """Where the runs are shown: the tracking URI without its password."""
        return self.folder / "tracking_store.txt"

    def table(self, name: str) -> Path:
        """A table of the whole experiment, as `equivalence`."""
        return self.folder / f"{name}.parquet"

    def of_job(self, name: str, sweep: str = "{sweep}", job: str = "{job}") -> Path:
        """The part of a table that one job of the grid measured."""
        return self.folder / name / sweep / f"{job}.parquet"

    def of_jobs(self, name: str, jobs: Iterable[Job]) -> list[Path]:
        """The parts of several jobs of the grid."""
        return [self.of_job(name, job.sweep, job.name) for job in jobs]

    def of_device(self, name: str, device: str = "{device}") -> Path:
        """The part of a table that was measured on one kind of device, as `self_test` or `life`."""
        return self.folder / name / f"{device}.parquet"

    def sweep(self, sweep: str = "{sweep}") -> Path:
        """Is there when every job of a sweep has been measured."""
        return self.folder / "sweeps" / f"{sweep}.done"

    def parts(self, grid: Grid) -> dict[str, list[Path]]:
        """Every table of the whole experiment, with the parts that the config asks for and that it is joined from."""
        trust = grid.config["self_test"]
        by_job = dict.fromkeys(("equivalence", "timing", "coverage", "masks"), grid.jobs) | grid.extra_jobs
        by_device = {
            "self_test": trust["cases"] > 0,
            "power": trust["power"] and grid.compares_distributions,
            "life": grid.config["life"],
            "capabilities": grid.config["capabilities"],
        }
        return {name: self.of_jobs(name, jobs) for name, jobs in by_job.items()} | {
            name: [self.of_device(name, device) for device in grid.config["device"] if asked]
            for name, asked in by_device.items()
        }

    def published(self, sweep: str = "{sweep}", job: str = "{job}") -> Path:
        """The marker of a job that was shown in MLflow, or was not because no server answered."""
        return self.folder / "published" / sweep / f"{job}.json"

    @property
    def published_report(self) -> Path:
        """The marker of the report."""
        return self.folder / "published" / "report.json"

    def not_published(self, grid: Grid, with_report: bool = True, since: float = 0.0) -> str:
        """How many cases no server took, or that it did not take the report: a sentence, empty where all was taken.

        Only what was tried `since` then: an earlier run may have had another server.
        """

        def refused(marker: Path) -> list[Any]:
            tried = marker.exists() and marker.stat().st_mtime >= since
            said = json.loads(marker.read_text(encoding="utf-8")) if tried else {"published": True}
            return [] if said["published"] else [said["reason"]]

        jobs = [(len(job.cases), why) for job in grid.jobs for why in refused(self.published(job.sweep, job.name))]
        cases, of_report = sum(size for size, _ in jobs), refused(self.published_report) if with_report else []
        reasons = [why for _, why in jobs] + of_report
        what = f"{cases} of {len(grid.cases)} runs" if cases else "the report was"
        return f"{what} not published: {reasons[-1]}; `snakemake publish` tries again" if reasons else ""

    def benchmark(self, *parts: str) -> Path:
        """The wall and CPU seconds and the memory of a process of the workflow."""
        return self.folder.joinpath("benchmarks", *parts[:-1], f"{parts[-1]}.tsv")
