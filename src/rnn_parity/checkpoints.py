"""Files of tensors and plain values: `.pt`, as `torch.save` writes them, and `.safetensors`."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from rnn_parity.experiment.errors import InputError, in_one_line

SAFETENSORS = ".safetensors"


def read_checkpoint(path: Path) -> tuple[Any, dict[str, str] | None]:
    """Read tensors and plain values, and the metadata of a safetensors file; no pickle is executed.

    Raises `InputError` with the reader's reason where the file cannot be read or holds anything else.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a checkpoint") from error
    try:
        if path.suffix != SAFETENSORS:
            with warnings.catch_warnings(action="ignore"):  # of what is refused anyway
                return torch.load(path, map_location="cpu", weights_only=True), None
        with safe_open(path, "pt") as file:
            names = file.keys()  # safe_open is no mapping: it cannot be iterated itself
            return {name: file.get_tensor(name) for name in names}, file.metadata()
    except Exception as error:  # damaged bytes make the readers raise anything: IndexError, struct.error, …
        raise InputError(
            f"{path}: cannot be read ({_reason(error)}); expected tensors and plain values only"
        ) from error


def write_checkpoint(path: Path, content: Any, metadata: dict[str, str] | None) -> None:
    """Write what `read_checkpoint` gives."""
    memory = io.BytesIO(save(content, metadata) if path.suffix == SAFETENSORS else b"")
    if path.suffix != SAFETENSORS:
        torch.save(content, memory)
    path.write_bytes(memory.getvalue())  # the libraries' own writers do not report the disk's error


def _reason(error: Exception) -> str:
    """Why a file is no checkpoint: of what torch says the reason alone, without its advice."""
    if refused := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it holds {refused[1]}"
    if isinstance(error, EOFError):
        return "it ends too early"
    unpickling = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    first_sentence = (unpickling[1] if unpickling else in_one_line(error)).partition(". ")[0]
    return textwrap.shorten(first_sentence, 200, placeholder=" …")
