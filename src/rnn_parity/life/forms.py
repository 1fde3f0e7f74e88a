"""Points of a life: the other forms of a layer: a packed batch, one sequence, and the options of its constructor."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from rnn_parity.cells.base import Arithmetic, Rounding, load_cell
from rnn_parity.cells.directions import DIRECTIONS, run_both_directions
from rnn_parity.cells.stack import run_stack
from rnn_parity.compare.reference import PERTURBATIONS, Reference, perturb
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Dtype, Verdict
from rnn_parity.layers.parameters import canonical_parameters, copy_weights, loads_by_itself
from rnn_parity.layers.running import pack_states, unpack_states
from rnn_parity.layers.settings import switched
from rnn_parity.layers.stimulus import Stimulus, build_sized
from rnn_parity.life.course import Life, without_states
from rnn_parity.life.judging import Found
from rnn_parity.life.one_call import Given
from rnn_parity.life.points import point


@point("Arguments in other forms", may_refuse=True)
def strided(life: Life) -> Iterator[Found]:
    """Transposed, sliced or expanded in memory, equal numbers give equal results; so do matrices, transposed, one
    tensor that is every state, and states in a list or by the name that PyTorch gives them.
    """

    def transposed(tensor: Tensor) -> Tensor:
        return tensor.transpose(0, 1).contiguous().transpose(0, 1)

    def sliced(tensor: Tensor) -> Tensor:
        return tensor.repeat_interleave(2, -1)[..., ::2]

    def offset(tensor: Tensor) -> Tensor:
        return torch.cat([torch.full_like(tensor[:1], torch.nan), tensor])[1:]

    def of_wider(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, torch.full_like(tensor, torch.nan)], -1)[..., : tensor.shape[-1]]

    given = life.draw()
    module = life.build(given)
    ways = {"transposed": transposed, "sliced": sliced, "at an offset": offset, "of wider rows": of_wider}
    for when, arrange in ways.items():

        def of_input(tensor: Tensor, arrange=arrange) -> Tensor:
            return arrange(tensor) if len(tensor) == given.case.sequence_length else tensor

        for mode in life.modes:
            found = life.judge(module, given, mode, f"with arguments {when} in memory, in {mode}", arrange=arrange)
            yield found
            if found.verdict == Verdict.FAILED:  # such states may be all that it refuses
                yield life.judge(module, given, mode, f"with an input {when} in memory, in {mode}", arrange=of_input)

    square = life.draw(sequence_length=given.case.batch_size)  # where T = B the strides alone could tell the axes
    for mode in life.modes:
        when = f"with arguments transposed in memory where T = B, in {mode}"
        yield life.judge(life.build(square), square, mode, when, arrange=transposed)

    def expanded(tensor: Tensor) -> Tensor:
        return tensor[:, :1].expand_as(tensor)

    def expanded_states(tensor: Tensor) -> Tensor:
        return tensor if len(tensor) == given.case.sequence_length else expanded(tensor)

    def same_states(stimulus):  # those of every row are the first's, so that one row can be expanded
        return replace(stimulus, states=tuple(expanded(state).contiguous() for state in stimulus.states))

    def same_rows(stimulus):
        return replace(same_states(stimulus), input=expanded(stimulus.input).contiguous())

    for parameter in module.parameters():  # as weights loaded from another layout may lie
        if parameter.dim() == 2:
            parameter.data = transposed(parameter.data)
    for mode in life.modes:
        yield life.judge(module, given, mode, f"with weights transposed in memory, in {mode}")
    module, alike, of_one_state = life.build(given), given.change(same_rows), given.change(same_states)
    for mode in life.modes:
        yield life.judge(module, alike, mode, f"with expanded arguments, in {mode}", arrange=expanded)
        when = f"with one state expanded to all rows, in {mode}"
        yield life.judge(module, of_one_state, mode, when, arrange=expanded_states)
    if len(life.cell.states) > 1 and life.takes_states:

        def one_tensor(stimulus):
            return replace(stimulus, states=(stimulus.states[0],) * len(stimulus.states))

        def with_one(input, states):
            return module(input, (states[0],) * len(states))

        for mode in life.modes:
            when = f"with one tensor as every state, in {mode}"
            yield life.judge(module, given.change(one_tensor), mode, when, through=with_one, learning=("input",))
    calls: dict[str, Callable[..., object]] = {"by the name hx": lambda input, states: module(input, hx=states)}
    if len(life.cell.states) > 1:
        calls |= {"in a list": lambda input, states: module(input, [*states])}
    for words, call in calls.items() if life.takes_states else ():
        found = life.judge(module, given, life.quiet, f"with states {words}, in {life.quiet}", through=call)
        if found.verdict != Verdict.FAILED:  # who wants a tuple, or knows no such name, may say so
            yield found


@point("A packed batch", may_refuse=True)
def packed(life: Life) -> Iterator[Found]:
    """A `PackedSequence` of unlike lengths, in falling order and unsorted, with states and without, gives the results
    and gradients of each sequence alone; in training it drops.
    """
    steps, rows = life.case.sequence_length, range(life.case.batch_size)
    falling = [max(1, steps - row) for row in rows]
    unsorted = [*falling[-1:], *falling[:-1]]  # an order that is not its own inverse

    def called(module: nn.Module, lengths: Sequence[int], input: Tensor, states: Any) -> tuple[Tensor, Any]:
        output, last = module(pack_padded_sequence(input, torch.tensor(lengths), enforce_sorted=False), states)
        if not isinstance(output, PackedSequence):
            raise TypeError(f"gives a {type(output).__name__} for a PackedSequence, expected a PackedSequence")
        return pad_packed_sequence(output, total_length=steps)[0], last

    given = life.draw()
    module = life.build(given)
    for lengths in (falling, unsorted):
        reference = functools.cache(partial(_row_by_row, given, lengths))
        for mode in ("inference", life.quiet):
            call = partial(life.call, module, given, mode, through=partial(called, module, lengths))
            found = life.hold(given, call, f"in a packed batch of lengths {lengths}, in {mode}", reference=reference)
            yield found
            if found.verdict in (Verdict.FAILED, Verdict.UNSUPPORTED):  # it takes none
                return
    when = f"in a packed batch of lengths {unsorted}"
    if "train" in life.modes:
        undropped = life.draw(dropout=0.0)
        training = life.build(undropped)
        call = partial(life.call, training, undropped, "train", through=partial(called, training, unsorted))
        yield life.hold(undropped, call, f"{when}, in train", reference=partial(_row_by_row, undropped, unsorted))
    zero = given.change(without_states)
    call = partial(
        life.call, module, zero, life.quiet,
        through=lambda input, _: called(module, unsorted, input, None), with_states=False,
    )  # fmt: skip
    found = life.hold(zero, call, f"{when}, without states", reference=partial(_row_by_row, zero, unsorted))
    if found.verdict != Verdict.FAILED:  # who wants states may say so
        yield found
    yield from drops(life, "in a packed batch", lambda module, *given: called(module, falling, *given))


def drops(life: Life, when: str, called: Callable[..., Any] | None = None, **options: Any) -> Iterator[Found]:
    """In training it drops, and other entries at every call: of a layer built with `options` and `called` so."""
    if "train" not in life.modes or not life.case.draws_dropout:
        return
    given = life.draw(dropout=0.5)
    module = build_sized(given.case, life.name, **options).to(given.case.device).train()
    input, *states = given.tensors()
    with torch.no_grad():
        for parameter in module.parameters():  # some are built with zeros
            parameter.uniform_(-1, 1)
        outputs = [(called or nn.Module.__call__)(module, input, pack_states(states))[0] for _ in range(3)]
    if all(torch.equal(outputs[0], other) for other in outputs[1:]):
        yield Found(Verdict.DIFFERENT, "output", "drops nothing, or the same again", when=f"{when}, in train")


@point(
    "One sequence without a batch dimension",
    may_refuse=True,
    condition="it is given no single sequence without a batch dimension",
)
def unbatched(life: Life) -> Iterator[Found]:
    """Input (T, I) and states (L, H) give output (T, H) and states (L, H)."""
    if life.adapter != life.adapter.plain:  # an adapter is made for three dimensions
        return

    def called(module: nn.Module, input: Tensor, states: Any) -> tuple[Tensor, Any]:
        alone = None if states is None else pack_states([state[:, 0] for state in unpack_states(states)])
        output, last = module(input[:, 0], alone)
        found = [output, *unpack_states(last)]
        if any(tensor.dim() != 2 for tensor in found):
            raise TypeError(f"gives {', '.join(str(tuple(tensor.shape)) for tensor in found)} for one sequence")
        output, *after = (tensor[:, None] for tensor in found)
        return output, pack_states(after)

    given = life.draw(sequence_length=life.case.sequence_length + 2, batch_size=1)
    module = life.build(given)
    for mode in ("inference", life.quiet):
        yield life.judge(module, given, mode, f"given one sequence, in {mode}", through=partial(called, module))
    found = life.judge(
        module, given.change(without_states), life.quiet, "given one sequence, without states",
        through=lambda input, _: called(module, input, None), with_states=False,
    )  # fmt: skip
    if found.verdict != Verdict.FAILED:  # who wants states may say so
        yield found
    yield from drops(life, "given one sequence", called)


@point("Built with `batch_first=True`", may_refuse=True, condition="it is not built with `batch_first=True`")
def batch_first(life: Life) -> Iterator[Found]:
    """It maps (B, T, I) to (B, T, H); the states stay (L, B, H). Where T = B, no shape tells whether it does."""
    if life.adapter.input == "step":
        return

    def called(module: nn.Module, input: Tensor, states: Any) -> tuple[Tensor, Any]:
        output, last = module(input.transpose(0, 1), states)
        return output.transpose(0, 1), last

    given, built = life.draw(sequence_length=life.case.batch_size), "built with `batch_first=True`"
    module = life.build(given, batch_first=True)
    for mode in ("inference", life.quiet):
        yield life.judge(module, given, mode, f"{built} where T = B, in {mode}", through=partial(called, module))
    yield life.judge(module, life.draw(), life.quiet, f"{built} where T and B differ", through=partial(called, module))
    yield from drops(life, built, called, batch_first=True)


@point("Built with `bias=False`", may_refuse=True, condition="it is not built with `bias=False`")
def no_bias(life: Life) -> Iterator[Found]:
    """It has no biases, and the results and gradients of biases of zero."""
    given, built = life.draw(), "built with `bias=False`"
    matrices = {name: weight for name, weight in given.stimulus.weights.items() if name.startswith("weight")}
    given = given.with_weights({n: matrices.get(n, torch.zeros_like(w)) for n, w in given.stimulus.weights.items()})
    module = build_sized(given.case, life.name, bias=False).to(given.case.device)
    if loads_by_itself(module):
        return
    if kept := canonical_parameters(module).keys() - matrices.keys():
        yield Found(Verdict.DIFFERENT, min(kept), "is there all the same", when=built)
        return
    copy_weights(matrices, module)
    for mode in ("inference", life.quiet):
        yield life.judge(module, given, mode, f"{built}, in {mode}")
    yield from drops(life, built, bias=False)


class _AsNamed(nn.Module):
    """A layer whose parameters keep their own names, those of the other direction included."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, input: Tensor, states: Any) -> Any:
        return self.layer(input, states)

    def canonical_parameters(self) -> dict[str, Tensor]:
        return dict(self.layer.named_parameters())


