"""A layer exported, to run without its Python code."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from rnn_parity.capabilities.subject import NotProbed, ProbeResult, Subject, capability, expect_same, forward


@capability("`torch.export`")
def torch_export(subject: Subject) -> ProbeResult:
    """Exported from one input, it gives for another what the layer gives."""
    module, arguments = subject.load().eval(), _detached(subject)
    exported = torch.export.export(module, arguments).module()
    return _same_for_other_input(subject, exported, arguments)


@capability("ONNX export")
def onnx_export(subject: Subject) -> ProbeResult:
    """Exported by `torch.onnx.export(dynamo=True)` and run by ONNX's reference evaluator, it gives what the layer
    gives.
    """
    if missing := [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]:
        raise NotProbed(f"not installed: {', '.join(missing)}")
    from onnx.reference import ReferenceEvaluator

    module, arguments = subject.load().eval(), _detached(subject)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.onnx"
        torch.onnx.export(module, arguments, path, dynamo=True, verbose=False)
        evaluator = ReferenceEvaluator(str(path))

    def run(*arguments):
        feeds = dict(zip(evaluator.input_names, (t.cpu().numpy() for t in arguments), strict=True))
        return [torch.from_numpy(value).to(subject.case.device) for value in evaluator.run(None, feeds)]

    return _same_for_other_input(subject, run, arguments)


def _detached(subject: Subject) -> tuple[Tensor, Tensor]:
    return tuple(tensor.detach() for tensor in subject.arguments())


def _same_for_other_input(subject: Subject, exported, arguments: tuple[Tensor, Tensor]) -> ProbeResult:
    input, h0 = arguments
    with torch.no_grad():
        output, hn = forward(exported, -input, h0 / 2)
        found = {"output": output, "hn": hn}
        expected = forward(subject.load().eval(), -input, h0 / 2)
    expect_same(found, dict(zip(found, expected, strict=True)), "the layer")
    return ProbeResult(numbers=found)
