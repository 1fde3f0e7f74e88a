"""The columns of every table, written down once; reading and writing them atomically.

Each table is tidy: one row, one observation. Units stand in the names: `_s` seconds, `_bytes` bytes.
"""

from __future__ import annotations

import errno
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rnn_parity.experiment.errors import DISK_FULL, InputError
from rnn_parity.experiment.vocabulary import AXES

_MAKES_IT = "`rnn-parity run` or `snakemake` makes it"
_TYPES = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


def schema_of(columns: Mapping[str, type]) -> pa.Schema:
    """The schema of columns by name and type."""
    return pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])


CASE_COLUMNS = {"case_id": str, "sweep": str} | {name: axis.type for name, axis in AXES.items()}
"""The first columns of every table: which case, and its axes."""

EQUIVALENCE = schema_of(
    CASE_COLUMNS
    | {
        "baseline": str,
        "implementation": str,
        "regime": str,
        "seed": int,
        "quantity": str,
        "verdict": str,
        "reason": str,
        "bit_identical": bool,
        "max_abs_diff": float,
        "error_2": float,
        "error_inf": float,
        "baseline_error_2": float,
        "baseline_error_inf": float,
        "sensitivity_2": float,
        "sensitivity_inf": float,
        "limit_2": float,
        "limit_inf": float,
        "ratio": float,
        "allclose_default": bool,
        "assert_close_default": bool,
        "mask_agreement": float,
    }
)
"""One row per case × candidate × regime × seed × quantity. `ratio` is the worse of error / limit in both norms."""

TIMING = schema_of(
    CASE_COLUMNS
    | {
        "baseline": str,
        "implementation": str,
        "phase": str,
        "machine": str,
        "exclusive": bool,
        "samples": int,
        "rounds_s": float,
        "first_call_s": float,
        "calls_per_sample": int,
        "median_s": float,
        "q25_s": float,
        "q75_s": float,
        "device_median_s": float,
        "device_busy_s": float,
        "speedup": float,
        "speedup_ci_low": float,
        "speedup_ci_high": float,
        "control_ratio": float,
        "control_ci_low": float,
        "control_ci_high": float,
        "conclusion": str,
        "reason": str,
        "peak_memory_bytes": int,
        "operator_calls": int,
        "kernel_launches": int,
        "page_faults": float,
        "path": str,
        "flops": int,
        "sequential_flops": int,
        "least_bytes": int,
        "step_gemm_flops_per_s": float,
        "other_busy_cores": float,
        "clock_limits": str,
        "throttled_rounds": int,
        "other_gpu_processes": int,
        "started_at": float,
        "ended_at": float,
    }
)
"""One row per case × implementation × phase, the baseline's own among them. `machine` is the kind of machine it ran on.
`*_s` is wall time with the device synchronised; `device_median_s` the time between CUDA events, gaps between kernels
included; `device_busy_s` without the gaps, as a profiler saw one call. `control_*`: the baseline against itself.
`rounds_s` is the time of all rounds. `first_call_s` is that of the module's first call in this phase, which is in no
sample. Compilation is in it, save what the compiler finds on disk; what a process does once is not, since a module like
it was called before. `flops`, `sequential_flops` and `least_bytes` follow from the shape; `step_gemm_flops_per_s` is
the rate of one step's product. `path`: the library whose layer ran, as cuDNN. `page_faults`: how many pages
of memory the system gave to the process, per call, in the median of the samples. `other_busy_cores`,
`other_gpu_processes` and `clock_limits`: what else the machine did during the phase; `throttled_rounds` were left out,
since the GPU's clock was held down."""

MASKS = schema_of(
    CASE_COLUMNS
    | {
        "implementation": str,
        "seed": int,
        "gap": int,
        "step": int,
        "row": int,
        "unit": int,
        "draw": int,
        "kept": bool,
    }
)
"""One row per entry of the dropout masks of one small case, `draw` being its place in the stream of draws."""

CAPABILITIES = schema_of(
    {
        "implementation": str,
        "baseline": str,
        "device": str,
        "cell": str,
        "capability": str,
        "title": str,
        "outcome": str,
        "detail": str,
        "agrees": bool,
    }
)
"""One row per implementation × capability, the baseline's own among them. `agrees`: its numbers are the baseline's;
null where there are none to compare."""

LIFE = schema_of(
    CASE_COLUMNS
    | {
        "implementation": str,
        "point": str,
        "title": str,
        "condition": str,
        "verdict": str,
        "when": str,
        "quantity": str,
        "reason": str,
        "ratio": float,
        "calls": int,
        "elapsed_s": float,
    }
)
"""One row per implementation × dtype × kind × point of its life. `when`: what came before the call that decides;
`condition`: what must not be done where the point fails, empty where nothing excuses it."""

