"""One candidate against one baseline, without a config: `rnn_parity.check`, for a test of one's own.

def test_my_layer_may_replace_the_loop():
    report = rnn_parity.check("stacking_gru_cell", MyGRU)
    assert report.equivalent, report.explain()
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
from torch import nn

from rnn_parity.capabilities.probing import probe_capabilities, tiny_subject
from rnn_parity.compare.case import compare_case
from rnn_parity.compare.criterion import error_ratio
from rnn_parity.compare.run import FORWARD_QUANTITIES
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case, make_grid
from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, Verdict, worst
from rnn_parity.findings.answer import SameSeed, same_seed
from rnn_parity.findings.capabilities import capability_rows, is_lost
from rnn_parity.findings.verdicts import FAULTS, PASSES, SEED_REGIME, worst_row
from rnn_parity.layers.parameters import WeightError
from rnn_parity.layers.registry import named
from rnn_parity.tables import CAPABILITIES, EQUIVALENCE, TIMING
from rnn_parity.timing.rounds import time_case

SIZES = ("input_size", "hidden_size", "num_layers", "sequence_length", "batch_size", "dropout")

PRESETS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "small": (dict(zip(SIZES, (7, 16, 3, 12, 4, 0.2), strict=True)), (0, 1, 2)),
    "article": (dict(zip(SIZES, (5, 10, 3, 10, 7, 0.1), strict=True)), (1215,)),
    "t2vec": (dict(zip(SIZES, (256, 256, 3, 30, 128, 0.2), strict=True)), (0,)),
}
"""Sizes and seeds by name. `small` shows every fault of `self_test.mutants`: I ≠ H, L = 3, steps and dropout enough."""

REGIMES = ("eval", "train_matched_masks", SEED_REGIME)
DISTRIBUTION = "train_distribution"
DISTRIBUTION_DRAWS = 2000
"""With these, at the sizes of `small`, a dropout probability wrong by a tenth of itself was found from 8 of 8 seeds."""

_PHASES = ("inference", "step")
_TIMING = {"precision": 0.02, "min_rounds": 10, "confidence": 0.95, "exclusive": False}
_SECTIONS = re.compile(r"^(defaults|equivalence|sweeps\.check)\.")


@dataclass(frozen=True, eq=False)
class Report:
    """What `check` found.

    Attributes:
        baseline, candidate: the names under which they stand in the tables. case: the sizes that were asked for.
        equivalence: one row per seed × regime × quantity. capabilities, timing: as in the tables of a sweep; None
            where they were not asked for.
    """

    baseline: str
    candidate: str
    case: Case
    equivalence: pd.DataFrame
    capabilities: pd.DataFrame | None
    timing: pd.DataFrame | None

    @property
    def must_hold(self) -> pd.DataFrame:
        """The rows of the regimes in which a correct implementation must agree."""
        return self.equivalence[self.equivalence["regime"].isin(EXPECTED_TO_HOLD)]

    @property
    def answer(self) -> str:
        """`yes`, `no`, or `open` where nothing is at fault, but a quantity could be judged nowhere."""
        if self.must_hold["verdict"].isin(FAULTS).any():
            return "no"
        return "yes" if self._never_judged.empty else "open"

    @property
    def equivalent(self) -> bool:
        """Whether nothing is at fault where it must hold, and every quantity was judged at least once."""
        return self.answer == "yes"

    @property
    def worst(self) -> pd.Series:
        """The row that decides: nearest to its limit where all is well, else a fault, else what was not judged."""
        rows = self.must_hold
        if self.answer == "open":
            return _deciding(self._never_judged)
        if self.answer == "yes":
            return _deciding(rows[rows["verdict"].isin(PASSES)])
        first = rows.loc[rows["verdict"].isin(FAULTS), "regime"].iloc[0]
        return _deciding(rows[rows["regime"] == first])

    @property
    def verdict(self) -> Verdict:
        """The verdict of the row that decides."""
        return Verdict(self.worst["verdict"])

    @property
    def same_seed(self) -> SameSeed | None:
        """What the same seed before each forward gave; None where that was not tried, or no dropout is drawn."""
        return same_seed(self.equivalence)

    def regimes(self) -> Iterator[tuple[str, pd.Series, str]]:
        """Every regime, with its dropout where that is not the one asked for; the row that decides it; and what is at
        fault, where it must hold.
        """
        for (regime, dropout), rows in self.equivalence.groupby(["regime", "dropout"], sort=False):
            name = regime if dropout == self.case.dropout else f"{regime} (p={dropout:g})"
            yield name, _deciding(rows), _at_fault(rows) if regime in EXPECTED_TO_HOLD else ""

    def capability_differences(self) -> pd.DataFrame:
        """The capabilities in which the two part, those that would be lost first.

        Columns: `capability` and its `title`; the outcome of `baseline` and `candidate`; `lost`: whether the baseline
        works and the candidate does not, or gives other numbers; `detail`: what the one at fault says.
        """
        columns, rows = ["capability", "title", "baseline", "candidate", "lost", "detail"], []
        for row in [] if self.capabilities is None else capability_rows(self.capabilities):
            if row["part"]:
                ours, theirs = row["by_name"][self.baseline], row["by_name"][self.candidate]
                at_fault = theirs if theirs["outcome"] != "works" or theirs["agrees"] is False else ours
                title = row["title"].replace("`", "")
                outcomes = ours["outcome"], theirs["outcome"], is_lost(ours, theirs), at_fault["detail"]
                rows.append((theirs["capability"], title, *outcomes))
        rows.sort(key=lambda row: not row[columns.index("lost")])
        return pd.DataFrame(rows, columns=columns)

    def speedups(self) -> pd.DataFrame:
        """The candidate's rows of the timing table, one per phase."""
        timing = pd.DataFrame(columns=TIMING.names) if self.timing is None else self.timing
        return timing[timing["implementation"] == self.candidate]

    def conclusion(self) -> str:
        """The answer in one sentence, and why; after a `yes`, what to mind."""
        row, asked = self.worst, f"{self.candidate} may replace {self.baseline}"
        if self.answer == "yes":
            alike = "bit for bit the same" if self.verdict == Verdict.IDENTICAL else "within its limit"
            law = ", dropout by the law of many draws" if DISTRIBUTION in set(self.must_hold["regime"]) else ""
            why = f"every quantity, forward and backward, is {alike}{law}"
            return "; ".join([f"{asked}: yes, because {why}", *self._to_mind()])
        if self.answer == "no":
            what = "failed" if row["verdict"] == Verdict.FAILED else "is different"
            return f"{asked}: no, because {row['quantity']} in {row['regime']} {what}: {row['reason']}"
        return f"{asked}: not shown, because {row['quantity']} could not be judged: {row['reason']}"

    def explain(self) -> str:
        """The conclusion and what it rests on, as plain text."""
        lines = [self.conclusion(), f"  case: {describe_case(self.case)}"]
        for name, row, faults in self.regimes():
            freed = "" if row["regime"] in EXPECTED_TO_HOLD else ", which need not hold"
            lines.append(f"  {name}{freed}: {row['verdict']}")
            error = f"error / limit {format_error_over_limit(row)}" if format_error_over_limit(row) else ""
            lines.append(f"    {': '.join(filter(None, (row['quantity'], error, row['reason'])))}")
            lines += [f"    at fault: {faults}"] * bool(faults)
        for row in self.capability_differences().itertuples():
            detail = f" ({row.detail})" if row.detail else ""
            lines.append(f"  {row.title}: the baseline {row.baseline}, the candidate {row.candidate}{detail}")
        lines += [f"  {row['phase']}: {describe_speedup(row)}" for _, row in self.speedups().iterrows()]
        return "\n".join(lines)

    @property
    def _never_judged(self) -> pd.DataFrame:
        rows = self.must_hold
        return rows[~rows["verdict"].isin(PASSES).groupby(rows["quantity"]).transform("any")]

    def _to_mind(self) -> list[str]:
        differences = self.capability_differences()
        lost = list(differences.loc[differences["lost"].astype(bool), "title"])
        mind = [f"mind what would be lost: {', '.join(lost)}"] if lost else []
        if self.same_seed and self.same_seed.differing:
            mind.append("mind that the same seed drops other entries")
        return mind


