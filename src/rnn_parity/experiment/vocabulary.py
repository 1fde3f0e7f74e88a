"""The words of an experiment: axes, dtypes, regimes, phases and verdicts, each written down once. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class _Word(StrEnum):
    """Words with attributes: a subclass annotates them, and a member gives them after its word, in that order."""

    def __new__(cls, word: str, *attributes: Any) -> _Word:
        member = str.__new__(cls, word)
        member._value_ = word
        vars(member).update(zip(cls.__annotations__, attributes, strict=True))
        return member


class Dtype(_Word):
    """The dtypes in which layers are compared, from the finest to the coarsest."""

    short: str  # for ticks of figures
    unit_roundoff: float

    FLOAT64 = "float64", "fp64", 2.0**-53
    FLOAT32 = "float32", "fp32", 2.0**-24
    BFLOAT16 = "bfloat16", "bf16", 2.0**-8
    FLOAT16 = "float16", "fp16", 2.0**-11


TF32_UNIT_ROUNDOFF = 2.0**-11
"""TF32 rounds the factors of a float32 product to 10 bits."""


def unit_roundoff(dtype: str, tf32: bool = False) -> float:
    """Half the distance from 1 to the next number of `dtype`; of TF32's 10-bit products where they are used."""
    return TF32_UNIT_ROUNDOFF if tf32 else Dtype(dtype).unit_roundoff


GPU_FUNCTION_ERROR = 2.0**-18
"""What σ and tanh may be off by in float32 on a GPU: the root mean square, for |x| < 2, of cuDNN's tanh in layers of up
to 192 units: docs/gpu.md."""


def function_roundoff(device: str, dtype: str) -> float:
    """The relative error that one value of σ or tanh may have: one unit roundoff, but for float32 on a GPU."""
    u = unit_roundoff(dtype)
    return max(u, GPU_FUNCTION_ERROR) if (device, dtype) == ("cuda", Dtype.FLOAT32) else u


def coarsest_roundoff(device: str, dtype: str, tf32: bool) -> float:
    """The largest relative error that one operation may have."""
    return max(unit_roundoff(dtype, tf32), function_roundoff(device, dtype))


class Regime(_Word):
    """How two implementations are made comparable."""

    words: str
    must_hold: bool  # whether a correct implementation must agree

    EVAL = "eval", "dropout off", True
    TRAIN_MATCHED_MASKS = "train_matched_masks", "dropout on and the same masks", True
    TRAIN_DISTRIBUTION = "train_distribution", "many draws of dropout", True
    TRAIN_SAME_SEED = "train_same_seed", "dropout on and the same seed", False


EXPECTED_TO_HOLD = tuple(regime for regime in Regime if regime.must_hold)
"""The regimes in which a correct implementation must agree; in `train_same_seed` it need not."""


class Phase(_Word):
    """A part of the work that is timed."""

    words: str

    INFERENCE = "inference", "inference"
    FORWARD = "forward", "the forward"
    BACKWARD = "backward", "the backward"
    STEP = "step", "a training step"


class Verdict(StrEnum):
    """The judgement of one compared quantity, from the best to the worst."""

    IDENTICAL = "identical"
    EQUIVALENT = "equivalent"
    NOT_JUDGED = "not judged"  # no verdict is possible here: ill-conditioned, no memory, masks that cannot be had
    UNSUPPORTED = "unsupported"  # the layer cannot do it, and says so
    DIFFERENT = "different"
    FAILED = "failed"  # the layer raised


PASSING = (Verdict.IDENTICAL, Verdict.EQUIVALENT)
FAILING = (Verdict.DIFFERENT, Verdict.FAILED)
UNDECIDED = (Verdict.NOT_JUDGED, Verdict.UNSUPPORTED)
"""Neither for a layer nor against it."""


def because_of_baseline(verdict: str, reason: str) -> tuple[Verdict, str]:
    """What is said of a candidate whose baseline came to this: where that fails, the candidate is not judged."""
    return Verdict.NOT_JUDGED if verdict == Verdict.FAILED else Verdict(verdict), f"baseline: {reason}"


def worst(verdicts: Iterable[str]) -> Verdict:
    """The worst of some verdicts: the verdict of a case, a sweep or a study. Raises `ValueError` for none."""
    order = list(Verdict)
    return max((Verdict(verdict) for verdict in verdicts), key=order.index)


class Detection(StrEnum):
    """The outcome of the check on a right layer, or on a planted fault, in one case of the self-test."""

    HELD = "held"  # a right layer, and nothing was said against it
    FALSE_ALARM = "false alarm"
    CAUGHT = "caught"
    MISSED = "missed"
    HIDDEN = "hidden"  # computed exactly, the fault is smaller than what rounding may do to a right layer here
    NOT_JUDGED = "not judged"  # the fault shows only in quantities that the check could not judge
    NOT_EXERCISED = "not exercised"  # the faulty layer gives what its parent gives: bit for bit, or exactly to within u


FAULT_KINDS = ("equations", "dropout", "backward", "precision")
"""The kinds of planted faults that one call shows."""

LIFE_FAULT_KINDS = ("repetition", "masks", "weights", "modes", "shapes", "edges", "gradients", "memory", "sizes")
"""The kinds of planted faults that many calls show."""


@dataclass(frozen=True)
class Axis:
    """An axis of the grid: the type of its values, its default, its letter in names and its label in figures."""

    type: type
    default: Any
    letter: str
    label: str


AXES = {
    "device": Axis(str, "auto", "", "device"),
    "dtype": Axis(str, "float32", "", "dtype"),
    "tf32": Axis(bool, False, "", "TF32"),
    "input_size": Axis(int, 256, "i", "input size I"),
    "hidden_size": Axis(int, 256, "h", "hidden size H"),
    "num_layers": Axis(int, 3, "l", "layers L"),
    "sequence_length": Axis(int, 50, "t", "sequence length T"),
    "batch_size": Axis(int, 128, "b", "batch size B"),
    "dropout": Axis(float, 0.2, "p", "dropout p"),
    "threads": Axis(int, 1, "n", "CPU threads"),
    "cell": Axis(str, "gru", "", "cell"),
}
"""Every axis of the grid, in the order in which names and tables give them."""

RATE_AXES = ["device", "dtype", "tf32", "threads"]
"""The axes that change the rates that a machine reaches."""


MOST_THREADS = 1024
"""More CPU threads than a machine has cores; with very many of them a process crashes."""

TIME_LIMIT_S = 600.0
"""After so long a call of a check that gives nothing new is ended, where no other limit is given."""

LONGEST_LIMIT_S = 1_000_000
"""The system waits no longer than 24 days."""


def tick_label(axis: str, value: Any) -> str:
    """A value of an axis, short: `fp32`, `TF32`, `30`."""
    if axis == "tf32":
        return "TF32" if value else "no TF32"
    if axis == "dtype":
        return Dtype(value).short
    return value if isinstance(value, str) else f"{value:g}"


def axis_word(axis: str, value: Any) -> str:
    """A value with the letter of its axis: `T 30`, `fp32`."""
    if isinstance(value, str) or axis == "tf32":
        return tick_label(axis, value)
    return f"{AXES[axis].label.rsplit(' ', 1)[-1]} {value:g}"
