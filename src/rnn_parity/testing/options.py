"""The options of the plugin. An argument overrides a marker, a marker the command line, the command line the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from rnn_parity.experiment.devices import DEVICES
from rnn_parity.experiment.errors import InputError, did_you_mean
from rnn_parity.experiment.names import BASELINES, check_name
from rnn_parity.experiment.one_case import make_case_of_check
from rnn_parity.experiment.presets import PRESETS, SIZES
from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, Regime

REGIMES = (Regime.EVAL, Regime.TRAIN_MATCHED_MASKS)


def _boolean(text: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]


@dataclass(frozen=True)
class Option:
    """An option: how a value is read from a string, its help, whether it takes several values, and which it may be."""

    read: Callable[[str], Any]
    help: str
    several: bool = False
    choices: tuple[str, ...] = ()


OPTIONS = {
    "baseline": Option(str, "the layer to be replaced; by default the loop over cells"),
    "cell": Option(str, "the kind of cell: gru, gru_reset_before, lstm or PKG:CLASS; inferred by default"),
    "like": Option(str, f"the cases, by preset: {', '.join(PRESETS)}", several=True, choices=tuple(PRESETS)),
    "input_size": Option(int, "input size I"),
    "hidden_size": Option(int, "hidden size H"),
    "num_layers": Option(int, "number of layers L"),
    "sequence_length": Option(int, "sequence length T"),
    "batch_size": Option(int, "batch size B"),
    "dropout": Option(float, "dropout between layers, in training"),
    "dtype": Option(str, "float64, float32, bfloat16 or float16"),
    "device": Option(str, "auto, cpu or cuda"),
    "threads": Option(int, "CPU threads to compute with"),
    "seeds": Option(int, "the seeds", several=True),
    "regimes": Option(str, f"any of {', '.join(EXPECTED_TO_HOLD)}", several=True, choices=tuple(EXPECTED_TO_HOLD)),
    "life": Option(_boolean, "whether to test hundreds of other calls too: true or false"),
    "time_limit": Option(float, "seconds without a new result after which a layer is stopped"),
}
"""Every option by its name as an argument; `--rnn-NAME` on the command line, `rnn_NAME` in pytest's configuration."""

_WORDS: dict[Any, str] = {int: "an integer", float: "a number", _boolean: "true or false", str: "a word"}
_DEFAULTS: dict[str, Any] = {"like": ["small"], "regimes": list(REGIMES), "life": True}


def add_options(parser: pytest.Parser) -> None:
    """Add every option to the command line and to the file."""
    group = parser.getgroup("rnn-parity", "rnn-parity: may this recurrent layer replace that one?")
    add = group.addoption
    add("--rnn-layer", action="append", default=[], metavar="PKG:CLASS", help="a layer to judge; may be repeated")
    add("--rnn-bundle", metavar="DIR", help="a folder for files that reproduce each failure")
    for name, option in OPTIONS.items():
        add(_flag(name), metavar="VALUE", help=option.help, action="append" if option.several else "store")
        if option.several:
            parser.addini(f"rnn_{name}", option.help, type="args", default=[])
        else:
            parser.addini(f"rnn_{name}", option.help, type="string", default="")
    parser.addini("rnn_expected_failures", "lines `NAME: reason`, each of a check that must fail", "linelist", [])


def of_session(config: pytest.Config) -> dict[str, Any]:
    """The options that the file and the command line give; raises `pytest.UsageError`, in one line, for a wrong one."""
    found = {}
    for name, option in OPTIONS.items():
        for key, given in (
            (f"rnn_{name}", config.getini(f"rnn_{name}")),
            (_flag(name), config.getoption(f"rnn_{name}")),
        ):
            if given not in (None, "", []):
                found[name] = _read(key, option, given)
    return found


