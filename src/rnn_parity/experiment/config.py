"""The experiment as the user writes it: schema, defaults and documentation in one model. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from rnn_parity.experiment.errors import InputError, did_you_mean, in_short
from rnn_parity.experiment.vocabulary import AXES, LONGEST_LIMIT_S, MOST_THREADS, Axis, Dtype, Phase, Regime

Value = TypeVar("Value")


def _once(values: list) -> list:
    if len(set(map(str, values))) < len(values):
        raise ValueError("every value once")
    return values


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("one line of printable characters")
    return text


Size = Annotated[int, Field(ge=1, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Several = Annotated[list[Value], Field(min_length=1), AfterValidator(_once)]
Seeds = Several[Seed]
Regimes = Several[Literal[tuple(map(str, Regime))]]  # type: ignore[misc]  # mypy wants values that are written out
MOST_CASES = 1_000_000
"""Of a sweep."""
SWEPT = {name: axis for name, axis in AXES.items() if name != "device"}  # `device` is a key of its own


class Section(BaseModel):
    """A mapping of known keys. Numbers are finite, and nothing is converted: "4" is no number, true no integer."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _off(mode: Any) -> Any:
    return "off" if mode is False else mode  # to YAML, off without quotes is false


def _type(name: str, axis: Axis) -> Any:
    if name == "dtype":
        return Literal[tuple(map(str, Dtype))]
    if name == "threads":
        return Annotated[int, Field(ge=1, le=MOST_THREADS)]
    return {int: Size, float: Share, bool: bool, str: Name}[axis.type]


def _or_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _swept(kind: Any) -> Any:
    """One value of an axis, or a list of values."""
    return Annotated[list[kind], Field(min_length=1), BeforeValidator(_or_list), AfterValidator(_once)] | None


Defaults = create_model(  # type: ignore[call-overload]  # mypy takes ** for every keyword
    "Defaults",
    __base__=Section,
    __doc__="The value of every axis that a sweep does not name.",
    **{name: (_type(name, axis), Field(axis.default, description=axis.label)) for name, axis in SWEPT.items()},
)


class _SweepSettings(Section):
    seeds: Seeds | None = None
    """The seeds of this sweep, in place of those of `equivalence`."""
    regimes: Regimes | None = None
    """The regimes of this sweep, in place of those of `equivalence`."""
    workload: Name = "layer"
    """What the layer is used in: `layer` is the layer alone; others by name, or as `package:name`."""
    extras: list[Name] | None = None
    """The extra tables of the workload to make; all by default."""


Sweep = create_model(  # type: ignore[call-overload]  # mypy takes ** for every keyword
    "Sweep",
    __base__=_SweepSettings,
    __doc__="One product of lists over the defaults, and a section of the report.",
    **{name: (_swept(_type(name, axis)), Field(None, description=axis.label)) for name, axis in SWEPT.items()},
)


class Equivalence(Section):
    """The comparison of the numbers."""

    seeds: Seeds = [0, 1, 2]
    """The seeds; one stimulus is drawn from each."""
    draws: int = Field(default=10_000, ge=1000, le=10**8)
    """Dropout draws of `train_distribution`, each in its own row of a batch."""
    regimes: Regimes = [Regime.EVAL.value, Regime.TRAIN_MATCHED_MASKS.value, Regime.TRAIN_SAME_SEED.value]
    """The regimes in which every case is compared."""


class Timing(Section):
    """The measurement of the times."""

    phases: Several[Literal[tuple(map(str, Phase))]] = list(map(str, Phase))
    """The phases that are timed."""
    precision: float = Field(default=0.02, gt=0)
    """Stop when the intervals of the speedup and of the baseline against itself are narrower than this fraction."""
    min_rounds: int = Field(default=10, ge=6, le=10**6)
    """Rounds that are always made; in each, every implementation is timed once, the baseline twice."""
    max_seconds: float = Field(default=4, gt=0)
    """Seconds after which no further round of a phase begins, once min_rounds are made; large cases take longer."""
    confidence: float = Field(default=0.95, gt=0.5, le=0.999)
    """Coverage of the interval of a speedup; 0.99 takes 8 rounds, 0.999 takes 11."""
    exclusive: bool = True
    """Run no other job of the workflow while the clock runs. `false` shortens the run, and every speedup says so."""