def check(
    baseline: str | Callable[..., Any],
    candidate: str | Callable[..., Any],
    *,
    like: str = "small",
    input_size: int | None = None,
    hidden_size: int | None = None,
    num_layers: int | None = None,
    sequence_length: int | None = None,
    batch_size: int | None = None,
    dropout: float | None = None,
    dtype: str = "float32",
    device: str = "auto",
    threads: int = 1,
    seeds: Sequence[int] | None = None,
    regimes: Sequence[str] = REGIMES,
    capabilities: bool = True,
    timing_seconds: float = 0.5,
    progress: Callable[[str], None] = lambda step: None,
) -> Report:
    """May `candidate` replace `baseline`? Compare their numbers, probe what they can do, and time both.

    Args:
        baseline, candidate: a registered name, `package.module:Class`, or what builds the layer itself: a class, or
            any callable that takes input_size, hidden_size, num_layers and dropout.
        like: the preset that gives the sizes and seeds that are not given: `small`, `article` or `t2vec`.
        device: `auto` is cuda where there is one. threads: CPU threads to compute with.
        regimes: at least one of those that must hold, `eval` and `train_matched_masks`.
        capabilities: whether to probe them; seconds, half of them the compiler's.
        timing_seconds: for how long each of inference and step may be timed beyond ten rounds; 0 times nothing.
        progress: told what is done next.

    Raises `InputError`, in one line, for arguments that cannot be used, and for a layer whose parameters are not a
    GRU's. Whatever a layer raises when it runs is in the report.
    """
    if like not in PRESETS:
        raise InputError(f"like: holds {like!r}, expected one of {', '.join(PRESETS)}")
    if not timing_seconds >= 0:
        raise InputError(f"timing_seconds: holds {timing_seconds!r}, expected at least 0")
    if not set(regimes) & set(EXPECTED_TO_HOLD):
        raise InputError(f"regimes: holds {', '.join(regimes)}, expected at least one of {', '.join(EXPECTED_TO_HOLD)}")
    preset, preset_seeds = PRESETS[like]
    given = (input_size, hidden_size, num_layers, sequence_length, batch_size, dropout)
    axes = preset | {name: value for name, value in zip(SIZES, given, strict=True) if value is not None}
    axes |= {"dtype": dtype, "threads": threads}
    seeds = list(preset_seeds if seeds is None else seeds)
    for key, implementation in (("baseline", baseline), ("candidate", candidate)):
        if isinstance(implementation, nn.Module):
            what = f"a {type(implementation).__name__} already built"
            raise InputError(f"{key}: holds {what}, expected what builds one, as its class or a functools.partial")
    with named(baseline, "baseline") as ours, named(candidate, "candidate") as theirs:
        if ours == theirs:
            raise InputError(f"candidate: holds {theirs!r}, the baseline itself, expected another")
        case = _make_case(ours, theirs, device, axes, seeds, regimes)
        for key, name in (("baseline", ours), ("candidate", theirs)):
            _match_parameters(name, key)
        progress("comparing numbers")
        rows = _compare(case, ours, theirs, seeds, regimes)
        abilities = timing = None
        if timing_seconds:
            progress("timing")
            measured, _ = time_case(case, ours, [theirs], phases=_PHASES, max_seconds=float(timing_seconds), **_TIMING)
            timing = _frame(measured, TIMING)
        if capabilities:  # last: a CUDA graph that cannot be captured may leave the device unfit for anything else
            progress("probing capabilities")
            abilities = _frame(list(probe_capabilities(ours, [theirs], case.device, threads)), CAPABILITIES)
    return Report(ours, theirs, case, _frame(rows, EQUIVALENCE), abilities, timing)


