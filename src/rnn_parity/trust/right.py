"""Right layers that round differently: where the checker finds a fault in one of these, the fault is the checker's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnn_parity.cells.base import PARAMETERS, Arithmetic, load_cell
from rnn_parity.layers.parameters import canonical_shapes
from rnn_parity.layers.running import pack_states, unpack_states

States = tuple[Tensor, ...]
Parameters = list[Tensor]


class WrittenOut(nn.Module):
    """Any kind of cell, layer by layer and step by step, a method for every step of it: the parent of every fault.

    It takes the kind's own forward equations, in the dtype of its parameters, and autograd for the backward pass.
    """

    kind: str  # of a planted fault
    cells: tuple[str, ...] = ()  # the kinds that can have it, all where none is named
    arithmetic = Arithmetic()

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, dropout: float, *, cell: str = "gru"
    ) -> None:
        super().__init__()
        self.equations = load_cell(cell)
        self.num_layers, self.dropout = num_layers, dropout
        for name, shape in canonical_shapes(input_size, hidden_size, num_layers, cell).items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def forward(self, input: Tensor, states: Tensor | States) -> tuple[Tensor, Tensor | States]:
        first = self.initial(unpack_states(states))
        sequence, last = self.given(input), []
        for layer in range(self.num_layers):
            of_layer = tuple(state[layer] for state in first)
            history = self.run_layer(layer, sequence, of_layer)
            last.append(self.final([of_layer, *history]))
            sequence = torch.stack([step[0] for step in history])
            if layer < self.num_layers - 1:
                sequence = self.between(layer, sequence)
        output, after = self.result(sequence, tuple(map(torch.stack, zip(*last, strict=True))))
        return output, pack_states(after)

    def given(self, input: Tensor) -> Tensor:
        return input

    def initial(self, states: States) -> States:
        return states

    def parameters_of(self, layer: int) -> Parameters:
        return [getattr(self, f"{name}_l{layer}") for name in PARAMETERS]

    def run_layer(self, layer: int, sequence: Tensor, states: States) -> list[States]:
        history, parameters = [], self.parameters_of(layer)
        for step, x in enumerate(sequence.unbind()):
            states = self.step(x, self.carried(states, step, len(sequence)), *parameters)
            history.append(states)
        return history

    def final(self, history: list[States]) -> States:
        return history[-1]

    def carried(self, states: States, step: int, steps: int) -> States:
        return states

    def step(self, x: Tensor, states: States, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> States:
        from_input = self.arithmetic.product(x, w_ih) + b_ih
        return self.equations.forward(from_input, states, w_hh, b_hh, self.arithmetic)[0]

    def between(self, layer: int, sequence: Tensor) -> Tensor:
        return F.dropout(sequence, self.dropout, self.training)

    def result(self, sequence: Tensor, last: States) -> tuple[Tensor, States]:
        return sequence, last


class InputHoisted(WrittenOut):
    """The input's products of all steps in one matrix product."""

    def run_layer(self, layer, sequence, states):
        w_ih, w_hh, b_ih, b_hh = self.parameters_of(layer)
        history = []
        for x in F.linear(sequence.flatten(0, 1), w_ih, b_ih).unflatten(0, sequence.shape[:2]).unbind():
            states, _ = self.equations.forward(x, states, w_hh, b_hh, self.arithmetic)
            history.append(states)
        return history


class StateTransposed(WrittenOut):
    """A GRU with its state kept as (H, B), its products from the left."""

    def run_layer(self, layer, sequence, states):
        w_ih, w_hh, b_ih, b_hh = self.parameters_of(layer)
        history, h = [], states[0].T
        for x in sequence.unbind():
            x_r, x_z, x_n = torch.addmm(b_ih[:, None], w_ih, x.T).chunk(3)
            h_r, h_z, h_n = torch.addmm(b_hh[:, None], w_hh, h).chunk(3)
            r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
            h = torch.lerp(torch.tanh(x_n + r * h_n), h, z)
            history.append((h.T,))
        return history


class LSTMStateTransposed(WrittenOut):
    """An LSTM with its states kept as (H, B), both products in one."""

    def run_layer(self, layer, sequence, states):
        w_ih, w_hh, b_ih, b_hh = self.parameters_of(layer)
        weight, bias = torch.cat([w_ih, w_hh], dim=1), (b_ih + b_hh)[:, None]
        history, (h, c) = [], (state.T for state in states)
        for x in sequence.unbind():
            i, f, g, o = torch.addmm(bias, weight, torch.cat([x.T, h])).chunk(4)
            c = torch.addcmul(torch.sigmoid(f) * c, torch.sigmoid(i), torch.tanh(g))
            h = torch.sigmoid(o) * torch.tanh(c)
            history.append((h.T, c.T))
        return history


_OF_ANY_KIND = (f"{__name__}:WrittenOut", f"{__name__}:InputHoisted")
_OF_ONE_KIND = {
    "gru": ("stacking_gru_cell", "torch.nn:GRU", f"{__name__}:StateTransposed"),
    "gru_reset_before": ("stacking_gru_reset_before_cell",),
    "lstm": ("stacking_lstm_cell", "torch.nn:LSTM", f"{__name__}:LSTMStateTransposed"),
}


def right_layers(cell: str) -> tuple[str, ...]:
    """The names of right layers of a kind, every one with its own order of rounding."""
    return *_OF_ONE_KIND.get(cell, ()), *_OF_ANY_KIND
