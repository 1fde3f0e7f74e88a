"""The commands that only rules of the workflow call: they stand in no help. Each imports what it needs when called."""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rnn_parity.commands.jobs import JobName, Limit, ResultsFolder, log, run_job, why_no_gpu
from rnn_parity.commands.processes import on_this_machine
from rnn_parity.experiment.errors import InputError, in_one_line
from rnn_parity.experiment.names import with_kind
from rnn_parity.experiment.results import Results
from rnn_parity.experiment.vocabulary import TIME_LIMIT_S, Verdict

app = typer.Typer()
command = functools.partial(app.command, hidden=True)
command("job")(run_job)

Output = Annotated[Path, typer.Option("--output", help="Where to write the result.")]


@command()
def validate(
    implementations: Annotated[list[str], typer.Argument(help="NAME, or CELL=NAME.")],
    cases: Annotated[str, typer.Option(help="JSON: kind of cell to the case in which its layers are tried.")] = "{}",
) -> None:
    """Try implementations, each in a process that it may end, before anything is measured.

    They are imported, their parameters matched with those of their kind, and how they are called is found.
    """
    from rnn_parity.layers.containment import Ended, contained

    try:
        asked = dict(json.loads(cases))
    except (TypeError, ValueError) as error:
        raise InputError(f"--cases: holds {cases!r:.60}, expected JSON with a case for each kind of cell") from error
    pairs = [(name, cell or "gru") for cell, _, name in (given.rpartition("=") for given in implementations)]
    for (name, _), words in zip(pairs, contained(lambda pair: _try(*pair, asked), pairs, TIME_LIMIT_S), strict=True):
        if isinstance(words, Ended):
            raise InputError(f"{name}: {words.reason}")
        print(f"{name}: ok" + (f" ({words})" if words else ""))


def _try(name: str, cell: str, cases: Mapping[str, Any]) -> str:
    """What is done for a layer, and what it sets for all; `InputError` for one that cannot be compared."""
    from torch import nn

    from rnn_parity.experiment.grid import Case
    from rnn_parity.layers.kinds import SIZES, require_call, require_kind
    from rnn_parity.layers.registry import adapter_of, construct
    from rnn_parity.layers.running import classify_exception
    from rnn_parity.layers.settings import settings_changed_by

    os.dup2(2, 1)  # what a layer prints is no part of the answer
    axes = {"device": "cpu", "dtype": "float32", "tf32": False, "sequence_length": 2, "batch_size": 7, "dropout": 0.0}
    case = Case(**{"sweep": "validate", **axes, "threads": 1, "cell": cell, **SIZES, **cases.get(cell, {})})
    require_kind(name, cell)
    try:
        layer = construct(name, cell, **case.sizes, dropout=case.dropout)
    except InputError:
        raise
    except Exception as error:
        if classify_exception(error)[0] == Verdict.FAILED:
            with_sizes = ", ".join(f"{key} {value}" for key, value in case.sizes.items())
            raise InputError(f"{name}: cannot be built with {with_sizes} ({in_one_line(error)})") from error
    else:
        if vars(layer).get("forward", getattr(type(layer), "forward", None)) is nn.Module.forward:
            raise InputError(f"{name}: {type(layer).__name__} has no forward, expected forward(input, states)")
    require_call(name, case)
    how, sets = adapter_of(name, cell).words, settings_changed_by(name)
    return "; ".join(filter(None, (how, sets and f"note that it sets {sets}")))


@command()
def environment(
    settings: Annotated[str, typer.Option(help="JSON: device, dtype, tf32 and threads of each kind of case.")],
    output: Output,
    variables: Annotated[str, typer.Option(help="JSON: what is set in the environment of all that measures.")] = "{}",
) -> None:
    """Describe this machine, its versions, and the peak rates that it reaches in some settings."""
    from rnn_parity.tables import write_json
    from rnn_parity.timing.environment import describe_environment

    asked = json.loads(settings)
    if any(setting["device"] == "cuda" for setting in asked) and (why := why_no_gpu()):  # on a node of a cluster
        log(f"nothing of the GPU is described: {why}")
        asked = [setting for setting in asked if setting["device"] != "cuda"]
    described = describe_environment(asked) | {"variables": json.loads(variables)}
    write_json(output, described)


@command()
def device(
    table: Annotated[str, typer.Argument(help="self_test, power, life or capabilities.")],
    name: Annotated[str, typer.Option("--device", help="cpu or cuda.")],
    settings: Annotated[str, typer.Option(help="JSON: what is asked of the device.")],
    results: ResultsFolder,
    limit: Limit = 3600.0,
) -> None:
    """Measure a table that is of a device and not of a case, and write RESULTS/TABLE/DEVICE.parquet."""
    from rnn_parity.tables import COLLECTED, write_rows

    with on_this_machine(False, limit, log):
        rows = _rows_of_device(table, name, json.loads(settings), limit)
    write_rows(Results(results).of_device(table, name), COLLECTED[table], rows)