def describe_case(case: Case) -> str:
    """The sizes of a case in one line."""
    sizes = f"T {case.sequence_length}, B {case.batch_size}, I {case.input_size}, H {case.hidden_size}"
    return f"{case.device}, {case.dtype}, {sizes}, L {case.num_layers}, dropout {case.dropout:g}"


def format_error_over_limit(row: pd.Series) -> str:
    """Error / limit of a row of the equivalence table, in the norm in which it is larger; empty where there is none."""
    if pd.isna(row["ratio"]):
        return ""
    pairs = [(row[f"error_{norm}"], row[f"limit_{norm}"]) for norm in ("2", "inf")]
    if pd.isna(pairs).any():
        return f"{row['ratio']:.2g} of its limit"
    error, limit = max(pairs, key=lambda pair: error_ratio(*pair))
    return f"{error:.1e} / {limit:.1e}"


def describe_speedup(row: pd.Series) -> str:
    """`1.87× [1.83, 1.92], faster`, or why there is none."""
    if pd.isna(row["speedup"]):
        return f"{row['conclusion']}: {row['reason']}"
    interval = f"[{row['speedup_ci_low']:.2f}, {row['speedup_ci_high']:.2f}]"
    return f"{row['speedup']:.2f}× {interval}, {row['conclusion']}"


