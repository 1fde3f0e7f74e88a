"""Right layers that round differently: where the checker finds a fault in one of these, the fault is the checker's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnn_parity.layers.parameters import canonical_shapes


class WrittenOut(nn.Module):
    """Layer by layer and step by step, a method for every step of it: the parent of every mutant."""

    kind: str  # of a planted fault

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.num_layers, self.dropout = num_layers, dropout
        for name, shape in canonical_shapes(input_size, hidden_size, num_layers).items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def forward(self, input: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        h0, sequence, hn = self.initial(h0), self.given(input), []
        for layer in range(self.num_layers):
            states = self.run_layer(layer, sequence, h0[layer])
            hn.append(self.final([h0[layer], *states]))
            sequence = torch.stack(states)
            if layer < self.num_layers - 1:
                sequence = self.between(layer, sequence)
        return self.result(sequence, hn)

    def given(self, input: Tensor) -> Tensor:
        return input

    def initial(self, h0: Tensor) -> Tensor:
        return h0

    def parameters_of(self, layer: int) -> list[Tensor]:
        return [getattr(self, f"{kind}_l{layer}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]

    def run_layer(self, layer: int, sequence: Tensor, h: Tensor) -> list[Tensor]:
        states, parameters = [], self.parameters_of(layer)
        for step, x in enumerate(sequence.unbind()):
            h = self.cell(x, self.carried(h, step, len(sequence)), *parameters)
            states.append(h)
        return states

    def final(self, states: list[Tensor]) -> Tensor:
        return states[-1]

    def carried(self, h: Tensor, step: int, steps: int) -> Tensor:
        return h

    def cell(self, x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        x_r, x_z, x_n = (self.product(x, w_ih) + b_ih).chunk(3, -1)
        h_r, h_z, h_n = (self.product(h, w_hh) + b_hh).chunk(3, -1)
        r, z = self.sigmoid(x_r + h_r), self.sigmoid(x_z + h_z)
        return self.mixed(z, self.tanh(x_n + r * h_n), h)

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.T

    def sigmoid(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def tanh(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def mixed(self, z: Tensor, n: Tensor, h: Tensor) -> Tensor:
        return n + z * (h - n)

    def between(self, layer: int, sequence: Tensor) -> Tensor:
        return F.dropout(sequence, self.dropout, self.training)

    def result(self, sequence: Tensor, hn: list[Tensor]) -> tuple[Tensor, Tensor]:
        return sequence, torch.stack(hn)


class InputHoisted(WrittenOut):
    """The input's products of all steps in one matrix product."""

    def run_layer(self, layer, sequence, h):
        w_ih, w_hh, b_ih, b_hh = self.parameters_of(layer)
        states = []
        for x in (sequence.flatten(0, 1) @ w_ih.T + b_ih).unflatten(0, sequence.shape[:2]).unbind():
            x_r, x_z, x_n = x.chunk(3, -1)
            h_r, h_z, h_n = F.linear(h, w_hh, b_hh).chunk(3, -1)
            r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
            h = (1 - z) * torch.tanh(x_n + r * h_n) + z * h
            states.append(h)
        return states


class StateTransposed(WrittenOut):
    """The state kept as (H, B), its products from the left."""

    def run_layer(self, layer, sequence, h):
        w_ih, w_hh, b_ih, b_hh = self.parameters_of(layer)
        states, h = [], h.T
        for x in sequence.unbind():
            x_r, x_z, x_n = torch.addmm(b_ih[:, None], w_ih, x.T).chunk(3)
            h_r, h_z, h_n = torch.addmm(b_hh[:, None], w_hh, h).chunk(3)
            r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
            h = torch.lerp(torch.tanh(x_n + r * h_n), h, z)
            states.append(h.T)
        return states


CORRECT = (
    "stacking_gru_cell",
    "torch.nn:GRU",
    *(f"{__name__}:{layer.__name__}" for layer in (WrittenOut, InputHoisted, StateTransposed)),
)
"""Names of right layers, every one with its own order of rounding."""
