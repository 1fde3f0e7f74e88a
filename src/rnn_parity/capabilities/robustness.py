"""Results that must not depend on what happens beside them: bad numbers, a call before, other threads."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import torch

from rnn_parity.capabilities.isolation import one_line
from rnn_parity.capabilities.subject import NotProbed, ProbeResult, Subject, Wrong, capability, expect_same, forward

THREADS = 8
CALLS_PER_THREAD = 8


@capability("NaN stays in its row")
def nan_propagation(subject: Subject) -> ProbeResult:
    """A NaN in the input of one sequence at one step makes its later outputs NaN, and no other."""
    module, (input, h0) = subject.load(), subject.arguments()
    expected = dict(zip(("output", "hn"), (t.detach().clone() for t in forward(module, input, h0)), strict=True))
    expected["output"][1:, 0] = expected["hn"][:, 0] = torch.nan
    with torch.no_grad():
        input[1, 0, 0] = torch.nan
        output, hn = forward(module, input, h0)
    expect_same({"output": output, "hn": hn}, expected, "a NaN kept in its row")
    return ProbeResult(numbers={"output": output, "hn": hn})


@capability("Very large input")
def large_input(subject: Subject) -> ProbeResult:
    """Input of the order of 10³⁰ saturates every gate: output, hn and all gradients stay finite."""
    module, (input, h0) = subject.load(), subject.arguments()
    found = subject.run(module, arguments=((1e30 * input).detach().requires_grad_(), h0))
    if lost := [name for name, value in found.items() if not value.isfinite().all()]:
        raise Wrong(f"{lost[0]} is not finite")
    return ProbeResult(numbers={name: found[name] for name in ("output", "hn")})  # its gradients are zero, or nearly


@capability("Same seed, same bits")
def repeatable(subject: Subject) -> ProbeResult:
    """Two calls of one module under one seed, with dropout 0.3, are equal bit for bit, forward and backward."""
    subject, found = subject.vary(dropout=0.3), []
    module = subject.load()
    for _ in range(2):
        torch.manual_seed(0)
        found.append(subject.run(module))
    expect_same(found[1], found[0], "the call before", tolerance=0.0)
    return ProbeResult()


@capability("Deterministic algorithms")
def deterministic(subject: Subject) -> ProbeResult:
    """Under `torch.use_deterministic_algorithms(True)` it runs, forward and backward."""
    if subject.case.device == "cuda" and os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in (":4096:8", ":16:8"):
        raise NotProbed("cuBLAS asks for CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        found = subject.run(subject.load())
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    expect_same(found, subject.run(subject.load()), "the algorithms by default")
    return ProbeResult(numbers=found)


@capability("Calls from several threads at once")
def multi_threading(subject: Subject) -> ProbeResult:
    """Eight threads that share one module, each with its own input, get what each gets alone, forward and backward."""
    module = subject.load()
    scales = [1 + thread / THREADS for thread in range(THREADS)] * CALLS_PER_THREAD

    def run(scale):
        return subject.run(module, arguments=tuple((scale * t).detach().requires_grad_() for t in subject.arguments()))

    alone = {scale: run(scale) for scale in scales[:THREADS]}
    with ThreadPoolExecutor(THREADS) as pool:
        together = [pool.submit(run, scale) for scale in scales]
    for scale, call in zip(scales, together, strict=True):
        if error := call.exception():  # alone it did not raise: which of both a race brings is chance
            raise Wrong(f"raises beside other threads: {one_line(error)}")
        expect_same(call.result(), alone[scale], "one thread alone")
    return ProbeResult()
