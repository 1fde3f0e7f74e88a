"""A layer captured as a graph of operators that is run instead of its Python code."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from rnn_parity.capabilities.isolation import one_line
from rnn_parity.capabilities.subject import NotProbed, ProbeResult, Subject, capability, expect_same, forward


@capability("`torch.compile`")
def torch_compile(subject: Subject) -> ProbeResult:
    """Compiled by the default backend, T = 2, it gives what it gives uncompiled, forward and backward; the detail says
    in how many graphs.
    """
    if fault := compiler_fault(subject.case.device):
        raise NotProbed(f"torch.compile fails here for any function: {fault}")
    found, graphs = _compiled(subject, "inductor", fullgraph=False)
    detail = {0: "nothing of it is compiled: it runs as before", 1: "one graph"}.get(graphs, f"{graphs} graphs")
    return ProbeResult(detail=detail, numbers=found)


@capability("`torch.compile(fullgraph=True)`")
def torch_compile_fullgraph(subject: Subject) -> ProbeResult:
    """The whole layer is captured as one graph, T = 2, and run as captured (backend `aot_eager`)."""
    return ProbeResult(numbers=_compiled(subject, "aot_eager", fullgraph=True)[0])


@capability("CUDA graph capture")
def cuda_graph(subject: Subject) -> ProbeResult:
    """Captured once, in eval mode without gradients, and replayed with another input, it gives what a call gives."""
    if subject.case.device != "cuda":
        raise NotProbed("needs a CUDA device")
    module, (input, h0) = subject.load().eval(), subject.arguments()
    with torch.no_grad(), _same_stream():
        stream = torch.cuda.Stream()  # what is set up by a first call must be set up outside the capture
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            forward(module, input, h0)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output, hn = forward(module, input, h0)
        input.neg_()
        graph.replay()
        found = {"output": output.clone(), "hn": hn.clone()}
        expect_same(found, dict(zip(found, forward(module, input, h0), strict=True)), "a call without a graph")
    return ProbeResult(numbers=found)


@contextmanager
def _same_stream() -> Iterator[None]:
    """Go back to the stream that was current: a capture that fails leaves its own."""
    stream = torch.cuda.current_stream()
    try:
        yield
    finally:
        torch.cuda.set_stream(stream)


@functools.cache
def compiler_fault(device: str) -> str:
    """Why `torch.compile` cannot compile even a sine here, as without a C++ compiler; empty if it can."""
    try:
        with fresh_compiler():
            torch.compile(torch.sin)(torch.ones(2, device=device))
    except Exception as error:  # whatever the toolchain raises
        return one_line(error)
    return ""


@contextmanager
def fresh_compiler() -> Iterator[None]:
    """Compile in this process alone, and forget afterwards what was compiled."""
    # Imported here: the compiler takes seconds of every process that imports it.
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.reset()
    try:
        with torch._inductor.config.patch(compile_threads=1):
            yield
    finally:
        torch._dynamo.reset()


def _compiled(subject: Subject, backend: str, fullgraph: bool) -> tuple[dict[str, Tensor], int]:
    """What the compiled layer gives, and in how many graphs."""
    subject = subject.vary(sequence_length=2)  # a loop is unrolled: every step is compiled
    module = subject.load()
    with fresh_compiler():
        from torch._dynamo.testing import CompileCounterWithBackend

        counter = CompileCounterWithBackend(backend)
        found = subject.run(module, call=torch.compile(module, backend=counter, fullgraph=fullgraph))
    expect_same(found, subject.run(module), "the layer uncompiled")
    return found, counter.frame_count