def _rows_of_device(table: str, name: str, asked: dict[str, Any], limit: float) -> list[dict[str, Any]]:
    from rnn_parity.layers.containment import Stream

    def start(work: Callable[[], Iterable[Any]]) -> Stream:
        return Stream(work, limit)

    if name == "cuda" and (why := why_no_gpu()):
        log(f"{table}: not measured: {why}")
        rows: list[dict[str, Any]] = []
    elif table == "self_test":
        from rnn_parity.trust.run import examine_samples

        seeds = range(asked["cases"])
        kinds = itertools.product(asked["cells"], asked["dtypes"])
        rows = [row for cell, dtype in kinds for row in examine_samples(name, dtype, seeds, cell)]
    elif table == "power":
        from rnn_parity.trust.run import distribution_power

        rows = list(distribution_power(name, **asked))
    elif table == "life":
        from rnn_parity.experiment.grid import Case
        from rnn_parity.life.live import POINTS, live_contained

        cases = [Case("life", **axes) for axes in asked["cases"]]
        lives = [(case, who) for case in cases for who in asked["candidates"][case.cell]]
        rows = [row for life in lives for row in live_contained(*life, list(POINTS), False, start)]
    else:
        from rnn_parity.capabilities.probing import probe_capabilities

        # With this workspace cuBLAS can be asked to be deterministic, which is one of the capabilities.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        probe = functools.partial(probe_capabilities, device=name, start=start)
        rows = [row for cell, names in asked.items() for row in probe(cell=cell, **names)]
    return rows


@command()
def store() -> None:
    """Create the embedded store unless MLFLOW_TRACKING_URI names another; print where the runs are shown."""
    from rnn_parity import tracking

    resolved = tracking.resolve_uri(None, Path.cwd())
    tracking.ensure_store(resolved)
    print(tracking.redact(resolved))


@command()
def publish(
    results: ResultsFolder,
    attempt: Annotated[int, typer.Option(help="How many runs of the workflow found no server before.")],
    run: Annotated[str, typer.Option("--run", help="JSON: what runs of a sweep say beside their tables.")] = "",
    name: JobName = "",
    reports: Annotated[
        Path | None, typer.Option(help="The folder of the report, to show it in place of a job.")
    ] = None,
) -> None:
    """Show a job's cases in MLflow, one run each, or the report. Publishing again replaces only what has changed.

    Where the server does not answer, warn, and let the marker say so: the next run of the workflow tries again.
    """
    from rnn_parity import tracking
    from rnn_parity.tables import read_json, write_json

    files, project = Results(results), Path.cwd()
    config, facts = read_json(files.config), read_json(files.environment)
    done: dict[str, Any] = {"attempt": attempt, "published": True}
    try:
        uri = tracking.resolve_uri(config["tracking"]["uri"], project)
        tracking.ensure_store(uri)
        if reports:
            case_ids = {case.case_id for case in read_grid(files.config).cases}
            done["run_ids"] = {"report": tracking.publish_report(uri, project, config, case_ids, reports, facts)}
        else:
            job = name.rpartition("/")[2]
            done["run_ids"] = tracking.publish_results(uri, project, json.loads(run), files, job, facts)
    except tracking.TrackingUnavailable as error:
        log(f"warning: {error}; the results are kept: `snakemake publish` tries again")
        done |= {"published": False, "reason": str(error)}
    marker = files.published_report if reports else files.published(*name.split("/"))
    write_json(marker, done)
    if config["tracking"]["strict"] and not done["published"]:
        raise typer.Exit(1)


@command("publish-unfinished")
def publish_unfinished(
    results: ResultsFolder,
    logs: Annotated[Path, typer.Option(help="The folder of the logs.")],
    since: Annotated[float, typer.Option(help="When the run began, in seconds since 1970.")],
    run_log: Annotated[list[Path] | None, typer.Option(help="Snakemake's log of the run; of several, each.")] = None,
) -> None:
    """Show in MLflow what a failed run leaves: the cases of jobs that died, and why."""
    from rnn_parity import tracking
    from rnn_parity.tables import read_json

    files = Results(results)
    grid = read_grid(files.config)
    facts = read_json(files.environment) if files.environment.exists() else {}
    try:
        uri = tracking.resolve_uri(grid.config["tracking"]["uri"], Path.cwd())
        for line in tracking.publish_unfinished(uri, Path.cwd(), grid, files, logs, facts, since, run_log or ()):
            log(f"no result: {line}")
    except tracking.TrackingUnavailable as error:
        log(f"warning: {error}; the results are kept, and what died is tried again by the next run")


