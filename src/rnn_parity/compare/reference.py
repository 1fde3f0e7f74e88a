"""What is right, and how far rounding may move it: the oracle's quantities for a stimulus, with their sensitivities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_parity.cells.base import Arithmetic, Rounding, load_cell
from rnn_parity.cells.stack import run_stack
from rnn_parity.compare.criterion import roundoffs_of_sum
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import function_roundoff, unit_roundoff
from rnn_parity.layers.stimulus import Stimulus

PERTURBATIONS = {True: 6, False: 2}
"""How often the oracle is moved, for a small case and for a large one."""
_SMALL = 100_000  # numbers in the states of all steps of all layers


@dataclass(frozen=True)
class Reference:
    """The oracle's quantities, and how to measure the sensitivity of each in the 2-norm and the maximum norm."""

    values: Mapping[str, Tensor]
    measure: Callable[[], Mapping[str, tuple[float, float]]] = field(repr=False)

    @cached_property
    def sensitivities(self) -> Mapping[str, tuple[float, float]]:
        """Measured when they are first asked for: this takes longer than the quantities themselves."""
        return self.measure()


def run_oracle(case: Case, stimulus: Stimulus, masks: Tensor | None, seed: int) -> Reference:
    """The oracle's quantities for a stimulus under some masks (G, T, B, H), None for no dropout."""
    size = case.num_layers * case.sequence_length * case.batch_size * max(case.input_size, case.hidden_size)

    def run(stimulus: Stimulus, rounding: Rounding | None) -> dict[str, Tensor]:
        inputs = stimulus.input, stimulus.states, stimulus.weights, stimulus.cotangents
        return run_stack(load_cell(case.cell), *inputs, masks, case.dropout, Arithmetic(rounding))

    return perturb(case, seed, stimulus, run, PERTURBATIONS[size <= _SMALL], side_by_side=size <= _SMALL)


def perturb(
    case: Case,
    seed: int,
    stimulus: Any,
    run: Callable[[Any, Rounding | None], Mapping[str, Tensor]],
    perturbations: int,
    *,
    side_by_side: bool,
) -> Reference:
    """Run the equations exactly. Sensitivities come of further runs, in which all numbers are moved by one rounding.

    Args:
        stimulus: whose `map` changes every tensor. run: the equations in float64, for tensors that may have one more
            dimension in front. perturbations: a quantity of few numbers takes more, lest luck make it look better
            conditioned than it is. side_by_side: whether all run at once. Small runs then share what every operator
            costs; large ones would only take more memory.
    """
    values = run(stimulus.map(Tensor.double), None)

    def measure() -> dict[str, tuple[float, float]]:
        rounded = draw_rounding(case, seed)
        moved = stimulus.map(lambda tensor: rounded(tensor.double().expand(perturbations, *tensor.shape), case.tf32))
        found: Mapping[str, Any]
        if side_by_side:
            found = run(moved, rounded)
        else:
            parts = [run(moved.map(itemgetter(k)), rounded) for k in range(perturbations)]
            found = {quantity: [part[quantity] for part in parts] for quantity in values}
        return {quantity: sensitivity(found[quantity], value) for quantity, value in values.items()}

    return Reference(values, measure)


@dataclass
class References:
    """The references of one stimulus, one for each set of masks, each computed once."""

    case: Case
    stimulus: Any
    seed: int
    compute: Callable[[Case, Any, Tensor | None, int], Reference] = run_oracle
    known: dict[bytes, Reference] = field(default_factory=dict)

    def with_masks(self, masks: Tensor | None) -> Reference:
        """The reference under some masks; None for no dropout."""
        key = b"" if masks is None else masks.to(torch.bool).numpy().tobytes()
        if key not in self.known:
            self.known[key] = self.compute(self.case, self.stimulus, masks, self.seed)
        return self.known[key]


def draw_rounding(case: Case, seed: int) -> Callable[..., Tensor]:
    """`rounded(tensor, tf32=False, function=False, terms=1)`: 1 ± u times the tensor, signs drawn anew for every call.

    Not the nearest number of the dtype: luck must not make a case look exact.
    """
    generator = torch.Generator().manual_seed(seed)

    def rounded(tensor: Tensor, tf32: bool = False, function: bool = False, terms: int = 1) -> Tensor:
        u = function_roundoff(case.device, case.dtype) if function else unit_roundoff(case.dtype, tf32)
        u *= roundoffs_of_sum(terms, case)
        factors = torch.randint(0, 2, tensor.shape, generator=generator, dtype=torch.float64)
        # 1 + u (2 x - 1), in place: large tensors are not made five times.
        return tensor * factors.mul_(2).sub_(1).mul_(u).add_(1)

    return rounded


def sensitivity(moved: Iterable[Tensor], truth: Tensor) -> tuple[float, float]:
    """The root mean square of relative errors, in both norms, of a quantity that was moved some times."""
    sizes = _norms(truth)
    squares = np.square([_ratios(value, truth, sizes) for value in moved])
    norm_2, norm_inf = np.sqrt(squares.mean(axis=0))
    return float(norm_2), float(norm_inf)


def relative_errors(value: Tensor, truth: Tensor) -> tuple[float, float]:
    """‖x − x*‖₂ / ‖x*‖₂ and max|x − x*| / max|x*|, taken in float64; 0 / 0 is 0."""
    return _ratios(value, truth, _norms(truth))


def _ratios(value: Tensor, truth: Tensor, sizes: tuple[float, float]) -> tuple[float, float]:
    norm_2, norm_inf = _norms(value.double() - truth)
    return _ratio(norm_2, sizes[0]), _ratio(norm_inf, sizes[1])


def _norms(tensor: Tensor) -> tuple[float, float]:
    """Its 2-norm and its largest magnitude."""
    norm = torch.linalg.vector_norm
    return norm(tensor).item(), norm(tensor, torch.inf).item()


def _ratio(error: float, size: float) -> float:
    if error == 0:
        return 0.0
    return error / size if size else float("inf")
