"""From the config to the grid: its cases, its jobs, and the request of each job. Imports no torch.

A **case** is one point of the grid. A **job** is the cases one process computes: the axes of `within_job` vary inside
it. Names of both come from their values, so that a larger grid keeps the names, and the files, of the smaller one.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from rnn_parity.experiment import devices
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.names import CELLS, check_name
from rnn_parity.experiment.vocabulary import AXES, RATE_AXES
from rnn_parity.experiment.workloads import LAYER, WorkloadEntry, find_workload, load_object, workloads_of

_PROTOCOL = ("precision", "min_rounds", "max_seconds", "confidence")


@dataclass(frozen=True)
class Case:
    """One point of the grid."""

    sweep: str
    device: str
    dtype: str
    tf32: bool
    input_size: int
    hidden_size: int
    num_layers: int
    sequence_length: int
    batch_size: int
    dropout: float
    threads: int
    cell: str = "gru"

    @property
    def case_id(self) -> str:
        """The name of the case: its sweep and the value of every axis."""
        return f"{self.sweep}/{slug({axis: getattr(self, axis) for axis in AXES})}"

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a table row that say which case it is of."""
        return {"case_id": self.case_id, **asdict(self)}

    @property
    def sizes(self) -> dict[str, int]:
        """I, H and L, as a factory takes them."""
        return {name: getattr(self, name) for name in ("input_size", "hidden_size", "num_layers")}

    @property
    def draws_dropout(self) -> bool:
        """Whether dropout does anything here: it acts between layers only, so one layer never draws."""
        return self.dropout > 0 and self.num_layers > 1


@dataclass(frozen=True)
class Job:
    """The cases one process computes: the product of `axes`, a list of values for every axis."""

    sweep: str
    axes: Mapping[str, tuple]
    name: str
    workload: str = LAYER.name

    @property
    def entry(self) -> WorkloadEntry:
        """The entry of its workload."""
        return find_workload(self.workload)

    @cached_property
    def cases(self) -> list[Case]:
        """The cases of this job, the last axis of `within_job` varying fastest."""
        return [Case(self.sweep, **point) for point in product(self.axes)]

    @property
    def device(self) -> str:
        """The one device of this job: `device` is never swept inside a process."""
        return self.axes["device"][0]

    @property
    def cell(self) -> str:
        """The one kind of cell of this job, which decides what is compared."""
        return self.axes["cell"][0]

    @property
    def threads(self) -> int:
        """The largest number of CPU threads that a case of this job computes with."""
        return max(self.axes["threads"])


