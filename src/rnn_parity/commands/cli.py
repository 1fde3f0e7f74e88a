"""The commands: one per rule of the workflow, and some for people. Each imports what it needs when it is called."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from rnn_parity.commands.jobs import JobLine, Output, check_job, log
from rnn_parity.commands.processes import exit_with_workflow
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.results import Results
from rnn_parity.experiment.vocabulary import Dtype
from rnn_parity_t2vec.commands import app as decoder_app

app = typer.Typer(
    help=__doc__.splitlines()[0],
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(decoder_app, name="decoder")

PROJECT = Path(__file__).parents[3]

ConfigFile = Annotated[Path, typer.Option("--config", help="The experiment, YAML or JSON.")]
EquivalenceFile = Annotated[Path, typer.Option("--equivalence", help="A table of `rnn-parity equivalence`.")]
TimingFile = Annotated[Path, typer.Option("--timing", help="A table of `rnn-parity timing`.")]
Attempt = Annotated[int, typer.Option("--attempt", help="How many runs of the workflow found no server before.")]
ResultsFolder = Annotated[Path, typer.Option("--results", help="The folder of the result tables.")]
Decoder = Annotated[bool, typer.Option("--decoder", help="There are decoder sweeps, and tables of them.")]
EnvironmentFile = Annotated[Path, typer.Option("--environment", help="The file of `rnn-parity environment`.")]


def main() -> None:
    """Run a command. Exit code 0: done, 1: a verdict against, 2: bad input, in one line without a traceback."""
    exit_with_workflow()
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        gc.freeze()  # else Python looks once more through all that torch or MLflow imported: a third of a short command


@app.command()
def check(
    candidate: Annotated[str, typer.Argument(help="The layer: a registered name, or package.module:Class.")],
    baseline: Annotated[str, typer.Option(help="What it might replace.")] = "stacking_gru_cell",
    like: Annotated[str, typer.Option(help="Sizes and seeds that are not given: small, article or t2vec.")] = "small",
    input_size: Annotated[int | None, typer.Option(help="I.", show_default=False)] = None,
    hidden_size: Annotated[int | None, typer.Option(help="H.", show_default=False)] = None,
    num_layers: Annotated[int | None, typer.Option(help="L.", show_default=False)] = None,
    sequence_length: Annotated[int | None, typer.Option(help="T.", show_default=False)] = None,
    batch_size: Annotated[int | None, typer.Option(help="B.", show_default=False)] = None,
    dropout: Annotated[float | None, typer.Option(help="Between layers, in training.", show_default=False)] = None,
    dtype: Annotated[str, typer.Option(help="float64, float32, bfloat16 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads to compute with.")] = 1,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="A seed; may be given more than once.", show_default=False)
    ] = None,
    capabilities: Annotated[
        bool, typer.Option("--capabilities/--no-capabilities", help="Probe what both can do.")
    ] = True,
    timing: Annotated[bool, typer.Option("--timing/--no-timing", help="Time both.")] = True,
) -> None:
    """May this layer replace the baseline? One case, without a config: numbers, capabilities and time.

    Exits with 1 if it may not, or if that is not shown.
    """
    from rnn_parity.commands.check import run_check

    sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers, "dropout": dropout}
    sizes |= {"sequence_length": sequence_length, "batch_size": batch_size}
    settings = {"like": like, "dtype": dtype, "device": device, "threads": threads, "seeds": seeds}
    settings |= {"capabilities": capabilities, "timing_seconds": 0.5 if timing else 0.0}
    raise typer.Exit(run_check(candidate, baseline, **sizes, **settings))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A checkpoint: .pt, or .safetensors.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Where to write the other; it must not be there yet.")],
    to: Annotated[str, typer.Option(help="The layer to convert to: stacking_gru or stacking_gru_cell.")],
    prefix: Annotated[str | None, typer.Option(help="Of the layer's keys, as decoder.rnn.", show_default=False)] = None,
    new_prefix: Annotated[str | None, typer.Option(help="Of its new keys, if another.", show_default=False)] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="The optimizer's key, as m0_optimizer.", show_default=False)
    ] = None,
) -> None:
    """Rewrite a checkpoint for the other layer, and prove it: the same bits, and layers that compute the same.

    Nothing in the file is executed. Exits with 1, and writes nothing, if it cannot be proved.
    """
    from rnn_parity.convert import NotProven, convert_checkpoint

    try:
        done = convert_checkpoint(source, target, to, prefix, new_prefix, optimizer)
    except NotProven as error:
        print(f"not converted: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    print("\n".join([*done.describe(), f"{target}: written"]))


@app.command()
def cases(
    config: ConfigFile = Path("config.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="One line per job: its name and what it is asked.")] = False,
) -> None:
    """Show the grid of an experiment: its jobs, and how many cases each computes."""
    grid = _grid(config)
    if as_json:
        for job in grid.jobs:
            requests = {"equivalence": grid.equivalence_request(job), "timing": grid.timing_request(job)}
            print(json.dumps({"sweep": job.sweep, "job": job.name, **requests}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("sweep", "job", "cases", "within the job", title=f"{len(grid.cases)} cases in {len(grid.jobs)} jobs")
    for job in grid.jobs:
        varied = {axis: values for axis, values in job.axes.items() if len(values) > 1}
        within = ", ".join(f"{axis} {' '.join(map(str, values))}" for axis, values in varied.items())
        table.add_row(job.sweep, job.name, str(len(job.cases)), within)
    Console().print(table)


@app.command()
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


@app.command()
def environment(
    settings: Annotated[str, typer.Option(help="JSON: device, dtype, tf32 and threads of each kind of case.")],
    output: Output,
) -> None:
    """Describe this machine, its versions, and the peak rates that it reaches in some settings."""
    from rnn_parity.tables import write_text
    from rnn_parity.timing.environment import describe_environment

    write_text(output, json.dumps(describe_environment(json.loads(settings)), indent=2) + "\n")


@app.command()
def equivalence(job: JobLine, output: Output) -> None:
    """Check every case of a job: does each candidate compute what the baseline computes?"""
    from rnn_parity.compare.case import compare_case

    check_job(job, output, compare_case)


@app.command()
def timing(
    job: JobLine,
    output: Output,
    samples: Annotated[Path, typer.Option("--samples", help="Where to write every single sample.")],
) -> None:
    """Time every case of a job. Run it alone on the machine: whatever runs beside it is measured too."""
    from rnn_parity.experiment.grid import parse_request
    from rnn_parity.tables import SAMPLES, TIMING, write_rows
    from rnn_parity.timing.rounds import count_kernels, time_case

    cases, settings = parse_request(job)
    started_at, rows, all_samples = time.time(), [], []
    for case in cases:
        of_case, case_samples = time_case(case, **settings)
        rows += of_case
        all_samples += case_samples
        log(f"{case.case_id}: " + ", ".join(_speedup_words(row) for row in of_case if row["conclusion"] != "baseline"))
    count_kernels(cases, rows)
    write_rows(samples, SAMPLES, all_samples)
    write_rows(output, TIMING, rows, started_at=repr(started_at), ended_at=repr(time.time()))


@app.command("self-test")
def self_test(
    dtype: Annotated[list[str], typer.Option(help="A dtype to try; all by default.")] = tuple(Dtype),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    cases: Annotated[int, typer.Option(min=1, help="Random cases per dtype.")] = 500,
    jobs: Annotated[int, typer.Option(min=1, help="Processes to run side by side.")] = os.cpu_count() or 1,
    output: Annotated[Path | None, typer.Option(help="Where to write every finding as a table.")] = None,
) -> None:
    """Try the check itself: planted faults that it must catch, right layers that it must not accuse."""
    import pandas as pd
    from rich.console import Console
    from rich.progress import track

    from rnn_parity.report.self_test import show
    from rnn_parity.tables import SELF_TEST, write_rows
    from rnn_parity.trust.run import PART, examine_in_parallel

    if unknown := sorted(set(dtype) - set(Dtype)):
        raise InputError(f"--dtype: holds {unknown[0]!r}, expected one of {', '.join(Dtype)}")
    errors = Console(stderr=True)
    parts, of = examine_in_parallel(device, dtype, cases, jobs), len(dtype) * -(-cases // PART)
    rows = [
        row for part in track(parts, "Self-test", of, console=errors, disable=not errors.is_terminal) for row in part
    ]
    rows.sort(key=lambda row: (list(Dtype).index(row["dtype"]), row["seed"]))
    if output:
        write_rows(output, SELF_TEST, rows)
    if not show(pd.DataFrame(rows), Console()):
        raise typer.Exit(1)


@app.command()
def findings(
    device: Annotated[str, typer.Option(help="cpu or cuda.")],
    dtype: Annotated[str, typer.Option(help="The dtype to try.")],
    cases: Annotated[int, typer.Option(help="Random cases.")],
    output: Output,
) -> None:
    """Write what the self-test finds in one dtype, without a word on it."""
    from rnn_parity.tables import SELF_TEST, write_rows
    from rnn_parity.trust.run import examine_samples

    write_rows(output, SELF_TEST, list(examine_samples(device, dtype, range(cases))))


@app.command()
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


@app.command()
def coverage(job: JobLine, output: Output) -> None:
    """Plant every fault in every case of a job: which could this case not have shown?"""
    from rnn_parity.experiment.grid import parse_request
    from rnn_parity.tables import SELF_TEST, write_rows
    from rnn_parity.trust.run import examine_cases

    cases, settings = parse_request(job)
    started_at = time.time()
    rows = list(examine_cases(cases, **settings))
    write_rows(output, SELF_TEST, rows, started_at=repr(started_at), ended_at=repr(time.time()))


@app.command()
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


@app.command()
def masks(job: JobLine, output: Output) -> None:
    """Record the dropout masks that each implementation draws from the same seed in one small case."""
    from rnn_parity.dropout.picture import mask_rows
    from rnn_parity.experiment.grid import parse_request
    from rnn_parity.tables import MASKS, write_rows

    rows = []
    if json.loads(job) is not None:
        (case,), settings = parse_request(job)
        rows = list(mask_rows(case, **settings))
    write_rows(output, MASKS, rows)


@app.command()
def store(config: ConfigFile = Path("config.yaml")) -> None:
    """Create the embedded tracking store in this folder, if that is what is used; print where the runs are shown."""
    from rnn_parity import tracking

    resolved = tracking.resolve_uri(_grid(config).config["tracking"]["uri"], PROJECT)
    tracking.ensure_store(resolved)
    print(tracking.redact(resolved))


@app.command()
def publish(
    run: Annotated[str, typer.Option("--run", help="JSON: study, baseline, candidates, sweep and the axes it varies.")],
    config: ConfigFile,
    equivalence: EquivalenceFile,
    timing: TimingFile,
    environment: EnvironmentFile,
    attempt: Attempt,
    output: Output,
    training: Annotated[Path | None, typer.Option(help="A table of `rnn-parity decoder training`.")] = None,
) -> None:
    """Show a job's cases in MLflow, one run each. Publishing again changes nothing, or replaces what has changed."""
    from rnn_parity.tables import EQUIVALENCE, TIMING, TRAINING, read_table
    from rnn_parity.tracking import publish_job
    from rnn_parity_t2vec.histories import loss_histories

    tables = read_table(equivalence, EQUIVALENCE), read_table(timing, TIMING)
    facts, trained = _read_json(environment), read_table([training] if training else [], TRAINING)
    histories = loss_histories(trained.to_pylist())

    def act(uri: str) -> dict[str, str]:
        return publish_job(uri, PROJECT, json.loads(run), *tables, facts, histories=histories)

    _publish(_read_json(config)["tracking"], act, attempt, output)