class SelfTest(Section):
    """Tests of the check itself, with planted faults and with correct layers that round differently."""

    cases: int = Field(default=8, ge=0)
    """Random cases per dtype of the grid, tried on this machine in addition to the kept rates; 0 for none."""
    power: bool = False
    """Measure how often `train_distribution` finds each fault of dropout; otherwise the kept rates are shown."""
    own_cases: bool = True
    """Also plant every fault in every case of the grid, to name the cases that could not have shown it."""


class Tracking(Section):
    """The place where the runs are shown."""

    uri: str | None = None
    """An MLflow tracking URI; null means MLFLOW_TRACKING_URI, or else the embedded mlflow.db."""
    mode: Annotated[Literal["each_job", "at_end", "off"], BeforeValidator(_off)] = "each_job"
    """Publish runs after each job or after the last one; or `off`, only by `snakemake publish`."""
    strict: bool = False
    """Fail the run when the tracking server cannot be reached, instead of warning."""


class Report(Section):
    """The report."""

    title: Name = "Recurrent layers compared"
    """Its heading."""
    width: Literal["page", "column"] = "page"
    """The width of the figures: page for two columns of a journal (178 mm), column for one (85 mm)."""
    sweep: str | None = None
    """The sweep whose largest case is quoted in the answer; null means t2vec, or else the largest case."""


class Compared(Section):
    """What is compared of one kind of cell."""

    baseline: Name
    """The implementation that might be replaced; a registered name or `package.module:Class`."""
    candidates: Annotated[list[Name], Field(min_length=1)]
    """The implementations it might be replaced by."""


class Config(Compared):
    """An experiment. `baseline` and `candidates` belong to the kind of cell that `defaults` names."""

    study: Name
    """The name of the study; it becomes the MLflow experiment."""
    cells: dict[Name, Compared] = {}
    """The same for every other kind that a sweep names: `gru`, `gru_reset_before`, `lstm` or `package.module:Class`."""
    device: Annotated[Several[Literal["auto", "cpu", "cuda"]], BeforeValidator(_or_list)] = ["auto"]
    """`auto` is cuda if there is one, otherwise cpu; a list runs the grid on each."""
    defaults: Defaults = Defaults()
    """The value of every axis that a sweep does not name."""
    sweeps: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")], Sweep], Field(min_length=1)
    ]
    """The grid. Each sweep is the product of its lists over the defaults, and a section of the report."""
    within_job: Annotated[list[Literal[tuple(axis for axis in SWEPT if axis != "cell")]], AfterValidator(_once)] = [
        "sequence_length",
        "dropout",
    ]
    """The axes swept inside one process; every other axis gets separate jobs."""
    equivalence: Equivalence = Equivalence()
    timing: Timing = Timing()
    self_test: SelfTest = SelfTest()
    case_limit_s: float = Field(default=3600, gt=0, le=LONGEST_LIMIT_S)
    """Seconds after which a case is stopped and not judged; also a life, and what a workload adds to a case."""
    life: bool = True
    """Judge each candidate over many calls, once for every dtype and kind of cell."""
    capabilities: bool = True
    """Probe what each implementation can do, apart from giving the right numbers."""
    workloads: dict[str, dict[str, Any]] = {}
    """Settings by workload; each workload checks its own."""
    tracking: Tracking = Tracking()
    report: Report = Report()


