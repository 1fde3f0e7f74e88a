"""The least that a case asks of any machine: operations and bytes, and the time they take at measured rates.

Pure: shapes and rates in, numbers out. The roofline model of Williams, Waterman and Patterson (2009, Communications of
the ACM 52(4), 65-76), with a second ceiling: a recurrence can't be one large product, since each step waits for the one
before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_parity.experiment.grid import Case

Numbers = Any
"""One number, or an array of them."""

_TIMES_FORWARD = {"inference": 1, "forward": 1, "backward": 2, "step": 3}
"""A matrix product's backward is two of its size: one for the gradient of each factor."""

_TIMES_SEQUENTIAL = {"inference": 1, "forward": 1, "backward": 1, "step": 2}
"""Of the backward's two, that for the state's gradient waits for the step after it; that for the weights' does not."""

_ELEMENT_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


def matmul_flops(case: Case, phase: str) -> int:
    """Floating-point operations of the matrix products of one call: 2·T·B·3H·(I_l + H) per layer and forward."""
    return _TIMES_FORWARD[phase] * 2 * case.sequence_length * case.batch_size * sum(_weights(case))


def sequential_flops(case: Case, phase: str) -> int:
    """The part of `matmul_flops` in which each step waits for another: 2·T·B·3H·H per layer, forward and backward."""
    return _TIMES_SEQUENTIAL[phase] * 2 * case.sequence_length * case.batch_size * _weights(case)[1]


def least_bytes(case: Case, phase: str) -> int:
    """Bytes that one call can't avoid to move: everything it is given read once, everything it gives written once.

    Given are parameters, input (T, B, I) and h0 (L, B, H), and for a gradient both cotangents; given back are output
    (T, B, H) and hn (L, B, H), or the gradients of parameters, input and h0, or all of these in a `step`.
    """
    biases = 2 * 3 * case.hidden_size * case.num_layers
    states = case.num_layers * case.batch_size * case.hidden_size
    sequence = case.sequence_length * case.batch_size
    given = sum(_weights(case)) + biases + sequence * case.input_size + states
    outputs = sequence * case.hidden_size + states
    elements = {
        "inference": given + outputs,
        "forward": given + outputs,
        "backward": given + outputs + given,
        "step": given + outputs + outputs + given,
    }[phase]
    return elements * _ELEMENT_BYTES[case.dtype]


def floor_s(flops: Numbers, bytes: Numbers, gemm_flops_per_s: Numbers, copy_bytes_per_s: Numbers) -> Numbers:
    """Seconds below which no implementation gets here: the operations at the peak rate or the bytes, what is longer."""
    return np.maximum(flops / gemm_flops_per_s, bytes / copy_bytes_per_s)


def step_floor_s(
    flops: Numbers, sequential: Numbers, gemm_flops_per_s: Numbers, step_gemm_flops_per_s: Numbers
) -> Numbers:
    """Seconds of the matrix products alone where the sequential ones run at the rate of their own size.

    Not a bound: a kernel that holds the weights between the steps may pass it.
    """
    return sequential / step_gemm_flops_per_s + (flops - sequential) / gemm_flops_per_s


def _weights(case: Case) -> tuple[int, int]:
    """Elements of the weights (3H, I_l) of all layers, and of those (3H, H)."""
    rows, hidden = 3 * case.hidden_size, case.hidden_size
    return rows * (case.input_size + hidden * (case.num_layers - 1)), rows * hidden * case.num_layers
