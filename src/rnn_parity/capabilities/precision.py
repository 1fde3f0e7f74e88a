"""Reduced precision: parameters of 16 bits, and autocast."""

from __future__ import annotations

import torch

from rnn_parity.capabilities.subject import COARSE, ProbeResult, Subject, Wrong, capability, expect_same


@capability("Parameters of 16 bits")
def half_precision(subject: Subject) -> ProbeResult:
    """Converted to bfloat16, and to float16, it gives results in that dtype close to float64, forward and backward."""
    expected, numbers = subject.run(subject.load()), {}
    for dtype in (torch.bfloat16, torch.float16):
        word = str(dtype).removeprefix("torch.")
        narrow = subject.vary(dtype=word)
        found = narrow.run(narrow.load())
        if others := [name for name, value in found.items() if value.dtype != dtype]:
            raise Wrong(f"gives {others[0]} in {found[others[0]].dtype} where all is in {dtype}")
        expect_same(found, expected, f"float64 when in {word}", COARSE)
        numbers |= {f"{name} in {word}": value for name, value in found.items()}
    return ProbeResult(numbers=numbers, tolerance=COARSE)


@capability("Autocast to bfloat16")
def autocast(subject: Subject) -> ProbeResult:
    """With float32 parameters under `torch.autocast`, it is close to float64, backward too; the detail says in which
    dtype output and hn come.
    """
    narrow = subject.vary(dtype="float32")
    module = narrow.load()
    found = narrow.run(module, call=torch.autocast(subject.case.device, torch.bfloat16)(module.__call__))
    expect_same(found, subject.run(subject.load()), "float64", COARSE)
    dtypes = " and ".join(str(found[name].dtype).removeprefix("torch.") for name in ("output", "hn"))
    return ProbeResult(detail=f"gives {dtypes}", numbers=found, tolerance=COARSE)
