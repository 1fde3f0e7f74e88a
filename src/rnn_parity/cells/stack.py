"""A stack of layers of any kind over a sequence, in float64 on the CPU, forward and backward: the judge.

Shares no code with any implementation, nor autograd.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rnn_parity.cells.base import PARAMETERS, Arithmetic, Cell

EXACT = Arithmetic()


def run_stack(
    cell: type[Cell],
    input: Float[Tensor, "*K T B I"],
    states: tuple[Float[Tensor, "*K L B H"], ...],
    weights: Mapping[str, Tensor],
    cotangents: tuple[Tensor, ...],
    masks: Float[Tensor, "G T B H"] | None = None,
    dropout: float = 0.0,
    arithmetic: Arithmetic = EXACT,
) -> dict[str, Tensor]:
    """Run the equations over a sequence and back; or over K of them side by side, each with weights of its own.

    Args:
        input: the sequence. states: those of every layer before it, in the order of `cell.states`.
        weights: under PyTorch's names; gates stacked in the order of `cell.gates`, (*K, R, ·) and (*K, R).
        cotangents: of output (*K, T, B, H) and of every last state (*K, L, B, H). The loss is Σ⟨C_q, q⟩ over these.
        masks: for each of the G = L − 1 gaps between layers, 1 where an entry is kept and 0 where it is dropped;
            None for no dropout.
        dropout: p; what is kept is scaled by 1 / (1 − p). arithmetic: how every step computes.

    Returns:
        the tensors that `cell.quantities(L)` names: `output`, the last layer's first state after each step; every
        layer's states after the last, as `hn`; and the gradients of input, first states and weights.
    """
    return run_forward(cell, input, states, weights, masks, dropout, arithmetic).backward(*cotangents)


def run_forward(
    cell: type[Cell],
    input: Float[Tensor, "*K T B I"],
    states: tuple[Float[Tensor, "*K L B H"], ...],
    weights: Mapping[str, Tensor],
    masks: Float[Tensor, "G T B H"] | None = None,
    dropout: float = 0.0,
    arithmetic: Arithmetic = EXACT,
) -> Forward:
    """The forward pass of `run_stack`, for a model in which the cotangents are known only later."""
    scale = 1.0 / (1.0 - dropout) if dropout < 1.0 else 0.0
    sequence, layers = input, []
    for layer in range(states[0].shape[-3]):
        if layer > 0 and masks is not None:
            sequence = sequence * (masks[layer - 1] * scale)
        of_layer = tuple(state.select(-3, layer) for state in states)
        w_ih, w_hh, b_ih, b_hh = (weights[f"{name}_l{layer}"] for name in PARAMETERS)
        layers.append(_forward(cell, sequence, of_layer, w_ih, w_hh, b_ih, b_hh, arithmetic))
        sequence = layers[-1].output
    return Forward(cell, layers, masks, scale)


@dataclass(frozen=True)
class Forward:
    """A forward pass that is done, and all that its backward pass needs."""

    cell: type[Cell]
    layers: list[_Layer]
    masks: Tensor | None
    scale: float

    @property
    def output(self) -> Float[Tensor, "*K T B H"]:
        """The last layer's first state after each step."""
        return self.layers[-1].output

    @property
    def states(self) -> tuple[Float[Tensor, "*K L B H"], ...]:
        """Every layer's states after the last step."""
        return tuple(torch.stack(of_layers, -3) for of_layers in zip(*(one.last for one in self.layers), strict=True))

    def backward(
        self, of_output: Float[Tensor, "*K T B H"], *of_states: Float[Tensor, "*K L B H"]
    ) -> dict[str, Tensor]:
        """What `run_stack` returns, for these cotangents."""
        of_weights: dict[str, Tensor] = {}
        of_first, gradient = [], of_output
        for layer in reversed(range(len(self.layers))):
            if layer < len(self.layers) - 1 and self.masks is not None:
                gradient = gradient * (self.masks[layer] * self.scale)
            of_last = tuple(of_state.select(-3, layer) for of_state in of_states)
            gradient, of_layer, of_parameters = _backward(self.cell, self.layers[layer], gradient, of_last)
            of_first.append(of_layer)
            of_weights |= {f"grad_{name}_l{layer}": x for name, x in zip(PARAMETERS, of_parameters, strict=True)}
        stacked = (torch.stack(of_layers[::-1], -3) for of_layers in zip(*of_first, strict=True))
        found = dict(zip(self.cell.outputs(), (self.output, *self.states), strict=True)) | of_weights
        found |= {f"grad_{name}": x for name, x in zip(self.cell.inputs(), (gradient, *stacked), strict=True)}
        return {quantity: found[quantity] for quantity in self.cell.quantities(len(self.layers))}


@dataclass(frozen=True)
class _Layer:
    """A layer's forward pass, and what its backward pass needs of it."""

    w_ih: Tensor
    w_hh: Tensor
    given: Tensor  # (*K, T, B, ·), what it read
    output: Tensor  # (*K, T, B, H), its first state after each step
    last: tuple[Tensor, ...]  # its states after the last step
    steps: list[tuple[Tensor, ...]]  # what each step saved


def _forward(cell, given: Tensor, states: tuple[Tensor, ...], w_ih, w_hh, b_ih, b_hh, arithmetic) -> _Layer:
    from_input = arithmetic.product(given, w_ih.unsqueeze(-3)) + b_ih[..., None, None, :]
    outputs, steps = [], []
    for x in from_input.unbind(-3):
        states, saved = cell.forward(x, states, w_hh, b_hh[..., None, :], arithmetic)
        outputs.append(states[0])
        steps.append(saved)
    return _Layer(w_ih, w_hh, given, torch.stack(outputs, dim=-3), states, steps)


def _backward(
    cell: type[Cell], layer: _Layer, of_outputs: Tensor, of_states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Gradients of what the layer read, of its first states, and of its parameters."""
    of_inputs, recurrent = [], []
    for saved, of_output in zip(layer.steps[::-1], of_outputs.unbind(-3)[::-1], strict=True):
        of_states = (of_states[0] + of_output, *of_states[1:])
        of_gates, of_states, grouped = cell.backward(saved, of_states, layer.w_hh)
        of_inputs.append(of_gates)
        recurrent.append(grouped)

    def over_time(steps: list[Tensor]) -> Tensor:
        return torch.stack(steps[::-1], dim=-3)

    of_x = [over_time(list(steps)) for steps in zip(*of_inputs, strict=True)]
    of_w_ih, of_b_ih = _of_parameters(of_x, layer.given)
    w_gates = layer.w_ih.unsqueeze(-3).chunk(len(of_x), -2)
    of_given = functools.reduce(torch.add, map(torch.matmul, of_x, w_gates))
    parts = []
    for steps in zip(*recurrent, strict=True):  # a group of gates that multiplied the same, over all steps
        rows = [over_time(list(of_gate)) for of_gate in zip(*(gates for gates, _ in steps), strict=True)]
        parts.append(_of_parameters(rows, over_time([read for _, read in steps])))
    of_w_hh, of_b_hh = zip(*parts, strict=True)
    return of_given, of_states, (of_w_ih, torch.cat(of_w_hh, -2), of_b_ih, torch.cat(of_b_hh, -1))


def _of_parameters(of_sums: list[Tensor], read: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the weight that multiplied `read`, and of its bias, from those of its gates' sums."""
    of_weight = torch.cat([rows.flatten(-3, -2).mT @ read.flatten(-3, -2) for rows in of_sums], dim=-2)
    return of_weight, torch.cat([rows.sum((-3, -2)) for rows in of_sums], dim=-1)
