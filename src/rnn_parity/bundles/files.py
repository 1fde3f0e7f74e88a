"""A bundle on disk: a folder of two files. Opening it executes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from rnn_parity.bundles.questions import Evidence, Question, shapes_of
from rnn_parity.experiment.errors import InputError, in_one_line
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.names import IMPORT_PATH, REGISTRY
from rnn_parity.experiment.one_case import make_case_of_check
from rnn_parity.experiment.vocabulary import AXES, Regime
from rnn_parity.life.live import POINTS
from rnn_parity.steps import PHASES
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
    """Raise `InputError` for a folder with other files than those of a bundle, or a place that takes none."""
    try:
        if folder.is_file():
            raise InputError(f"{folder}: is a file, expected a new folder for a bundle")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / QUESTION).exists():
            raise InputError(f"{folder}: holds other files, expected a new folder for a bundle")
        with TemporaryFile(dir=next(place for place in (folder, *folder.absolute().parents) if place.exists())):
            pass  # a yes makes no folder
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
        raise InputError(f"{folder}: {reason}, expected a new folder for a bundle") from error


def _import_path(name: str) -> str:
    """The import path of a layer that was given as an object, where it has one: no other process knows its name."""
    factory = REGISTRY.get(name, name)
    if isinstance(factory, str):
        return name
    path = f"{getattr(factory, '__module__', '')}:{getattr(factory, '__qualname__', '')}"
    return path if IMPORT_PATH.fullmatch(path) else name


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle; nothing in it is executed. Raises `InputError` for what is none."""
    try:
        about = json.loads((folder / QUESTION).read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise InputError(f"{folder / QUESTION}: format holds {about['format']!r}, expected {FORMAT}")
        asked = Question(**about["question"] | {"case": Case(**about["question"]["case"])})
        question, row = _checked(asked, folder / QUESTION), dict(about["row"])
        if wrong := [key for key, value in row.items() if key != "ratio" and not isinstance(value, str)]:
            raise InputError(f"{folder / QUESTION}: row.{wrong[0]}: holds {row[wrong[0]]!r}, expected a string")
        with safe_open(folder / TENSORS, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no dictionary
        for name, shape in shapes_of(question.case).items() if question.regime else ():
            found, dtype = tensors[name], getattr(torch, question.case.dtype)
            if (tuple(found.shape), found.dtype) != (shape, dtype):
                said = f"{name} is {tuple(found.shape)} {found.dtype}, expected {shape} {dtype}"
                raise InputError(f"{folder / TENSORS}: {said} by the case in {QUESTION}")
        return Bundle(question, Evidence(row, tensors), dict(about["environment"]))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read as a bundle ({error.strerror or error})") from error
    except (KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{folder}: is no bundle ({in_one_line(error)}); expected what `rnn-parity check --bundle` wrote"
        ) from error


def _checked(question: Question, file: Path) -> Question:
    """The question, its values checked as the arguments of a check are; the layers may have other names here."""
    axes = {axis: getattr(question.case, axis) for axis in AXES if axis != "device"}
    asked = [key for key in ("regime", "point", "phase") if getattr(question, key)]
    try:
        if len(asked) != 1:
            raise InputError(f"question: holds {' and '.join(asked) or 'none'} of regime, point, phase, expected one")
        for key, known in (("point", POINTS), ("phase", PHASES)):
            if key in asked and (value := getattr(question, key)) not in known:
                raise InputError(f"{key}: holds {value!r}, expected one of {', '.join(known)}")
        for key in ("baseline", "candidate"):
            if not isinstance(value := getattr(question, key), str):
                raise InputError(f"{key}: holds {value!r}, expected the name of a layer")
        (ours, theirs, *_), device = REGISTRY, question.case.device
        case = make_case_of_check(ours, theirs, device, axes, [question.seed], [question.regime or Regime.EVAL])
    except InputError as error:
        key, _, rest = str(error).partition(": ")
        raise InputError(f"{file}: {key.removesuffix('s[0]')}: {rest}") from error
    return replace(question, case=case)
