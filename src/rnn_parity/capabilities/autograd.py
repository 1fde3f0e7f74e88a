"""Derivatives other than one backward pass in training mode, and the transforms of `torch.func`."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rnn_parity.capabilities.subject import ProbeResult, Subject, capability, expect_same
from rnn_parity.layers.parameters import gradient_sources


@capability("Backward in eval mode")
def eval_backward(subject: Subject) -> ProbeResult:
    """In eval mode with dropout 0.5, results and gradients are those of training mode without dropout."""
    found = subject.run(subject.vary(dropout=0.5).load().eval())
    return expect_same(found, subject.run(), "training without dropout")


@capability("Double backward (gradient of a gradient)")
def double_backward(subject: Subject) -> ProbeResult:
    """The gradients, of input, states and every parameter, of the squared norm of all first gradients."""
    module, arguments = subject.load(), subject.arguments()
    sources = subject.sources(module, *arguments)
    first = subject.gradients(subject.forward(module, *arguments), sources, create_graph=True)
    # `backward`, not `autograd.grad`, which never runs the node by which `once_differentiable` raises.
    torch.stack([gradient.square().sum() for gradient in first.values()]).sum().backward()
    second = {f"grad_{name}": tensor.grad for name, tensor in sources.items() if tensor.grad is not None}
    return ProbeResult(numbers=second)


@capability("Backward twice through one graph")
def backward_twice(subject: Subject) -> ProbeResult:
    """With `retain_graph=True`, a second backward pass gives the gradients of the first."""
    module, arguments = subject.load(), subject.arguments()
    outputs, sources = subject.forward(module, *arguments), subject.sources(module, *arguments)
    first, second = (subject.gradients(outputs, sources, retain_graph=True) for _ in range(2))
    return expect_same(second, first, "the first backward pass")


@capability("Gradients of some tensors only")
def some_gradients(subject: Subject) -> ProbeResult:
    """The gradient of input, a state or a parameter alone is the one of a pass in which all ask for theirs."""
    module, arguments = subject.load(), subject.arguments()
    sources = subject.sources(module, *arguments)
    found: dict[str, Tensor] = {}
    for alone in sources.values():
        for tensor in sources.values():
            tensor.requires_grad_(tensor is alone)
        found |= subject.run(module, arguments=arguments)
    return expect_same(found, subject.run(), "a pass where all ask for one")


@capability("Gradient checkpointing")
def gradient_checkpointing(subject: Subject) -> ProbeResult:
    """Recomputed in the backward pass, with dropout 0.3, it gives the gradients of the plain pass under this seed."""
    subject = subject.vary(dropout=0.3)
    module = subject.load()
    recomputed = subject.run(module, call=lambda *given: checkpoint(module, *given, use_reentrant=False))
    expect_same(recomputed, subject.run(module), "the plain pass")
    return ProbeResult()  # masks, and so numbers, differ between implementations under one seed


@capability("Forward-mode differentiation")
def forward_ad(subject: Subject) -> ProbeResult:
    """Tangents of `torch.func.jvp` along ones in input and states fit the backward pass: ⟨C, J·1⟩ = ⟨Jᵀ·C, 1⟩."""
    module, arguments = subject.load(), subject.arguments()
    ones = tuple(map(torch.ones_like, arguments))
    tangents = torch.func.jvp(partial(subject.forward, module), arguments, ones)[1]
    backward = subject.run(module)
    forwards = sum((c * t).sum() for c, t in zip(subject.stimulus.cotangents, tangents.values(), strict=True))
    backwards = torch.stack([backward[f"grad_{name}"].sum() for name in subject.cell.inputs()]).sum()
    expect_same({"derivative": forwards}, {"derivative": backwards}, "the backward pass")
    return ProbeResult(numbers={f"tangent_{name}": tangent for name, tangent in tangents.items()})


@capability("`torch.func.vmap`")
def vmap(subject: Subject) -> ProbeResult:
    """Mapped over a new first dimension, in eval mode, the layer gives the results of single calls."""
    module, (input, *states) = subject.load().eval(), subject.arguments()
    pairs = torch.stack([input, -input]), *(torch.stack([state, state / 2]) for state in states)
    found = subject.forward(torch.func.vmap(module), *pairs)
    each = [subject.forward(module, *arguments) for arguments in zip(*pairs, strict=True)]
    return expect_same(found, {name: torch.stack([one[name] for one in each]) for name in found}, "calls one by one")


@capability("Per-sample gradients (`vmap` of `grad`)")
def per_sample_gradients(subject: Subject) -> ProbeResult:
    """Gradients of every parameter for each sequence of the batch, in eval mode; their sum is the batch's gradient."""
    module, arguments = subject.load().eval(), subject.arguments()
    parameters, names = dict(module.named_parameters()), gradient_sources(module)

    def loss(parameters, *row):
        tensors = [tensor.unsqueeze(1) for tensor in row]
        given, cotangents = tensors[: len(arguments)], tensors[len(arguments) :]
        outputs = subject.forward(lambda *a: torch.func.functional_call(module, parameters, a), *given)
        return sum((c * value).sum() for c, value in zip(cotangents, outputs.values(), strict=True))

    rows = *arguments, *subject.stimulus.cotangents
    gradients = torch.func.vmap(torch.func.grad(loss), (None, *[1] * len(rows)))(parameters, *rows)
    by_tensor = {id(parameter): gradients[name].detach() for name, parameter in parameters.items()}
    found = {f"grad_{name}": by_tensor[id(parameter)] for name, parameter in names.items()}
    expect_same({name: g.sum(0) for name, g in found.items()}, subject.run(), "the batch")
    return ProbeResult(numbers=found)
