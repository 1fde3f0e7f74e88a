"""A bundle on disk: a folder of two files. Opening it executes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from rnn_parity.bundles.questions import Evidence, Question, stimulus_of
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.names import REGISTRY
from rnn_parity.tables import atomic_path, write_text

FORMAT = 1
QUESTION, TENSORS = "bundle.json", "tensors.safetensors"


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read."""

    question: Question
    evidence: Evidence
    environment: Mapping[str, Any]


def write_bundle(
    folder: Path, question: Question, evidence: Evidence, conclusion: str, environment: Mapping[str, Any]
) -> None:
    """Write a bundle, in place of another that is there. Raises `InputError` where it cannot be written."""
    require_place(folder)
    named = {key: _import_path(getattr(question, key)) for key in ("baseline", "candidate")}
    about = {"format": FORMAT, "conclusion": conclusion, "question": asdict(question) | named, "row": evidence.row}
    about["environment"] = environment
    with atomic_path(folder / TENSORS) as path:
        path.write_bytes(save({name: t.contiguous().clone() for name, t in evidence.tensors.items()}))
    write_text(folder / QUESTION, json.dumps(about, indent=2, ensure_ascii=False) + "\n")


def require_place(folder: Path) -> None:
    """Raise `InputError` for a folder with other files than those of a bundle, or a file in its place."""
    if folder.is_file():
        raise InputError(f"{folder}: is a file, expected a new folder for a bundle")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / QUESTION).exists():
        raise InputError(f"{folder}: holds other files, expected a new folder for a bundle")


def _import_path(name: str) -> str:
    """The import path of a layer that was given as an object, where it has one: no other process knows its name."""
    factory = REGISTRY.get(name, name)
    if isinstance(factory, str):
        return name
    path = f"{getattr(factory, '__module__', '')}:{getattr(factory, '__qualname__', '')}"
    return name if "<" in path else path


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle; nothing in it is executed. Raises `InputError` for what is none."""
    try:
        about = json.loads((folder / QUESTION).read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise InputError(f"{folder / QUESTION}: format holds {about['format']!r}, expected {FORMAT}")
        question = Question(**about["question"] | {"case": Case(**about["question"]["case"])})
        with safe_open(folder / TENSORS, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no dictionary
        if question.regime:
            stimulus_of(question.case, tensors)
        return Bundle(question, Evidence(dict(about["row"]), tensors), dict(about["environment"]))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read as a bundle ({error.strerror or error})") from error
    except (KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{folder}: is no bundle ({said}); expected what `rnn-parity check --bundle` wrote") from error
