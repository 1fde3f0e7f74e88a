"""The commands that judge one candidate without a config: `check`, and `replay` of what it said no to."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.vocabulary import TIME_LIMIT_S

TimeLimit = Annotated[float, typer.Option(help="Seconds without a new result after which a layer is stopped.")]


@contextmanager
def _naming_options(context: typer.Context) -> Iterator[None]:
    """Name an argument of the functions as the option that was typed."""
    try:
        yield
    except InputError as error:
        key, colon, rest = str(error).partition(":")
        given = (param for param in context.command.params if context.params[param.name] is not None)
        named = {param.name: param.opts[0] for param in given}
        raise InputError(f"{named.get(key.partition('[')[0], key)}{colon}{rest}") from error


def check(
    context: typer.Context,
    candidate: Annotated[str, typer.Argument(help="The layer: a registered name, or package.module:Class.")],
    baseline: Annotated[
        str | None, typer.Option(help="The layer to be replaced; by default the loop over cells.")
    ] = None,
    cell: Annotated[str | None, typer.Option(help="The kind of cell: gru, lstm, …; inferred by default.")] = None,
    like: Annotated[str, typer.Option(help="Default sizes and seeds: small, article or t2vec.")] = "small",
    input_size: Annotated[int | None, typer.Option(help="Input size I.")] = None,
    hidden_size: Annotated[int | None, typer.Option(help="Hidden size H.")] = None,
    num_layers: Annotated[int | None, typer.Option(help="Number of layers L.")] = None,
    sequence_length: Annotated[int | None, typer.Option(help="Sequence length T.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Batch size B.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout between layers, in training.")] = None,
    dtype: Annotated[str, typer.Option(help="float64, float32, bfloat16 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads to compute with.")] = 1,
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="A seed; may be given more than once.")] = None,
    life: Annotated[bool, typer.Option(help="Also test hundreds of other calls.")] = True,
    deep: Annotated[bool, typer.Option("--deep", help="Also try sizes that take minutes or gigabytes.")] = False,
    capabilities: Annotated[bool, typer.Option(help="Probe what both layers can do.")] = True,
    timing: Annotated[bool, typer.Option(help="Time both layers.")] = True,
    time_limit: TimeLimit = TIME_LIMIT_S,
    bundle: Annotated[Path | None, typer.Option(help="A folder for files that reproduce a failure.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all findings as JSON, at the end.")] = False,
) -> None:
    """May this layer replace the baseline? Checks numbers, many calls, capabilities and time, without a config.

    Prints the verdict as soon as it is known. Exits with 1 if the answer is no, or if the check could not decide.
    """
    from rnn_parity import api

    sizes: dict[str, Any] = {
        "input_size": input_size,
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "dropout": dropout,
    }
    sizes |= {"sequence_length": sequence_length, "batch_size": batch_size}
    settings: dict[str, Any] = {"like": like, "dtype": dtype, "device": device, "threads": threads, "seeds": seeds}
    settings |= {"life": life, "deep": deep, "capabilities": capabilities, "timing_seconds": 0.5 if timing else 0.0}
    screens: list[Any] = []
    closed: list[SystemExit] = []

    def show(report: Any) -> None:
        _progress("")
        if as_json:
            return
        if not screens:
            from rich.console import Console

            from rnn_parity.report.terminal import Screen

            screens.append(Screen(Console()))
        try:
            screens[0].show(report)
        except SystemExit as ended:  # the other end of a pipe is closed, and nothing more is printed
            if bundle is None:
                raise
            closed.append(ended)

    settings |= {"cell": cell, "time_limit": time_limit, "bundle": bundle, "progress": _progress, "known": show}
    try:
        with _naming_options(context):
            report = api.check(baseline, candidate, **sizes, **settings)
    finally:
        _progress("")
    if closed:
        raise closed[0]
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    raise typer.Exit(0 if report.equivalent else 1)


def _progress(step: str) -> None:
    """Say on a terminal what is done next; nothing animates it, since a thread that does would be timed too."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{step and f'{step} …'}", end="", file=sys.stderr, flush=True)


def replay(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="A folder that `check --bundle` or the pytest plugin wrote.")],
    candidate: Annotated[str | None, typer.Option(help="The candidate, if it has another name here.")] = None,
    baseline: Annotated[str | None, typer.Option(help="The baseline, if it has another name here.")] = None,
    time_limit: TimeLimit = TIME_LIMIT_S,
) -> None:
    """Repeat the check behind a bundle on this machine, and list the results that are no longer the same bits.

    Imports the two layers that the bundle names. Exits with 0 if the candidate passes now, or with 1 if not.
    """
    from rnn_parity.bundles.replay import replay as ask_again

    with _naming_options(context):
        replayed = ask_again(bundle, time_limit, baseline, candidate)
    print(replayed.explain())
    raise typer.Exit(0 if replayed.holds else 1)