@app.command("publish-report")
def publish_report(
    config: ConfigFile,
    environment: EnvironmentFile,
    reports: Annotated[Path, typer.Option(help="The folder of report, figures and tables.")],
    attempt: Attempt,
    output: Output,
) -> None:
    """Put the report, its figures and its tables into MLflow as one more run."""
    from rnn_parity import tracking

    grid, facts = _grid(config), _read_json(environment)
    case_ids = {case.case_id for case in grid.cases}

    def act(uri: str) -> dict[str, str]:
        return {"report": tracking.publish_report(uri, PROJECT, grid.config, case_ids, reports, facts)}

    _publish(grid.config["tracking"], act, attempt, output)


@app.command("publish-unfinished")
def publish_unfinished(
    results: ResultsFolder,
    logs: Annotated[Path, typer.Option(help="The folder of the logs.")],
    since: Annotated[float, typer.Option(help="When the run began, in seconds since 1970.")],
) -> None:
    """Show in MLflow what a failed run leaves: the cases of jobs that died, and why."""
    from rnn_parity import tracking

    files = Results(results)
    grid = _grid(files.config)
    facts = _read_json(files.environment) if files.environment.exists() else {}
    try:
        uri = tracking.resolve_uri(grid.config["tracking"]["uri"], PROJECT)
        for line in tracking.publish_unfinished(uri, PROJECT, grid, files, logs, facts, since):
            log(f"no result: {line}")
    except tracking.TrackingUnavailable as error:
        log(f"warning: {error}; the results are kept, and what died is tried again by the next run")


