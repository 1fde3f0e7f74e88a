"""The report of `rnn_parity.check`: the findings on one candidate in one case, and their wording."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from rnn_parity.compare.criterion import error_ratio
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, FAILING, PASSING, Regime, Verdict
from rnn_parity.findings.answer import Answer, answer_for
from rnn_parity.findings.capabilities import CONDITIONS, capability_rows, loses_capability
from rnn_parity.findings.lives import fault_sentence, life_of, notes, remarks
from rnn_parity.findings.verdicts import deciding_rows
from rnn_parity.statistics import Conclusion
from rnn_parity.tables import NOTHING_TO_TRY, TIMING

MOST_LINES = 8
"""Of a life: what a layer that is wrong everywhere does at each of its points, nobody reads."""


@dataclass(frozen=True, eq=False)
class Report:
    """The findings of `check`.

    Attributes:
        baseline, candidate: their names in the tables. case: the sizes that were asked for.
        equivalence: one row per seed × regime × quantity. life: one row per point. capabilities, timing: as in the
            tables of a sweep. None for what was not asked for.
        adapted: how a layer is adapted to PyTorch's interface. settings: what a layer changes for the whole process,
            such as `torch.get_num_threads() to 1`; it is restored each time.
        cause: an explanation of a `no` in addition to the deciding row: a planted fault that gives the same numbers,
            or the reason of another quantity; empty if there is none.
        bundle: the folder that replays a `no`; empty if none was asked for.
    """

    baseline: str
    candidate: str
    case: Case
    equivalence: pd.DataFrame
    life: pd.DataFrame | None
    capabilities: pd.DataFrame | None
    timing: pd.DataFrame | None
    adapted: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    cause: str = ""
    bundle: str = ""

    def __str__(self) -> str:
        """As `explain` has it."""
        return self.explain()

    @cached_property
    def answer(self) -> Answer:
        """The answer, with the row that decides it."""
        return answer_for(self.equivalence, self.candidate, self.life, self.timing, self.capabilities)

    @property
    def equivalent(self) -> bool:
        """Whether nothing fails and every quantity was judged at least once: the candidate may replace the baseline."""
        return self.answer.holds

    def capability_differences(self) -> pd.DataFrame:
        """The capabilities that differ, those that would be lost first.

        Columns: `capability` and its `title`; the outcome of `baseline` and `candidate`; `lost`: whether the candidate
        lacks what the baseline has, or gives other numbers; `detail`: the message of the one that lacks it.
        """
        columns, rows = ["capability", "title", "baseline", "candidate", "lost", "detail"], []
        for row in [] if self.capabilities is None else capability_rows(self.capabilities):
            if row["differs"]:
                ours, theirs = row["by_name"][self.baseline], row["by_name"][self.candidate]
                lacking = theirs if theirs["outcome"] != "works" or theirs["agrees"] is False else ours
                title = row["title"].replace("`", "")
                outcomes = ours["outcome"], theirs["outcome"], loses_capability(ours, theirs), lacking["detail"]
                rows.append((theirs["capability"], title, *outcomes))
        return pd.DataFrame(rows, columns=columns).sort_values("lost", ascending=False, kind="stable")

    def speedups(self) -> pd.DataFrame:
        """The candidate's rows of the timing table, one per phase."""
        timing = pd.DataFrame(columns=TIMING.names) if self.timing is None else self.timing
        return timing[timing["implementation"] == self.candidate]

    def conclusion(self) -> str:
        """The answer, `yes`, `no` or `not shown`, in one sentence with its reason; after a `yes`, the losses too."""
        names, row = f"{self.candidate} may replace {self.baseline}", self.answer.deciding
        if self.answer.word == "no":
            names = f"no: {self.candidate} may not replace {self.baseline}"
            if self.answer.fault:
                return f"{names}, because {fault_sentence(self.answer.fault)}"
            does = "failed" if row["verdict"] == Verdict.FAILED else "is different"
            reason = "; ".join(filter(None, (row["reason"], self.cause)))
            return f"{names}, because {row['quantity']} in {row['regime']} {does}: {reason}"
        if row is None:
            return f"not shown: whether {names}, because nothing was compared: the case draws no dropout"
        if not self.answer.holds:
            return f"not shown: whether {names}, because {row['quantity']} could not be judged: {row['reason']}"
        alike = "bit for bit the same" if self.answer.verdict == Verdict.IDENTICAL else "within its limit"
        of_states = self.equivalence["quantity"].str.fullmatch("grad_[a-z]0")
        at_zero = "" if of_states.any() else ", from zero states only"
        many = (
            ", dropout by the distribution of many draws"
            if Regime.TRAIN_DISTRIBUTION in set(self.equivalence["regime"])
            else ""
        )
        differences = self.capability_differences()
        is_wrong, conditional = differences["candidate"] == "wrong", differences["capability"].isin(CONDITIONS)
        wrong = list(differences.loc[is_wrong & ~conditional, "title"])
        lost = ", ".join(differences.loc[differences["lost"].astype(bool) & ~is_wrong, "title"])
        return (
            f"yes: {names}, because every quantity, forward and backward, is {alike}{at_zero}{many}"
            + "".join(f"; but only when {condition}" for condition in self.answer.conditions)
            + "".join(
                f"; note that it gives no {row['kind']} with {row['regime'].words}" for row in self.answer.withheld
            )
            + (f"; note what would be lost: {lost}" if lost else "")
            + (f"; note what gives wrong results: {', '.join(wrong)}" if wrong else "")
            + ("; note that the same seed gives other dropout masks" if self.answer.same_seed_differs else "")
            + "".join(f"; note that it {words}" for words in remarks(life_of(self.life, self.candidate)))
            + (f"; note that it sets {self.settings[self.candidate]}" if self.candidate in self.settings else "")
        )

    def explain(self) -> str:
        """The conclusion and its grounds, as plain text."""
        parts = [self.grounds(), self.describe_timing(), self.describe_capabilities()]
        return "\n".join([self.conclusion(), *(line for lines in parts for line in lines)])

    def grounds(self) -> list[str]:
        """The lines that say what was compared, regime by regime and over many calls."""
        case = self.case
        sizes = f"T {case.sequence_length}, B {case.batch_size}, I {case.input_size}, H {case.hidden_size}"
        sizes += f", L {case.num_layers}, dropout {case.dropout:g}"
        lines = [f"  case: {case.device}, {case.dtype}, {sizes}"]
        lines += [f"  {name}: {words}" for name, words in self.adapted.items()]
        lines += [
            f"  {name}: sets {words}, for the whole process; restored each time"
            for name, words in self.settings.items()
        ]
        keys = ["regime", "dropout"]
        for _, row in deciding_rows(self.equivalence, keys).iterrows():
            held = row["regime"] in EXPECTED_TO_HOLD
            name = row["regime"] + ("" if row["dropout"] == case.dropout else f" (p={row['dropout']:g})")
            lines.append(f"  {name}{'' if held else ', which need not hold'}: {row['verdict']}")
            lines.append(f"    {': '.join(filter(None, (row['quantity'], _error_over_limit(row), row['reason'])))}")
            of_regime = self.equivalence[(self.equivalence[keys] == row[keys]).all(axis=1)]
            if held and (failing := _failing_quantities(of_regime)):
                lines.append(f"    at fault: {failing}")
        return lines + self._describe_life()

    def describe_timing(self) -> list[str]:
        """A line per phase that was timed."""
        return [f"  {row['phase']}: {self._describe_speedup(row)}" for _, row in self.speedups().iterrows()]

    def describe_capabilities(self) -> list[str]:
        """A line per capability that differs, and how many are alike; none where they were not probed."""
        if self.capabilities is None:
            return []
        differences, lines = self.capability_differences(), []
        for row in differences.itertuples():
            detail, lost = f" ({row.detail})" if row.detail else "", "lost: " if row.lost else ""
            numbers = {row.baseline: "gives other numbers", "wrong": "gives wrong numbers"}
            theirs = numbers.get(row.candidate, row.candidate)
            lines.append(f"  {lost}{row.title}: the baseline {row.baseline}, the candidate {theirs}{detail}")
        probed = self.capabilities["capability"].nunique()
        return [*lines, f"  the same in {probed - len(differences)} of {probed} capabilities"]

    def as_dict(self) -> dict[str, Any]:
        """All of it for a program: `answer` is `yes`, `no` or `not shown`; of what was compared the deciding rows."""
        word = "yes" if self.answer.holds else "no" if self.answer.word == "no" else "not shown"
        deciding = deciding_rows(self.equivalence, ["regime", "dropout"])
        tables = {"equivalence": deciding, "life": self.life, "timing": self.timing, "capabilities": self.capabilities}
        rows = {name: t if t is None else json.loads(t.to_json(orient="records")) for name, t in tables.items()}
        about: dict[str, Any] = {
            "answer": word,
            "conclusion": self.conclusion(),
            "cause": self.cause,
            "bundle": self.bundle,
        }
        about |= {"baseline": self.baseline, "candidate": self.candidate, "case": asdict(self.case)}
        return about | {"adapted": dict(self.adapted), "settings": dict(self.settings)} | rows

    def _describe_life(self) -> list[str]:
        """How many points of its life hold, those that fail, and what it refuses or was spared; what is alike once."""
        points = life_of(self.life, self.candidate)
        if points.empty:
            return []
        held, tried = points["verdict"].isin(PASSING).sum(), points["calls"] > 0
        lines = [f"  over {points['calls'].sum()} calls: {held} of {tried.sum()} points hold"]
        if untried := list(points.loc[~tried, "title"]):
            more = f" and {len(untried) - MOST_LINES} more" if len(untried) > MOST_LINES else ""
            lines.append(f"    not tried: {', '.join(untried[:MOST_LINES])}{more}")
        refused = [row for row in notes(points) if row["reason"] != NOTHING_TO_TRY]
        alike: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
        for row in (*points[points["verdict"].isin(FAILING)].to_dict("records"), *refused):
            alike.setdefault((row["verdict"], row["quantity"], row["reason"]), []).append(row)
        for (verdict, *_), rows in list(alike.items())[:MOST_LINES]:
            first, more = rows[0], f" (and at {len(rows) - 1} more)" if len(rows) > 1 else ""
            words = " ".join(filter(None, (f"{first['title']}:", first["when"], first["reason"])))
            lines.append(f"    {verdict}: {fault_sentence(first) if verdict in FAILING else words}{more}")
        left = sum(map(len, list(alike.values())[MOST_LINES:]))
        return [*lines, f"    and {left} more: --json lists all"] if left else lines

    def _describe_speedup(self, row: pd.Series) -> str:
        """`2 ms in place of 3.8 ms, 1.87× [1.83, 1.92], faster`, or why there is no speedup."""
        if pd.isna(row["speedup"]):
            return f"{row['conclusion']}: {row['reason']}"
        medians = self.timing.set_index(["implementation", "phase"])["median_s"]
        baseline_ms = 1e3 * medians[self.baseline, row["phase"]]
        # The speedup is of paired rounds: the candidate's time is the one that agrees with it.
        times = f"{baseline_ms / row['speedup']:.3g} ms in place of {baseline_ms:.3g} ms"
        interval, control = (
            f"[{row[f'{name}_ci_low']:.2f}, {row[f'{name}_ci_high']:.2f}]" for name in ("speedup", "control")
        )
        beside = f" (the baseline against itself {control})" if row["conclusion"] == Conclusion.WITHIN_NOISE else ""
        return f"{times}, {row['speedup']:.2f}× {interval}, {row['conclusion']}{beside}"


def _error_over_limit(row: pd.Series) -> str:
    """Error / limit of a row of the equivalence table, in the norm in which it is larger; empty where there is none."""
    if pd.isna(row["ratio"]):
        return ""
    pairs = [(row[f"error_{norm}"], row[f"limit_{norm}"]) for norm in ("2", "inf")]
    if pd.isna(pairs).any():
        return f"error / limit {row['ratio']:.2g}"
    error, limit = max(pairs, key=lambda pair: error_ratio(*pair))
    return f"error / limit {error:.1e} / {limit:.1e}"


def _failing_quantities(rows: pd.DataFrame) -> str:
    """The quantities that fail, in as few words as it takes."""
    fails = rows["verdict"].isin(FAILING).groupby(rows["quantity"], sort=False).any()
    failing, others = list(fails[fails].index), list(fails[~fails].index)
    if len(failing) <= len(others):
        return ", ".join(failing)
    return f"all but {', '.join(others)}" if others else "all"
