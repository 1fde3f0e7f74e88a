"""The equations of the stacked GRU in float64 on the CPU, forward and backward: the judge.

Shares no code with any implementation, nor autograd. Cho et al. 2014 (arXiv:1406.1078) in the variant of cuDNN and
`nn.GRU`, where the reset gate acts on the recurrent product *with* its bias:

    r = σ(W_ir x + b_ir + W_hr h + b_hr)
    z = σ(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(W_in x + b_in + r ∘ (W_hn h + b_hn))
    h' = (1 − z) ∘ n + z ∘ h
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Rounding = Callable[[Tensor], Tensor]
_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def stacked_gru(
    input: Float[Tensor, "*K T B I"],
    h0: Float[Tensor, "*K L B H"],
    weights: Mapping[str, Tensor],
    cotangents: tuple[Float[Tensor, "*K T B H"], Float[Tensor, "*K L B H"]],
    masks: Float[Tensor, "G T B H"] | None = None,
    dropout: float = 0.0,
    rounding: Rounding | None = None,
) -> dict[str, Tensor]:
    """Run the equations over a sequence and back; or over K of them side by side, each with weights of its own.

    Args:
        input: the sequence. h0: the state of every layer before it.
        weights: under `nn.GRU`'s names; gates stacked in the order r, z, n; (*K, 3H, ·) and (*K, 3H).
        cotangents: C_output and C_hn. The loss is ⟨C_output, output⟩ + ⟨C_hn, hn⟩.
        masks: for each of the G = L − 1 gaps between layers, 1 where an entry is kept and 0 where it is dropped;
            None for no dropout.
        dropout: p; what is kept is scaled by 1 / (1 − p).
        rounding: None for the equations as they are. Else it is applied to every gate and state, and 1 − z and the
            slopes are taken from what it leaves: what a layer must do that keeps them in a dtype of finite precision.

    Returns:
        `output` (*K, T, B, H), the last layer's state after each step; `hn` (*K, L, B, H), every layer's state after
        the last; `grad_input`, `grad_h0` and `grad_{name}` of every weight.
    """
    return run_forward(input, h0, weights, masks, dropout, rounding).backward(*cotangents)


def run_forward(
    input: Float[Tensor, "*K T B I"],
    h0: Float[Tensor, "*K L B H"],
    weights: Mapping[str, Tensor],
    masks: Float[Tensor, "G T B H"] | None = None,
    dropout: float = 0.0,
    rounding: Rounding | None = None,
) -> Forward:
    """The forward pass of `stacked_gru`, for a model in which the cotangents are known only later."""
    scale = 1.0 / (1.0 - dropout) if dropout < 1.0 else 0.0
    sequence, layers = input, []
    for layer, h in enumerate(h0.unbind(-3)):
        if layer > 0 and masks is not None:
            sequence = sequence * (masks[layer - 1] * scale)
        w_ih, w_hh, b_ih, b_hh = (weights[f"{kind}_l{layer}"] for kind in _KINDS)
        layers.append(_forward(sequence, h, w_ih, w_hh, b_ih, b_hh, rounding))
        sequence = layers[-1].states
    return Forward(layers, masks, scale)


@dataclass(frozen=True)
class Forward:
    """A forward pass that is done, and all that its backward pass needs."""

    layers: list[_Layer]
    masks: Tensor | None
    scale: float

    @property
    def output(self) -> Float[Tensor, "*K T B H"]:
        """The last layer's state after each step."""
        return self.layers[-1].states

    @property
    def hn(self) -> Float[Tensor, "*K L B H"]:
        """Every layer's state after the last step."""
        return torch.stack([layer.states.select(-3, -1) for layer in self.layers], dim=-3)

    def backward(self, of_output: Float[Tensor, "*K T B H"], of_hn: Float[Tensor, "*K L B H"]) -> dict[str, Tensor]:
        """What `stacked_gru` returns, for these cotangents."""
        values: dict[str, Tensor] = {}
        of_states, gradient = [], of_output
        for layer in reversed(range(len(self.layers))):
            if layer < len(self.layers) - 1 and self.masks is not None:
                gradient = gradient * (self.masks[layer] * self.scale)
            gradient, of_state, *of_weights = _backward(self.layers[layer], gradient, of_hn.select(-3, layer))
            of_states.append(of_state)
            values |= {f"grad_{kind}_l{layer}": value for kind, value in zip(_KINDS, of_weights, strict=True)}
        grad_h0 = torch.stack(of_states[::-1], dim=-3)
        return {"output": self.output, "hn": self.hn, "grad_input": gradient, "grad_h0": grad_h0, **values}


