"""Run the benchmarks that are named, or all, print their tables and keep them in `reports/benchmarks/`."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.result import PROJECT, Result
from rnn_parity.tables import write_text
from rnn_parity.timing.environment import describe_environment

NAMES = ("imports", "equivalence", "timing", "power", "interference", "sweep", "scale", "cluster", "tracking")
BY_NAME = ("rates",)
"""Those of hours, which run only where they are named."""
FOLDER = PROJECT / "reports" / "benchmarks"


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(NAMES)}, all by default, or {', '.join(BY_NAME)}.")
    ] = None,
):
    """Measure what the project itself costs."""
    for name in names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        results = []
        for result in module.measure():
            results.append(result)
            print(f"{name}: {result.what}: {result.value:.4g} {result.unit}", flush=True)
        show(module.__doc__.splitlines()[0], results)
        keep(name, results)


def show(title: str, results: list[Result]) -> None:
    """Print a table."""
    table = Table("measured", "value", "unit", "target", "met", "", title=title, title_justify="left")
    for result in results:
        met = {None: "", True: "yes", False: "[bold]no[/bold]"}[result.met]
        table.add_row(result.what, f"{result.value:.4g}", result.unit, result.target, met, result.note)
    Console(width=150).print(table)


def keep(name: str, results: list[Result]) -> None:
    """Write `{name}.csv`, and the machine and commit that it comes from beside it."""
    rows = [asdict(result) | {"met": result.met} for result in results]
    write_text(FOLDER / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False))
    machine = describe_environment([{"device": "cpu", "dtype": "float32", "tf32": False, "threads": 1}])
    write_text(FOLDER / f"{name}.environment.json", json.dumps(machine, indent=2) + "\n")


typer.run(main)
