"""The workloads by name, each with all that can be said of it without torch: its settings, its tables, its figures.

`layer` is built in. Others come from outside: by an entry point of the group `rnn_parity.workloads`, or as
`package:name`, an import path. Either leads to a `WorkloadEntry`.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from rnn_parity.experiment.errors import InputError, in_one_line
from rnn_parity.experiment.names import check_name
from rnn_parity.experiment.vocabulary import Regime

GROUP = "rnn_parity.workloads"


@dataclass(frozen=True)
class Extra:
    """One more table of a workload's cases, made by jobs of its own. Everything is named by its import path.

    Attributes:
        schema: the table's columns. compute: `(workload, case, baseline, candidates, **settings)` to its rows. The
            settings are those that the workload's own have under the name of the extra.
        timed: whether it takes times, and so gets the settings of `timing` and runs alone.
        histories: from its rows to metrics with a value per step, by case id, for MLflow.
    """

    schema: str
    compute: str
    timed: bool = False
    histories: str = ""


@dataclass(frozen=True)
class WorkloadEntry:
    """The facts of a workload before it is loaded. Code is named by its import path; "" means none.

    Attributes:
        name: under which the config has its settings. factory: from settings to the workload.
        regimes: those in which it can be compared. settings: a pydantic model of its settings.
        check_axes: raises `InputError` for axes of a sweep that it cannot have.
        extras: by name, also that of the table. section: `(config, results)` to its part of the report.
        figures: by name, the `FigureEntry` of each. plot: `(config, results, folder)`, which draws them.
    """

    name: str
    factory: str
    regimes: tuple[str, ...]
    settings: str = ""
    check_axes: str = ""
    extras: Mapping[str, Extra] = field(default_factory=dict)
    section: str = ""
    figures: str = ""
    plot: str = ""


LAYER = WorkloadEntry("layer", "rnn_parity.workloads.layer:Layer", regimes=tuple(Regime))


def find_workload(name: str, key: str = "workload") -> WorkloadEntry:
    """The entry behind a name; `InputError`, naming the config's `key`, where there is none."""
    if name == LAYER.name:
        return LAYER
    known = _registered()
    check_name(name, key, [LAYER.name, *known], "package:name")
    try:
        entry = load_object(known.get(name, name))
    except Exception as error:  # whatever the package raises while it is imported
        raise InputError(
            f"{key}: holds {name!r}, which cannot be imported ({in_one_line(error)}); expected package:name"
        ) from error
    if not isinstance(entry, WorkloadEntry):
        raise InputError(f"{key}: holds {name!r}, a {type(entry).__name__}, expected a WorkloadEntry")
    return entry


@cache
def _registered() -> dict[str, str]:
    """Name to import path of what installed packages bring, and these sources, which need not be installed."""
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    project = Path(__file__).parents[3] / "pyproject.toml"
    if not project.is_file():
        return installed
    return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["entry-points"].get(GROUP, {}) | installed


def workloads_of(config: Mapping[str, Any]) -> list[WorkloadEntry]:
    """The workloads of a config's sweeps, each once, `layer` among them where a sweep has it."""
    entries = [find_workload(sweep.get("workload", LAYER.name)) for sweep in config["sweeps"].values()]
    return list({entry.name: entry for entry in entries}.values())


def sweeps_of(config: Mapping[str, Any], entry: WorkloadEntry) -> list[str]:
    """The sweeps of a config that have this workload."""
    sweeps = config["sweeps"].items()
    return [name for name, sweep in sweeps if find_workload(sweep.get("workload", LAYER.name)).name == entry.name]


def load_object(path: str) -> Any:
    """The object behind `package.module:name`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
