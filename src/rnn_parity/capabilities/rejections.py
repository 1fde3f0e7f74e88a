"""Arguments that a layer must not accept in silence. Here `works` means: it raises an error."""

from __future__ import annotations

import torch
from torch import Tensor

from rnn_parity.capabilities.isolation import one_line
from rnn_parity.capabilities.subject import ProbeResult, Subject, Wrong, capability, forward


@capability("Rejects a wrong input size")
def rejects_wrong_input_size(subject: Subject) -> ProbeResult:
    """Input (T, B, I + 1) raises an error."""
    input, h0 = subject.arguments()
    return _rejects(subject, (_longer(input, -1), h0))


@capability("Rejects a wrong hidden size")
def rejects_wrong_hidden_size(subject: Subject) -> ProbeResult:
    """An h0 of (L, B, H + 1), and one of (L, B, 1) that could be broadcast, raise an error."""
    input, h0 = subject.arguments()
    return _rejects(subject, (input, _longer(h0, -1)), (input, h0[..., :1]))


@capability("Rejects a wrong number of layers in h0")
def rejects_wrong_layer_count(subject: Subject) -> ProbeResult:
    """An h0 of (L + 1, B, H), and one of (L − 1, B, H), raise an error."""
    input, h0 = subject.arguments()
    return _rejects(subject, (input, _longer(h0, 0)), (input, h0[:-1]))


@capability("Rejects a wrong batch size in h0")
def rejects_wrong_batch_size(subject: Subject) -> ProbeResult:
    """An h0 of (L, B + 1, H), and one of (L, 1, H) that could be broadcast, raise an error."""
    input, h0 = subject.arguments()
    return _rejects(subject, (input, _longer(h0, 1)), (input, h0[:, :1]))


@capability("Rejects a wrong dtype")
def rejects_wrong_dtype(subject: Subject) -> ProbeResult:
    """A float32 input, and a float32 h0, raise an error in a layer of float64."""
    input, h0 = subject.arguments()
    return _rejects(subject, (input.float(), h0), (input, h0.float()))


def _rejects(subject: Subject, *calls: tuple[Tensor, Tensor]) -> ProbeResult:
    """Works if every call raises; the detail is what the first one raised."""
    module = subject.load()
    forward(module, *subject.arguments())  # a layer that refuses everything rejects nothing
    details = []
    for input, h0 in calls:
        try:
            module(input, h0)
        except Exception as error:  # the answer that is wanted, of whatever type
            details.append(one_line(error))
        else:
            dtypes = "" if input.dtype == h0.dtype else f", of {input.dtype} and {h0.dtype}"
            raise Wrong(f"accepts input {tuple(input.shape)} with h0 {tuple(h0.shape)}{dtypes}")
    return ProbeResult(detail=details[0])


def _longer(tensor: Tensor, dim: int) -> Tensor:
    return torch.cat([tensor, tensor.narrow(dim, 0, 1)], dim)
