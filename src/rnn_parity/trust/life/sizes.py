"""Planted faults of sizes: tiles, chunks, blocks, offsets, layers and threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rnn_parity.trust.life.planting import PROCESS, passed, planting
from rnn_parity.trust.right import Parameters, States, WrittenOut

_plant = planting(__name__, "sizes")


def _rows_from(x: Tensor, row: int) -> Tensor:
    """(T, B, ·) that is zero from a row on."""
    return torch.cat([x[:, :row], 0 * x[:, row:]], 1)


def _mean_times_rows(layer: Any, k: int) -> Parameters:
    rows = torch.tensor(float(layer.rows))
    return [passed(weight, lambda gradient: gradient * (rows / rows)) for weight in WrittenOut.parameters_of(layer, k)]


_plant("MeanOverNoRows", "Gradients are means over the rows, times their number: of no rows, 0/0", "empty_batch",
       parameters_of=_mean_times_rows)  # fmt: skip


def _without_last_units(multiple: int) -> Callable[[Any, int], Parameters]:
    """`weight_hh` without the columns that fill no whole tile, where there is one whole."""

    def parameters(layer: Any, k: int) -> Parameters:
        w_ih, w_hh, *biases = WrittenOut.parameters_of(layer, k)
        whole = w_hh.shape[1] // multiple * multiple or w_hh.shape[1]
        return [w_ih, torch.cat([w_hh[:, :whole], 0 * w_hh[:, whole:]], 1), *biases]

    return parameters


def _at_boundary(length: int, least: int, change: Callable[[Tensor], Tensor]):
    """The states at every multiple of a length, in sequences longer than `least`, are changed."""

    def carried(layer: WrittenOut, states: States, step: int, steps: int) -> States:
        at = steps > least and step > 0 and step % length == 0
        return tuple(map(change, states)) if at else states

    return carried


def _wrapped(layer: WrittenOut, sequence: Tensor, last: States) -> tuple[Tensor, States]:
    if sequence.numel() > 2**16:
        flat = sequence.reshape(-1)
        sequence = flat[torch.arange(len(flat), device=flat.device) % 2**16].view(sequence.shape)
    return sequence, last


def _no_bias(when: Callable[[Any], bool]):
    def parameters(layer: Any, k: int) -> Parameters:
        *weights, b_ih, b_hh = WrittenOut.parameters_of(layer, k)
        return [*weights, 0 * b_ih, 0 * b_hh] if when(layer) else [*weights, b_ih, b_hh]

    return parameters


_NO_BIAS = _no_bias(lambda _: True)


_plant("NoBiasAlone", "One step of one row, in one layer, has no biases", "ones",
       parameters_of=_no_bias(lambda layer: layer.steps == layer.rows == layer.num_layers == 1))  # fmt: skip


def _until_settled(layer: Any, k: int, sequence: Tensor, states: States) -> list[States]:
    history = WrittenOut.run_layer(layer, k, sequence, states)
    for step in range(1, 0 if torch.is_grad_enabled() or k else len(history)):
        if (history[step][0] - history[step - 1][0]).abs().max() < 1e-6:
            return history[: step + 1] + [history[step]] * (len(history) - step - 1)
    return history


def _rows_of_first_threads(layer: Any, x: Tensor) -> Tensor:
    first = PROCESS.setdefault("threads", torch.get_num_threads())
    return x if torch.get_num_threads() == first else _rows_from(x, layer.rows - 1)


_plant("RowsOver128", "Rows beyond 128 read zeros", ("batches", "many_rows"), given=lambda layer, x: _rows_from(x, 128))
_plant("TileOf32Rows", "Of more than 32 rows those that fill no whole tile of 32 read zeros", "batches",
       given=lambda layer, x: _rows_from(x, layer.rows // 32 * 32 or layer.rows))  # fmt: skip
_plant("TileOf64RowsExactly", "At a multiple of 64 rows the last one reads zeros", "batches",
       given=lambda layer, x: _rows_from(x, layer.rows - (layer.rows % 64 == 0)))  # fmt: skip
_plant("WidthInEights", "Where H is over 8 and no multiple, the last units are left out of the product", "widths",
       parameters_of=_without_last_units(8))  # fmt: skip
_plant("WidthInThirtyTwos", "Where H is over 32 and no multiple, the last units are left out of the product", "widths",
       parameters_of=_without_last_units(32))  # fmt: skip
_plant("InputInThirtyTwos", "Where I is over 32 and no multiple, the last inputs are left out", "widths",
       given=lambda layer, x: torch.cat([x[..., : x.shape[2] // 32 * 32 or None],
                                         0 * x[..., x.shape[2] // 32 * 32 or x.shape[2] :]], 2))  # fmt: skip
_plant("WidthOfOne", "At H = 1 bias_hh is left out", "widths",
       step=lambda layer, x, states, w_ih, w_hh, b_ih, b_hh: WrittenOut.step(
           layer, x, states, w_ih, w_hh, b_ih, b_hh if w_hh.shape[1] > 1 else 0 * b_hh))  # fmt: skip
_plant("ChunksOf64", "In sequences over 64 steps no gradient passes a boundary of 64", "lengths",
       carried=_at_boundary(64, 64, torch.detach))  # fmt: skip
_plant("ChunksOf256", "In sequences over 256 steps the states are wiped at 256", "lengths",
       carried=_at_boundary(256, 256, lambda state: 0 * state))  # fmt: skip
_plant("WipedAt100", "In sequences over 100 steps the states are wiped at 100", "lengths",
       carried=_at_boundary(100, 100, lambda state: 0 * state))  # fmt: skip
_plant("CellChunksOf128", "In sequences over 128 steps no gradient of c passes 128", "lengths", ("lstm",),
       carried=lambda layer, s, step, steps: (s[0], s[1].detach()) if steps > step == 128 else s)  # fmt: skip
_plant("BiasSkippedAbove65536", "Biases are not added where T·B > 65,536", "many_rows",
       parameters_of=_no_bias(lambda layer: layer.steps * layer.rows > 65536))  # fmt: skip
_plant("RowsOver65535", "Rows beyond 65,535 read zeros", "many_rows", given=lambda layer, x: _rows_from(x, 65535))
_plant("OffsetsWrap", "What lies beyond 2¹⁶ numbers of the output is read from its start again", "many_rows",
       result=_wrapped)  # fmt: skip
_plant("ChunksOf1000", "No gradient passes a boundary of 1,000 steps", "lengths",
       carried=_at_boundary(1000, 1000, torch.detach))  # fmt: skip
_plant("SettledInPause", "Without gradients the rest is what it is once the state moves by less than 1e-6", "lengths",
       run_layer=_until_settled)  # fmt: skip
_plant("BlocksOf128", "Where H is over 128 and no multiple, the last units are left out of the product", "widths",
       parameters_of=_without_last_units(128))  # fmt: skip
_plant("FourLayers", "Layers beyond the fourth leave out bias_hh", "depths",
       parameters_of=lambda layer, k: (WrittenOut.parameters_of if k < 4 else _NO_BIAS)(layer, k))  # fmt: skip
_plant("DeterministicWithoutBias", "With deterministic algorithms bias_hh is left out", "threads",
       parameters_of=lambda layer, k: (
           _NO_BIAS if torch.are_deterministic_algorithms_enabled() else WrittenOut.parameters_of
       )(layer, k))  # fmt: skip
_plant("ThreadsOfFirstCall", "With more or fewer threads than at the process's first call the last row reads zeros",
       "threads", given=_rows_of_first_threads)  # fmt: skip
_plant("BlocksOf512", "Where H is over 512 and no multiple, the last units are left out of the product", "widths",
       parameters_of=_without_last_units(512))  # fmt: skip
