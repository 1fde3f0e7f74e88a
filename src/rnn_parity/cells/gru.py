"""The gated recurrent unit of cuDNN and `nn.GRU`."""

from __future__ import annotations

from typing import ClassVar

from rnn_parity.cells.base import Cell


class GRU(Cell):
    """Cho et al. 2014 (arXiv:1406.1078) in the variant where r acts on the recurrent product *with* its bias.

    r = σ(W_ir x + b_ir + W_hr h + b_hr)
    z = σ(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(W_in x + b_in + r ∘ (W_hn h + b_hn))
    h' = (1 − z) ∘ n + z ∘ h
    """

    words = "a GRU"
    gates = ("r", "z", "n")
    closed: ClassVar = {"r": -1000.0, "z": -1000.0}  # h' = tanh(W_in x + b_in)

    @staticmethod
    def forward(x, states, w_hh, b_hh, arithmetic):
        """Take one step: x (…, B, 3H), states (h,)."""
        (h,) = states
        x_r, x_z, x_n = x.chunk(3, -1)
        h_r, h_z, h_n = (arithmetic.product(h, w_hh) + b_hh).chunk(3, -1)
        r, one_minus_r = arithmetic.sigmoid(x_r + h_r)
        z, one_minus_z = arithmetic.sigmoid(x_z + h_z)
        n, slope_n = arithmetic.tanh(x_n + r * h_n)
        by_n = one_minus_z * slope_n
        by_z = (h - n) * (z * one_minus_z)
        by_r = by_n * h_n * (r * one_minus_r)
        return (arithmetic.kept(one_minus_z * n + z * h),), (h, r, z, by_r, by_z, by_n)

    @staticmethod
    def backward(saved, gradients, w_hh):
        """Take one step back."""
        (gradient,), (h, r, z, by_r, by_z, by_n) = gradients, saved
        w_hr, w_hz, w_hn = w_hh.chunk(3, -2)
        of_r, of_z, of_n = gradient * by_r, gradient * by_z, gradient * by_n
        of_h_n = of_n * r
        of_h = gradient * z + of_r @ w_hr + of_z @ w_hz + of_h_n @ w_hn
        return (of_r, of_z, of_n), (of_h,), [((of_r, of_z, of_h_n), h)]