@point("Built with `bidirectional=True`", may_refuse=True, condition="it is not built with `bidirectional=True`")
def bidirectional(life: Life) -> Iterator[Found]:
    """Both directions of every layer, side by side: the next layer reads both, and states come layer by layer. Only
    of a layer whose parameters have PyTorch's names.
    """
    if life.adapter != life.adapter.plain:
        return
    case = replace(life.case, num_layers=min(2, life.case.num_layers), dropout=0.0)
    built = "built with `bidirectional=True`"
    module = _AsNamed(build_sized(case, life.name, bidirectional=True)).to(case.device)
    given = Given.of(case, _two_of_each(life, case), 0)
    if module.canonical_parameters().keys() != given.stimulus.weights.keys():
        return
    copy_weights(given.stimulus.weights, module)
    reference = functools.cache(partial(_both_directions, given))
    for mode in ("inference", life.quiet):
        call = partial(life.call, module, given, mode)
        yield life.hold(given, call, f"{built}, in {mode}", reference=reference)
    yield from drops(life, built, lambda layer, x, states: layer(x, _of_both(states)), bidirectional=True)


@point("In another precision", may_refuse=True, condition="it is used in one precision alone")
def other_precision(life: Life) -> Iterator[Found]:
    """Moved to another dtype, as float64 for `torch.autograd.gradcheck` or bfloat16 for inference, it computes in that.
    Whatever torch's default dtype is, it computes in that of its weights.
    """
    for dtype in (other for other in Dtype if other != life.case.dtype):
        given = life.draw(dtype=str(dtype))
        module = life.build(given)
        for mode in ("inference", life.quiet):
            yield life.judge(module, given, mode, f"in {dtype}, in {mode}")
    given = life.draw()
    module = life.build(given)
    for default, mode in itertools.product((torch.float64, torch.bfloat16), ("inference", life.quiet)):
        with switched(torch.get_default_dtype, torch.set_default_dtype, default):
            yield life.judge(module, given, mode, f"where the default dtype is {default}, in {mode}")


