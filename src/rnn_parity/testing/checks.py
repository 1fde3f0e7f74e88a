"""One item of the plugin: which rows of a judged case are its own, and their verdict. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from rnn_parity.experiment.vocabulary import FAILING, PASSING, Regime, Verdict

Judged = Mapping[str, Any]
"""A case as `judging.judge` returns it: rows of the comparison and of the life, and the answer in words."""

LIFE = "life"
GROUPS = ("outputs", "input_gradients", "parameter_gradients")


def group_of(quantity: str) -> str:
    """The group of a quantity: of the forward pass, or of gradients of what is given or of the parameters."""
    if not quantity.startswith("grad_"):
        return GROUPS[0]
    return GROUPS[2] if quantity.startswith(("grad_weight", "grad_bias")) else GROUPS[1]


@dataclass
class Check:
    """One check of a layer; called with the layer, it fails, is skipped, or returns.

    Attributes:
        layer: its label. case: the preset. regime, group: which rows it looks at; `life` and "" for the life.
        judged: gives the results of the case, the same for all its checks. properties: those of JUnit.
        called: whether its test has called it.
    """

    layer: str
    case: str
    regime: str
    group: str
    judged: Callable[[], Judged]
    properties: dict[str, Any] = field(default_factory=dict)
    called: bool = False

    @property
    def name(self) -> str:
        """As `small-eval-outputs`, or `small-life`."""
        return "-".join(filter(None, (self.case, self.regime, self.group)))

    def __call__(self, layer: Any = None) -> None:
        """Judge the layer, or look up the result. The argument only makes the test readable."""
        self.called = True
        judged = self.judged()
        if error := judged.get("error"):
            self._fail(error)
        rows = self.rows(judged)
        self.properties |= {"conclusion": judged["conclusion"], "bundle": judged["bundle"]} | _properties(rows)
        if wrong := [row for row in rows if row["verdict"] in FAILING and not row.get("condition")]:
            self._fail(self._message(judged, wrong))
        if unknown := self._never_judged(judged, rows):
            self._fail(f"{self.layer}: not shown: {_words(unknown[0])}")
        if not any(row["verdict"] in PASSING for row in rows):
            pytest.skip(f"not judged here: {rows[0]['reason']}" if rows else "nothing to compare")

    def _fail(self, message: str) -> None:
        self.properties["message"] = message
        pytest.fail(message, pytrace=False)

    def rows(self, judged: Judged) -> list[Mapping[str, Any]]:
        """The rows of this check. For matched masks, also those of `train_distribution`, which may replace them."""
        if self.regime == LIFE:
            return judged["life"]
        asked = {self.regime} | ({Regime.TRAIN_DISTRIBUTION} if self.regime == Regime.TRAIN_MATCHED_MASKS else set())
        return [row for row in judged["rows"] if row["regime"] in asked and group_of(row["quantity"]) == self.group]

    def _never_judged(self, judged: Judged, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The rows of quantities that no regime of the case could judge, and the points that did not come to an end."""
        if self.regime == LIFE:
            return [row for row in rows if row["cut_short"]]
        passed = {row["quantity"] for row in judged["rows"] if row["verdict"] in PASSING}
        return [row for row in rows if row["quantity"] not in passed]

    def _message(self, judged: Judged, wrong: Sequence[Mapping[str, Any]]) -> str:
        lines = [f"{self.layer} may not replace {judged['baseline']}: {_words(wrong[0])}"]
        others = list(
            dict.fromkeys(row["quantity"] for row in wrong if row["quantity"] not in ("", wrong[0]["quantity"]))
        )
        if others:
            lines.append(f"also wrong: {', '.join(others[:6])}{', …' if len(others) > 6 else ''}")
        if judged["cause"]:
            lines.append(judged["cause"])
        if judged["bundle"]:
            lines.append(f"to run it again elsewhere: rnn-parity replay {judged['bundle']}")
        return "\n".join(lines)


def checks_of(
    layer: str, case: str, options: Mapping[str, Any], judged: Callable[[], Judged], place: str
) -> Iterator[Check]:
    """The checks of one layer in one case; `place` names the two among all that is asked in a session."""
    for regime in options["regimes"]:
        for group in GROUPS:
            yield Check(layer, case, str(regime), group, judged, {"case": place})
    if options["life"]:
        yield Check(layer, case, LIFE, "", judged, {"case": place})


def _words(row: Mapping[str, Any]) -> str:
    where = row.get("when") or (f"at {row['title']!r}" if "title" in row else f"in {row['regime']}")
    seed = f" with seed {row['seed']}" if "seed" in row else ""
    became = "failed" if row["verdict"] == Verdict.FAILED else f"is {row['verdict']}"
    return f"{row['quantity'] or 'the layer'} {where}{seed} {became}: {row['reason']}"


def _properties(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The row that decides, for a report that a program reads; one that fails under a condition decides nothing."""

    def rank(row: Mapping[str, Any]) -> tuple[bool, float]:
        fails, ratio = row["verdict"] in FAILING, row.get("ratio")
        return fails, ratio or (math.inf if fails and ratio is None else 0.0)  # JSON has no infinite ratio

    deciding = [row for row in rows if row["verdict"] not in FAILING or not row.get("condition")]
    if not deciding:
        return {}
    worst = max(deciding, key=rank)
    return {name: worst[name] for name in ("verdict", "quantity", "ratio", "reason") if worst.get(name) is not None}
