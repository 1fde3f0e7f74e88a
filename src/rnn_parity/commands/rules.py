"""The commands that only rules of the workflow call: they stand in no help. Each imports what it needs when called."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from rnn_parity.commands.jobs import Output, log, run_job
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.results import Results

app = typer.Typer()
command = functools.partial(app.command, hidden=True)
command("job")(run_job)

ConfigFile = Annotated[Path, typer.Option("--config", help="The experiment, YAML or JSON.")]
EquivalenceFile = Annotated[Path, typer.Option("--equivalence", help="A table of `rnn-parity job equivalence`.")]
TimingFile = Annotated[Path, typer.Option("--timing", help="A table of `rnn-parity job timing`.")]
Attempt = Annotated[int, typer.Option("--attempt", help="How many runs of the workflow found no server before.")]
ResultsFolder = Annotated[Path, typer.Option("--results", help="The folder of the result tables.")]
EnvironmentFile = Annotated[Path, typer.Option("--environment", help="The file of `rnn-parity environment`.")]


@command()
def validate(implementations: list[str]) -> None:
    """Import implementations and match their parameters with nn.GRU's, before anything is measured."""
    import torch

    from rnn_parity.layers.parameters import WeightError, canonical_shapes, copy_weights
    from rnn_parity.layers.registry import build

    sizes = {"input_size": 3, "hidden_size": 4, "num_layers": 2}
    for name in implementations:
        module = build(name, **sizes, dropout=0.0)
        try:
            copy_weights({key: torch.zeros(shape) for key, shape in canonical_shapes(**sizes).items()}, module)
        except WeightError as error:
            raise InputError(f"{name}: {error}") from error
        print(f"{name}: ok")


@command()
def environment(
    settings: Annotated[str, typer.Option(help="JSON: device, dtype, tf32 and threads of each kind of case.")],
    output: Output,
) -> None:
    """Describe this machine, its versions, and the peak rates that it reaches in some settings."""
    from rnn_parity.tables import write_text
    from rnn_parity.timing.environment import describe_environment

    write_text(output, json.dumps(describe_environment(json.loads(settings)), indent=2) + "\n")


@command()
def findings(
    device: Annotated[str, typer.Option(help="cpu or cuda.")],
    dtype: Annotated[list[str], typer.Option(help="A dtype to try.")],
    cases: Annotated[int, typer.Option(help="Random cases per dtype.")],
    output: Output,
) -> None:
    """Write what the self-test finds on one device, without a word on it."""
    from rnn_parity.tables import SELF_TEST, write_rows
    from rnn_parity.trust.run import examine_samples

    write_rows(output, SELF_TEST, [row for one in dtype for row in examine_samples(device, one, range(cases))])


@command()
def power(
    device: Annotated[str, typer.Option(help="cpu or cuda.")],
    draws: Annotated[int, typer.Option(help="Dropout draws of a trial.")],
    output: Output,
    trials: Annotated[int, typer.Option(help="How often each layer is tried.")] = 20,
) -> None:
    """Write how often `train_distribution` finds each fault of dropout."""
    from rnn_parity.tables import POWER, write_rows
    from rnn_parity.trust.run import distribution_power

    write_rows(output, POWER, list(distribution_power(device, draws, trials)))


@command()
def capabilities(
    implementations: Annotated[list[str], typer.Argument(help="The baseline, then the candidates.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")],
    output: Output,
) -> None:
    """Probe what each implementation can do beside giving the right numbers."""
    from rnn_parity.capabilities.probing import probe_capabilities
    from rnn_parity.tables import CAPABILITIES, write_rows

    baseline, *candidates = implementations
    write_rows(output, CAPABILITIES, list(probe_capabilities(baseline, candidates, device)))


@command()
def store() -> None:
    """Create the embedded store unless MLFLOW_TRACKING_URI names another; print where the runs are shown."""
    from rnn_parity import tracking

    resolved = tracking.resolve_uri(None, Path.cwd())
    tracking.ensure_store(resolved)
    print(tracking.redact(resolved))


@command()
def publish(
    run: Annotated[str, typer.Option("--run", help="JSON: study, baseline, candidates, sweep and the axes it varies.")],
    config: ConfigFile,
    equivalence: EquivalenceFile,
    timing: TimingFile,
    environment: EnvironmentFile,
    attempt: Attempt,
    output: Output,
    history: Annotated[list[Path] | None, typer.Option(help="An extra table that has values per step.")] = None,
) -> None:
    """Show a job's cases in MLflow, one run each. Publishing again changes nothing, or replaces what has changed."""
    from rnn_parity.experiment.workloads import find_workload, load_object
    from rnn_parity.tables import EQUIVALENCE, TIMING, read_table
    from rnn_parity.tracking import publish_job

    request, facts = json.loads(run), _read_json(environment)
    histories: dict[str, Any] = {}
    tables = read_table(equivalence, EQUIVALENCE), read_table(timing, TIMING)
    for path in history or ():  # results/EXTRA/SWEEP/JOB.parquet
        extra = find_workload(request["workload"]).extras[path.parents[1].name]
        histories |= load_object(extra.histories)(read_table(path, load_object(extra.schema)).to_pylist())

    def act(uri: str) -> dict[str, str]:
        return publish_job(uri, Path.cwd(), request, *tables, facts, histories=histories)

    _publish(_read_json(config)["tracking"], act, attempt, output)


