"""The steps of a check, each in a process of its own: what a layer does to its process costs that layer alone."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from rnn_parity.capabilities.probing import probe_capabilities
from rnn_parity.cells.base import load_cell
from rnn_parity.compare.case import compare_case
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.names import BASELINES
from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, LONGEST_LIMIT_S, Regime, Verdict, because_of_baseline
from rnn_parity.layers.containment import Ended, Stream, can_contain
from rnn_parity.layers.kinds import fits_no_call, infer_kind, require_call, require_kind
from rnn_parity.layers.parameters import UnknownNames
from rnn_parity.layers.registry import adapter_of, load_factory
from rnn_parity.layers.settings import settings_changed_by
from rnn_parity.life.live import POINTS, live_contained
from rnn_parity.timing.environment import describe_environment, machine_of
from rnn_parity.timing.rounds import time_case
from rnn_parity.trust.diagnose import diagnose
from rnn_parity.workloads.layer import Layer

Row = dict[str, Any]

DISTRIBUTION_DRAWS = 2000
"""With these, at the sizes of `small`, a dropout probability wrong by a tenth of itself was found from 8 of 8 seeds."""

PHASES = ("inference", "step")
_PROTOCOL: dict[str, Any] = {"precision": 0.02, "min_rounds": 10, "confidence": 0.95, "exclusive": False}

_ASIDE = {name for name, point in POINTS.items() if point.probe.__module__.endswith((".edges", ".sizes"))}
"""The points that take half of a life, each on modules of its own: they can be lived through beside the others."""


@dataclass(frozen=True)
class Look:
    """What is known before anything is compared: the baseline, the case, and how each layer is called."""

    baseline: str
    case: Case
    adapted: Mapping[str, str]


@dataclass(frozen=True)
class _Told:
    words: Mapping[str, str]


class Steps:
    """Starts the steps of one check, in processes of their own or, with `contain=False`, here.

    Attributes:
        limit_s: for how long one step may give nothing new. settings: what each layer was seen to change for the whole
            process.

    Raises `InputError` for a `time_limit`, in seconds, that cannot be waited for.
    """

    def __init__(self, contain: bool, time_limit: float) -> None:
        if not 0 < time_limit <= LONGEST_LIMIT_S:
            raise InputError(f"time_limit: holds {time_limit!r}, expected more than 0 and at most {LONGEST_LIMIT_S}")
        self.limit_s, self.contained = time_limit, contain and can_contain()
        self.settings: dict[str, str] = {}
        self._started = ExitStack()

    def __enter__(self) -> Steps:
        """Start nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs."""
        self._started.close()

    def start(self, work: Callable[[], Iterable[Any]], *names: str, heard: bool = False) -> Iterator[Any]:
        """What `work` yields, as `Stream` does; `names` are the layers that it runs.

        `heard`: whether what they print, and warn of, is to be read. It goes to stderr: it is no part of the answer.
        """

        def telling() -> Iterator[Any]:
            if self.contained:
                os.dup2(2 if heard else os.open(os.devnull, os.O_WRONLY), 1)
                if not heard:
                    warnings.simplefilter("ignore")
            yield from work()
            yield _Told({name: words for name in names if (words := settings_changed_by(name))})

        source: Iterable[Any] = telling()
        if self.contained:
            source = Stream(telling, self.limit_s)
            self._started.callback(source.close)
        return self._listen(source)

    def _listen(self, source: Iterable[Any]) -> Iterator[Any]:
        for found in source:
            if isinstance(found, _Told):
                self.settings |= found.words
            else:
                yield found

    def look(
        self, baseline: str | None, candidate: str, cell: str | None, make_case: Callable[[str, str], Case]
    ) -> Look | Ended:
        """Which kind of cell both are, and whether they can be called; `InputError` where they cannot."""

        def work() -> Iterator[Any]:
            for key, name in {"candidate": candidate, "baseline": baseline}.items():
                yield f"{key}: {name}"
                with suppress(InputError):  # whoever needs it as a layer says why
                    load_factory(name or BASELINES["gru"])
            yield ""
            told = cell or infer_kind(candidate)
            kind = told or "gru"
            load_cell(kind)
            if baseline is None and kind not in BASELINES:
                raise InputError(f"baseline: is missing, and {kind} has no default; expected the layer to be replaced")
            ours = BASELINES[kind] if baseline is None else baseline
            if ours == candidate:
                raise InputError(f"candidate: holds {candidate!r}, the baseline itself, expected another layer")
            case = make_case(ours, kind)
            for key, name in (("candidate", candidate), ("baseline", ours)):
                try:
                    require_kind(name, case.cell, key, case.num_layers, case.dropout)
                    require_call(name, case, key)
                except InputError as error:
                    unnamed = isinstance(error.__cause__, UnknownNames)  # another kind would not help
                    if key == "candidate" and not told and not unnamed and fits_no_call(name, kind):
                        raise InputError(f"{error}; it was taken for a GRU: name another kind with --cell") from error
                    if key == "baseline" and not cell and (own := infer_kind(name)) not in (None, kind):
                        both = f"this is {load_cell(own).words}, and the candidate {load_cell(kind).words}"
                        raise InputError(f"baseline: {name}: {both}; expected two of one kind") from error
                    raise
            adapted = {name: words for name in (ours, candidate) if (words := adapter_of(name, case.cell).words)}
            yield Look(ours, case, adapted)

        # Of all processes this one tells what a layer prints: each of them imports it, some call it hundreds of times.
        found = self.start(work, *filter(None, (baseline, candidate)), heard=True)
        # Meanwhile: else every process to come would import it, for a backward pass or a derivative in forward mode.
        with suppress(Exception):  # as where there is no folder for temporary files
            import torch._dynamo  # noqa: F401

        imported = ""
        for one in found:
            if not isinstance(one, str):
                break
            imported = one
        if imported and isinstance(one, Ended):
            raise InputError(f"{imported}: cannot be imported ({one.reason}); expected package.module:Class")
        return one

    def live(self, case: Case, candidate: str, deep: bool) -> Iterator[Row]:
        """Start the life of a candidate, in two processes; the iterator waits for its rows."""

        def start(work: Callable[[], Iterable[Any]]) -> Iterator[Any]:
            return self.start(work, candidate)

        streams = [live_contained(case, candidate, points, deep, start) for points in lived_together()]
        rows = (row for stream in streams for row in stream)
        return rows if self.contained else iter(list(rows))

    def compare(
        self, case: Case, names: tuple[str, str], seeds: Sequence[int], regimes: Sequence[str]
    ) -> Iterator[Any]:
        """Start the comparison, seed by seed; the iterator gives the rows of each."""

        def work() -> Iterator[list[Row]]:
            matched = set()
            for seed in seeds:
                rows = list(compare_case(Layer(), case, names[0], [names[1]], [seed], regimes, DISTRIBUTION_DRAWS))
                matched |= {row["verdict"] for row in rows if row["regime"] == "train_matched_masks"}
                yield rows
            if case.draws_dropout and matched == {Verdict.NOT_JUDGED}:
                # With the law of many draws this says what matched masks would.
                without = dataclasses.replace(case, dropout=0.0)
                yield list(compare_case(Layer(), without, names[0], [names[1]], seeds, ["train_matched_masks"]))

        return self._with_end_of_comparison(case, names, seeds, regimes, self.start(work, *names))

    def _with_end_of_comparison(self, case, names, seeds, regimes, stream) -> Iterator[Any]:
        done: list[int] = []
        for rows in stream:
            if not isinstance(rows, Ended):
                done += [row["seed"] for row in rows[:1]]
                yield rows
                continue
            seed = next((seed for seed in seeds if seed not in done), seeds[-1])
            yield self.ended_rows(case, names, seed, regimes, self.blame(rows, case, names[0], seed, regimes[0]))

    def blame(
        self, ended: Ended, case: Case, baseline: str, seed: int = 0, regime: str = Regime.EVAL, phase: str = ""
    ) -> Ended:
        """How a process of both layers ended, told of the baseline where that also ends beside itself.

        It is compared with itself, or timed in a phase.
        """

        def alone() -> Iterator[Any]:
            if phase:
                yield self._time_phase(case, baseline, [], phase, 0.0)
            else:
                yield list(compare_case(Layer(), case, baseline, [baseline], [seed], [regime]))

        of_baseline = [found for found in self.start(alone, baseline) if isinstance(found, Ended)]
        return Ended(*because_of_baseline(of_baseline[0].verdict, of_baseline[0].reason)) if of_baseline else ended

    def ended_rows(
        self, case: Case, names: tuple[str, str], seed: int, regimes: Sequence[str], ended: Ended
    ) -> list[Row]:
        """The rows of a comparison whose process ended."""
        context = {**case.columns, "baseline": names[0], "implementation": names[1], "seed": seed}
        context |= {"verdict": str(ended.verdict), "reason": ended.reason}
        quantities = load_cell(case.cell).quantities(case.num_layers)
        held = [regime for regime in regimes if regime in EXPECTED_TO_HOLD]
        return [{**context, "regime": regime, "quantity": quantity} for regime in held for quantity in quantities]

    def cause(self, case: Case, baseline: str, candidate: str, row: Mapping[str, Any]) -> str:
        """The planted fault of the candidate, or else of the baseline, told in a case of few steps and rows."""

        def work() -> Iterator[str]:
            steps, rows = min(case.sequence_length, 12), min(case.batch_size, 8)
            small = dataclasses.replace(case, dropout=row["dropout"], sequence_length=steps, batch_size=rows)
            ((task, _),) = Layer().draw(small, row["seed"]).split(baseline, [candidate])
            for whose, name in (("its", candidate), ("the baseline's", baseline)):
                if fault := diagnose(task.references, name, row["regime"], task.quantities()):
                    yield f"{whose} numbers are those of a layer with this fault: {fault[0].lower()}{fault[1:]}"

        return next((found for found in self.start(work, baseline, candidate) if not isinstance(found, Ended)), "")

    def time(self, case: Case, baseline: str, candidate: str, seconds: float) -> list[Row]:
        """The rows of the timing table."""

        def work() -> Iterator[list[Row]]:
            for phase in PHASES:
                yield self._time_phase(case, baseline, [candidate], phase, seconds)

        rows: list[Row] = []
        for found in self.start(work, baseline, candidate):
            if not isinstance(found, Ended):
                rows += found
                continue
            phase = PHASES[len({row["phase"] for row in rows})]
            ended = self.blame(found, case, baseline, phase=phase)
            context = {**case.columns, "baseline": baseline, "implementation": candidate, "exclusive": False}
            rows.append({**context, "phase": phase, "conclusion": str(ended.verdict), "reason": ended.reason})
        return rows

    def _time_phase(
        self, case: Case, baseline: str, candidates: Sequence[str], phase: str, seconds: float
    ) -> list[Row]:
        return time_case(Layer(), case, baseline, candidates, phases=(phase,), max_seconds=seconds, **_PROTOCOL)

    def environment(self, device: str) -> dict[str, Any]:
        """Versions, and the kind of machine; a GPU is asked by a process of its own, as for all else."""

        def work() -> Iterator[dict[str, Any]]:
            yield describe_environment([]) | {"machine": machine_of(device)}

        found = next(self.start(work))
        return {} if isinstance(found, Ended) else found

    def probe(self, case: Case, baseline: str, candidate: str) -> list[Row]:
        """The rows of the table of capabilities; a layer that ends its process there refuses."""
        given = case.device, case.threads, case.cell, (case.input_size, case.hidden_size, case.num_layers)

        def start(work: Callable[[], Iterable[Any]]) -> Iterator[Any]:
            return self.start(work, baseline, candidate)

        return list(probe_capabilities(baseline, [candidate], *given, start=start, side_by_side=True))


def lived_together() -> list[list[str]]:
    """The points of a life by the process that they share, in order."""
    return [[key for key in POINTS if (key in _ASIDE) == aside] for aside in (False, True)]