@command()
def collect(results: ResultsFolder) -> None:
    """Join the tables of all parts of the experiment into RESULTS/equivalence.parquet and so on."""
    files = Results(results)
    join_parts(files, files.parts(read_grid(files.config)), files)


def join_parts(files: Results, parts: Mapping[str, Sequence[Path]], joined: Results) -> None:
    """Join parts of some results into the tables of others."""
    from rnn_parity.tables import read_json, read_table, write_table

    config = read_json(files.config)
    schemas = _schemas(config)
    for name, paths in parts.items():
        write_table(joined.table(name), _with_kinds(read_table(paths, schemas[name]), config["cells"]))


def _with_kinds(table: Any, cells: Mapping[str, Any]) -> Any:
    """The table with every layer's name as `with_kind` has it."""
    named = [name for one in cells.values() for name in {one["baseline"], *one["candidates"]}]
    if len(named) == len(set(named)) or "cell" not in table.column_names:
        return table
    for at, column in enumerate(table.schema):
        if column.name in ("baseline", "implementation"):
            pairs = zip(table[column.name].to_pylist(), table["cell"].to_pylist(), strict=True)
            table = table.set_column(at, column, [[with_kind(name, cell, cells) for name, cell in pairs]])
    return table


def _config(files: Results) -> dict[str, Any]:
    """The config, with the names of the collected tables."""
    from rnn_parity.tables import read_json

    config = read_json(files.config)
    cells = {
        kind: one
        | {
            "baseline": with_kind(one["baseline"], kind, config["cells"]),
            "candidates": [with_kind(name, kind, config["cells"]) for name in one["candidates"]],
        }
        for kind, one in config["cells"].items()
    }
    return config | {"cells": cells}


@command()
def figures(
    results: ResultsFolder,
    output: Output,
    processes: Annotated[int, typer.Option(min=1, help="How many processes draw.")] = 1,
) -> None:
    """Draw every figure as PDF, PNG and SVG into the folder OUTPUT."""
    from rnn_parity.experiment.workloads import load_object, workloads_of
    from rnn_parity.report.figures import plot_all

    files = Results(results)
    config, collected = _config(files), _collected(files)
    plot_all(config, collected, _environment(files), output, processes)
    for entry in workloads_of(config):
        if entry.plot:
            load_object(entry.plot)(config, collected, output)


@command()
def report(
    results: ResultsFolder,
    output: Output,
    layers: Annotated[str, typer.Option(help="JSON: name of a layer to how it is run, in words.")] = "{}",
) -> None:
    """Write report.md, report.html, answer.txt and the tables beside the figures in the folder OUTPUT."""
    files = Results(results)
    not_published = files.not_published(read_grid(files.config), with_report=False)
    write_collected(files, output, {"not_published": not_published, "layers": json.loads(layers)})


def write_collected(files: Results, output: Path, more: dict[str, Any]) -> None:
    """The report of collected tables; `more` is what it says beside the environment."""
    from rnn_parity.report.tables import write_tables
    from rnn_parity.report.write import write_report

    tables, environment = _collected(files), _environment(files)
    write_tables(tables, environment, output / "tables")
    write_report(_config(files), environment | more, tables, output)


def _environment(files: Results) -> dict[str, Any]:
    """The environment, with the peaks of all kinds of machines that timed."""
    from rnn_parity.tables import read_json

    described = read_json(files.environment)
    return described | {"peaks": [peak for path in files.machines for peak in read_json(path)["peaks"]]}


def _schemas(config: dict[str, Any]) -> dict[str, Any]:
    """The columns of every table of an experiment: the core's, and the extra ones of its workloads."""
    from rnn_parity.experiment.workloads import load_object, workloads_of
    from rnn_parity.tables import COLLECTED

    extras = {name: extra for entry in workloads_of(config) for name, extra in entry.extras.items()}
    return COLLECTED | {name: load_object(extra.schema) for name, extra in extras.items()}


def _collected(files: Results) -> dict[str, Any]:
    from rnn_parity.tables import read_json, read_table

    schemas = _schemas(read_json(files.config))
    made = {name: files.table(name) for name in schemas if files.table(name).exists()}
    return {name: read_table(path, schemas[name]).to_pandas() for name, path in made.items()}


def read_grid(path: Path) -> Any:
    """The grid of a config file."""
    from rnn_parity.experiment.config_files import load_config
    from rnn_parity.experiment.grid import make_grid

    return make_grid(load_config(path), Results(path.parent).cuda)
