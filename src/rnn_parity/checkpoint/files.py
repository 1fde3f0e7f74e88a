"""Checkpoint files, read without running a pickle: what `torch.save` writes, and safetensors."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rnn_parity.errors import InputError

SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: mappings, tensors on the CPU and plain values; beside them the notes of a safetensors file."""

    content: Any
    notes: Mapping[str, str] | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; `InputError` where it is cut short, damaged, or holds more than tensors and plain values."""
    if path.suffix != SAFETENSORS:
        _check_archive(path)
    try:
        if path.suffix == SAFETENSORS:
            with safe_open(path, "pt") as file:
                names = file.keys()  # it is no mapping: it can't be iterated itself
                return Checkpoint({name: file.get_tensor(name) for name in names}, file.metadata())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript, which is refused right after
            return Checkpoint(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"refused, it holds {found[1]}" if found else "is no whole checkpoint"
        raise InputError(f"{path}: {what}; expected tensors and plain values only") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}); expected a checkpoint") from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = " ".join((str(error) or "it ends too soon").split())[:120]
        raise InputError(f"{path}: is no whole checkpoint ({reason})") from error


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in the format that the suffix of `path` says."""
    if path.suffix == SAFETENSORS:
        save_file(checkpoint.content, path, checkpoint.notes)
    else:
        torch.save(checkpoint.content, path)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same type, shape and bits, NaN among them."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(*(tensor.contiguous().flatten().view(torch.uint8) for tensor in (a, b)))


def _check_archive(path: Path) -> None:
    """Torch checks no checksums, and unpacks what is packed however large it becomes; it writes neither itself."""
    try:
        if not zipfile.is_zipfile(path):
            return  # the format before torch 1.6, or no checkpoint at all: torch says which
        with zipfile.ZipFile(path) as archive:
            packed = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
            damaged = None if packed else archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise InputError(f"{path}: is no whole checkpoint ({error})") from error
    if packed:
        raise InputError(f"{path}: refused, its part {packed[0]} is compressed; expected a file of torch.save")
    if damaged:
        raise InputError(f"{path}: is damaged, the checksum of its part {damaged} is wrong")