@dataclass(frozen=True)
class Grid:
    """A checked experiment: the completed config and its jobs."""

    config: Mapping[str, Any]
    jobs: tuple[Job, ...]

    @property
    def cases(self) -> list[Case]:
        """Every case, job by job."""
        return [case for job in self.jobs for case in job.cases]

    def equivalence_request(self, job: Job) -> str:
        """The `--job` of `rnn-parity job equivalence`: it changes only if what is asked changes."""
        regimes = [name for name in self._setting(job.sweep, "regimes") if name in job.entry.regimes]
        of_layer: dict[str, Any] = {}
        if job.workload == LAYER.name:
            of_layer["own_cases"] = self.config["self_test"]["own_cases"]
            if self._picture in job.cases:
                of_layer["picture"] = self._picture.case_id
        seeds, draws = self._setting(job.sweep, "seeds"), self.config["equivalence"]["draws"]
        return self._request(job, seeds=seeds, regimes=regimes, draws=draws, **of_layer)

    def timing_request(self, job: Job) -> str:
        """The `--job` of `rnn-parity job timing`."""
        return self._request(job, **self.config["timing"])

    def extra_request(self, job: Job, name: str) -> str:
        """The `--job` of `rnn-parity job NAME`, an extra table of the job's workload."""
        settings = self._settings(job).get(name, {})
        if job.entry.extras[name].timed:
            settings = {key: self.config["timing"][key] for key in _PROTOCOL} | settings
        return self._request(job, **settings)

    @property
    def extra_jobs(self) -> dict[str, list[Job]]:
        """By name of an extra table, the jobs that it has a part of."""
        found: dict[str, list[Job]] = {}
        for job in self.jobs:
            for name in self.extras_of(job.sweep):
                found.setdefault(name, []).append(job)
        return found

    def extras_of(self, sweep: str) -> list[str]:
        """The extra tables of a sweep's jobs: those that it asks for, of those that its workload brings."""
        settings = self.config["sweeps"][sweep]
        known, asked = find_workload(settings["workload"]).extras, settings.get("extras")
        return [name for name in known if asked is None or name in asked]

    def _request(self, job: Job, **settings: Any) -> str:
        """One line that says all a measuring process needs to know of a job, whatever the order of the config."""
        axes = {axis: values[0] if len(values) == 1 else values for axis, values in job.axes.items()}
        own = {key: value for key, value in self._settings(job).items() if key not in job.entry.extras}
        names = self.config["cells"][job.cell]
        more = dict(sorted({**names, "workload": job.workload, "settings": own, **settings}.items()))
        return json.dumps({"sweep": job.sweep, **axes, **more}, separators=(",", ":"))

    def _settings(self, job: Job) -> dict[str, Any]:
        return self.config["workloads"].get(job.entry.name, {})

    def environment_request(self) -> str:
        """The `--settings` of `rnn-parity environment`: each combination of what changes the machine's rates."""
        kinds = dict.fromkeys(tuple(getattr(case, axis) for axis in RATE_AXES) for case in self.cases)
        return json.dumps([dict(zip(RATE_AXES, kind, strict=True)) for kind in kinds])

    def life_request(self, device: str) -> dict[str, Any]:
        """What is lived through on a device: once for each kind of cell, dtype and TF32, in the deepest such case."""
        deepest: dict[tuple, Case] = {}
        for job in self.jobs:
            for case in job.cases if job.workload == LAYER.name and job.device == device else ():
                key = case.cell, case.dtype, case.tf32
                deepest[key] = max(
                    deepest.get(key, case), case, key=lambda one: (one.num_layers, one.draws_dropout, -one.threads)
                )
        cases = [{axis: getattr(case, axis) for axis in AXES} for case in deepest.values()]
        return {"cases": cases, "candidates": {kind: of["candidates"] for kind, of in self.config["cells"].items()}}

    def device_request(self, table: str, device: str) -> str:
        """The `--settings` of `rnn-parity device TABLE`."""
        cases = [case for case in self.cases if case.device == device]
        cells = {case.cell: self.config["cells"][case.cell] for case in cases}
        own = {case.cell: (case.input_size, case.hidden_size, case.num_layers) for case in reversed(cases)}
        dtypes, count = sorted({case.dtype for case in cases}), self.config["self_test"]["cases"]
        asked: dict[str, Any] = {
            "self_test": {"cells": [*cells], "dtypes": dtypes, "cases": count},
            "power": {"draws": self.config["equivalence"]["draws"], "trials": 20},
            "life": self.life_request(device),
            "capabilities": {cell: named | {"own": own[cell]} for cell, named in cells.items()},
        }
        return json.dumps(asked[table])

    @property
    def compares_distributions(self) -> bool:
        """Whether any sweep asks for the regime `train_distribution`."""
        return any("train_distribution" in self._setting(sweep, "regimes") for sweep in self.config["sweeps"])

    def publish_request(self, job: Job) -> str:
        """The `--run` of `rnn-parity publish`: what the runs of a job's cases say beside its tables."""
        axes = {"device": self.config["device"], **self.config["sweeps"][job.sweep]}
        varied = [axis for axis in AXES if isinstance(axes.get(axis), list) and len(axes[axis]) > 1]
        named = {"study": self.config["study"], **self.config["cells"][job.cell]}
        named |= {"workload": job.workload, "extras": self.extras_of(job.sweep)}
        return json.dumps({**named, "sweep": job.sweep, "varied": varied})

    def _setting(self, sweep: str, name: str) -> Any:
        """A setting of `equivalence` that a sweep may have for itself."""
        return self.config["sweeps"][sweep].get(name, self.config["equivalence"][name])

    @cached_property
    def _picture(self) -> Case | None:
        """The smallest case where the same seed can give other masks, which a figure shows; None for none."""
        cases = [case for job in self.jobs if job.workload == LAYER.name for case in job.cases]
        shown = [case for case in cases if case.draws_dropout and case.num_layers > 2 and case.sequence_length > 1]
        sizes = {case: (case.sequence_length, case.batch_size * case.hidden_size, case.num_layers) for case in shown}
        return min(sizes, key=sizes.__getitem__, default=None)


def parse_request(text: str) -> tuple[list[Case], dict[str, Any]]:
    """The cases of a job and its settings, from a line that the grid made."""
    try:
        request = json.loads(text)
        sweep = request.pop("sweep")
        axes = {axis: _values(axis, request.pop(axis)) for axis in AXES}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"--job: holds {text[:60]!r}, expected a line of `rnn-parity cases --json`") from error
    return [Case(sweep, **point) for point in product(axes)], request