def _two_of_each(life: Life, case: Case) -> Stimulus:
    """What layers of two directions are given, put together of what layers of one are."""
    layers = range(case.num_layers)
    widths = [2 * case.hidden_size if layer else case.input_size for layer in layers for _ in DIRECTIONS]
    of_one = partial(life.draw, num_layers=1, dropout=0.0)
    parts = [of_one(seed, input_size=width).stimulus for seed, width in enumerate(widths)]
    ends = [f"_l{layer}{direction}" for layer in layers for direction in DIRECTIONS]
    of_each = zip(ends, parts, strict=True)
    weights = {f"{n.removesuffix('_l0')}{end}": weight for end, part in of_each for n, weight in part.weights.items()}
    of_output = torch.cat([part.cotangents[0] for part in parts[:2]], -1)
    states, of_states = (
        tuple(torch.cat(tensors) for tensors in zip(*of_parts, strict=True))
        for of_parts in ([part.states for part in parts], [part.cotangents[1:] for part in parts])
    )
    return Stimulus(parts[0].input, states, weights, (of_output, *of_states))


def _of_both(states: Any) -> Any:
    """The states of one direction, for both."""
    return pack_states([state.repeat(2, 1, 1) for state in unpack_states(states)])


def _both_directions(given: Given) -> Reference:
    """The oracle's quantities of layers of two directions."""
    cell = load_cell(given.case.cell)

    def run(stimulus: Stimulus, rounding: Rounding | None) -> dict[str, Tensor]:
        inputs = stimulus.input, stimulus.states, stimulus.weights, stimulus.cotangents
        return run_both_directions(cell, *inputs, Arithmetic(rounding))

    return perturb(given.case, given.references.seed, given.stimulus, run, PERTURBATIONS[True], side_by_side=True)


