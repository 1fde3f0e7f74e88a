"""The commands of decoder sweeps: `rnn-parity decoder …`, called by `workflow/rules/decoder.smk`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from rnn_parity.commands.jobs import JobLine, Output, check_job, log
from rnn_parity.experiment.results import Results

app = typer.Typer(help="The layer in t2vec's decoder.", no_args_is_help=True)


@app.command()
def equivalence(job: JobLine, output: Output) -> None:
    """Check every case of a job: does the model compute with each candidate what it computes with the baseline?"""
    from rnn_parity_t2vec.workload import compare_case

    check_job(job, output, compare_case)


@app.command()
def timing(
    job: JobLine,
    output: Output,
    samples: Annotated[Path, typer.Option("--samples", help="Where to write every single sample.")],
    attribution: Annotated[Path, typer.Option("--attribution", help="Where to write what each change gains.")],
) -> None:
    """Time the decoder and the training step of every case, as t2vec is written, replaced, and the ways between."""
    from rnn_parity.experiment.grid import parse_request
    from rnn_parity.tables import ATTRIBUTION, SAMPLES, TIMING, write_rows
    from rnn_parity_t2vec.attribution import count_kernels, time_case

    cases, settings = parse_request(job)
    started_at, tables = time.time(), ([], [], [])
    for case in cases:
        for rows, more in zip(tables, time_case(case, **settings), strict=True):
            rows += more
        log(f"{case.case_id}: timed")
    count_kernels(cases, tables[0], settings)
    write_rows(attribution, ATTRIBUTION, tables[2])
    write_rows(samples, SAMPLES, tables[1])
    write_rows(output, TIMING, tables[0], started_at=repr(started_at), ended_at=repr(time.time()))


@app.command()
def training(
    job: JobLine,
    output: Output,
    generation: Annotated[Path, typer.Option("--generation", help="Where to write how free-running decoding agrees.")],
) -> None:
    """Train the model of every case with baseline and candidates, side by side; and let both generate."""
    from rnn_parity.experiment.grid import parse_request
    from rnn_parity.tables import GENERATION, TRAINING, write_rows
    from rnn_parity_t2vec.training import train_case

    cases, settings = parse_request(job)
    rows, generated = [], []
    for case in cases:
        of_case, more = train_case(case, **settings)
        rows += of_case
        generated += more
        log(f"{case.case_id}: trained")
    write_rows(generation, GENERATION, generated)
    write_rows(output, TRAINING, rows)


@app.command()
def collect(
    timed: Annotated[str, typer.Option(help="JSON: sweep/job of every job that was timed.")],
    trained: Annotated[str, typer.Option(help="JSON: sweep/job of every job that was trained.")],
    results: Annotated[Path, typer.Option(help="The folder of the result tables.")],
) -> None:
    """Join the tables of all jobs into RESULTS/decoder/attribution.parquet and so on."""
    from rnn_parity.tables import DECODER, read_table, write_table

    for name, schema in DECODER.items():
        jobs = json.loads(timed if name == "attribution" else trained)
        parts = [results / name / f"{job}.parquet" for job in jobs]
        write_table(results / "decoder" / f"{name}.parquet", read_table(parts, schema))


@app.command()
def figures(results: Annotated[Path, typer.Option(help="The folder of the result tables.")], output: Output) -> None:
    """Draw the decoder's figures as PDF, PNG and SVG into the folder OUTPUT."""
    from rnn_parity.tables import EQUIVALENCE, TIMING, read_decoder, read_table
    from rnn_parity_t2vec.figures import draw_all
    from rnn_parity_t2vec.section import decoder_tables

    files, every = Results(results), {"timing": TIMING, "equivalence": EQUIVALENCE}
    collected = {name: read_table(files.table(name), schema).to_pandas() for name, schema in every.items()}
    tables = decoder_tables(collected | read_decoder(results))
    draw_all(json.loads(files.config.read_text(encoding="utf-8")), tables, output)