@command("publish-report")
def publish_report(
    config: ConfigFile,
    environment: EnvironmentFile,
    reports: Annotated[Path, typer.Option(help="The folder of report, figures and tables.")],
    attempt: Attempt,
    output: Output,
) -> None:
    """Put the report, its figures and its tables into MLflow as one more run."""
    from rnn_parity import tracking

    grid, facts = read_grid(config), _read_json(environment)
    case_ids = {case.case_id for case in grid.cases}

    def act(uri: str) -> dict[str, str]:
        return {"report": tracking.publish_report(uri, Path.cwd(), grid.config, case_ids, reports, facts)}

    _publish(grid.config["tracking"], act, attempt, output)


@command("publish-unfinished")
def publish_unfinished(
    results: ResultsFolder,
    logs: Annotated[Path, typer.Option(help="The folder of the logs.")],
    since: Annotated[float, typer.Option(help="When the run began, in seconds since 1970.")],
) -> None:
    """Show in MLflow what a failed run leaves: the cases of jobs that died, and why."""
    from rnn_parity import tracking

    files = Results(results)
    grid = read_grid(files.config)
    facts = _read_json(files.environment) if files.environment.exists() else {}
    try:
        uri = tracking.resolve_uri(grid.config["tracking"]["uri"], Path.cwd())
        for line in tracking.publish_unfinished(uri, Path.cwd(), grid, files, logs, facts, since):
            log(f"no result: {line}")
    except tracking.TrackingUnavailable as error:
        log(f"warning: {error}; the results are kept, and what died is tried again by the next run")


@command()
def collect(results: ResultsFolder) -> None:
    """Join the tables of all parts of the experiment into RESULTS/equivalence.parquet and so on."""
    from rnn_parity.tables import read_table, write_table

    files = Results(results)
    schemas = _schemas(_read_json(files.config))
    for name, parts in files.parts(read_grid(files.config)).items():
        write_table(files.table(name), read_table(parts, schemas[name]))


@command()
def figures(results: ResultsFolder, output: Output) -> None:
    """Draw every figure as PDF, PNG and SVG into the folder OUTPUT."""
    from rnn_parity.experiment.workloads import load_object, workloads_of
    from rnn_parity.report.figures import plot_all

    files = Results(results)
    config, collected = _read_json(files.config), _collected(files)
    plot_all(config, collected, _read_json(files.environment), output)
    for entry in workloads_of(config):
        if entry.plot:
            load_object(entry.plot)(config, collected, output)


@command()
def report(results: ResultsFolder, output: Output) -> None:
    """Write report.md, report.html and the tables beside the figures in the folder OUTPUT."""
    from rnn_parity.report.tables import write_tables
    from rnn_parity.report.write import write_report

    files = Results(results)
    tables, environment = _collected(files), _read_json(files.environment)
    write_tables(tables, environment, output / "tables")
    write_report(_read_json(files.config), environment, tables, output)


def _publish(settings: dict[str, Any], act: Callable[[str], dict[str, str]], attempt: int, output: Path) -> None:
    """Publish; where the server does not answer, warn, and let the marker say so: the next run tries again."""
    from rnn_parity import tracking
    from rnn_parity.tables import write_text

    try:
        uri = tracking.resolve_uri(settings["uri"], Path.cwd())
        tracking.ensure_store(uri)
        done = {"published": True, "run_ids": act(uri)}
    except tracking.TrackingUnavailable as error:
        log(f"warning: {error}; the results are kept: run `snakemake publish` when the server is back")
        done = {"published": False, "reason": str(error)}
    write_text(output, json.dumps({"attempt": attempt, **done}, indent=2) + "\n")
    if settings["strict"] and not done["published"]:
        raise typer.Exit(1)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); run `snakemake` to make it") from error


def _schemas(config: dict[str, Any]) -> dict[str, Any]:
    """The columns of every table of an experiment: the core's, and the extra ones of its workloads."""
    from rnn_parity.experiment.workloads import load_object, workloads_of
    from rnn_parity.tables import COLLECTED

    extras = {name: extra for entry in workloads_of(config) for name, extra in entry.extras.items()}
    return COLLECTED | {name: load_object(extra.schema) for name, extra in extras.items()}


def _collected(files: Results) -> dict[str, Any]:
    from rnn_parity.tables import read_table

    schemas = _schemas(_read_json(files.config))
    made = {name: files.table(name) for name in schemas if files.table(name).exists()}
    return {name: read_table(path, schemas[name]).to_pandas() for name, path in made.items()}


def read_grid(path: Path) -> Any:
    """The grid of a config file."""
    from rnn_parity.experiment.config import load_config
    from rnn_parity.experiment.grid import make_grid

    return make_grid(load_config(path))
