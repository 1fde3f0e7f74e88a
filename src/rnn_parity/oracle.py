"""The equations of the stacked GRU in float64 on the CPU: the judge. Shares no code with any implementation.

Cho et al. 2014 (arXiv:1406.1078) in the variant of cuDNN and `nn.GRU`, where the reset gate acts on the recurrent
product *with* its bias:

    r = σ(W_ir x + b_ir + W_hr h + b_hr)
    z = σ(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(W_in x + b_in + r ∘ (W_hn h + b_hn))
    h' = (1 − z) ∘ n + z ∘ h
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor


def stacked_gru(
    input: Float[Tensor, "T B I"],
    h0: Float[Tensor, "L B H"],
    weights: Mapping[str, Tensor],
    masks: Float[Tensor, "G T B H"] | None = None,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "T B H"], Float[Tensor, "L B H"]]:
    """Run the equations over a sequence.

    Args:
        input: the sequence. h0: the state of every layer before it.
        weights: under `nn.GRU`'s names; gates stacked in the order r, z, n.
        masks: for each of the G = L − 1 gaps between layers, 1 where an entry is kept and 0 where it is dropped;
            None for no dropout.
        dropout: p; what is kept is scaled by 1 / (1 − p).

    Returns:
        output: the last layer's state after each step. hn: every layer's state after the last step.
    """
    kept_scale = 1.0 / (1.0 - dropout) if dropout < 1.0 else 0.0
    sequence, hn = input, []
    for layer, h in enumerate(h0.unbind()):
        if layer > 0 and masks is not None:
            sequence = sequence * masks[layer - 1] * kept_scale
        w_hh, b_hh = weights[f"weight_hh_l{layer}"], weights[f"bias_hh_l{layer}"]
        from_input = sequence @ weights[f"weight_ih_l{layer}"].T + weights[f"bias_ih_l{layer}"]
        states = []
        for x in from_input.unbind():
            x_r, x_z, x_n = x.chunk(3, dim=-1)
            h_r, h_z, h_n = (h @ w_hh.T + b_hh).chunk(3, dim=-1)
            r = torch.sigmoid(x_r + h_r)
            z = torch.sigmoid(x_z + h_z)
            n = torch.tanh(x_n + r * h_n)
            h = (1 - z) * n + z * h
            states.append(h)
        sequence = torch.stack(states)
        hn.append(h)
    return sequence, torch.stack(hn)
