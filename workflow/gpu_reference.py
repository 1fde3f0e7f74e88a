"""Everything that is wanted of a GPU, in order of worth, for whoever has one for some minutes: docs/gpu.md.

    python workflow/gpu_reference.py --plan    where pydantic is: writes gpu-reference/plan.json
    python workflow/gpu_reference.py           does what is planned; called again, it goes on where it was cut off

It needs Python, torch, pyarrow, scipy and typer there, neither Snakemake nor MLflow: these show the results elsewhere.
Every step is a process with a time limit of its own, whose output is kept in gpu-reference/steps.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
CONFIGS = {"gpu": "config/gpu.yaml", "loop": "config/gpu-loop.yaml", "decoder": "config/t2vec-decoder-gpu.yaml"}
FIRST_SWEEPS = ("article", "t2vec")
CASE_LIMIT_S, STEP_LIMIT_S = 150, 240
SHORTEST_S = 5
_SMALL = {"input_size": 6, "hidden_size": 8, "num_layers": 3, "sequence_length": 4, "batch_size": 4}
_DEVICE_TABLES = ("life", "capabilities", "self_test", "power")

_COPY = """
import pathlib, sys
first, *others = map(pathlib.Path, sys.argv[1:])
for other in others:
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(first.read_bytes())
"""
_THERE = "{project}"  # the folder of these sources where the plan is carried out

Step = dict[str, Any]


def plan(device: str, small: bool) -> dict[str, Any]:
    """The experiments by folder, and groups of steps, the worthiest first.

    A step is its name, the arguments of Python, and whether it is alone on the machine. In a group those that may share
    it go side by side, then the others: many are waiting for the GPU to load its libraries, so they are few groups.
    """
    sys.path.insert(0, str(PROJECT / "src"))
    from rnn_parity.experiment.config_files import load_config
    from rnn_parity.experiment.devices import Cuda
    from rnn_parity.experiment.grid import make_grid
    from rnn_parity.experiment.results import Results
    from rnn_parity.timing.environment import COMMIT_VARIABLE, commit

    configs = {folder: load_config(PROJECT / path) | {"device": device} for folder, path in CONFIGS.items()}
    if small:
        configs = {folder: shrunk(config, device) for folder, config in configs.items()}
    grids = {folder: make_grid(config, Cuda(9)) for folder, config in configs.items()}

    def measured(folder: str, first: bool | None = None) -> list[Step]:
        grid, steps = grids[folder], []
        for job in grid.jobs:
            if first is not None and (job.sweep in FIRST_SWEEPS) != first:
                continue
            asked = {"equivalence": grid.equivalence_request(job), "timing": grid.timing_request(job)}
            asked |= {extra: grid.extra_request(job, extra) for extra in grid.extras_of(job.sweep)}
            timed = {"timing"} | {
                extra for extra in asked if extra in job.entry.extras and job.entry.extras[extra].timed
            }
            for kind, line in asked.items():
                where = ["--name", f"{job.sweep}/{job.name}", "--results", f"{folder}/results"]
                command = ["-m", "rnn_parity", "job", kind, "--job", line, *where, "--limit", str(CASE_LIMIT_S)]
                steps.append(_step(f"{folder}-{kind}-{job.sweep}-{job.name}", command, alone=kind in timed))
        return steps

    def environments() -> list[Step]:
        """The machine is one: what any of the experiments asks of it is measured once, and given to all."""
        asked = [setting for grid in grids.values() for setting in json.loads(grid.environment_request())]
        settings = json.dumps([setting for number, setting in enumerate(asked) if setting not in asked[:number]])
        files = [f"{folder}/results/environment.json" for folder in grids]
        command = ["-m", "rnn_parity", "environment", "--settings", settings, "--output", files[0]]
        return [_step("environment", command, alone=True), _step("environments", ["-c", _COPY, *files], alone=True)]

    def of_device(folder: str) -> list[Step]:
        tables = [name for name in _DEVICE_TABLES if Results().parts(grids[folder]).get(name)]
        asked = {name: ["--settings", grids[folder].device_request(name, device)] for name in tables}
        where = ["--device", device, "--results", f"{folder}/results", "--limit", str(CASE_LIMIT_S)]
        return [
            _step(f"{folder}-{name}", ["-m", "rnn_parity", "device", name, *asked[name], *where]) for name in tables
        ]

    def fixture(name: str) -> Step:
        return _step(f"fixture-{name}", [f"{_THERE}/workflow/gpu_fixtures.py", name, device, "fixtures"])

    # Where what the tests need is absent, that is said, and nothing is left to do.
    tests = "import sys\nfrom importlib.util import find_spec\n"
    tests += "absent = [name for name in ('pytest', 'hypothesis', 'beartype', 'yaml') if not find_spec(name)]\n"
    tests += "if absent: sys.exit(print('not installed:', *absent))\n"
    files = [path for path in sorted((PROJECT / "tests").rglob("test_*.py")) if "pytest.mark.cuda" in path.read_text()]
    given = ["-q", "-m", "cuda", *(f"{_THERE}/{path.relative_to(PROJECT)}" for path in files)]  # others import more
    tests += f"import pytest\nsys.exit(pytest.main({given}))"
    first, rest, loop, decoder = measured("gpu", True), measured("gpu", False), measured("loop"), measured("decoder")
    captured = [fixture(name) for name in ("article", "functions", "dropout", "messages", "masks", "profile", "memory")]
    of_devices = [step for folder in grids for step in of_device(folder)]
    told = [_step("tests", ["-c", tests]), *of_devices, *captured]
    groups = [
        [fixture("machine"), *environments()],
        [*_shared(first), *told, *_shared(rest), *_shared(loop)],
        [*_alone(first), *_alone(decoder), *_alone(loop), *_alone(rest), fixture("clocks") | {"alone": True}],
        _shared(decoder),  # minutes of the CPU, where the oracle computes
    ]
    return {"variables": {COMMIT_VARIABLE: commit() or ""}, "configs": configs, "groups": groups}


def _shared(steps: list[Step]) -> list[Step]:
    return [step for step in steps if not step["alone"]]


def _alone(steps: list[Step]) -> list[Step]:
    return [step for step in steps if step["alone"]]


def _step(name: str, arguments: list[str], alone: bool = False) -> Step:
    return {"name": name, "arguments": arguments, "alone": alone}


def shrunk(config: dict[str, Any], device: str) -> dict[str, Any]:
    """The same experiment at sizes of a few numbers, to try it whole in a minute."""

    def value(axis: str, given: Any) -> Any:
        if isinstance(given, list) and axis != "regimes":
            return list(dict.fromkeys(value(axis, one) for one in given))
        if axis in _SMALL:
            return min(given, _SMALL[axis])
        return 0 if axis == "seeds" else device == "cuda" and given if axis == "tf32" else given

    sweeps = {name: _SMALL | {a: value(a, v) for a, v in axes.items()} for name, axes in config["sweeps"].items()}
    return config | {
        "sweeps": sweeps,
        "equivalence": config.get("equivalence", {}) | {"seeds": [0], "draws": 1000},
        "timing": {"phases": ["inference"], "min_rounds": 6, "max_seconds": 0.01},
        "self_test": {"cases": min(1, config["self_test"]["cases"]), "own_cases": False},
        "workloads": {
            name: {"vocabulary": 23, "training": {"steps": 2, "seeds": [0]}} for name in config.get("workloads", {})
        },
    }


class Reference:
    """The steps under way, their folder, and the time that is left."""

    def __init__(self, folder: Path, seconds: float, variables: dict[str, str]) -> None:
        self.folder, self.until, self.left = folder, time.monotonic() + seconds, []
        sources = os.pathsep.join(filter(None, [str(PROJECT / "src"), os.environ.get("PYTHONPATH")]))
        self.variables = os.environ | {"PYTHONPATH": sources, "PYTHONFAULTHANDLER": "1"} | variables
        (folder / "steps").mkdir(parents=True, exist_ok=True)

    def run(self, groups: list[list[Step]]) -> None:
        """Do what is not done yet."""
        for group in groups:
            with ThreadPoolExecutor(self.side_by_side()) as pool:
                list(pool.map(self.do, _shared(group)))
            for step in _alone(group):
                self.do(step)

    def side_by_side(self) -> int:
        """How many may share the machine: one where the GPU is for one process at a time."""
        machine = self.folder / "fixtures/nvidia-smi.txt"
        exclusive = machine.exists() and "Exclusive" in machine.read_text()
        return 1 if exclusive or not machine.exists() else max(1, min(8, (os.cpu_count() or 1) // 2))

    def do(self, step: Step) -> None:
        """Run one step, unless it is done already or no time is left; what it was killed for counts as not done."""
        record, log = (self.folder / "steps" / f"{step['name']}.{kind}" for kind in ("json", "log"))
        if record.exists() and json.loads(record.read_text())["exit_code"] == 0:
            return
        limit_s = min(STEP_LIMIT_S, self.until - time.monotonic())
        if limit_s < SHORTEST_S:
            self.left.append(step["name"])
            return
        arguments = [argument.replace(_THERE, str(PROJECT)) for argument in step["arguments"]]
        start = time.monotonic()
        with log.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=self.variables,
                start_new_session=True,
            )
            try:
                code = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        seconds = round(time.monotonic() - start, 1)
        record.write_text(json.dumps({"exit_code": code, "seconds": seconds, "limit_s": round(limit_s)}) + "\n")
        how = "done" if code == 0 else f"out of time after {limit_s:.0f} s" if code is None else f"exit code {code}"
        print(f"{seconds:6.1f} s  {step['name']}: {how}", flush=True)
        if code != 0:
            self.left.append(step["name"])

    def pack(self) -> Path:
        """One file to bring back."""
        target = self.folder.with_suffix(".tar.gz")
        with tarfile.open(target, "w:gz") as tar:
            tar.add(self.folder, self.folder.name)
        return target


def main() -> None:
    """Plan, or do what is planned."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--plan", action="store_true", help="only write the plan")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="the same at tiny sizes, to try it")
    parser.add_argument("--folder", type=Path, default=PROJECT / "gpu-reference")
    parser.add_argument("--minutes", type=float, default=12, help="no step begins later, and none goes on")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    planned = folder / "plan.json"
    if asked.plan or not planned.exists():
        folder.mkdir(parents=True, exist_ok=True)
        found = plan(asked.device, asked.small)
        planned.write_text(json.dumps(found, indent=1) + "\n")
        for name, config in found["configs"].items():
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "config.yaml").write_text(json.dumps(config, indent=1) + "\n")  # JSON is YAML
        print(f"{planned}: written")
    if asked.plan:
        return
    to_do = json.loads(planned.read_text())
    reference = Reference(folder, 60 * asked.minutes, to_do["variables"])
    if asked.device == "cuda":
        reference.do(_step("preflight", ["-m", "rnn_parity.layers.preflight"]))
        said = (folder / "steps/preflight.log").read_text()
        if '"why": null' not in said:
            (folder / "steps/preflight.json").unlink(missing_ok=True)
            sys.exit(f"error: {said.strip()}")
    try:
        reference.run(to_do["groups"])
    finally:
        print(f"{reference.pack()}: bring this back")
    if reference.left:
        sys.exit(f"{len(reference.left)} steps are not done; the same command goes on: {', '.join(reference.left)}")


if __name__ == "__main__":
    main()
