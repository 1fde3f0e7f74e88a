"""t2vec's equations in float64 on the CPU: what is right for a whole training step.

Written apart from `model.py`, without its modules. Both recurrent stacks, the decoder's and the encoder's, are the
hand-written oracle's, forward and backward; autograd joins them with the few products between.
Everything may have leading dimensions *K, runs side by side with parameters of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rnn_parity.cells.base import PARAMETERS, Arithmetic, Rounding
from rnn_parity.cells.gru import GRU
from rnn_parity.cells.stack import run_forward
from rnn_parity_t2vec.batches import Batch
from rnn_parity_t2vec.model import PAD, STACK
from rnn_parity_t2vec.model_masks import Masks


@dataclass(frozen=True)
class Equations:
    """What of the model is no parameter.

    Attributes:
        batch: what it reads and shall say. masks: in all places, None for no dropout; dropout: p, with them.
    """

    batch: Batch
    masks: Masks | None
    dropout: float


def training_step(
    equations: Equations, parameters: Mapping[str, Tensor], rounding: Rounding | None = None
) -> dict[str, Tensor]:
    """`output`, `hn`, `loss`, and the gradients of it: `grad_context`, `grad_h0` and `grad_{name}` of every parameter.

    `rounding` is applied to everything that a model keeps on its way, None for the equations as they are.
    """
    kept = rounding or (lambda tensor: tensor)
    given = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    with torch.enable_grad():
        context, h0 = _encoder(equations, given, rounding)
        weights = {name.removeprefix(STACK): value for name, value in given.items() if name.startswith(STACK)}
        masks = None if equations.masks is None else equations.masks.stack
        read = _embedded(given, equations.batch.target[:-1])
        states, hn = _Oracle.apply(read, h0, tuple(weights), masks, equations.dropout, rounding, *weights.values())
        output = _attention(equations, given, states, context, kept)
        if equations.masks is not None:
            output = output * (equations.masks.output[0] * _scale(equations.dropout))
        bias = given["generator.0.bias"][..., None, None, :]
        scores = kept(output @ given["generator.0.weight"].mT.unsqueeze(-3) + bias)
        loss = _loss(equations, _Kept.apply(scores, *_LOG_SOFTMAX, kept))
        wanted = {"context": context, "h0": h0, **given}
        gradients = torch.autograd.grad(loss.sum(), list(wanted.values()))
    values = {"output": output.detach(), "hn": hn.detach(), "loss": loss.detach()}
    return values | {f"grad_{name}": value for name, value in zip(wanted, gradients, strict=True)}


def _embedded(given: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    """Rows of the embedding; the padding's is a constant."""
    rows = given["embedding.weight"][..., tokens, :]
    return torch.where((tokens == PAD)[..., None], rows.detach(), rows)


def _encoder(equations: Equations, given: Mapping[str, Tensor], rounding: Rounding | None) -> tuple[Tensor, Tensor]:
    """Context (*K, S, B, H) and h0 (*K, L, B, H): each direction reads each layer's output from its own end.

    A sequence is turned about within its length. What the padding does to later states reaches nothing that is read.
    """
    source, lengths = equations.batch.source, equations.batch.lengths
    steps, rows = torch.arange(len(source))[:, None], torch.arange(source.shape[1])
    inside = steps < lengths
    turned = torch.where(inside, lengths - 1 - steps, steps)
    sequence, last = _embedded(given, source), []
    for layer in range(sum(name.startswith("encoder.rnn.weight_hh_l") for name in given) // 2):
        if layer > 0 and equations.masks is not None:
            sequence = sequence * (equations.masks.encoder[layer - 1] * _scale(equations.dropout))
        directions, ends = [], []
        for suffix in ("", "_reverse"):
            weights = {f"{kind}_l0": given[f"encoder.rnn.{kind}_l{layer}{suffix}"] for kind in PARAMETERS}
            width = weights["weight_hh_l0"].shape[-1]
            read = sequence[..., turned, rows, :] if suffix else sequence
            h0 = read.new_zeros(*read.shape[:-3], 1, source.shape[1], width)
            states, _ = _Oracle.apply(read, h0, tuple(weights), None, 0.0, rounding, *weights.values())
            ends.append(states[..., lengths - 1, rows, :])
            directions.append(states[..., turned, rows, :] if suffix else states)
        sequence = torch.cat(directions, dim=-1) * inside[..., None]
        last.append(torch.cat(ends, dim=-1))
    return sequence, torch.stack(last, dim=-3)


def _attention(equations: Equations, given: Mapping[str, Tensor], states: Tensor, context: Tensor, kept) -> Tensor:
    """tanh(W₂ [c; q]) with c = Σ softmax(q W₁ᵀ · contextᵀ) context over what is no padding."""
    query = kept(states @ given["decoder.attention.L1.weight"].mT.unsqueeze(-3))
    scores = kept(torch.einsum("...tbh,...sbh->...tbs", query, context))
    padding = (equations.batch.source == PAD).T
    weights = _Kept.apply(scores.masked_fill(padding, float("-inf")), *_SOFTMAX, kept)
    found = kept(torch.einsum("...tbs,...sbh->...tbh", weights, context))
    joined = torch.cat([found, states], dim=-1)
    return _Kept.apply(kept(joined @ given["decoder.attention.L2.weight"].mT.unsqueeze(-3)), *_TANH, kept)


def _loss(equations: Equations, log_probabilities: Tensor) -> Tensor:
    """(*K,): summed over the tokens that are no padding, averaged over the batch."""
    wanted = equations.batch.target[1:]
    chosen = wanted[..., None].expand(*log_probabilities.shape[:-1], 1)
    terms = -log_probabilities.gather(-1, chosen)[..., 0]
    return (terms * (wanted != PAD)).sum((-2, -1)) / wanted.shape[1]


def _scale(dropout: float) -> float:
    return 1.0 / (1.0 - dropout) if dropout < 1.0 else 0.0


_TANH = torch.tanh, lambda y, gradient: gradient * (1 - y * y)
_SOFTMAX = (
    lambda x: x.softmax(dim=-1),
    lambda y, gradient: y * (gradient - (y * gradient).sum(dim=-1, keepdim=True)),
)
_LOG_SOFTMAX = (
    lambda x: x.log_softmax(dim=-1),
    lambda y, gradient: gradient - y.exp() * gradient.sum(dim=-1, keepdim=True),
)
"""A function, and from its value and the gradient there that of its argument."""


class _Kept(torch.autograd.Function):
    """A function whose value is kept, rounded, for the backward pass: where that cancels, as in 1 - y², it shows."""

    @staticmethod
    def forward(ctx, x, function, backward, kept):
        y = kept(function(x))
        ctx.save_for_backward(y)
        ctx.derive = backward
        return y

    @staticmethod
    def backward(ctx, gradient):
        return ctx.derive(*ctx.saved_tensors, gradient), None, None, None


class _Oracle(torch.autograd.Function):
    """The oracle's stacked GRU as one operation of autograd."""

    @staticmethod
    def forward(ctx, input, h0, names, masks, dropout, rounding, *weights):
        ctx.names = names
        ctx.done = run_forward(
            GRU, input, (h0,), dict(zip(names, weights, strict=True)), masks, dropout, Arithmetic(rounding)
        )
        return ctx.done.output.clone(), *ctx.done.states

    @staticmethod
    def backward(ctx, of_output, of_hn):
        values = ctx.done.backward(of_output, of_hn)
        of_weights = (values[f"grad_{name}"] for name in ctx.names)
        return values["grad_input"], values["grad_h0"], None, None, None, None, *of_weights
