"""How a layer may be built and called: constructor arguments, and inputs of other kinds and shapes."""

from __future__ import annotations

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence, pad_sequence

from rnn_parity.capabilities.subject import ProbeResult, Subject, Wrong, capability, expect_same, forward, gradients_of
from rnn_parity.layers.parameters import canonical_parameters, copy_weights


@capability("Input without h0")
def missing_h0(subject: Subject) -> ProbeResult:
    """Called with the input alone, it gives what it gives for h0 = 0, forward and backward."""
    module, (input, h0) = subject.load(), subject.arguments()
    zero = torch.zeros_like(h0)
    found = subject.run(module, call=lambda input, _: module(input), arguments=(input, zero))
    expect_same(found, subject.run(module, arguments=(input, zero)), "a call with h0 = 0")
    return ProbeResult(numbers=found)


@capability("Packed sequences")
def packed_sequence(subject: Subject) -> ProbeResult:
    """A `PackedSequence` of lengths 2, 4 and 1 gives what each sequence gives alone."""
    module, (input, h0), lengths = subject.load(), subject.arguments(), [2, 4, 1]
    packed, hn = module(pack_padded_sequence(input, torch.tensor(lengths), enforce_sorted=False), h0)
    if not isinstance(packed, PackedSequence):
        raise Wrong(f"gives a {type(packed).__name__}, expected a PackedSequence")
    found = {"output": pad_packed_sequence(packed)[0].detach(), "hn": hn.detach()}
    alone = [forward(module, input[:n, [row]], h0[:, [row]]) for row, n in enumerate(lengths)]
    expected = {
        "output": pad_sequence([output[:, 0] for output, _ in alone]),
        "hn": torch.cat([h for _, h in alone], 1),
    }
    expect_same(found, expected, "each sequence alone")
    return ProbeResult(numbers=found)


@capability("One sequence without a batch dimension")
def unbatched(subject: Subject) -> ProbeResult:
    """Input (T, I) and h0 (L, H) give output (T, H) and hn (L, H)."""
    module, (input, h0) = subject.load(), subject.arguments()
    output, hn = forward(module, input[:, 0], h0[:, 0])
    whole = subject.run(module)
    found = {"output": output.detach(), "hn": hn.detach()}
    expect_same(found, {"output": whole["output"][:, 0], "hn": whole["hn"][:, 0]}, "the same row in a batch")
    return ProbeResult(numbers=found)


@capability("`batch_first=True`")
def batch_first(subject: Subject) -> ProbeResult:
    """Built with `batch_first=True`, it maps (B, T, I) to (B, T, H); the states stay (L, B, H)."""
    module, (input, h0) = subject.load(batch_first=True), subject.arguments()
    output, hn = forward(module, input.transpose(0, 1), h0)
    found = {"output": output.transpose(0, 1).detach(), "hn": hn.detach()}
    expect_same(found, subject.run(subject.load()), "the layer without batch_first")
    return ProbeResult(numbers=found)


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
    halves = [gradients_of(half.sum(), {"input": input}, None, retain_graph=True) for half in output[0].chunk(2, -1)]
    if [gradient["grad_input"][-1].any().item() for gradient in halves] != [False, True]:
        raise Wrong("the second half of the output does not come from the steps behind it")
    return ProbeResult()


@capability("`bias=False`")
def no_bias(subject: Subject) -> ProbeResult:
    """Built with `bias=False`, it has no biases and gives what it gives with biases of zero, forward and backward."""
    without, weights = subject.construct(bias=False), subject.stimulus.weights
    matrices = {name: weight for name, weight in weights.items() if name.startswith("weight")}
    if extra := canonical_parameters(without).keys() - matrices.keys():
        raise Wrong(f"it still has {', '.join(sorted(extra))}")
    copy_weights(matrices, without)
    zero = subject.construct()
    copy_weights({name: weight * (name in matrices) for name, weight in weights.items()}, zero)
    found = subject.run(without)
    expect_same(found, subject.run(zero), "the layer with biases of zero")
    return ProbeResult(numbers=found)


@capability("Non-contiguous input and h0")
def non_contiguous(subject: Subject) -> ProbeResult:
    """Every second entry of wider tensors gives what their copies give, forward and backward."""
    module = subject.load()
    strided = [t.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_() for t in subject.arguments()]
    found = subject.run(module, arguments=tuple(strided))
    expect_same(found, subject.run(module), "a contiguous copy")
    return ProbeResult(numbers=found)


@capability("Empty batch (B = 0)")
def empty_batch(subject: Subject) -> ProbeResult:
    """A batch of no sequences gives empty results, and gradients of zero for every parameter."""
    module, (input, h0) = subject.load(), subject.arguments()
    output, hn = forward(module, input[:, :0], h0[:, :0])
    gradients = gradients_of(output.sum() + hn.sum(), canonical_parameters(module), None)
    if moved := [name for name, gradient in gradients.items() if gradient.count_nonzero()]:
        raise Wrong(f"{moved[0]} is not zero")
    return ProbeResult()


@capability("Empty sequence (T = 0)")
def empty_sequence(subject: Subject) -> ProbeResult:
    """Sequences of no steps give an empty output, and hn = h0."""
    module, (input, h0) = subject.load(), subject.arguments()
    _, hn = forward(module, input[:0], h0)
    expect_same({"hn": hn}, {"hn": h0}, "h0")
    return ProbeResult()


@capability("Sequence in pieces, state carried")
def carried_state(subject: Subject) -> ProbeResult:
    """In pieces of 1, 1 and 2 steps, each given the hn of the piece before, it gives what it gives at once, forward
    and backward.
    """
    module = subject.load()

    def in_pieces(input, h):
        outputs = []
        for piece in input.split([1, 1, 2]):
            output, h = forward(module, piece, h)
            outputs.append(output)
        return torch.cat(outputs), h

    found = subject.run(module, call=in_pieces)
    expect_same(found, subject.run(module), "the sequence at once")
    return ProbeResult(numbers=found)
