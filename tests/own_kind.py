"""A kind of cell of a user's own, in one file: the minimal gated unit, with layers that compute it or do not."""

from typing import ClassVar

import torch
from torch import nn

from rnn_parity.cells.base import PARAMETERS, Cell


class MGU(Cell):
    """Zhou et al. 2016 (arXiv:1603.09420).

    f = σ(x_f + U_f h), n = tanh(x_n + U_n (f ∘ h)), h' = (1 − f) ∘ h + f ∘ n
    """

    words = "a minimal gated unit"
    gates = ("f", "n")
    closed: ClassVar = {"f": 1000.0}  # h' = tanh(x_n)

    @staticmethod
    def forward(x, states, w_hh, b_hh, arithmetic):
        (h,) = states
        (x_f, x_n), (w_f, w_n), (b_f, b_n) = x.chunk(2, -1), w_hh.chunk(2, -2), b_hh.chunk(2, -1)
        f, one_minus_f = arithmetic.sigmoid(x_f + (arithmetic.product(h, w_f) + b_f))
        kept = arithmetic.kept(f * h)
        n, slope = arithmetic.tanh(x_n + (arithmetic.product(kept, w_n) + b_n))
        return (arithmetic.kept(one_minus_f * h + f * n),), (h, kept, f, one_minus_f, n, f * slope)

    @staticmethod
    def backward(saved, gradients, w_hh):
        (gradient,), (h, kept, f, one_minus_f, n, by_n) = gradients, saved
        w_f, w_n = w_hh.chunk(2, -2)
        of_n = gradient * by_n
        of_kept = of_n @ w_n
        of_f = (gradient * (n - h) + of_kept * h) * (f * one_minus_f)
        return (of_f, of_n), (gradient * one_minus_f + of_kept * f + of_f @ w_f,), [((of_f,), h), ((of_n,), kept)]


class Loop(nn.Module):
    """The unit step by step, written out."""

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__()
        self.num_layers, self.dropout = num_layers, dropout
        for layer in range(num_layers):
            for name, shape in MGU.shapes(hidden_size if layer else input_size, hidden_size).items():
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(torch.empty(shape)))

    def mixed(self, f, h, n):
        return torch.lerp(h, n, f)

    def forward(self, input, h0):
        last = []
        for layer, h in enumerate(h0):
            w_ih, w_hh, b_ih, b_hh = (getattr(self, f"{name}_l{layer}") for name in PARAMETERS)
            (u_f, u_n), (b_f, b_n), outputs = w_hh.chunk(2), b_hh.chunk(2), []
            for x_f, x_n in (nn.functional.linear(x, w_ih, b_ih).chunk(2, 1) for x in input):
                f = torch.sigmoid(x_f + h @ u_f.T + b_f)
                h = self.mixed(f, h, torch.tanh(x_n + (f * h) @ u_n.T + b_n))
                outputs.append(h)
            last.append(h)
            input = torch.stack(outputs)
            if layer < self.num_layers - 1:
                input = nn.functional.dropout(input, self.dropout, self.training)
        return input, torch.stack(last)


class Mixed(Loop):
    """As right, in another order of rounding."""

    def mixed(self, f, h, n):
        return (1 - f) * h + f * n


class Inverted(Loop):
    """Wrong: its gate forgets where it should keep."""

    def mixed(self, f, h, n):
        return torch.lerp(n, h, f)
