"""Checkpoint files, read without running a pickle: what `torch.save` writes, and safetensors."""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from rnn_parity.experiment.errors import InputError

SAFETENSORS = ".safetensors"

_DEEPEST = 100
_LARGEST_REPEATED = 2**30
_SPARSE = {
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}
"""Layout to the methods that give what a sparse tensor holds."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: mappings, tensors on the CPU and plain values; beside them the notes of a safetensors file."""

    content: Any
    notes: Mapping[str, str] | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; `InputError` where it is cut short, damaged, or holds more than tensors and plain values."""
    try:
        checkpoint = _read_safetensors(path) if path.suffix == SAFETENSORS else _read_torch(path)
        _check_tensors(checkpoint.content)
        return checkpoint
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"refused, it holds {found[1]}" if found else "is no whole checkpoint"
        raise InputError(f"{path}: {what}; expected tensors and plain values only") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}); expected a checkpoint") from error
    except Exception as error:  # of damaged bytes the readers make any: IndexError, struct.error, AssertionError, …
        reason = " ".join((str(error) or "it ends too soon").split())[:120]
        raise InputError(f"{path}: is no whole checkpoint ({reason}); expected one of torch or safetensors") from error


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in the format that the suffix of `path` says; `OSError` where the disk does not take it."""
    if path.suffix == SAFETENSORS:
        written = save(checkpoint.content, checkpoint.notes)
    else:
        torch.save(checkpoint.content, memory := io.BytesIO())
        written = memory.getbuffer()
    path.write_bytes(written)  # the libraries' own writers do not say what the disk said


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same type, shape, layout and bits, NaN among them."""
    if (a.dtype, a.shape, a.layout) != (b.dtype, b.shape, b.layout):
        return False
    return all(torch.equal(_bytes(old), _bytes(new)) for old, new in zip(_parts(a), _parts(b), strict=True))


def _parts(tensor: Tensor) -> list[Tensor]:
    """What a tensor holds, in strided tensors: of a sparse one its indices and values, else itself."""
    return [getattr(tensor, name)() for name in _SPARSE[tensor.layout]] if tensor.layout in _SPARSE else [tensor]


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.resolve_conj().resolve_neg().contiguous().flatten().view(torch.uint8)


def _read_safetensors(path: Path) -> Checkpoint:
    with safe_open(path, "pt") as file:
        names = file.keys()  # it is no mapping: it can't be iterated itself
        return Checkpoint({name: file.get_tensor(name) for name in names}, file.metadata())


def _read_torch(path: Path) -> Checkpoint:
    if zipfile.is_zipfile(path):  # else the format before torch 1.6, or no checkpoint at all: torch says which
        _check_archive(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript, which is refused right after, and of sparse tensors
        return Checkpoint(torch.load(path, map_location="cpu", weights_only=True))


def _check_archive(path: Path) -> None:
    """Torch checks no checksums, and unpacks what is packed however large it becomes; it writes neither itself."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        packed = [part.filename for part in parts if part.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise InputError(f"refused, its part {packed[0]} is compressed; expected a file of torch.save")
        if any(part.CRC for part in parts):
            damaged = archive.testzip()
            if damaged:
                raise InputError(f"is damaged, the checksum of its part {damaged} is wrong")
        for part in parts:  # without checksums, as after `torch.serialization.set_crc32_options(False)`
            archive.open(part).close()  # still holds each part's own header against the list of all


def _check_tensors(content: Any) -> None:
    """Raise `InputError` for a tensor whose bits cannot be compared, as its copy is to be."""
    for place, tensor in _tensors(content):
        name, size = ".".join(map(str, place)), tensor.numel() * tensor.element_size()
        dense = tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_nested or tensor.is_meta)
        if not dense and tensor.layout not in _SPARSE:
            raise InputError(f"{name} is a quantized, nested or meta tensor; expected a dense or sparse one")
        if dense and tensor.untyped_storage().nbytes() < size > _LARGEST_REPEATED:
            raise InputError(f"{name} repeats what is in the file to {size} bytes; expected a tensor that is in it")


def _tensors(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """Every tensor of a checkpoint, with the keys and positions that lead to it."""
    if len(place) > _DEEPEST:
        raise InputError(f"holds itself, or is nested deeper than {_DEEPEST}; expected mappings, lists and tensors")
    if isinstance(content, Tensor):
        yield place, content
    elif isinstance(content, dict | list | tuple):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _tensors(value, (*place, key))
