"""From implementations to rows: every capability is tried on each, and compared with the baseline.

A capability is probed by doing it, on a module built anew, in float64 at a size that every layer takes, with the
weights that every implementation gets. An error of a layer is data; no setting, warning or line of output is left
behind.
"""

from __future__ import annotations

import getpass
import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rnn_parity.capabilities import autograd, calls, export, robustness
from rnn_parity.capabilities.subject import (
    Capability,
    NotProbed,
    ProbeResult,
    Subject,
    Support,
    Wrong,
    disagreement,
    isolated,
    one_line,
)
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.containment import Ended, Start, served
from rnn_parity.layers.registry import adapter_of, load_factory
from rnn_parity.layers.running import device_is_lost, refused_by_system

CAPABILITIES: dict[str, Capability] = {
    name: value
    for module in (calls, autograd, robustness, export)
    for name, value in vars(module).items()
    if isinstance(value, Capability)
}
"""Name to capability, in the order in which a report shows them."""

LONGEST_DETAIL = 200

Sizes = tuple[int, int, int]
"""I, H and L."""

TINY: Sizes = (5, 6, 2)

Pair = tuple[str, str]
"""An implementation and a capability."""


def probe_capabilities(
    baseline: str,
    candidates: Sequence[str],
    device: str,
    threads: int = 1,
    cell: str = "gru",
    own: Sizes = TINY,
    *,
    start: Start = lambda work: work(),
    side_by_side: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield one row per implementation × capability, the baseline's first. See `probe_each` and `capability_rows`.

    A layer that ends its process refuses what was probed there. Behind a time limit nothing more is waited for.

    Args:
        start: as in `served`; here, in this process, unless another is given. side_by_side: whether two processes may
            share the work: one loads the compiler and the other the exporter, which take half of the time each. Not
            on a GPU, which one capability may leave unfit for all.
    """
    names = [baseline, *candidates]
    results: dict[Pair, ProbeResult] = {}
    ended = ProbeResult(Support.NOT_PROBED)

    def serve(pairs: Sequence[Pair]) -> Iterator[ProbeResult]:
        return (result for _, result in probe_each(names, pairs, device, threads, cell, own))

    shares = _shares(all_pairs(names), side_by_side and device != "cuda")
    for pairs, probed in [(pairs, served(serve, pairs, start)) for pairs in shares]:
        for found, pair in zip(probed, pairs, strict=False):  # in this order probing ends behind the last one
            results[pair] = found
            if isinstance(found, Ended):
                refused = found.verdict == Verdict.FAILED
                ended = ProbeResult(Support.REFUSES if refused else Support.NOT_PROBED, found.reason)
                results[pair] = ended
                if not refused:
                    break
    yield from capability_rows(names, device, cell, dict.fromkeys(all_pairs(names), ended) | results)


def all_pairs(names: Sequence[str]) -> list[Pair]:
    """What is probed, in order. The capture of a CUDA graph comes last: where it fails, the device may be unfit."""
    return [(name, capability) for capability in CAPABILITIES for name in names]


def _shares(pairs: list[Pair], two: bool) -> list[list[Pair]]:
    """The pairs by the process that probes them: what loads the compiler, the exporter, and half of the rest each."""
    if not two:
        return [pairs]
    compiled, exported, rest = (
        [pair for pair in pairs if CAPABILITIES[pair[1]].loads == what] for what in ("compiler", "exporter", "")
    )
    return [compiled + rest[::2], exported + rest[1::2]]


def probe_each(
    names: Sequence[str], pairs: Iterable[Pair], device: str, threads: int = 1, cell: str = "gru", own: Sizes = TINY
) -> Iterator[tuple[Pair, ProbeResult]]:
    """Yield what comes of each pair of an implementation and a capability.

    All are probed at one size: tiny where every one of `names` takes that, else `own`, as a case has it.
    Numbers of one that takes no states are compared with nobody's. Raises `InputError` for an implementation that
    cannot be built at all.
    """
    _find_room_for_compiler()
    for name in names:
        load_factory(name)
    tiny = TINY[0], TINY[1], min(TINY[2], own[2])
    sizes: Sizes = tiny if all(tiny_subject(name, device, threads, cell, tiny).runs for name in names) else own
    for name, capability in pairs:
        result = probe(capability, tiny_subject(name, device, threads, cell, sizes))
        comparable = adapter_of(name, cell).states != "none"
        yield (name, capability), result if comparable else replace(result, numbers={})


def capability_rows(
    names: Sequence[str], device: str, cell: str, results: Mapping[Pair, ProbeResult]
) -> Iterator[dict[str, Any]]:
    """Yield one row per implementation × capability; the first of `names` is the baseline.

    `agrees` says whether a candidate's numbers are the baseline's: null where one of them does not work, or where
    there are no numbers to compare.
    """
    baseline = names[0]
    for name, capability in itertools.product(names, CAPABILITIES):
        result, theirs = results[name, capability], results[baseline, capability].numbers
        numbers = {key: value for key, value in result.numbers.items() if key in theirs}
        agrees, difference = None, ""
        if name != baseline and numbers:
            difference = disagreement(numbers, theirs, "the baseline", result.tolerance)
            agrees = not difference
        detail = "; ".join(filter(None, (result.detail, difference)))
        yield {
            "implementation": name,
            "baseline": baseline,
            "device": device,
            "cell": cell,
            "capability": capability,
            "title": CAPABILITIES[capability].title,
            "outcome": result.outcome,
            "detail": detail if len(detail) <= LONGEST_DETAIL else f"{detail[: LONGEST_DETAIL - 1]}…",
            "agrees": agrees,
        }


def _find_room_for_compiler() -> None:
    """Let the compiler write elsewhere where its cache takes no file: what it cannot keep is nothing a layer lacks."""
    try:
        named = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
        cache = named or Path(tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}")
        Path(cache).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except (OSError, KeyError):  # KeyError: a user without a name
        with suppress(OSError):  # nor there: what needs a compiler is not probed
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="torchinductor_")


def tiny_subject(name: str, device: str, threads: int = 1, cell: str = "gru", sizes: Sizes = TINY) -> Subject:
    """An implementation at the probed size: T = 4, B = 3 and, where it is tiny, I = 5, H = 6 are different lengths."""
    return Subject(name, Case("capabilities", device, "float64", False, *sizes, 4, 3, 0.0, threads, cell))


def probe(capability: str, subject: Subject) -> ProbeResult:
    """Try one capability on one implementation. Every error of the layer becomes a result."""
    try:
        with isolated(subject.case):
            return CAPABILITIES[capability].probe(subject)
    except InputError:
        raise
    except NotProbed as error:
        return ProbeResult(Support.NOT_PROBED, str(error))
    except Wrong as error:
        return ProbeResult(Support.WRONG, str(error))
    except Exception as error:  # an implementation under test may raise anything
        if device_is_lost(error):
            return ProbeResult(Support.NOT_PROBED, f"the device is lost: {one_line(error)}")
        if refused_by_system(error):
            return ProbeResult(Support.NOT_PROBED, f"the machine: {one_line(error)}")
        return ProbeResult(Support.REFUSES, one_line(error))
