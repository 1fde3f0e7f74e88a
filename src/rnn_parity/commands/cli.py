"""The commands for people. Each imports what it needs when it is called."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from rnn_parity.commands.checking import check, replay
from rnn_parity.commands.ending import end_with_code
from rnn_parity.commands.jobs import ResultsFolder
from rnn_parity.commands.processes import SOURCES
from rnn_parity.commands.rules import app as rules_app
from rnn_parity.commands.rules import figures, join_parts, read_grid, write_collected
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.results import Results
from rnn_parity.experiment.vocabulary import Dtype

app = typer.Typer(
    help="May one recurrent layer replace another? `check` answers for one case, `run` for a grid of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(check)
app.command()(replay)
app.add_typer(rules_app)

ConfigFile = Annotated[Path, typer.Option(help="The experiment, YAML or JSON.")]

PIPELINE = Path(__file__).parents[1] / "pipeline"
"""The Snakefile and what belongs to it: links in the sources, files in a wheel."""


def main() -> None:
    """Run a command.

    Exit code 0: done. 1: a negative verdict. 2: bad input, reported in one line. 3: a bug in this program, with its
    traceback and a last line that says what to do. 130: Ctrl-C. 141: a closed pipe, as in a shell. Nothing but a
    negative verdict ends with 1, not even a layer that ends the process.
    """
    end_with_code(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from rnn_parity.experiment.workloads import load_object

        print(f"rnn-parity {load_object('rnn_parity:__version__')} ({SOURCES})")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version, and the folder of the sources."
        ),
    ] = False,
) -> None:
    sys.path.insert(0, "")  # a layer or a kind may be in this folder; `python -m rnn_parity` looks there by itself


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(context: typer.Context, config: ConfigFile = Path("config.yaml")) -> None:
    """Run an experiment in this folder. Further arguments go to Snakemake, such as `-n`, `--cores 4` or `gate`.

    Exits with 1 only if the gate fails, and with 3 if a job failed; its log says why.
    """
    from rnn_parity.experiment.config_files import load_config

    if named := [word for word in context.args if word.partition("=")[0] in ("--configfile", "--configfiles")]:
        raise InputError(
            f"{named[0]}: is Snakemake's, which takes the targets after it for more files; expected --config"
        )
    if not config.is_file():
        raise InputError(f"--config: holds '{config}', which is not a file; `rnn-parity init .` makes a config.yaml")
    load_config(config)  # Snakemake ends with 1 for what is no config, which is the gate's
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"Snakemake keeps a cache in {cache}, which cannot be made ({error.strerror})"
        raise InputError(f"HOME: {why}; expected XDG_CACHE_HOME to name a folder") from error
    settings = [f"--snakefile={(PIPELINE / 'Snakefile').resolve()}", f"--configfile={config}"]
    os.execv(sys.executable, [sys.executable, "-m", "rnn_parity.commands.snakemake_run", *settings, *context.args])


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="The folder; it may exist already.")] = Path()) -> None:
    """Write a config.yaml and Snakemake profiles to a folder. Edit them, and start `rnn-parity run` there."""
    from rnn_parity.tables import atomic_path

    names = ("config.yaml", "profiles/default/config.yaml", "profiles/slurm/config.yaml")
    files = {folder / name: PIPELINE / name for name in names}
    if there := [file for file in files if file.exists()]:
        raise InputError(f"{there[0]}: exists already; expected a path for a new file")
    for file, source in files.items():
        with atomic_path(file) as temporary:
            shutil.copyfile(source, temporary)
    enter = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    print(f"{folder / 'config.yaml'}: written; next: {enter}rnn-parity run")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A checkpoint: .pt, or .safetensors.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="Where to write the new checkpoint; it must not exist yet.")
    ],
    to: Annotated[
        str, typer.Option(help="The layer to convert to: stacking_gru, stacking_lstm; with _cell, a list of cells.")
    ],
    stack: Annotated[
        str | None,
        typer.Option("--from", help="The old layer's list or prefix: rnn_cells, decoder.rnn."),
    ] = None,
    to_list: Annotated[str | None, typer.Option(help="Name of the new list, if not grus or lstms.")] = None,
    new_prefix: Annotated[
        str | None, typer.Option(help="The prefix of the new keys, if it changes: decoder.rnn.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="The optimizer's key, such as m0_optimizer.")] = None,
) -> None:
    """Convert a checkpoint between a list of cells and a fused layer, and verify that both compute the same.

    Nothing in the file is executed. Exits with 1, and writes nothing, if this cannot be shown.
    """
    from rnn_parity.convert import NotProven, convert_checkpoint

    try:
        lines = convert_checkpoint(
            source, target, to, stack=stack, to_list=to_list, new_prefix=new_prefix, optimizer=optimizer
        )
    except NotProven as error:
        print(f"not converted: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    print("\n".join([*lines, f"{target}: written"]))


@app.command()
def cases(
    config: ConfigFile = Path("config.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one line per job: its name and its requests.")] = False,
) -> None:
    """Show the grid of an experiment: its jobs, and how many cases each computes."""
    grid = read_grid(config)
    if as_json:
        for job in grid.jobs:
            requests = {"equivalence": grid.equivalence_request(job), "timing": grid.timing_request(job)}
            print(json.dumps({"sweep": job.sweep, "job": job.name, **requests}))
        return
    from rich.console import Console
    from rich.table import Table

    counts = {"case": len(grid.cases), "job": len(grid.jobs)}
    title = " in ".join(f"{number} {what}{'s' * (number != 1)}" for what, number in counts.items())
    table = Table("sweep", "job", "cases", "within the job", title=title)
    for job in grid.jobs:
        varied = {axis: values for axis, values in job.axes.items() if len(values) > 1}
        within = ", ".join(f"{axis} {' '.join(map(str, values))}" for axis, values in varied.items())
        table.add_row(job.sweep, job.name, str(len(job.cases)), within)
    Console().print(table)


@app.command()
def schema() -> None:
    """Print every key of a config, its meaning and its default, as the JSON schema that editors read."""
    from rnn_parity.experiment.config import Config

    print(json.dumps(Config.model_json_schema(), indent=2))


@app.command("self-test")
def self_test(
    dtype: Annotated[list[str] | None, typer.Option(help="A dtype to try; all by default.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    cell: Annotated[str, typer.Option(help="The kind of cell.")] = "gru",
    cases: Annotated[
        int | None,
        typer.Option(min=1, help="Random cases per dtype (default 500), or lives of each layer (default 1)."),
    ] = None,
    life: Annotated[bool, typer.Option("--life", help="Plant faults that only a later or unusual call shows.")] = False,
    tricks: Annotated[bool, typer.Option("--tricks", help="Test the timing: tricks that might fool it.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes to run side by side.")] = os.cpu_count() or 1,
    output: Annotated[Path | None, typer.Option(help="A .parquet file for a table of all findings.")] = None,
) -> None:
    """Test the check itself: planted faults that it must catch, correct layers that it must not accuse.

    `--tricks` always runs on the CPU, in float32 and in this process.
    """
    import pandas as pd
    from rich.console import Console
    from rich.progress import track

    from rnn_parity.cells.base import load_cell
    from rnn_parity.experiment.devices import resolve_devices
    from rnn_parity.report.self_test import show_lives, show_rates, show_tricks
    from rnn_parity.tables import LIVES, SELF_TEST, TRICKS, write_rows
    from rnn_parity.trust.lives import examine_lives
    from rnn_parity.trust.run import examine_in_parallel
    from rnn_parity.trust.tricks.run import examine_tricks
    from rnn_parity.workloads.layer import Layer

    if output and output.suffix != ".parquet":
        raise InputError(f"--output: holds {str(output)!r}, expected a name that ends in .parquet")
    if tricks and (life or dtype or cases or cell != "gru" or device != "cpu"):
        raise InputError("--tricks: tests the clock alone, without --life, --dtype, --cases, --cell and --device")
    dtypes, errors = dtype or list(Dtype), Console(stderr=True)
    if unknown := sorted(set(dtypes) - set(Dtype)):
        raise InputError(f"--dtype: holds {unknown[0]!r}, expected one of {', '.join(Dtype)}")
    if tricks:
        # No bar that is drawn meanwhile: the thread that animates it would be timed too.
        rows = list(examine_tricks(Layer(), lambda name: errors.print(f"{name} …")))
    else:
        (device,) = resolve_devices([device])
        load_cell(cell)
        jobs = min(jobs, 4) if device == "cuda" else jobs  # they share one GPU and its memory
        examine, number = (examine_lives, cases or 1) if life else (examine_in_parallel, cases or 500)
        of, parts = examine(device, dtypes, number, jobs, cell)
        shown = track(parts, "Self-test", of, console=errors, disable=not errors.is_terminal)
        rows = sorted((row for part in shown for row in part), key=lambda r: (list(Dtype).index(r["dtype"]), r["seed"]))
    schema, show = (TRICKS, show_tricks) if tricks else (LIVES, show_lives) if life else (SELF_TEST, show_rates)
    if output:
        write_rows(output, schema, rows)
    if not show(pd.DataFrame(rows), Console()):
        raise typer.Exit(1)


@app.command()
def gate(
    equivalence: Annotated[Path, typer.Option(help="Table of all comparisons.")] = Path("results/equivalence.parquet"),
    life: Annotated[Path, typer.Option(help="Table of all lives, if there is one.")] = Path("results/life.parquet"),
    timing: Annotated[Path, typer.Option(help="Table of all timings, if any.")] = Path("results/timing.parquet"),
) -> None:
    """Exit with 1 unless every candidate may replace the baseline, naming what fails or could not be judged."""
    from rnn_parity.report.gate import gate
    from rnn_parity.tables import EQUIVALENCE, LIFE, TIMING, read_table

    asked = ((life, LIFE), (timing, TIMING))
    lived, timed = (read_table(path, schema).to_pandas() if path.exists() else None for path, schema in asked)
    holds, text = gate(read_table(equivalence, EQUIVALENCE).to_pandas(), lived, timed)
    print(text, end="", file=sys.stdout if holds else sys.stderr)
    if not holds:
        raise typer.Exit(1)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="RESULTS_A", help="The folder `results` of one run.")],
    b: Annotated[Path, typer.Argument(metavar="RESULTS_B", help="The same of another run.")],
    names: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Names for the two runs; by default their folders."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="A folder for the tables, the figure and this text.")] = None,
) -> None:
    """Compare two runs: which verdicts flipped, and which speedups have intervals that do not overlap.

    Prints Markdown for a pull request. Exits with 1 if something that must hold does hold in A but not in B.
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


