"""How a layer is built and called: constructor arguments, and inputs that it must take or reject."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence, pad_sequence

from rnn_parity.capabilities.subject import (
    Capability,
    NotProbed,
    ProbeResult,
    Subject,
    Wrong,
    capability,
    expect_same,
    one_line,
)
from rnn_parity.layers.parameters import canonical_parameters, copy_weights, loads_by_itself
from rnn_parity.layers.running import call_layer

INITIAL_WIDTH, INITIAL_TOLERANCE = 64, 0.5
"""At this H a parameter has so many entries that their root mean square is well known; by this share it may be off."""


@capability("Initial weights as large as the baseline's")
def initial_weights(subject: Subject) -> ProbeResult:
    """The root mean square of every parameter of a new module: it decides how a training from scratch begins. Where
    there is a `reset_parameters`, it draws each of them anew.
    """
    wide = subject.vary(hidden_size=INITIAL_WIDTH)
    module = (wide if wide.runs else subject).construct()
    if loads_by_itself(module):
        raise NotProbed("its weights are not parameters of PyTorch's shapes")
    named = canonical_parameters(module)
    sizes = {name: weight.detach().square().mean().sqrt() for name, weight in named.items()}
    reset = getattr(module, "reset_parameters", None)
    if callable(reset) and not inspect.signature(reset).parameters:
        with torch.no_grad():
            for weight in named.values():
                weight.fill_(torch.inf)
        reset()
        if kept := [name for name, weight in canonical_parameters(module).items() if not weight.isfinite().all()]:
            raise Wrong(f"reset_parameters leaves {kept[0]} as it was")
    return ProbeResult(
        numbers={f"the size of {name}": size for name, size in sizes.items()}, tolerance=INITIAL_TOLERANCE
    )


@capability("Input without states")
def missing_states(subject: Subject) -> ProbeResult:
    """A call with the input alone has the results and gradients of states of zero."""
    module, (input, *states) = subject.load(), subject.arguments()
    zero = input, *map(torch.zeros_like, states)
    found = subject.run(module, call=lambda input, _: module(input), arguments=zero)
    return expect_same(found, subject.run(module, arguments=zero), "a call with states of zero")


@capability("Packed sequences")
def packed_sequence(subject: Subject) -> ProbeResult:
    """A `PackedSequence` of lengths 2, 4 and 1 gives the results of each sequence alone."""
    module, (input, *states), lengths = subject.load(), subject.arguments(), [2, 4, 1]

    def call(input: Tensor, states: Any) -> tuple[Tensor, Any]:
        packed, last = module(pack_padded_sequence(input, torch.tensor(lengths), enforce_sorted=False), states)
        if not isinstance(packed, PackedSequence):
            raise Wrong(f"gives a {type(packed).__name__}, expected a PackedSequence")
        return pad_packed_sequence(packed)[0], last

    found = subject.forward(call, input, *states)
    alone = [
        subject.forward(module, input[:n, [row]], *(state[:, [row]] for state in states))
        for row, n in enumerate(lengths)
    ]
    expected = {name: torch.cat([one[name] for one in alone], 1) for name in found if name != "output"}
    expected["output"] = pad_sequence([one["output"][:, 0] for one in alone])
    return expect_same(found, expected, "each sequence alone")


@capability("One sequence without a batch dimension")
def unbatched(subject: Subject) -> ProbeResult:
    """Input (T, I) and states (L, H) give output (T, H) and states (L, H)."""
    module, arguments = subject.load(), subject.arguments()
    found = subject.forward(module, *(tensor[:, 0] for tensor in arguments))
    whole = subject.forward(module, *arguments)
    return expect_same(found, {name: value[:, 0] for name, value in whole.items()}, "the same row in a batch")


@capability("`batch_first=True`")
def batch_first(subject: Subject) -> ProbeResult:
    """Built with `batch_first=True`, it maps (B, T, I) to (B, T, H); the states stay (L, B, H)."""
    module, (input, *states) = subject.load(batch_first=True), subject.arguments()
    found = subject.forward(module, input.transpose(0, 1), *states)
    found["output"] = found["output"].transpose(0, 1)
    return expect_same(found, subject.run(), "the layer without batch_first")


@capability("`bidirectional=True`")
def bidirectional(subject: Subject) -> ProbeResult:
    """Built with `bidirectional=True` and one layer, the first step's output has a half that depends on the last
    input, and one that does not. Of a layer that never is one alone, only the shape of the output is known.
    """
    one = subject.vary(num_layers=1)
    subject = one if one.runs else subject
    module, (input, *states) = subject.construct(bidirectional=True), subject.arguments()
    output, *_ = call_layer(module, input, [state.repeat(2, 1, 1) for state in states])
    if output.shape != (shape := (*input.shape[:-1], 2 * states[0].shape[-1])):
        raise Wrong(f"gives output {tuple(output.shape)}, expected {shape}")
    if subject is not one:
        return ProbeResult()
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


@capability("Non-contiguous input and states")
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
    """Sequences of no steps give an empty output, and the states as they were."""
    module, (input, *states) = subject.load(), subject.arguments()
    _, *names = found = subject.forward(module, input[:0], *states)
    expect_same({name: found[name] for name in names}, dict(zip(names, states, strict=True)), "the states before")
    return ProbeResult()


@capability("Sequence in pieces, state carried")
def carried_state(subject: Subject) -> ProbeResult:
    """Pieces of 1, 1 and 2 steps, each from the states after the one before, give the results of the whole."""
    module = subject.load()

    def in_pieces(input: Tensor, states: Any) -> tuple[Tensor, Any]:
        outputs = []
        for piece in input.split([1, 1, 2]):
            output, states = module(piece, states)
            outputs.append(output)
        return torch.cat(outputs), states

    found = subject.run(module, call=in_pieces)
    return expect_same(found, subject.run(module), "the sequence at once")


def _rejects(title: str, *changes: Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, Sequence[Tensor]]]) -> Capability:
    """Every change of input (T, B, I) and states (L, B, H) raises an error; the detail is the first one."""

    @capability(title)
    def probe(subject: Subject) -> ProbeResult:
        module = subject.load()
        subject.forward(module, *subject.arguments())  # a layer that refuses everything rejects nothing
        details = []
        for change in changes:
            given = subject.arguments()
            input, states = change(given[0], given[1:])
            try:
                call_layer(module, input, states)
            except Exception as error:  # an error of any type is right
                details.append(one_line(error))
            else:
                dtypes = "" if input.dtype == states[0].dtype else f", of {input.dtype} and {states[0].dtype}"
                raise Wrong(f"accepts input {tuple(input.shape)} with states {tuple(states[0].shape)}{dtypes}")
        return ProbeResult(detail=details[0])

    return probe


def _of_states(change: Callable[[Tensor], Tensor]):
    return lambda input, states: (input, [change(state) for state in states])


def _longer(tensor: Tensor, dim: int) -> Tensor:
    return torch.cat([tensor, tensor.narrow(dim, 0, 1)], dim)


# A size of 1 in a state could be broadcast.
rejects_wrong_input_size = _rejects("Refusal of a wrong input size", lambda x, states: (_longer(x, -1), states))
rejects_wrong_hidden_size = _rejects(
    "Refusal of a wrong hidden size", _of_states(lambda s: _longer(s, -1)), _of_states(lambda s: s[..., :1])
)
rejects_wrong_layer_count = _rejects(
    "Refusal of a wrong number of layers in the states",
    _of_states(lambda s: _longer(s, 0)),
    _of_states(lambda s: s[:-1]),
)
rejects_wrong_batch_size = _rejects(
    "Refusal of a wrong batch size in the states", _of_states(lambda s: _longer(s, 1)), _of_states(lambda s: s[:, :1])
)
rejects_wrong_dtype = _rejects(
    "Refusal of a wrong dtype", lambda x, states: (x.float(), states), _of_states(torch.Tensor.float)
)