NOTHING_TO_TRY = "there is nothing to try"
"""The reason of a point that asks nothing of a layer of this kind, as of dropout where there is none."""

LEFT_OUT = "left out: the life took"
"""How the reason of a point begins that the life had no time for."""

SELF_TEST = schema_of(
    CASE_COLUMNS
    | {
        "seed": int,
        "weight_scale": float,
        "input_scale": float,
        "state_scale": float,
        "baseline": str,
        "implementation": str,
        "kind": str,
        "fault": str,
        "finding": str,
        "comparisons": int,
        "different": int,
        "not_judged": int,
        "ratio": float,
        "allclose_unequal": int,
        "assert_close_unequal": int,
        "fault_size_u": float,
    }
)
"""One row per case × right or wrong layer: what the checker made of it. The counts are of quantities; `ratio` is the
largest error / limit of those that were judged, `fault_size_u` the exact size of a fault that was not caught, in u."""

LIVES = schema_of(
    CASE_COLUMNS
    | {
        "seed": int,
        "implementation": str,
        "kind": str,
        "fault": str,
        "first_call": bool,
        "point": str,
        "when": str,
        "named": bool,
        "alarms": int,
        "calls": int,
        "seconds": float,
    }
)
"""One row per life of a right or wrong layer in the self-test, as `rnn_parity.trust.lives.examine_life` tells it."""

TRICKS = schema_of(
    {
        "implementation": str,
        "trick": str,
        "phase": str,
        "believed": float,
        "conclusion": str,
        "reason": str,
        "speedup": float,
        "speedup_ci_low": float,
        "settings": str,
        "held": bool,
    }
)
"""One row per trick on the clock, as `rnn_parity.trust.tricks.run.examine_tricks` tells it."""

POWER = schema_of(
    {
        "device": str,
        "implementation": str,
        "fault": str,
        "draws": int,
        "trials": int,
        "detections": int,
        "share": float,
        "share_ci_low": float,
        "share_ci_high": float,
    }
)
"""One row per layer: in what share of trials `train_distribution` called it different, with Wilson's 95 % interval."""

COLLECTED = {
    "equivalence": EQUIVALENCE,
    "timing": TIMING,
    "self_test": SELF_TEST,
    "coverage": SELF_TEST,
    "power": POWER,
    "capabilities": CAPABILITIES,
    "life": LIFE,
    "masks": MASKS,
}
"""The tables of the whole experiment, `results/{name}.parquet`, of which report and tables are made. `coverage` has the
findings of the self-test in the cases of the grid."""


def write_rows(path: Path, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as Parquet; a missing column is null, an unknown one raises `ValueError`."""
    unknown = {name for row in rows for name in row} - set(schema.names)
    if unknown:
        raise ValueError(f"{path}: no such column: {', '.join(sorted(unknown))}")
    write_table(path, pa.Table.from_pylist(rows, schema=schema))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet, atomically."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def read_table(paths: Path | Sequence[Path], schema: pa.Schema) -> pa.Table:
    """Read one table, or several of the same columns as one; `InputError` where a file has other columns."""
    tables = []
    for path in [paths] if isinstance(paths, Path) else paths:
        try:
            table = pq.read_table(path, partitioning=None)
        except (OSError, pa.ArrowInvalid) as error:
            reason = "it is not there" if isinstance(error, FileNotFoundError) else error
            raise InputError(f"{path}: cannot be read as a table ({reason}); {_MAKES_IT}") from error
        if table.schema != schema:
            raise InputError(f"{path}: holds other columns than this version writes; {_MAKES_IT} again")
        tables.append(table.replace_schema_metadata())
    return pa.concat_tables(tables) if tables else schema.empty_table()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the same folder, moved onto `path` at the end, so that no reader sees half a file.

    Raises `InputError` where the disk is full or takes no file there; what was at `path` is as it was.
    """
    temporary = path.with_name(f".{path.name[:64]}.{uuid.uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise InputError(f"{path}: {DISK_FULL}") from error
        named = [str(name) for name in (error.filename, error.filename2) if name]
        if named and not any(map(temporary.is_relative_to, named)):
            raise  # of a file that the block reads
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason}); expected a place for a new file") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; `InputError` where a file cannot be read as JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read as JSON ({reason}); {_MAKES_IT}") from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, indented."""
    write_text(path, json.dumps(value, indent=2) + "\n")
