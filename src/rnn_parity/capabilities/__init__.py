"""What can each implementation do besides giving the right numbers? Where "equal numbers" and "drop-in" part.

Every capability is probed by doing it, on a module built anew, in float64 at a tiny size, with the weights that every
implementation is given. What a layer raises is data; no setting, warning or line of output is left behind.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from rnn_parity.capabilities import (
    arguments,
    copies,
    derivatives,
    export,
    graphs,
    precision,
    rejections,
    robustness,
    transforms,
)
from rnn_parity.capabilities.isolation import isolated, one_line, shortened
from rnn_parity.capabilities.subject import Capability, NotProbed, ProbeResult, Subject, Support, Wrong, disagreement
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.registry import load_factory

CAPABILITIES: dict[str, Capability] = {
    name: found
    for module in (arguments, rejections, derivatives, transforms, robustness, precision, copies, export, graphs)
    for name, found in vars(module).items()
    if isinstance(found, Capability)
}
"""Name to capability, in the order in which a report shows them."""

LAST = "cuda_graph"
"""Tried after all others of all layers: a capture that fails may leave the device unfit for them."""


def probe_capabilities(
    baseline: str, candidates: Sequence[str], device: str, threads: int = 1
) -> Iterator[dict[str, Any]]:
    """Yield one row per implementation × capability, the baseline's first.

    `agrees` says whether a candidate's numbers are the baseline's: null where one of them does not work, or where
    there are no numbers to compare. Raises `InputError` for an implementation that cannot be built at all.
    """
    names = [baseline, *candidates]
    for name in names:
        load_factory(name)
    every = list(itertools.product(names, CAPABILITIES))
    found: dict[tuple[str, str], ProbeResult] = {}
    for name, capability in sorted(every, key=lambda pair: pair[1] == LAST):
        found[name, capability] = probe(capability, tiny_subject(name, device, threads))
    for name, capability in every:
        finding, numbers = found[name, capability], found[baseline, capability].numbers
        agrees, why = None, ""
        if name != baseline and finding.numbers and numbers:
            why = disagreement(finding.numbers, numbers, "the baseline", finding.tolerance)
            agrees = not why
        yield {
            "implementation": name,
            "baseline": baseline,
            "device": device,
            "capability": capability,
            "title": CAPABILITIES[capability].title,
            "outcome": finding.outcome,
            "detail": "; ".join(filter(None, (finding.detail, why))),
            "agrees": agrees,
        }


def tiny_subject(name: str, device: str, threads: int = 1) -> Subject:
    """An implementation at the size at which everything is probed: every length another, T = 4, B = 3, I = 5, H = 6."""
    return Subject(name, Case("capabilities", device, "float64", False, 5, 6, 2, 4, 3, 0.0, threads))


def probe(capability: str, subject: Subject) -> ProbeResult:
    """Try one capability on one implementation. Whatever the layer raises is in the finding."""
    try:
        with isolated(subject.case):
            return CAPABILITIES[capability].probe(subject)
    except InputError:
        raise
    except NotProbed as reason:
        return ProbeResult(Support.NOT_PROBED, shortened(str(reason)))
    except Wrong as fault:
        return ProbeResult(Support.WRONG, shortened(str(fault)))
    except Exception as error:  # whatever an implementation under test raises is a result
        return ProbeResult(Support.REFUSES, one_line(error))