def complete(config: pytest.Config, arguments: Mapping[str, Any], markers: Iterable[Mapping[str, Any]] = ()) -> dict:
    """The options of one test; raises `pytest.UsageError`, in one line, for an unknown one.

    Args:
        arguments: those of the decorator. markers: those of `@pytest.mark.rnn_parity`, the closest first.
    """
    found = _DEFAULTS | of_session(config)
    for given in (*reversed(list(markers)), arguments):
        for name in given:
            if name not in OPTIONS:
                raise pytest.UsageError(f"{name}: is not an option of rnn-parity{did_you_mean(name, OPTIONS)}")
        found |= {name: value for name, value in given.items() if value is not None}
    for name, option in OPTIONS.items():
        if option.several and isinstance(found.get(name), (str, bytes, int)):
            found[name] = [found[name]]
        if name in found:
            _require_values(name, option, found[name])
    _require_case(found)
    return found


def _require_case(found: Mapping[str, Any]) -> None:
    """Raise `pytest.UsageError` for what no case can be made of; a device is looked for later."""
    if not isinstance(found["life"], bool):
        raise pytest.UsageError(f"life: holds {found['life']!r}, expected True or False")
    if found.get("device", "auto") not in DEVICES:
        raise pytest.UsageError(f"device: holds {found['device']!r}, expected one of {', '.join(DEVICES)}")
    sizes, seeds = PRESETS["small"]
    axes = sizes | {name: found[name] for name in (*SIZES, "dtype", "threads", "cell") if name in found}
    baseline = found.get("baseline", BASELINES["gru"])
    names = baseline if isinstance(baseline, str) else BASELINES["gru"], "package.module:Class"
    try:
        make_case_of_check(*names, "cpu", axes, found.get("seeds", seeds), found["regimes"])
    except InputError as error:
        raise pytest.UsageError(str(error)) from None


def require_layers(layers: Any, key: str) -> None:
    """Raise `pytest.UsageError`, naming the argument `key`, for what is no list of layers."""
    if not isinstance(layers, list | tuple) or not layers:
        raise pytest.UsageError(f"{key}: holds {layers!r}, expected a list of at least one layer, such as [FastGRU]")
    for layer in layers:
        try:
            if isinstance(layer, str):
                check_name(layer, key)
            elif not callable(layer):
                raise InputError(f"{key}: holds {layer!r}, expected a class, another callable, or package.module:Class")
        except InputError as error:
            raise pytest.UsageError(str(error)) from None


def expected_failures(config: pytest.Config, arguments: Mapping[str, str] | Iterable[str] = ()) -> dict[str, str]:
    """Name of a check to the reason why it fails, of the file and of the decorator, which may give such lines too."""
    if isinstance(arguments, str) or not isinstance(arguments, Iterable):
        raise pytest.UsageError(f"expected_failures: holds {arguments!r}, expected a dict of names to reasons")
    found = {}
    for line in (*config.getini("rnn_expected_failures"), *(() if isinstance(arguments, Mapping) else arguments)):
        name, _, reason = str(line).partition(":")
        found[name.strip()] = reason.strip()
    found |= arguments if isinstance(arguments, Mapping) else {}
    if without := [name for name, reason in found.items() if not reason]:
        raise pytest.UsageError(f"expected_failures: {without[0]} has no reason; expected `NAME: reason`")
    return found


def _flag(name: str) -> str:
    return f"--rnn-{name.replace('_', '-')}"


def _read(key: str, option: Option, given: Any) -> Any:
    texts = given if isinstance(given, list) else [given]
    try:
        values = [option.read(part) for text in texts for part in str(text).split(",") if part.strip()]
        if not option.several:
            (values,) = values
    except (ValueError, KeyError):
        several = ", or several with commas" if option.several else ""
        raise pytest.UsageError(f"{key}: holds {given!r}, expected {_WORDS[option.read]}{several}") from None
    _require_values(key, option, values)
    return values


def _require_values(key: str, option: Option, values: Any) -> None:
    if option.several and not values:
        raise pytest.UsageError(f"{key}: holds nothing, expected at least one value")
    if option.choices and (wrong := [value for value in values if value not in option.choices]):
        raise pytest.UsageError(f"{key}: holds {wrong[0]!r}, expected one of {', '.join(option.choices)}")