def _make_case(
    baseline: str, candidate: str, device: str, axes: dict[str, Any], seeds: list[int], regimes: Sequence[str]
) -> Case:
    """The case, checked as the one case of an experiment would be; the message names the argument."""
    config = {"study": "check", "baseline": baseline, "candidates": [candidate], "device": device, "defaults": axes}
    config |= {"sweeps": {"check": {}}, "equivalence": {"seeds": seeds, "regimes": list(regimes)}}
    try:
        return make_grid(config).cases[0]
    except InputError as error:
        raise InputError(_SECTIONS.sub("", str(error))) from error


def _match_parameters(name: str, key: str) -> None:
    """Raise `InputError` for a layer that cannot be given the weights of a GRU: there is nothing to compare."""
    try:
        tiny_subject(name, "cpu").load()
    except (InputError, WeightError) as error:
        raise InputError(f"{key}: {name}: {str(error).removeprefix(f'{name}: ')}") from error
    except Exception:  # it may do at the sizes asked for; if not, the comparison says why
        return


def _compare(
    case: Case, baseline: str, candidate: str, seeds: Sequence[int], regimes: Sequence[str]
) -> list[dict[str, Any]]:
    """The rows of the regimes; where masks cannot be had, also those of training without dropout: with the law of many
    draws they say what matched masks would.
    """
    rows = list(compare_case(case, baseline, [candidate], seeds, regimes, DISTRIBUTION_DRAWS))
    matched = {row["verdict"] for row in rows if row["regime"] == "train_matched_masks"}
    if case.draws_dropout and matched == {Verdict.NOT_JUDGED}:
        without = dataclasses.replace(case, dropout=0.0)
        rows += compare_case(without, baseline, [candidate], seeds, ["train_matched_masks"])
    return rows


def _deciding(rows: pd.DataFrame) -> pd.Series:
    """Of the rows of the worst verdict the one furthest over, or nearest to, its limit.

    Faults of the forward pass come first: they explain those of the gradients.
    """
    forward = rows[rows["verdict"].isin(FAULTS) & rows["quantity"].isin(FORWARD_QUANTITIES)]
    rows = rows if forward.empty else forward
    return worst_row(rows[rows["verdict"] == worst(rows["verdict"])])


def _at_fault(rows: pd.DataFrame) -> str:
    """The quantities that are at fault, in as few words as it takes."""
    faults = rows["verdict"].isin(FAULTS).groupby(rows["quantity"], sort=False).any()
    wrong, right = list(faults[faults].index), list(faults[~faults].index)
    if len(wrong) <= len(right):
        return ", ".join(wrong)
    return f"all but {', '.join(right)}" if right else "all"


def _frame(rows: list[dict[str, Any]], schema: pa.Schema) -> pd.DataFrame:
    return pa.Table.from_pylist(rows, schema=schema).to_pandas()
