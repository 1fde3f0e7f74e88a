"""A layer captured and run without its Python code: exported, compiled, or as a CUDA graph."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnn_parity.capabilities.subject import NotProbed, ProbeResult, Subject, Wrong, capability, expect_same, one_line
from rnn_parity.layers.running import pack_states, unpack_states


@capability("`torch.export`", loads="exporter")
def torch_export(subject: Subject) -> ProbeResult:
    """Exported with one input, it gives the layer's results for another."""
    exported = torch.export.export(subject.load().eval(), _packed(subject)).module()
    return _same_for_other_input(subject, exported)


@capability("ONNX export", loads="exporter")
def onnx_export(subject: Subject) -> ProbeResult:
    """Exported by `torch.onnx.export(dynamo=True)`, T = 2, ONNX's reference evaluator gives the layer's results."""
    if missing := [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]:
        raise NotProbed(f"not installed: {', '.join(missing)}")
    from onnx.reference import ReferenceEvaluator

    subject = subject.vary(sequence_length=2)  # a loop is unrolled: every step is exported
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.onnx"
        torch.onnx.export(subject.load().eval(), _packed(subject), path, dynamo=True, verbose=False)
        evaluator = ReferenceEvaluator(str(path))

    def run(input, states):
        tensors = input, *unpack_states(states)
        feeds = dict(zip(evaluator.input_names, (tensor.cpu().numpy() for tensor in tensors), strict=True))
        output, *last = (torch.from_numpy(value).to(subject.case.device) for value in evaluator.run(None, feeds))
        return output, last

    return _same_for_other_input(subject, run)


def _packed(subject: Subject) -> tuple[Tensor, Any]:
    """Input and states as a layer is called with them."""
    stimulus = subject.stimulus
    return stimulus.input, pack_states(stimulus.states)


def _same_for_other_input(subject: Subject, exported: Callable[..., Any]) -> ProbeResult:
    given = -subject.stimulus.input, *(state / 2 for state in subject.stimulus.states)
    with torch.no_grad():
        found, expected = (subject.forward(call, *given) for call in (exported, subject.load().eval()))
    return expect_same(found, expected, "the layer")


@capability("`torch.compile`", loads="compiler")
def torch_compile(subject: Subject) -> ProbeResult:
    """Compiled by the default backend, T = 2, results and gradients are the same. The detail counts the graphs."""
    try:
        result, graphs = _compiled(subject, "inductor", fullgraph=False)
    except Wrong:
        raise
    except Exception:  # the toolchain may raise anything
        if error := compiler_error(subject.case.device):
            raise NotProbed(f"torch.compile fails here for any function: {error}") from None
        raise
    detail = {0: "nothing of it is compiled: it runs as before", 1: "one graph"}.get(graphs, f"{graphs} graphs")
    return dataclasses.replace(result, detail=detail)


@capability("`torch.compile(fullgraph=True)`", loads="compiler")
def torch_compile_fullgraph(subject: Subject) -> ProbeResult:
    """The whole layer is captured as one graph, T = 2, and run as captured (backend `aot_eager`)."""
    return _compiled(subject, "aot_eager", fullgraph=True)[0]


@capability("CUDA graph capture")
def cuda_graph(subject: Subject) -> ProbeResult:
    """Captured once, in eval mode without gradients, a replay with another input gives the results of a call."""
    if subject.case.device != "cuda":
        raise NotProbed("needs a CUDA device")
    module, (input, *states) = subject.load().eval(), subject.arguments()
    with torch.no_grad(), contextlib.ExitStack() as stack:
        # A capture that fails leaves its own stream as the current one.
        stack.callback(torch.cuda.set_stream, torch.cuda.current_stream())
        stream = torch.cuda.Stream()  # a first call sets things up that a capture may not
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            subject.forward(module, input, *states)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = subject.forward(module, input, *states)
        input.neg_()
        graph.replay()
        found = {name: value.clone() for name, value in captured.items()}
        return expect_same(found, subject.forward(module, input, *states), "a call without a graph")


def compiler_error(device: str) -> str:
    """Why `torch.compile` cannot compile even a sine here, as without a C++ compiler; empty if it can."""
    try:
        with fresh_compiler():
            torch.compile(torch.sin)(torch.ones(2, device=device))
    except Exception as error:  # the toolchain may raise anything
        return one_line(error)
    return ""


@contextmanager
def fresh_compiler() -> Iterator[None]:
    """Compile in this process alone, and forget the compiled code afterwards."""
    # Imported here: the compiler takes seconds of every process that imports it.
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.reset()
    try:
        with torch._inductor.config.patch(compile_threads=1):
            yield
    finally:
        torch._dynamo.reset()


def _compiled(subject: Subject, backend: str, fullgraph: bool) -> tuple[ProbeResult, int]:
    """The result of the layer compiled, and the number of its graphs."""
    subject = subject.vary(sequence_length=2)  # a loop is unrolled: every step is compiled
    module = subject.load()
    with fresh_compiler():
        from torch._dynamo.testing import CompileCounterWithBackend

        counter = CompileCounterWithBackend(backend)
        found = subject.run(module, call=torch.compile(module, backend=counter, fullgraph=fullgraph))
    return expect_same(found, subject.run(module), "the layer uncompiled"), counter.frame_count
