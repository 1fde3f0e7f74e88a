"""Functions of functions: `torch.func`'s transforms of a layer."""

from __future__ import annotations

import torch

from rnn_parity.capabilities.subject import ProbeResult, Subject, capability, expect_same, forward
from rnn_parity.layers.parameters import canonical_parameters


@capability("`torch.func.vmap`")
def vmap(subject: Subject) -> ProbeResult:
    """Mapped over a new first dimension, in eval mode, it gives what one call after the other gives."""
    module, (input, h0) = subject.load().eval(), subject.arguments()
    inputs, states = torch.stack([input, -input]), torch.stack([h0, h0 / 2])
    output, hn = forward(torch.func.vmap(module), inputs, states)
    found = {"output": output.detach(), "hn": hn.detach()}
    each = [forward(module, *arguments) for arguments in zip(inputs, states, strict=True)]
    expect_same(found, dict(zip(found, map(torch.stack, zip(*each, strict=True)), strict=True)), "calls one by one")
    return ProbeResult(numbers=found)


@capability("Per-sample gradients (`vmap` of `grad`)")
def per_sample_gradients(subject: Subject) -> ProbeResult:
    """Gradients of every parameter for each sequence of the batch, in eval mode; their sum is the batch's gradient."""
    module = subject.load().eval()
    parameters, names = dict(module.named_parameters()), canonical_parameters(module)

    def loss(parameters, *row):
        input, h0, *cotangents = (tensor.unsqueeze(1) for tensor in row)
        outputs = torch.func.functional_call(module, parameters, (input, h0))
        return sum((c * value).sum() for c, value in zip(cotangents, outputs, strict=True))

    per_row = torch.func.vmap(torch.func.grad(loss), (None, 1, 1, 1, 1))
    gradients = per_row(parameters, *subject.arguments(), *subject.cotangents())
    by_tensor = {id(parameter): gradients[name].detach() for name, parameter in parameters.items()}
    found = {f"grad_{name}": by_tensor[id(parameter)] for name, parameter in names.items()}
    expect_same({name: g.sum(0) for name, g in found.items()}, subject.run(subject.load()), "the batch")
    return ProbeResult(numbers=found)
