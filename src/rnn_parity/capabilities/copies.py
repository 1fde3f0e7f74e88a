"""A layer saved, loaded, copied and moved."""

from __future__ import annotations

import copy
import io

import torch

from rnn_parity.capabilities.subject import ProbeResult, Subject, Wrong, capability, expect_same, forward


@capability("`state_dict` saved and loaded")
def state_dict(subject: Subject) -> ProbeResult:
    """Loaded strictly from a file into a new layer, it makes that layer give the same numbers."""
    module, other = subject.load(), subject.construct()
    other.load_state_dict(_through_file(module.state_dict(), weights_only=True), strict=True)
    expect_same(subject.run(other), subject.run(module), "the layer saved")
    return ProbeResult()


@capability("Module saved and loaded")
def pickled(subject: Subject) -> ProbeResult:
    """`torch.save` and `torch.load` of the whole module give one that gives the same numbers."""
    module = subject.load()
    expect_same(subject.run(_through_file(module, weights_only=False)), subject.run(module), "the layer saved")
    return ProbeResult()


@capability("`copy.deepcopy`")
def deepcopy(subject: Subject) -> ProbeResult:
    """A copy gives the same numbers, and changing its parameters leaves the original as it was."""
    module = subject.load()
    twin, before = copy.deepcopy(module), subject.run(module)
    expect_same(subject.run(twin), before, "the original")
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    expect_same(subject.run(module), before, "the original before its copy was changed")
    return ProbeResult()


@capability("Shapes on the meta device")
def meta_device(subject: Subject) -> ProbeResult:
    """Moved to the device `meta`, it gives the shapes of output and hn without computing them."""
    module = subject.construct().to("meta")
    if not all(value.is_meta for value in forward(module, *(t.to("meta") for t in subject.arguments()))):
        raise Wrong("gives a tensor on another device")
    return ProbeResult()


def _through_file(thing, weights_only: bool):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)
