"""One candidate against one baseline, without a config: `rnn_parity.check`, for your own tests.

def test_my_layer_may_replace_the_loop():
    report = rnn_parity.check("stacking_gru_cell", MyGRU)
    assert report.equivalent, report.explain()
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnn_parity.bundles.files import require_place, write_bundle
from rnn_parity.bundles.questions import ask, question_of
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.names import BASELINES
from rnn_parity.experiment.one_case import make_case_of_check
from rnn_parity.experiment.presets import PRESETS, SIZES
from rnn_parity.experiment.vocabulary import EXPECTED_TO_HOLD, TIME_LIMIT_S, Regime, Verdict
from rnn_parity.layers.containment import Ended
from rnn_parity.layers.registry import named
from rnn_parity.life.live import POINTS, live_contained
from rnn_parity.steps import Look, Steps

if TYPE_CHECKING:
    import pandas as pd

    from rnn_parity.report.check import Report

REGIMES = (Regime.EVAL, Regime.TRAIN_MATCHED_MASKS, Regime.TRAIN_SAME_SEED)


def check(
    baseline: str | Callable[..., Any] | None,
    candidate: str | Callable[..., Any],
    *,
    cell: str | None = None,
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
    life: bool = True,
    deep: bool = False,
    capabilities: bool = True,
    timing_seconds: float = 0.5,
    time_limit: float = TIME_LIMIT_S,
    contain: bool = True,
    bundle: Path | str | None = None,
    progress: Callable[[str], None] = lambda step: None,
    known: Callable[[Report], None] = lambda report: None,
) -> Report:
    """May `candidate` replace `baseline`? Compare their numbers, probe what they can do, and time both.

    Args:
        baseline, candidate: a registered name, `package.module:Class`, or a class or other callable that builds the
            layer from input_size, hidden_size, num_layers and dropout. If the baseline is None, it is the loop over
            cells of the candidate's kind.
        cell: the kind of cell of both: `gru`, `gru_reset_before`, `lstm`, or `package.module:Class`. If None, it is
            inferred from the candidate's parameters.
        like: the preset for sizes and seeds that are not given: `small`, `article` or `t2vec`.
        device: `auto` is cuda if there is one. threads: CPU threads to compute with.
        regimes: at least one of those that must hold, `eval` and `train_matched_masks`.
        life: whether to judge many calls, not just one. deep: whether to try sizes that take minutes or gigabytes.
        capabilities: whether to probe them. This takes seconds, half of them in the compiler.
        timing_seconds: how long inference and step may each be timed beyond ten rounds; 0 for no timing.
        time_limit: seconds without a new result after which a layer is stopped.
        contain: whether to run the layers in separate processes, so that a layer that ends its process, crashes it or
            never returns affects only its own verdict. The layers run in this process if it has already used a GPU or
            several threads of torch.
        bundle: a folder for the bundle that replays a `no` elsewhere: `rnn-parity replay`.
        progress: called with the name of each step. known: called with the report so far, when the verdict, the cause
            of a `no`, the timing and the capabilities become known.

    Raises `InputError`, in one line, for arguments that cannot be used, and for a layer whose parameters do not fit its
    kind, or whose interface cannot be adapted. Any other error that a layer raises is in the report.
    """
    if like not in PRESETS:
        raise InputError(f"like: holds {like!r}, expected one of {', '.join(PRESETS)}")
    for key, some in (("regimes", regimes), ("seeds", seeds)):
        if isinstance(some, str | int):
            raise InputError(f"{key}: holds {some!r}, expected a list")
    for key, choice in {"life": life, "deep": deep, "capabilities": capabilities, "contain": contain}.items():
        if not isinstance(choice, bool):
            raise InputError(f"{key}: holds {choice!r}, expected True or False")
    if not timing_seconds >= 0:
        raise InputError(f"timing_seconds: holds {timing_seconds!r}, expected at least 0")
    if not set(regimes) & set(EXPECTED_TO_HOLD):
        raise InputError(f"regimes: holds {', '.join(regimes)}, expected at least one of {', '.join(EXPECTED_TO_HOLD)}")
    preset, preset_seeds = PRESETS[like]
    given = (input_size, hidden_size, num_layers, sequence_length, batch_size, dropout)
    axes = preset | {name: value for name, value in zip(SIZES, given, strict=True) if value is not None}
    axes |= {"dtype": str(dtype).removeprefix("torch."), "threads": threads}
    axes = {key: value.item() if hasattr(value, "item") else value for key, value in axes.items()}  # as NumPy's numbers
    seeds = list(preset_seeds if seeds is None else seeds)
    if bundle is not None:
        require_place(Path(bundle))

    def make_case(ours: str, kind: str) -> Case:
        return make_case_of_check(ours, theirs, str(device), axes | {"cell": kind}, seeds, regimes)

    with ExitStack() as stack:
        ours = None if baseline is None else stack.enter_context(named(baseline, "baseline"))
        theirs = stack.enter_context(named(candidate, "candidate"))
        steps = stack.enter_context(Steps(contain, time_limit))
        progress("looking at the layers")
        look = steps.look(ours, theirs, cell, make_case)
        ended = None
        if isinstance(look, Ended):
            ours = ours or BASELINES.get(cell or "gru", BASELINES["gru"])
            case = make_case(ours, cell or "gru")
            ended, look = steps.blame(look, case, ours, seeds[0], regimes[0]), Look(ours, case, {})
        ours, case = look.baseline, look.case
        progress("judging many calls, and comparing numbers")
        if ended:
            compared = iter([steps.ended_rows(case, (ours, theirs), seeds[0], regimes, ended)])
            lives = live_contained(case, theirs, list(POINTS), deep, lambda work: [ended])
        else:
            # The life first: what the very first call of a process leaves behind is to be seen.
            lives = steps.live(case, theirs, deep) if life else iter(())
            compared = steps.compare(case, (ours, theirs), seeds, regimes)
        from rnn_parity.report.check import Report  # while they work: it takes a third of a second

        rows = _frame([row for part in compared for row in part], "EQUIVALENCE")
        report = Report(
            ours, theirs, case, rows, _frame(list(lives), "LIFE") if life else None, None, None, look.adapted
        )

        def learned(**more: Any) -> Report:
            grown = dataclasses.replace(report, **more, settings=dict(steps.settings))
            known(grown)
            found = grown.answer.fault or grown.answer.deciding
            if bundle is None or grown.answer.word != "no" or not found or grown.bundle:
                return grown
            progress("writing the bundle")
            question = question_of(ours, theirs, case, found)
            told = grown.conclusion(), steps.environment(case.device)
            write_bundle(Path(bundle), question, ask(question, steps), *told)
            return learned(**more, bundle=str(bundle))

        report = learned()
        if ended or (rows["verdict"] == Verdict.FAILED).all():
            return report  # of a layer that does not run there is nothing to time or to lose
        if report.answer.word == "no" and report.answer.deciding:
            progress("looking for the cause")
            row = report.answer.deciding
            cause = steps.cause(case, ours, theirs, row) or _telling_quantity(report.equivalence, row)
            report = learned(cause=cause)
        if timing_seconds:
            progress("timing")
            report = learned(timing=_frame(steps.time(case, ours, theirs, timing_seconds), "TIMING"))
        if capabilities:
            progress("probing capabilities")
            report = learned(capabilities=_frame(steps.probe(case, ours, theirs), "CAPABILITIES"))
    return report


def _telling_quantity(equivalence: pd.DataFrame, row: Mapping[str, Any]) -> str:
    """Another quantity of which more is known than the size of its error, where of the one that decides it is not."""
    if not row["reason"].startswith("error is"):
        return ""
    beside = equivalence[(equivalence["regime"] == row["regime"]) & (equivalence["seed"] == row["seed"])]
    known = beside[beside["reason"].str.startswith("it ")]
    return "" if known.empty else f"{known.iloc[0]['quantity']} {known.iloc[0]['reason'].removeprefix('it ')}"


def _frame(rows: list[dict[str, Any]], table: str) -> pd.DataFrame:
    import pyarrow as pa

    from rnn_parity import tables

    return pa.Table.from_pylist(rows, schema=getattr(tables, table)).to_pandas()