def complete_config(config: Any) -> dict[str, Any]:
    """Return the config with every default filled in, as plain data; raise `InputError` at the first error."""
    completed = complete(Config, config)
    timing = completed["timing"]
    if (least := math.ceil(1 - math.log2(1 - timing["confidence"]))) > timing["min_rounds"]:
        of = f"the least that give an interval of confidence {timing['confidence']:g}"
        raise InputError(f"timing.min_rounds: holds {timing['min_rounds']}, expected at least {least}, {of}")
    for name, sweep in completed["sweeps"].items():  # an axis that is not named takes the default, not null
        for key in [key for key, value in sweep.items() if value is None]:
            del sweep[key]
        if (number := math.prod(len(sweep[axis]) for axis in SWEPT.keys() & sweep.keys())) > MOST_CASES:
            raise InputError(f"sweeps.{name}: holds {number:,} cases, expected at most {MOST_CASES:,}")
    if (quoted := completed["report"]["sweep"]) not in (None, *completed["sweeps"]):
        hint = did_you_mean(quoted, completed["sweeps"])
        raise InputError(
            f"report.sweep: holds {in_short(quoted)}, expected one of {', '.join(completed['sweeps'])}{hint}"
        )
    return completed


def complete(model: type[BaseModel], given: Any, key: str = "") -> dict[str, Any]:
    """The data of a model with every default, as plain data; `InputError` in one line, its keys under `key`."""
    try:
        return model.model_validate(given).model_dump(mode="json")
    except ValidationError as error:
        raise InputError(_one_line(error, model, given, key)) from None


def _one_line(error: ValidationError, model: type[BaseModel], given: Any, under: str) -> str:
    """`key: holds VALUE, expected WHAT` of the first error, in the order of the keys."""
    first = min(error.errors(include_url=False), key=lambda found: [str(part) for part in found["loc"]])
    location = _as_written([part for part in first["loc"] if part != "[key]"], given)
    kind, limits = first["type"], first.get("ctx", {})
    if kind in ("extra_forbidden", "missing"):
        *parent, name = location
        if kind == "missing":
            return f"{_key(parent, under)}: the key {in_short(name)} is missing"
        known = sorted(_model_at(model, parent).model_fields)
        hint = did_you_mean(str(name), known)
        return f"{_key(parent, under)}: unknown key {in_short(name)}, expected one of {', '.join(known)}{hint}"
    if kind == "string_pattern_mismatch":
        name = in_short(first["input"])
        expected = "at most 64 letters, digits, - and _, the first a letter or digit"
        return f"{_key(location[:-1], under)}: the name {name} is not usable, expected {expected}"
    if kind == "invalid_key" or (kind == "string_type" and first["loc"][-1] == "[key]"):
        return f"{_key(location[:-1], under)}: the key {in_short(location[-1])} is not usable, expected a string"
    expected = {
        "greater_than_equal": f"at least {limits.get('ge')}",
        "less_than_equal": f"at most {limits.get('le')}",
        "less_than": f"less than {limits.get('lt')}",
        "greater_than": f"more than {limits.get('gt')}",
        "too_short": "at least 1 value",
        "string_too_short": "at least 1 character",
        "string_too_long": f"at most {limits.get('max_length')} characters",
        "literal_error": "one of " + str(limits.get("expected", "")).replace("'", "").replace(" or ", ", "),
        "dict_type": "a mapping of keys",
        "model_type": "a mapping of keys",
    }.get(kind, re.sub("^(Input should be|Value error,) ", "", first["msg"]))
    return f"{_key(location, under)}: holds {in_short(first['input'])}, expected {expected}"


def _as_written(location: Sequence[Any], given: Any) -> list[Any]:
    """A location without the 0 of a lone value, which is not in the user's file."""
    written: list[Any] = []
    for part in location:
        if isinstance(given, dict | list):
            given = given.get(part) if isinstance(given, dict) else given[part]
            written.append(part)
    return written


def _model_at(model: type[BaseModel], location: Sequence[Any]) -> type[BaseModel]:
    """The model of the section at a location; under a mapping of names that of its values."""
    kind: Any = model
    for part in location:
        fields = getattr(kind, "model_fields", None)
        kind = fields[part].annotation if fields is not None else get_args(kind)[1]
    return kind


def _key(location: Sequence[Any], under: str = "") -> str:
    parts = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return (under + parts).lstrip(".") or "config"