def make_grid(config: Any, cuda: devices.Cuda | None = None) -> Grid:
    """Check a config and lay out its grid; raise `InputError` for whatever cannot be run as it stands.

    `cuda` is the GPU that it is measured on, where that is not this machine's.
    """
    from rnn_parity.experiment.config import complete, complete_config  # the processes that measure need no pydantic

    config = complete_config(config)
    config["cells"] = _compared(config)
    config["workloads"] = _complete_workloads(config, complete)
    config["device"] = devices.resolve_devices(config["device"], cuda)
    jobs = [job for sweep in config["sweeps"] for job in _jobs_of_sweep(config, sweep, cuda)]
    return Grid(config, tuple(jobs))


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """Baseline and candidates of every kind of cell in the sweeps; raises `InputError` for what is not there."""
    usual = config["defaults"]["cell"]
    top = {key: config[key] for key in ("baseline", "candidates")}
    if config["cells"].get(usual, top) != top:
        raise InputError(f"cells.{usual}: is the kind of `defaults`, expected its baseline and candidates at the top")
    given, kinds = {usual: top, **config["cells"]}, {}
    for kind in given:
        check_name(kind, "defaults.cell" if kind == usual else "cells", CELLS)
    for sweep, axes in config["sweeps"].items():
        for kind in _values("cell", axes.get("cell", usual)):
            check_name(kind, f"sweeps.{sweep}.cell", CELLS)
            if kind not in given:
                raise InputError(
                    f"cells: holds no {kind}, which sweeps.{sweep} has; expected its baseline and candidates"
                )
            kinds[kind] = given[kind]
    for kind, compared in kinds.items():
        under = "" if kind == usual else f"cells.{kind}."
        names = {f"{under}baseline": compared["baseline"]}
        names |= {f"{under}candidates[{index}]": name for index, name in enumerate(compared["candidates"])}
        for key, name in names.items():
            check_name(name, key)
        if len(set(names.values())) < len(names):
            listed = ", ".join(names.values())
            raise InputError(f"{under}candidates: holds the same implementation twice ({listed}), expected each once")
    return kinds


def implementations(config: Mapping[str, Any], key: str) -> list[str]:
    """Every baseline, or all candidates (`key`), of all kinds of cells in a completed config, each once."""
    named = [compared[key] for compared in config["cells"].values()]
    return list(dict.fromkeys(name for one in named for name in ([one] if isinstance(one, str) else one)))


def product(axes: Mapping[str, Iterable]) -> list[dict[str, Any]]:
    """Every combination of the axes' values, the last axis varying fastest."""
    return [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]


def slug(axes: Mapping[str, Any]) -> str:
    """A readable file name of axis values: `cpu-float32-i256-h256-l3-t50-b128-p0.2-n1`."""
    words = {axis: f"{AXES[axis].letter}{value}" for axis, value in axes.items()}
    words["tf32"] = "tf32" if axes.get("tf32") else ""
    words["cell"] = "" if axes.get("cell") == AXES["cell"].default else axes.get("cell", "").replace(":", ".")
    return "-".join(words[axis] for axis in AXES if words.get(axis))


def _jobs_of_sweep(config: Mapping[str, Any], sweep: str, cuda: devices.Cuda | None) -> list[Job]:
    given = {"device": config["device"], **config["defaults"], **config["sweeps"][sweep]}
    axes = {axis: _values(axis, given[axis]) for axis in AXES}
    entry = find_workload(given["workload"])
    try:
        _check_axes(axes, cuda)
        if entry.check_axes:
            load_object(entry.check_axes)(axes)
    except InputError as error:
        raise InputError(f"sweeps.{sweep}.{error}") from error
    outer = {axis: values for axis, values in axes.items() if axis not in config["within_job"]}
    points = [(point, {axis: (value,) for axis, value in point.items()}) for point in product(outer)]
    return [Job(sweep, axes | fixed, slug(point), given["workload"]) for point, fixed in points]


def _values(axis: str, value: Any) -> tuple:
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(AXES[axis].type(item) for item in values)


def _complete_workloads(config: Mapping[str, Any], complete: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The settings of every workload of the sweeps; raises `InputError` for what is not there."""
    for sweep, axes in config["sweeps"].items():
        entry = find_workload(axes["workload"], key=f"sweeps.{sweep}.workload")
        for name in axes.get("extras") or ():
            if name not in entry.extras:
                known = ", ".join(entry.extras) or "none"
                raise InputError(f"sweeps.{sweep}.extras: holds {name!r}, expected those of {entry.name}: {known}")
    models = {entry.name: load_object(entry.settings) for entry in workloads_of(config) if entry.settings}
    for name in sorted(set(config["workloads"]) - set(models)):
        known = ", ".join(models) or "none"
        raise InputError(f"workloads.{name}: no sweep has this workload, or it has no settings; expected {known}")
    given = {name: config["workloads"].get(name, {}) for name in models}
    return {name: complete(model, given[name], f"workloads.{name}") for name, model in models.items()}


def _check_axes(axes: Mapping[str, tuple], cuda: devices.Cuda | None) -> None:
    """Raise `InputError` for axes with a case that no machine, or not this one, can compute."""
    if True in axes["tf32"] and "cpu" in axes["device"]:
        raise InputError("tf32: holds true, which a CPU does not have; expected false, or device: cuda")
    if True in axes["tf32"] and (others := [dtype for dtype in axes["dtype"] if dtype != "float32"]):
        raise InputError(f"tf32: holds true with dtype {others[0]}, expected float32: TF32 replaces float32 products")
    needy = {"dtype: holds bfloat16": "bfloat16" in axes["dtype"], "tf32: holds true": True in axes["tf32"]}
    if "cuda" in axes["device"] and any(needy.values()):
        major = (cuda or devices.find_cuda()).major
        for what, asked in needy.items():
            if asked and (major or 0) < 8:
                raise InputError(
                    f"{what}, which needs compute capability 8, and this GPU has {major}; expected another"
                )
