"""A config as it is written: YAML or JSON files and what a command line sets, to plain data. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from rnn_parity.experiment.config import Config
from rnn_parity.experiment.errors import InputError, in_short


class _Loader(yaml.SafeLoader):
    """YAML in which a key stands once in its mapping, 1e-3 is a number, and 010 and 1:30 are none."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)  # before `<<` is filled in, which may repeat keys
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                both = f"is set here and in line {lines[name]}"
                raise InputError(f"line {line}: the key {in_short(key.value)} {both}, expected it once")
            lines[name] = line
        return node

    def construct_plain(self, node: Any) -> Any:
        """A number as it is read by people: to YAML, 010 is 8 and 1:30 is 90."""
        if re.search(r"^[-+]?0\d|:", node.value):
            line, number = node.start_mark.line + 1, in_short(node.value)
            raise InputError(f"line {line}: holds {number}, expected a decimal number, or a text in quotes")
        return self.construct_yaml_float(node) if node.tag.endswith("float") else self.construct_yaml_int(node)


for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_plain)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+"), "-+0123456789")


def load_config(path: Path) -> dict[str, Any]:
    """Read a config file as it is written; raise `InputError` where it is no YAML, has no keys or holds one twice."""
    try:
        config = _parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot be read ({reason}); expected a config file; `rnn-parity init .` makes one"
        ) from error
    if not isinstance(config, dict):
        what = "is empty" if config is None else f"holds {in_short(config)}"
        raise InputError(f"{path}: {what}, expected a mapping of keys")
    return config


def read_config(paths: Iterable[Path | str], settings: Iterable[str]) -> dict[str, Any]:
    """The config of a command line: its files, a later one over an earlier, then its settings `KEY=VALUE` in YAML.

    Snakemake's own reading drops the first of two equal keys, and takes a number within a section for a text.
    """
    config: dict[str, Any] = {}
    for path in paths:
        _lay_over(config, load_config(Path(path)))
    for setting in settings:
        key, _, text = setting.partition("=")
        field = Config.model_fields.get(key)
        value = text if field and field.annotation is str else _parse(text, f"--config {key}")
        _lay_over(config, {key: value})
    return config


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text.replace("\t", " ") if text.lstrip().startswith("{") else text, _Loader)  # JSON has tabs
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, thousands of brackets
        raise InputError(f"{where}: is not YAML: {' '.join(str(error).split())}") from error


def _lay_over(config: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            _lay_over(config[key], value)
        else:
            config[key] = value
