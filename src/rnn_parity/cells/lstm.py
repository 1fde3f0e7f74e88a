"""The long short-term memory of cuDNN and `nn.LSTM`."""

from __future__ import annotations

from typing import ClassVar

from rnn_parity.cells.base import Cell


class LSTM(Cell):
    """Gers et al. 2000 (doi:10.1162/089976600300015015), without peepholes.

    i, f, o = σ(W_i x + b_i + W_h h + b_h), each with rows of its own
    g = tanh(W_ig x + b_ig + W_hg h + b_hg)
    c' = f ∘ c + i ∘ g
    h' = o ∘ tanh(c')
    """

    words = "an LSTM"
    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    bounds: ClassVar = {"h": 1.0, "c": None}  # c grows by up to 1 a step
    closed: ClassVar = {"i": 1000.0, "f": -1000.0, "o": 1000.0}  # h' = tanh(tanh(W_ig x + b_ig))

    @staticmethod
    def forward(x, states, w_hh, b_hh, arithmetic):
        """Take one step: x (…, B, 4H), states (h, c)."""
        h, c = states
        x_i, x_f, x_g, x_o = (x + (arithmetic.product(h, w_hh) + b_hh)).chunk(4, -1)
        i, one_minus_i = arithmetic.sigmoid(x_i)
        f, one_minus_f = arithmetic.sigmoid(x_f)
        g, slope_g = arithmetic.tanh(x_g)
        o, one_minus_o = arithmetic.sigmoid(x_o)
        new_c = arithmetic.kept(f * c + i * g)
        t, slope_t = arithmetic.tanh(new_c)
        by_i, by_f, by_g = g * (i * one_minus_i), c * (f * one_minus_f), i * slope_g
        return (arithmetic.kept(o * t), new_c), (h, f, by_i, by_f, by_g, t * (o * one_minus_o), o * slope_t)

    @staticmethod
    def backward(saved, gradients, w_hh):
        """Take one step back."""
        (of_h, of_c), (h, f, by_i, by_f, by_g, by_o, c_by_h) = gradients, saved
        w_hi, w_hf, w_hg, w_ho = w_hh.chunk(4, -2)
        of_c = of_c + of_h * c_by_h
        of_i, of_f, of_g, of_o = of_c * by_i, of_c * by_f, of_c * by_g, of_h * by_o
        of_h_before = of_i @ w_hi + of_f @ w_hf + of_g @ w_hg + of_o @ w_ho
        return (of_i, of_f, of_g, of_o), (of_h_before, of_c * f), [((of_i, of_f, of_g, of_o), h)]
