"""The gated recurrent unit as it was first written, and Keras' with `reset_after=False`."""

from __future__ import annotations

from rnn_parity.cells.gru import GRU


class GRUResetBefore(GRU):
    """Cho et al. 2014 (arXiv:1406.1078): r acts on the state, before the product.

    r, z and h' as in `GRU`;
    n = tanh(W_in x + b_in + W_hn (r ∘ h) + b_hn)
    """

    words = "a GRU with the reset gate before the product"

    @staticmethod
    def forward(x, states, w_hh, b_hh, arithmetic):
        """Take one step: x (…, B, 3H), states (h,)."""
        (h,) = states
        rows = 2 * h.shape[-1]
        x_r, x_z, x_n = x.chunk(3, -1)
        h_r, h_z = (arithmetic.product(h, w_hh[..., :rows, :]) + b_hh[..., :rows]).chunk(2, -1)
        r, one_minus_r = arithmetic.sigmoid(x_r + h_r)
        z, one_minus_z = arithmetic.sigmoid(x_z + h_z)
        reset = arithmetic.kept(r * h)
        n, slope_n = arithmetic.tanh(x_n + arithmetic.product(reset, w_hh[..., rows:, :]) + b_hh[..., rows:])
        by_n = one_minus_z * slope_n
        by_z = (h - n) * (z * one_minus_z)
        return (arithmetic.kept(one_minus_z * n + z * h),), (h, reset, r, z, h * (r * one_minus_r), by_z, by_n)

    @staticmethod
    def backward(saved, gradients, w_hh):
        """Take one step back."""
        (gradient,), (h, reset, r, z, by_r, by_z, by_n) = gradients, saved
        w_hr, w_hz, w_hn = w_hh.chunk(3, -2)
        of_z, of_n = gradient * by_z, gradient * by_n
        of_reset = of_n @ w_hn
        of_r = of_reset * by_r
        of_h = gradient * z + of_reset * r + of_r @ w_hr + of_z @ w_hz
        return (of_r, of_z, of_n), (of_h,), [((of_r, of_z), h), ((of_n,), reset)]
