"""The experiment as the user wrote it: read, checked against the schema, filled with defaults. Imports no torch."""

from __future__ import annotations

import copy
import difflib
import json
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from rnn_parity.experiment.errors import InputError

SCHEMA_PATH = Path(__file__).parents[1] / "pipeline/workflow/schemas/config.schema.yaml"


def load_config(path: Path) -> dict[str, Any]:
    """Read a config file, or raise `InputError`."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a config file") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    return complete_config(config)


def complete_config(config: Any) -> dict[str, Any]:
    """Return a copy of `config` with every default filled in; raise `InputError` at the first fault."""
    if not isinstance(config, dict):
        raise InputError(f"config: holds {_short(config)}, expected a mapping of keys")
    config = copy.deepcopy(config)
    schema = yaml.safe_load(SCHEMA_PATH.read_text(encoding="utf-8"))
    errors = sorted(_filling_validator(schema).iter_errors(config), key=lambda error: _key(error.absolute_path))
    if errors:
        raise InputError(_one_line(errors[0]))
    return config


def _filling_validator(schema: dict[str, Any]) -> Any:
    """A validator that also sets defaults: the recipe of the jsonschema documentation's FAQ."""
    check_properties = Draft202012Validator.VALIDATORS["properties"]

    def fill_and_check(validator, properties, instance, subschema):
        if isinstance(instance, dict):
            for name, property_schema in properties.items():
                if "default" in property_schema:
                    instance.setdefault(name, copy.deepcopy(property_schema["default"]))
        yield from check_properties(validator, properties, instance, subschema)

    return validators.extend(Draft202012Validator, {"properties": fill_and_check})(schema)


def _key(path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") or "config"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _one_line(error: ValidationError) -> str:
    """`key: holds VALUE, expected WHAT`."""
    key, schema = _key(error.absolute_path), error.schema
    if error.validator == "additionalProperties":
        known = sorted(schema.get("properties", {}))
        unknown = next(name for name in error.instance if name not in known)
        close = difflib.get_close_matches(str(unknown), known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"{key}: unknown key {_short(unknown)}, expected one of {', '.join(known)}{hint}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"{key}: the key {_short(missing)} is missing"
    if error.validator == "pattern":
        return f"{key}: the name {_short(error.instance)} is not usable, expected {schema['pattern']}"
    allowed = error.validator_value
    expected = {
        "type": lambda: " or ".join([allowed] if isinstance(allowed, str) else allowed),
        "enum": lambda: "one of " + ", ".join(_short(value).strip('"') for value in allowed),
        "minimum": lambda: f"at least {allowed}",
        "maximum": lambda: f"at most {allowed}",
        "exclusiveMinimum": lambda: f"more than {allowed}",
        "exclusiveMaximum": lambda: f"less than {allowed}",
        "minItems": lambda: f"at least {allowed} value",
        "minLength": lambda: f"at least {allowed} character",
        "minProperties": lambda: f"at least {allowed} entry",
        "uniqueItems": lambda: "every value once",
    }.get(error.validator, lambda: error.message)()
    return f"{key}: holds {_short(error.instance)}, expected {expected}"