@app.command()
def collect(results: ResultsFolder) -> None:
    """Join the tables of all parts of the experiment into RESULTS/equivalence.parquet and so on."""
    from rnn_parity.tables import COLLECTED, read_table, write_table

    files = Results(results)
    for name, parts in files.parts(_grid(files.config)).items():
        write_table(files.table(name), read_table(parts, COLLECTED[name]))


@app.command()
def figures(results: ResultsFolder, output: Output) -> None:
    """Draw every figure as PDF, PNG and SVG into the folder OUTPUT."""
    from rnn_parity.report.figures import plot_all
    from rnn_parity.tables import MASKS, read_table

    files = Results(results)
    drawn = read_table(files.table("masks"), MASKS).to_pandas()
    plot_all(_read_json(files.config), _collected(results), drawn, _read_json(files.environment), output)


@app.command()
def report(results: ResultsFolder, output: Output, decoder: Decoder = False) -> None:
    """Write report.md, report.html and the tables beside the figures in the folder OUTPUT."""
    from rnn_parity.report.write import write_report, write_tables

    files, tables = Results(results), _collected(results, decoder)
    environment = _read_json(files.environment)
    write_tables(tables, environment, output / "tables")
    pages = output / "figures", output / "report.md", output / "report.html"
    write_report(_read_json(files.config), environment, tables, *pages)