@app.command("so-far")
def so_far(
    results: ResultsFolder = Path("results"),
    output: Annotated[Path, typer.Option(help="A folder for the report.")] = Path("reports/so-far"),
) -> None:
    """Write a report of the results so far, while a run goes on."""
    from rnn_parity.tables import COLLECTED, read_table

    files = Results(results)
    if not files.config.exists():
        raise InputError(f"{results}: no run has begun here; `rnn-parity run` or `snakemake` begins one")
    grid = read_grid(files.config)
    wanted = files.parts(grid)
    parts = {name: [path for path in paths if path.exists()] for name, paths in wanted.items()}
    if not files.environment.exists() or not parts["equivalence"]:
        raise InputError(f"{results}: holds no compared case yet; let the run go on for some minutes")
    with TemporaryDirectory() as folder:
        joined = Results(Path(folder))
        join_parts(files, parts, joined)
        for kept in (files.config, *files.machines):
            target = joined.folder / kept.relative_to(files.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept, target)
        ids = {case.case_id for case in grid.cases}
        compared, timed = (  # a job writes its part anew after each case
            len(ids.intersection(read_table(joined.table(name), COLLECTED[name])["case_id"].to_pylist()))
            for name in ("equivalence", "timing")
        )
        words = f"{compared} of {len(ids)} cases are compared, {timed} are timed"
        figures(joined.folder, output / "figures")
        finished = parts == wanted and compared == timed == len(ids)
        write_collected(joined, output, {} if finished else {"so_far": words})
    print(f"{output / 'report.html'}: {words}")


@app.command()
def ui(
    config: ConfigFile = Path("config.yaml"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port; if it is in use, another is taken.")] = 5000,
) -> None:
    """Start the MLflow UI, for this machine only, and print a link to the charts of the study."""
    from rnn_parity import tracking

    experiment = read_grid(config).config
    uri = tracking.resolve_uri(experiment["tracking"]["uri"], Path.cwd())
    tracking.serve_ui(uri, Path.cwd(), experiment["study"], port)
