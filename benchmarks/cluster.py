"""A grid of 10,000 cases on 50 nodes: what the head does for it, and how near the least possible its end is."""

from __future__ import annotations

import heapq
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import pandas as pd
import yaml

from benchmarks.result import PROJECT, Result, run
from benchmarks.sweep import REAL, axes, plan
from project import copy_project

CASES, PER_JOB, GPU_JOBS = 10_000, 20, 40
OVERHEAD_S = 7.0
"""CPU seconds of a job in Slurm beside its measurements: Snakemake twice, then torch; measured on one core."""
EQUIVALENCE_S = 1.0
"""Core seconds in which a case of the default checks is compared."""


@dataclass
class Node:
    """A node of the simulated cluster. `speed` is relative to the machine that the kept timings come from."""

    cores: int
    speed: float
    gpu: bool = False
    taken: int = 0


@dataclass(frozen=True)
class Submission:
    """A job of Slurm: `seconds` on a node of speed 1; a timing holds a whole node."""

    seconds: float
    whole_node: bool
    gpu: bool

    def fits(self, node: Node) -> bool:
        """Whether it may begin on a node now."""
        return node.gpu >= self.gpu and node.taken <= (0 if self.whole_node else node.cores - 1)


def nodes() -> list[Node]:
    """Fifty nodes of three kinds, four of them with GPUs."""
    kinds = ((24, Node(16, 1.0)), (22, Node(32, 1.5)), (4, Node(8, 1.2, gpu=True)))
    return [replace(kind) for count, kind in kinds for _ in range(count)]


def submissions() -> list[Submission]:
    """The jobs in the order in which Snakemake hands them over: first what needs no node for itself."""
    kept = pd.read_parquet(PROJECT / "reports/reference/cpu/timing.parquet").groupby("case_id")
    timing_s = mean(kept["ended_at"].max() - kept["started_at"].min())
    jobs, gpu = CASES // PER_JOB, [number < GPU_JOBS for number in range(CASES // PER_JOB)]
    checks = [Submission(OVERHEAD_S + PER_JOB * EQUIVALENCE_S, False, gpu[number]) for number in range(jobs)]
    return checks + [Submission(OVERHEAD_S + PER_JOB * timing_s, True, gpu[number]) for number in range(jobs)]


def simulate(cluster: list[Node], jobs: list[Submission], at_a_time: int) -> float:
    """Seconds until the last job ends, where so many are submitted at a time and each begins as soon as it fits."""
    waiting, queue, running, now = list(reversed(jobs)), [], [], 0.0
    while waiting or queue or running:
        while waiting and len(queue) + len(running) < at_a_time:
            queue.append(waiting.pop())
        for job in list(queue):
            node = next((node for node in cluster if job.fits(node)), None)
            if node is None:
                continue
            queue.remove(job)
            taken = node.cores if job.whole_node else 1
            node.taken += taken
            heapq.heappush(running, (now + job.seconds / node.speed, len(running), id(job), node, taken))
        now, *_, node, taken = heapq.heappop(running)
        node.taken -= taken
    return now


def measure() -> Iterator[Result]:
    """Plan, read the Snakefile as a job does, and simulate."""
    spent = plan(CASES, "--profile", "profiles/slurm")
    note = f"{spent.cpu_s:.1f} s of CPU"
    yield Result(f"snakemake -n --profile profiles/slurm, {CASES:,} cases", spent.wall_s, "s", at_most=4.0, note=note)
    yield Result("… its memory", spent.memory_bytes / 2**20, "MiB", at_most=300.0)
    yield from _reading()
    profile = yaml.safe_load((PROJECT / "profiles/slurm/config.yaml").read_text())
    jobs, cluster = submissions(), nodes()
    yield Result("submissions", len(jobs), "", note=f"{profile['jobs']} at a time")
    power = sum(node.speed for node in cluster)
    cores = sum(node.speed * node.cores for node in cluster)
    least = sum(job.seconds / (power if job.whole_node else cores) for job in jobs)
    took = simulate(cluster, jobs, profile["jobs"])
    yield Result("simulated end of the sweep", took / 3600, "h")
    yield Result("… over the sum of the work by what the nodes can do", took / least, "", at_most=1.3)


def _reading() -> Iterator[Result]:
    """What the Snakefile costs each process of Snakemake that a job starts, beside Snakemake itself."""
    with tempfile.TemporaryDirectory() as name:
        folder = copy_project(Path(name))
        (folder / "own.yaml").write_text(yaml.safe_dump(REAL | {"sweeps": {"a": axes(CASES // PER_JOB, PER_JOB)}}))
        (folder / "empty.smk").write_text("rule none:\n    shell: ''\n")
        common = ["-m", "snakemake", "--mode", "remote", "--cores", "1", "--list-rules"]
        own, empty = [], []
        for _ in range(5):
            own.append(run([sys.executable, *common, "--configfile", "own.yaml"], folder).wall_s)
            empty.append(run([sys.executable, *common, "--snakefile", "empty.smk"], folder).wall_s)
        yield Result("reading the Snakefile in a job", min(own) - min(empty), "s", at_most=1.5)