def _row_by_row(given: Given, lengths: Sequence[int]) -> Reference:
    """The oracle's quantities of a batch of unlike lengths: of every sequence alone, its gradients of weights added."""
    case, cell = given.case, load_cell(given.case.cell)

    def run(stimulus: Stimulus, rounding: Rounding | None) -> dict[str, Tensor]:
        of_rows = []
        for row, length in enumerate(lengths):
            input, of_output = (t[..., :length, [row], :] for t in (stimulus.input, stimulus.cotangents[0]))
            states, of_states = ([t[..., [row], :] for t in ts] for ts in (stimulus.states, stimulus.cotangents[1:]))
            cotangents = (of_output, *of_states)
            found = run_stack(cell, input, tuple(states), stimulus.weights, cotangents, arithmetic=Arithmetic(rounding))
            after = (0, 0, 0, 0, 0, case.sequence_length - length)
            of_rows.append(found | {name: pad(found[name], after) for name in ("output", "grad_input")})
        return {
            name: sum(parts, torch.zeros(())) if name.startswith(("grad_weight", "grad_bias")) else torch.cat(parts, -2)
            for name, parts in ((name, [found[name] for found in of_rows]) for name in of_rows[0])
        }

    return perturb(case, given.references.seed, given.stimulus, run, PERTURBATIONS[True], side_by_side=True)
