"""What was written held against what was read: the same bits under other names, and layers that compute the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from rnn_parity.checkpoint.files import same_bits
from rnn_parity.checkpoint.stacks import Stack
from rnn_parity.compare.case import compare_quantity
from rnn_parity.compare.reference import References
from rnn_parity.compare.run import quantities, run_implementation
from rnn_parity.dropout.masks import MaskLayout, draw_masks
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.parameters import canonical_parameters
from rnn_parity.layers.registry import build
from rnn_parity.layers.stimulus import Stimulus, draw_stimulus

_SHAPE = {"sequence_length": 12, "batch_size": 4, "threads": 1}
_DROPOUT, _SEED = 0.2, 0


Place = tuple[Any, ...]
"""The keys and positions that lead to a part of a checkpoint."""


class NotProven(Exception):
    """The conversion does not hold. The message says what differs."""


def prove_same(before: Any, after: Any, names_at: Callable[[Place], Mapping[str, str]], at: Place = ()) -> None:
    """Raise `NotProven` unless both hold the same but for the names that change at a place.

    `names_at` says which those are: of a mapping its keys, of a list its strings.
    """
    names = names_at(at)
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        same = same_bits(before, after) and before.requires_grad == after.requires_grad
    elif isinstance(before, dict) and type(before) is type(after):
        same = {names.get(key, key) for key in before} == after.keys()
        parts = [(key, old, after[names.get(key, key)]) for key, old in before.items()] if same else []
    elif isinstance(before, list | tuple) and type(before) is type(after):
        before = [names.get(item, item) if isinstance(item, str) else item for item in before]
        same = len(before) == len(after)
        parts = [(index, old, after[index]) for index, old in enumerate(before)] if same else []
    else:
        same = type(before) is type(after) and (before == after or before != before)
    if not same:
        raise NotProven(f"{'.'.join(map(str, at)) or 'the file'} is not what it was")
    if isinstance(before, dict | list):
        for part, old, new in parts:
            prove_same(old, new, names_at, (*at, part))


def prove_equivalent(before: Stack, after: Stack, layouts: tuple[str, str]) -> Iterator[dict[str, Any]]:
    """Load each stack into the layer it is for, and run the check: one row per regime × quantity.

    Raises `NotProven` if a layer does not take its tensors, or holds them under other names than the other does.
    """
    weights = [_as_loaded(stack, layout) for stack, layout in zip((before, after), layouts, strict=True)]
    for name, tensor in weights[0].items():
        if name not in weights[1] or not same_bits(tensor, weights[1][name]):
            raise NotProven(f"{name} of {layouts[1]} is not that of {layouts[0]}")
    dtype = str(weights[0]["weight_ih_l0"].dtype).removeprefix("torch.")
    case = Case("convert", "cpu", dtype, False, **before.sizes, dropout=_DROPOUT, **_SHAPE)
    given = [dataclasses.replace(draw_stimulus(case, _SEED), weights=loaded) for loaded in weights]
    yield from _check(case, given, layouts)


def _check(case: Case, given: list[Stimulus], layouts: tuple[str, str]) -> Iterator[dict[str, Any]]:
    """Each layer runs with the weights that it was loaded with; the truth is of those that were read."""
    references = References(case, given[0], _SEED)
    for regime in ("eval", "train_matched_masks") if case.draws_dropout else ("eval",):
        masks = None if regime == "eval" else draw_masks(MaskLayout.of(case), case.dropout, _SEED)
        ours, theirs = (
            run_implementation(case, layout, stimulus, _SEED, regime, masks)
            for layout, stimulus in zip(layouts, given, strict=True)
        )
        truth = references.with_masks(masks)
        for quantity in quantities(case.num_layers):
            yield {"regime": regime, **compare_quantity(case, quantity, ours, truth, theirs, truth)}


def _as_loaded(stack: Stack, layout: str) -> dict[str, Tensor]:
    """The weights, by canonical name, of the layer that has taken this stack's tensors under their own keys."""
    module = build(layout, **stack.sizes, dropout=0.0).to(stack.weights["weight_ih_l0"].dtype)
    (inner,) = module.children()  # what a model holds: the stack of cells, or nn.GRU
    beginning = f"{stack.prefix}." * bool(stack.prefix)
    try:
        inner.load_state_dict({key.removeprefix(beginning): stack.state[key] for key in stack.keys.values()})
    except RuntimeError as error:
        raise NotProven(f"{layout} does not take it: {' '.join(str(error).split())}") from error
    return {name: tensor.detach() for name, tensor in canonical_parameters(module).items()}
