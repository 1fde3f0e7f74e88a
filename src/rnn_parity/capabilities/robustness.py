"""Results that stay right beside bad numbers, other threads, in 16 bits, and in a copy."""

from __future__ import annotations

import copy
import io
import os
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from rnn_parity.capabilities.subject import (
    COARSE,
    NotProbed,
    ProbeResult,
    Subject,
    Wrong,
    capability,
    expect_same,
    one_line,
)

THREADS = 8
CALLS_PER_THREAD = 3


@capability("Containment of a NaN in its row")
def nan_propagation(subject: Subject) -> ProbeResult:
    """A NaN in the input of one sequence at one step makes its later outputs NaN, and no other."""
    module, (input, *states) = subject.load(), subject.arguments()
    expected = {name: value.clone() for name, value in subject.forward(module, input, *states).items()}
    for name, value in expected.items():
        value[1 if name == "output" else 0 :, 0] = torch.nan
    with torch.no_grad():
        input[1, 0, 0] = torch.nan
        found = subject.forward(module, input, *states)
    return expect_same(found, expected, "a NaN kept in its row")


@capability("Saturation at very large input")
def large_input(subject: Subject) -> ProbeResult:
    """Input of the order of 10³⁰ saturates every gate: output, last states and all gradients stay finite."""
    input, *states = subject.arguments()
    found = subject.run(arguments=((1e30 * input).detach().requires_grad_(), *states))
    if lost := [name for name, value in found.items() if not value.isfinite().all()]:
        raise Wrong(f"{lost[0]} is not finite")
    forward = {name: value for name, value in found.items() if not name.startswith("grad_")}
    return ProbeResult(numbers=forward)  # its gradients are zero, or nearly


@capability("Bitwise repeatability under one seed")
def repeatable(subject: Subject) -> ProbeResult:
    """Two calls of one module under one seed, with dropout 0.3, are equal bit for bit, forward and backward."""
    subject = subject.vary(dropout=0.3)
    module = subject.load()
    before, after = subject.run(module), subject.run(module)
    expect_same(after, before, "the call before", tolerance=0.0)
    return ProbeResult()


@capability("Deterministic algorithms")
def deterministic(subject: Subject) -> ProbeResult:
    """Under `torch.use_deterministic_algorithms(True)` it runs, forward and backward."""
    if subject.case.device == "cuda" and os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in (":4096:8", ":16:8"):
        raise NotProbed("cuBLAS asks for CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        found = subject.run()
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    return expect_same(found, subject.run(), "the algorithms by default")


@capability("Calls from several threads at once")
def multi_threading(subject: Subject) -> ProbeResult:
    """Eight threads that share a module, each with its own input, get the results and gradients of each alone."""
    module = subject.load()
    scales = [1 + thread / THREADS for thread in range(THREADS)] * CALLS_PER_THREAD

    def run(scale):
        return subject.run(module, arguments=subject.arguments(lambda tensor: scale * tensor))

    alone = {scale: run(scale) for scale in scales[:THREADS]}
    with ThreadPoolExecutor(THREADS) as pool:
        together = [pool.submit(run, scale) for scale in scales]
    for scale, call in zip(scales, together, strict=True):
        if error := call.exception():  # alone it did not raise; a race brings an error or other numbers by chance
            raise Wrong(f"raises beside other threads: {one_line(error)}")
        expect_same(call.result(), alone[scale], "one thread alone")
    return ProbeResult()


@capability("Parameters of 16 bits")
def half_precision(subject: Subject) -> ProbeResult:
    """Converted to bfloat16, and to float16, it gives results in that dtype close to float64, forward and backward."""
    expected = subject.run()
    numbers: dict[str, Tensor] = {}
    for dtype in ("bfloat16", "float16"):
        found = subject.vary(dtype=dtype).run()
        if others := [name for name, value in found.items() if value.dtype != getattr(torch, dtype)]:
            raise Wrong(f"gives {others[0]} in {found[others[0]].dtype} where all is in torch.{dtype}")
        expect_same(found, expected, f"float64 when in {dtype}", COARSE)
        numbers |= {f"{name} in {dtype}": value for name, value in found.items()}
    return ProbeResult(numbers=numbers, tolerance=COARSE)


@capability("Autocast to bfloat16")
def autocast(subject: Subject) -> ProbeResult:
    """With float32 parameters under `torch.autocast`, it is close to float64, backward too; the detail says in which
    dtype output and last states come.
    """
    narrow = subject.vary(dtype="float32")
    module = narrow.load()
    found = narrow.run(module, call=torch.autocast(subject.case.device, torch.bfloat16)(module.__call__))
    expect_same(found, subject.run(), "float64", COARSE)
    dtypes = " and ".join(str(found[name].dtype).removeprefix("torch.") for name in subject.cell.outputs()[:2])
    return ProbeResult(detail=f"gives {dtypes}", numbers=found, tolerance=COARSE)


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
    """Moved to the device `meta`, it gives the shapes of output and last states without computing them."""
    module = subject.construct().to("meta")
    if not all(value.is_meta for value in subject.forward(module, *subject.arguments(lambda t: t.to("meta"))).values()):
        raise Wrong("gives a tensor on another device")
    return ProbeResult()


def _through_file(thing, weights_only: bool):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)
