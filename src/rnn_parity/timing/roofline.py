"""The least that a case asks of any machine: operations and bytes, and the time they take at measured rates.

Pure: shapes and rates in, numbers out. The roofline model of Williams, Waterman and Patterson (2009, Communications of
the ACM 52(4), 65-76), with a second ceiling: a recurrence can't be one large product, since each step waits for the one
before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_parity.experiment.grid import Case

if TYPE_CHECKING:  # who reads the table needs no torch
    from rnn_parity.cells.base import Cell

Numbers = Any
"""One number, or an array of them."""

_TIMES_FORWARD = {"inference": 1, "forward": 1, "backward": 2, "step": 3}
"""A matrix product's backward is two of its size: one for the gradient of each factor."""

_TIMES_SEQUENTIAL = {"inference": 1, "forward": 1, "backward": 1, "step": 2}
"""Of the backward's two, that for the state's gradient waits for the step after it; that for the weights' does not."""

_ELEMENT_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


def matmul_flops(case: Case, cell: type[Cell], phase: str) -> int:
    """Floating-point operations of the matrix products of one call: 2·T·B·R·(I_l + H) per layer and forward.

    R = H times the gates of the kind of cell, the rows of every weight.
    """
    return _TIMES_FORWARD[phase] * 2 * case.sequence_length * case.batch_size * sum(_weights(case, cell))


def sequential_flops(case: Case, cell: type[Cell], phase: str) -> int:
    """The part of `matmul_flops` in which each step waits for another: 2·T·B·R·H per layer, forward and backward."""
    return _TIMES_SEQUENTIAL[phase] * 2 * case.sequence_length * case.batch_size * _weights(case, cell)[1]


def least_bytes(case: Case, cell: type[Cell], phase: str) -> int:
    """Bytes that one call can't avoid to move: everything it is given read once, everything it gives written once.

    Given are parameters, input (T, B, I) and states (L, B, H), and for a gradient every cotangent; given back are
    output (T, B, H) and last states, or the gradients of parameters, input and states, or all of these in a `step`.
    """
    biases = 2 * len(cell.gates) * case.hidden_size * case.num_layers
    states = len(cell.states) * case.num_layers * case.batch_size * case.hidden_size
    sequence = case.sequence_length * case.batch_size
    given = sum(_weights(case, cell)) + biases + sequence * case.input_size + states
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


def _weights(case: Case, cell: type[Cell]) -> tuple[int, int]:
    """Elements of the weights (R, I_l) of all layers, and of those (R, H)."""
    rows, hidden = len(cell.gates) * case.hidden_size, case.hidden_size
    return rows * (case.input_size + hidden * (case.num_layers - 1)), rows * hidden * case.num_layers