@app.command()
def gate(equivalence: EquivalenceFile = Path("results/equivalence.parquet")) -> None:
    """Exit with 1 unless every candidate may replace the baseline, naming what fails or could not be judged."""
    from rnn_parity.report import brief
    from rnn_parity.tables import EQUIVALENCE, read_table

    holds, text = brief.gate(read_table(equivalence, EQUIVALENCE).to_pandas())
    print(text, end="", file=sys.stdout if holds else sys.stderr)
    if not holds:
        raise typer.Exit(1)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="RESULTS_A", help="The folder `results` of one run.")],
    b: Annotated[Path, typer.Argument(metavar="RESULTS_B", help="That of another one.")],
    names: Annotated[
        tuple[str, str] | None,
        typer.Option("--names", help="What to call them; else by their folders.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="A folder for the tables, the figures and this text.")
    ] = None,
) -> None:
    """Hold two runs against each other: which verdicts flipped, which speedups have intervals that part.

    Prints Markdown for a pull request. Exits with 1 if what must hold and does so in A does not in B.
    """
    from rnn_parity.findings.compare import compare_runs
    from rnn_parity.report.comparison import comparison_markdown, read_run, write_comparison

    first, second = names or (str(a), str(b))
    if first == second:
        raise InputError(f"--names: holds {first!r} twice, expected two names")
    comparison = compare_runs(read_run(a, first), read_run(b, second))
    if output:
        write_comparison(comparison, output)
    print(comparison_markdown(comparison), end="")
    raise typer.Exit(1 if len(comparison.regressions) else 0)


@app.command()
def ui(
    config: ConfigFile = Path("config.yaml"),
    port: Annotated[int, typer.Option(help="The port; another is taken if this one is in use.")] = 5000,
) -> None:
    """Start the MLflow UI on this machine alone, and print a link to the charts of the study."""
    from rnn_parity import tracking

    experiment = _grid(config).config
    uri = tracking.resolve_uri(experiment["tracking"]["uri"], PROJECT)
    tracking.serve_ui(uri, PROJECT, experiment["study"], port)


def _publish(settings: dict[str, Any], act: Callable[[str], dict[str, str]], attempt: int, output: Path) -> None:
    """Publish; where the server does not answer, warn, and let the marker say so: the next run tries again."""
    from rnn_parity import tracking
    from rnn_parity.tables import write_text

    try:
        uri = tracking.resolve_uri(settings["uri"], PROJECT)
        tracking.ensure_store(uri)
        done = {"published": True, "run_ids": act(uri)}
    except tracking.TrackingUnavailable as error:
        log(f"warning: {error}; the results are kept: run `snakemake publish` when the server is back")
        done = {"published": False, "reason": str(error)}
    write_text(output, json.dumps({"attempt": attempt, **done}, indent=2) + "\n")
    if settings["strict"] and not done["published"]:
        raise typer.Exit(1)


def _grid(path: Path):
    from rnn_parity.experiment.config import load_config
    from rnn_parity.experiment.grid import make_grid

    return make_grid(load_config(path))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); run `snakemake` to make it") from error


def _collected(results: Path, decoder: bool = False):
    from rnn_parity.tables import COLLECTED, read_decoder, read_table

    files = Results(results)
    of_layers = {name: read_table(files.table(name), schema).to_pandas() for name, schema in COLLECTED.items()}
    return of_layers | (read_decoder(results) if decoder else {})


def _speedup_words(row: dict[str, Any]) -> str:
    speedup = f" {row['speedup']:.2f}×" if row.get("speedup") else ""
    return f"{row['implementation']} {row['phase']}{speedup} {row['conclusion']}"