@dataclass(frozen=True)
class _Layer:
    """A layer's forward pass, and what its backward pass needs of it."""

    w_ih: Tensor
    w_hh: Tensor
    given: Tensor  # (*K, T, B, ·), what it read
    before: Tensor  # (*K, T, B, H), its states before each step
    states: Tensor  # and after it
    steps: list[tuple[Tensor, ...]]  # r, z and how h' moves with the sums under r, z and n


def _forward(given: Tensor, h: Tensor, w_ih, w_hh, b_ih, b_hh, rounding: Rounding | None) -> _Layer:
    from_input = given @ w_ih.mT.unsqueeze(-3) + b_ih[..., None, None, :]
    states = [h]
    steps: list[tuple[Tensor, ...]] = []
    for x in from_input.unbind(-3):
        x_r, x_z, x_n = x.chunk(3, dim=-1)
        h_r, h_z, h_n = (h @ w_hh.mT + b_hh[..., None, :]).chunk(3, dim=-1)
        r, one_minus_r = _sigmoid(x_r + h_r, rounding)
        z, one_minus_z = _sigmoid(x_z + h_z, rounding)
        n, slope_n = _tanh(x_n + r * h_n, rounding)
        by_n = one_minus_z * slope_n
        by_z = (h - n) * (z * one_minus_z)
        by_r = by_n * h_n * (r * one_minus_r)
        steps.append((r, z, by_r, by_z, by_n))
        h = one_minus_z * n + z * h
        h = h if rounding is None else rounding(h)
        states.append(h)
    before, after = torch.stack(states[:-1], dim=-3), torch.stack(states[1:], dim=-3)
    return _Layer(w_ih, w_hh, given, before, after, steps)


def _backward(layer: _Layer, of_states: Tensor, of_last: Tensor) -> tuple[Tensor, ...]:
    """Gradients of what the layer read, of its first state, and of its weights and biases."""
    w_hr, w_hz, w_hn = layer.w_hh.chunk(3, dim=-2)
    gradient, of_sums = of_last, []
    for (r, z, by_r, by_z, by_n), of_state in zip(layer.steps[::-1], of_states.unbind(-3)[::-1], strict=True):
        gradient = gradient + of_state
        of_r, of_z, of_n = gradient * by_r, gradient * by_z, gradient * by_n
        of_h_n = of_n * r
        of_sums.append((of_r, of_z, of_n, of_h_n))
        gradient = gradient * z + of_r @ w_hr + of_z @ w_hz + of_h_n @ w_hn
    of_r, of_z, of_n, of_h_n = (torch.stack(steps[::-1], dim=-3) for steps in zip(*of_sums, strict=True))

    def of_weight(of_sums: tuple[Tensor, ...], read: Tensor) -> Tensor:
        return torch.cat([rows.flatten(-3, -2).mT @ read.flatten(-3, -2) for rows in of_sums], dim=-2)

    def of_bias(of_sums: tuple[Tensor, ...]) -> Tensor:
        return torch.cat([rows.sum((-3, -2)) for rows in of_sums], dim=-1)

    from_input, from_state = (of_r, of_z, of_n), (of_r, of_z, of_h_n)
    w_ir, w_iz, w_in = layer.w_ih.unsqueeze(-3).chunk(3, dim=-2)
    of_given = of_r @ w_ir + of_z @ w_iz + of_n @ w_in
    of_weights = of_weight(from_input, layer.given), of_weight(from_state, layer.before)
    return of_given, gradient, *of_weights, of_bias(from_input), of_bias(from_state)


def _sigmoid(x: Tensor, rounding: Rounding | None) -> tuple[Tensor, Tensor]:
    """σ(x) and 1 − σ(x); the latter is σ(−x), which near 0 has all its digits, unless taken from what was rounded."""
    if rounding is None:
        return torch.sigmoid(x), torch.sigmoid(-x)
    y = rounding(torch.sigmoid(x))
    return y, 1 - y


def _tanh(x: Tensor, rounding: Rounding | None) -> tuple[Tensor, Tensor]:
    """tanh(x) and its slope: 1 / cosh² x, or 1 − tanh² x from what was rounded."""
    if rounding is None:
        return torch.tanh(x), torch.cosh(x) ** -2
    y = rounding(torch.tanh(x))
    return y, 1 - y * y
