"""How a layer is built and called: constructor arguments, and inputs that it must take or reject."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence, pad_sequence

from rnn_parity.capabilities.subject import (
    Capability,
    ProbeResult,
    Subject,
    Wrong,
    capability,
    expect_same,
    forward,
    one_line,
)
from rnn_parity.layers.parameters import canonical_parameters, copy_weights


@capability("Input without h0")
def missing_h0(subject: Subject) -> ProbeResult:
    """A call with the input alone has the results and gradients of h0 = 0."""
    module, (input, h0) = subject.load(), subject.arguments()
    zero = torch.zeros_like(h0)
    found = subject.run(module, call=lambda input, _: module(input), arguments=(input, zero))
    return expect_same(found, subject.run(module, arguments=(input, zero)), "a call with h0 = 0")


@capability("Packed sequences")
def packed_sequence(subject: Subject) -> ProbeResult:
    """A `PackedSequence` of lengths 2, 4 and 1 gives the results of each sequence alone."""
    module, (input, h0), lengths = subject.load(), subject.arguments(), [2, 4, 1]
    packed, hn = module(pack_padded_sequence(input, torch.tensor(lengths), enforce_sorted=False), h0)
    if not isinstance(packed, PackedSequence):
        raise Wrong(f"gives a {type(packed).__name__}, expected a PackedSequence")
    found = {"output": pad_packed_sequence(packed)[0], "hn": hn}
    alone = [forward(module, input[:n, [row]], h0[:, [row]]) for row, n in enumerate(lengths)]
    expected = {
        "output": pad_sequence([one["output"][:, 0] for one in alone]),
        "hn": torch.cat([one["hn"] for one in alone], 1),
    }
    return expect_same(found, expected, "each sequence alone")


@capability("One sequence without a batch dimension")
def unbatched(subject: Subject) -> ProbeResult:
    """Input (T, I) and h0 (L, H) give output (T, H) and hn (L, H)."""
    module, (input, h0) = subject.load(), subject.arguments()
    found, whole = forward(module, input[:, 0], h0[:, 0]), forward(module, input, h0)
    return expect_same(found, {"output": whole["output"][:, 0], "hn": whole["hn"][:, 0]}, "the same row in a batch")


@capability("`batch_first=True`")
def batch_first(subject: Subject) -> ProbeResult:
    """Built with `batch_first=True`, it maps (B, T, I) to (B, T, H); the states stay (L, B, H)."""
    module, (input, h0) = subject.load(batch_first=True), subject.arguments()
    found = forward(module, input.transpose(0, 1), h0)
    found["output"] = found["output"].transpose(0, 1)
    return expect_same(found, subject.run(), "the layer without batch_first")


@capability("`bidirectional=True`")
def bidirectional(subject: Subject) -> ProbeResult:
    """Built with `bidirectional=True` and one layer, the first step's output has a half that depends on the last
    input, and one that does not.
    """
    subject = subject.vary(num_layers=1)
    module, (input, h0) = subject.construct(bidirectional=True), subject.arguments()
    output, _ = module(input, h0.repeat(2, 1, 1))
    if output.shape != (shape := (*input.shape[:-1], 2 * h0.shape[-1])):
        raise Wrong(f"gives output {tuple(output.shape)}, expected {shape}")
    halves = [
        torch.autograd.grad(half.sum(), input, retain_graph=True, materialize_grads=True)[0]
        for half in output[0].chunk(2, -1)
    ]
    if [gradient[-1].any().item() for gradient in halves] != [False, True]:
        raise Wrong("the second half of the output does not come from the steps behind it")
    return ProbeResult()


@capability("`bias=False`")
def no_bias(subject: Subject) -> ProbeResult:
    """Built with `bias=False`, it has no biases, and the results and gradients of biases of zero."""
    without, weights = subject.construct(bias=False), subject.stimulus.weights
    matrices = {name: weight for name, weight in weights.items() if name.startswith("weight")}
    if extra := canonical_parameters(without).keys() - matrices.keys():
        raise Wrong(f"it still has {', '.join(sorted(extra))}")
    copy_weights(matrices, without)
    zero = subject.construct()
    copy_weights({name: torch.zeros_like(weight) for name, weight in weights.items()} | matrices, zero)
    found = subject.run(without)
    return expect_same(found, subject.run(zero), "the layer with biases of zero")


@capability("Non-contiguous input and h0")
def non_contiguous(subject: Subject) -> ProbeResult:
    """Every second entry of wider tensors gives the results and gradients of a contiguous copy."""
    module = subject.load()
    found = subject.run(module, arguments=subject.arguments(lambda tensor: tensor.repeat_interleave(2, -1)[..., ::2]))
    return expect_same(found, subject.run(module), "a contiguous copy")


@capability("Empty batch (B = 0)")
def empty_batch(subject: Subject) -> ProbeResult:
    """A batch of no sequences gives empty results, and gradients of zero for every parameter."""
    found = subject.vary(batch_size=0).run()
    if moved := [name for name, value in found.items() if value.count_nonzero()]:
        raise Wrong(f"{moved[0]} is not zero")
    return ProbeResult()


@capability("Empty sequence (T = 0)")
def empty_sequence(subject: Subject) -> ProbeResult:
    """Sequences of no steps give an empty output, and hn = h0."""
    module, (input, h0) = subject.load(), subject.arguments()
    expect_same({"hn": forward(module, input[:0], h0)["hn"]}, {"hn": h0}, "h0")
    return ProbeResult()


@capability("Sequence in pieces, state carried")
def carried_state(subject: Subject) -> ProbeResult:
    """Pieces of 1, 1 and 2 steps, each with the hn before it as h0, give the results and gradients of the whole."""
    module = subject.load()

    def in_pieces(input, h):
        outputs = []
        for piece in input.split([1, 1, 2]):
            output, h = forward(module, piece, h).values()
            outputs.append(output)
        return torch.cat(outputs), h

    found = subject.run(module, call=in_pieces)
    return expect_same(found, subject.run(module), "the sequence at once")


def _rejects(title: str, *changes: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Capability:
    """Every change of input (T, B, I) and h0 (L, B, H) raises an error; the detail is the first one."""

    @capability(title)
    def probe(subject: Subject) -> ProbeResult:
        module = subject.load()
        forward(module, *subject.arguments())  # a layer that refuses everything rejects nothing
        details = []
        for change in changes:
            input, h0 = change(*subject.arguments())
            try:
                module(input, h0)
            except Exception as error:  # an error of any type is right
                details.append(one_line(error))
            else:
                dtypes = "" if input.dtype == h0.dtype else f", of {input.dtype} and {h0.dtype}"
                raise Wrong(f"accepts input {tuple(input.shape)} with h0 {tuple(h0.shape)}{dtypes}")
        return ProbeResult(detail=details[0])

    return probe


def _longer(tensor: Tensor, dim: int) -> Tensor:
    return torch.cat([tensor, tensor.narrow(dim, 0, 1)], dim)


# A size of 1 in h0 could be broadcast.
rejects_wrong_input_size = _rejects("Rejects a wrong input size", lambda x, h: (_longer(x, -1), h))
rejects_wrong_hidden_size = _rejects(
    "Rejects a wrong hidden size", lambda x, h: (x, _longer(h, -1)), lambda x, h: (x, h[..., :1])
)
rejects_wrong_layer_count = _rejects(
    "Rejects a wrong number of layers in h0", lambda x, h: (x, _longer(h, 0)), lambda x, h: (x, h[:-1])
)
rejects_wrong_batch_size = _rejects(
    "Rejects a wrong batch size in h0", lambda x, h: (x, _longer(h, 1)), lambda x, h: (x, h[:, :1])
)
rejects_wrong_dtype = _rejects("Rejects a wrong dtype", lambda x, h: (x.float(), h), lambda x, h: (x, h.float()))
