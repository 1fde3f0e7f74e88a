"""What the lives of the candidates say: the fault that decides, the conditions, what was refused or left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from rnn_parity.experiment.vocabulary import FAILING, PASSING, UNDECIDED, Verdict
from rnn_parity.tables import LEFT_OUT, LIFE

_CUT_SHORT = ("time limit", "its process was killed", "the device is lost")


def life_of(life: pd.DataFrame | None, candidate: str) -> pd.DataFrame:
    """The points of one candidate, in the order in which they were lived through."""
    if life is None:
        return pd.DataFrame(columns=LIFE.names)
    return life[life["implementation"] == candidate]


def deciding_fault(points: pd.DataFrame) -> Mapping[str, Any] | None:
    """The first point that fails and that no condition excuses; None where there is none."""
    wrong = points[points["verdict"].isin(FAILING) & (points["condition"] == "")]
    return None if wrong.empty else wrong.iloc[0].to_dict()


def explains(fault: Mapping[str, Any] | None) -> bool:
    """Whether a life says why a case fails too: a first call was right, and an equal one is not, or now and then."""
    return fault is not None and (fault["point"] == "same_seed" or fault["when"].startswith("now and then"))


def conditions(points: pd.DataFrame) -> tuple[str, ...]:
    """What must not be done with a candidate that is right otherwise."""
    wrong = points[points["verdict"].isin(FAILING) & (points["condition"] != "")]
    return tuple(dict.fromkeys(wrong["condition"]))


def was_cut_short(point: Mapping[str, Any]) -> bool:
    """Whether the machine, or a limit of time, ended the process of a point: a layer that never returns is no yes."""
    return point["verdict"] == Verdict.NOT_JUDGED and point["reason"].startswith(_CUT_SHORT)


def notes(points: pd.DataFrame) -> list[Mapping[str, Any]]:
    """The points that neither hold nor fail, once for all dtypes."""
    said = points[points["verdict"].isin(UNDECIDED)]
    return said.drop_duplicates(["point", "verdict"]).to_dict("records")


def remarks(points: pd.DataFrame) -> list[str]:
    """What is to be minded of a candidate that is right, as `takes 0.5 s longer at the first call of every new shape`.

    That some points were left out is to be minded too: a slow layer was not tried there.
    """
    said = points[points["verdict"].isin(PASSING) & (points["reason"] != "")]
    left_out = int(points["reason"].str.startswith(LEFT_OUT).sum())
    untried = [f"is so slow that {left_out} of {len(points)} points of its life were left out"] if left_out else []
    return [*dict.fromkeys(said["reason"]), *untried]


def fault_sentence(point: Mapping[str, Any]) -> str:
    """A fault as a sentence goes on after `because`: `after its weights change, output is what it was before`."""
    subject = point["quantity"] or ("it fails:" if point["verdict"] == Verdict.FAILED else "it")
    place = point["when"] or f"at {point['title']!r}"
    reason = point["reason"]
    return f"{place}, {reason}" if reason.startswith("its ") else f"{place}, {subject} {reason}"
