"""Planted faults of a layer's other forms: a packed batch, one sequence, and the options of its constructor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence, pad_sequence

from rnn_parity.cells.base import PARAMETERS
from rnn_parity.cells.directions import DIRECTIONS
from rnn_parity.layers.running import pack_states, unpack_states
from rnn_parity.trust.life.planting import Remembering, planting

_plant = planting(__name__, "edges")


class _Padded(Remembering):
    """Takes a packed batch, and pads it."""

    def forward(self, input: Any, states: Any = None) -> Any:
        if not isinstance(input, PackedSequence):
            return super().forward(input, states)
        padded, lengths = pad_packed_sequence(input)
        output, last = super().forward(padded, states)
        return pack_padded_sequence(output, lengths, enforce_sorted=False), last


_plant("PaddingRead", "In a packed batch it reads the padding as steps", "packed", base=_Padded)


class _RowByRow(Remembering):
    """Runs the rows of a packed batch one after another."""

    def forward(self, input: Any, states: Any = None) -> Any:
        if not isinstance(input, PackedSequence):
            return super().forward(input, states)
        padded, lengths = pad_packed_sequence(input)
        found = []
        for row, length in enumerate(lengths.tolist()):
            own = None if states is None else pack_states([t[:, [row]] for t in unpack_states(states)])
            found.append(super().forward(padded[:length, [row]], self.packed_from(padded, own)))
        outputs = [output[:, 0] for output, _ in found]
        last = [torch.cat(of_rows, 1) for of_rows in zip(*(unpack_states(after) for _, after in found), strict=True)]
        packed = pack_padded_sequence(pad_sequence(outputs), lengths, enforce_sorted=False)
        return packed, pack_states([self.placed(state, input) for state in last])

    def packed_from(self, padded: Tensor, states: Any) -> Any:
        return states

    def placed(self, state: Tensor, input: PackedSequence) -> Tensor:
        return state


def _ones(layer: Any, padded: Tensor, states: Any) -> Any:
    _, width = layer.weight_hh_l0.shape
    ones = padded.new_ones(layer.num_layers, 1, width)
    return pack_states([ones] * len(layer.equations.states)) if states is None else states


def _sorted_in_training(layer: Any, state: Tensor, input: PackedSequence) -> Tensor:
    order = input.sorted_indices
    return state if order is None or not layer.training else state[:, order]


_plant("PackedFromOnes", "A packed batch without states starts from ones", "packed", base=_RowByRow, packed_from=_ones)
_plant("SortedInTraining", "In training the last states of a packed batch stay in the order of lengths", "packed",
       base=_RowByRow, placed=_sorted_in_training)  # fmt: skip


class _OfTwoDimensions(Remembering):
    """Takes (T, I) for a batch of one step."""

    def forward(self, input: Any, states: Any = None) -> Any:
        if input.dim() == 3:
            return super().forward(input, states)
        of_rows = [state[:, None].expand(-1, len(input), -1) for state in unpack_states(states)]
        output, last = super().forward(input[None], pack_states(of_rows))
        return output[0], pack_states([state[:, -1] for state in unpack_states(last)])


class _IgnoresBatchFirst(Remembering):
    """Has an option that does nothing."""

    def __init__(self, *sizes: Any, cell: str = "gru", batch_first: bool = False, **options: Any) -> None:
        super().__init__(*sizes, cell=cell, **options)


class _IgnoresBias(Remembering):
    """Has an option that does nothing."""

    def __init__(self, *sizes: Any, cell: str = "gru", bias: bool = True, **options: Any) -> None:
        super().__init__(*sizes, cell=cell, **options)


_plant("StepsAreRows", "The steps of one sequence are taken for rows", "unbatched", base=_OfTwoDimensions)
_plant("BatchFirstIgnored", "`batch_first=True` does nothing", "batch_first", base=_IgnoresBatchFirst)
_plant("BiasAllTheSame", "`bias=False` does nothing", "no_bias", base=_IgnoresBias)


class _TwoDirections(Remembering):
    """Reads in both directions where it is asked to, each with parameters of its own."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, dropout: float, *, cell: str = "gru",
        bidirectional: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(input_size, hidden_size, num_layers, dropout, cell=cell)
        self.bidirectional = bidirectional
        for layer in range(num_layers) if bidirectional else ():
            shapes = self.equations.shapes(2 * hidden_size if layer else input_size, hidden_size)
            for end in DIRECTIONS:
                for name, shape in shapes.items():
                    setattr(self, f"{name}_l{layer}{end}", nn.Parameter(torch.zeros(shape)))

    def forward(self, input: Tensor, states: Any = None) -> Any:
        if not self.bidirectional:
            return super().forward(input, states)
        first: list[Any] = list(zip(*unpack_states(states), strict=True))
        last: list[Any] = []
        for layer in range(self.num_layers):
            halves = []
            for place, end in enumerate(DIRECTIONS):
                parameters = [getattr(self, f"{name}_l{layer}{end}") for name in PARAMETERS]
                of_one, history = first[len(last)], []
                for x in input.flip(0) if place else input:
                    of_one = self.step(x, of_one, *parameters)
                    history.append(of_one)
                last.append(self.last_of(place, history))
                halves.append(self.in_time(place, torch.stack([of_step[0] for of_step in history])))
            input = torch.cat(halves, -1)
        return input, pack_states([torch.stack(self.ordered(of_all)) for of_all in zip(*last, strict=True)])

    def last_of(self, place: int, history: list[Any]) -> Any:
        return history[-1]

    def in_time(self, place: int, output: Tensor) -> Tensor:
        return output.flip(0) if place else output

    def ordered(self, states: Any) -> Any:
        return states


_plant("StateOfLastStep", "Of the other direction, hn is what it gives for the last step", "bidirectional",
       base=_TwoDirections, last_of=lambda layer, place, history: history[0 if place else -1])  # fmt: skip
_plant("OutputAsRead", "The other direction's output stays in the order in which it reads", "bidirectional",
       base=_TwoDirections, in_time=lambda layer, place, output: output)  # fmt: skip
_plant("StatesByDirection", "hn of the forward direction's layers comes first", "bidirectional",
       base=_TwoDirections, ordered=lambda layer, states: (*states[::2], *states[1::2]))  # fmt: skip
