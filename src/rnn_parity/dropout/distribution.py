"""The regime `train_distribution`: do two layers give the same law of outputs over many dropout draws?

Masks drawn inside one kernel, as cuDNN draws them, cannot be given to another layer. Then only distributions can be
compared. One row of the stimulus is repeated along the batch, so that in training every row is a draw of its own. The
means of a few statistics over these draws are compared by Hotelling's two-sample T² (1931).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import f as f_distribution
from torch import Tensor

from rnn_parity.cells.base import load_cell
from rnn_parity.dropout.masks import DropoutRecorder, dependence
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict, because_of_baseline, coarsest_roundoff
from rnn_parity.layers.running import call_layer, classify_exception, numerics, seed_generators
from rnn_parity.layers.stimulus import Stimulus, build_loaded, draw_stimulus
from rnn_parity.statistics import wilson

FALSE_ALARMS = 1e-3
"""How often two right layers may be called different in a case, over all its statistics (Bonferroni)."""

ROUNDING = 4.0
"""The largest shift of the mean of a state by different rounding, in unit roundoffs of its size; 1.6 was measured."""

ROUNDING_CORRELATION = 0.25
"""The largest correlation of rounding errors with the deviation of the state; 0.1 was measured."""

PILOT_DRAWS = 256
"""Draws of the baseline that give the centre of all deviations."""

DRAWS_PER_FEATURE = 10
"""A covariance matrix needs more draws than features: wider layers are projected down to draws / 10 features."""

CHUNK_BYTES = 32 * 2**20
"""The largest input or output of one forward pass, in float64."""


class UnusableOutput(RuntimeError):
    """The output has another shape or dtype than expected."""


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of a statistic's K features over draws; `average` is its mean over units, for people."""

    draws: int
    mean: Float[Tensor, " K"]
    covariance: Float[Tensor, "K K"]
    average: float


@dataclass(frozen=True)
class TwoSampleTest:
    """Two samples of one statistic compared.

    Attributes:
        distance: √T², in standard errors, all features together. limit: the largest that passes.
        reason: in plain words; empty when it passes.
    """

    distance: float
    limit: float
    reason: str

    @property
    def ratio(self) -> float:
        """Distance over limit."""
        return self.distance / self.limit

    @property
    def verdict(self) -> Verdict:
        """`equivalent` says that no difference was found."""
        return Verdict.DIFFERENT if self.reason else Verdict.EQUIVALENT


def distribution_rows(
    case: Case, baseline: str, candidates: Sequence[str], stimulus: Stimulus, draws: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield one row per candidate × statistic; an error of an implementation is a row, never raised.

    Every implementation draws from a seed of its own: a two-sample test needs independent samples. Without successive
    steps (T = 1) or layers (L = 1) there is no row for their covariance. `draws` is at least 2, better 1,000.
    """
    pilot_seed, *seeds = np.random.SeedSequence(seed).generate_state(2 + len(candidates)).tolist()
    of_baseline: Any = None
    pilot, no_baseline = _attempt(draw_pilot, case, baseline, stimulus, pilot_seed)
    if no_baseline is None:
        centre, roundoffs = pilot
        of_baseline, no_baseline = _attempt(draw_moments, case, baseline, stimulus, draws, seeds[0], centre)
    for name, own_seed in zip(candidates, seeds[1:], strict=True):
        if no_baseline is not None:
            judged = dict.fromkeys(statistics_of(case), (*because_of_baseline(*no_baseline), math.inf))
        else:
            of_candidate, failure = _attempt(draw_moments, case, name, stimulus, draws, own_seed, centre)
            if failure is None:
                tests = compare_distributions(of_baseline, of_candidate, roundoffs)
                named = {"the baseline's own": baseline, "its own": name}
                why = (
                    _of_masks(case, stimulus, named, pilot_seed) if any(test.reason for test in tests.values()) else ""
                )
                judged = {
                    quantity: (test.verdict, test.reason and test.reason + why, test.ratio)
                    for quantity, test in tests.items()
                }
            else:
                judged = dict.fromkeys(statistics_of(case), (*failure, math.inf))
        for quantity, (verdict, reason, ratio) in judged.items():
            row = {"implementation": name, "quantity": quantity, "verdict": verdict, "reason": reason}
            yield {**row, "ratio": ratio, "bit_identical": False}


def detection_power(
    case: Case, baseline: str, candidates: Sequence[str], draws: int, trials: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield for each candidate the number of `trials` in which it is called different, each with its own stimulus.

    `share` has a Wilson 95 % interval. For a right candidate it is the share of false alarms.
    """
    detections = dict.fromkeys(candidates, 0)
    with numerics(case.threads, case.tf32):
        for trial in range(seed, seed + trials):
            rows = distribution_rows(case, baseline, candidates, draw_stimulus(case, trial), draws, trial)
            for name in {row["implementation"] for row in rows if row["verdict"] == Verdict.DIFFERENT}:
                detections[name] += 1
    for name, count in detections.items():
        low, high = wilson(count, trials)
        row = {"implementation": name, "draws": draws, "trials": trials, "detections": count, "share": count / trials}
        yield {**row, "share_ci_low": low, "share_ci_high": high}


def statistics_of(case: Case) -> list[str]:
    """The compared statistics; each is a `quantity` of the table.

    Variances and covariances are about the baseline's mean. A covariance is that of a unit with itself, between
    successive steps of output or successive layers of a last state; there is none where there is one step or layer.
    """
    found = []
    for quantity in load_cell(case.cell).outputs():
        found += [f"{quantity}_mean", f"{quantity}_variance"]
        if (case.sequence_length if quantity == "output" else case.num_layers) > 1:
            found.append(f"{quantity}_covariance")
    return found


def draw_pilot(case: Case, name: str, stimulus: Stimulus, seed: int) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Per quantity the mean (T or L, 1, H) over a pilot, in float64, and one unit roundoff of a state of its size.

    Any fixed point near the mean would do. A bounded state lies within its bound, or within what it starts from where
    that is more; of one without a bound the pilot's largest is taken.
    """
    sums: dict[str, Any] = {}
    cell = load_cell(case.cell)
    of_quantity = dict(zip(cell.outputs(), (cell.states[0], *cell.states), strict=True))
    largest = dict(zip(cell.states, (state.abs().max().item() for state in stimulus.states), strict=True))
    for values in _run(case, name, stimulus, PILOT_DRAWS, seed):
        for quantity, value in values.items():
            sums[quantity] = sums.get(quantity, 0) + value.sum(dim=1, keepdim=True)
            state = of_quantity[quantity]
            bound = cell.bounds[state]
            largest[state] = max(largest[state], value.abs().max().item() if bound is None else bound)
    u = coarsest_roundoff(case.device, case.dtype, case.tf32)
    roundoffs = {quantity: u * largest[state] for quantity, state in of_quantity.items()}
    return {quantity: total / PILOT_DRAWS for quantity, total in sums.items()}, roundoffs


def draw_moments(
    case: Case, name: str, stimulus: Stimulus, draws: int, seed: int, centre: Mapping[str, Tensor]
) -> dict[str, Moments]:
    """The moments of every statistic over `draws` rows, of one implementation from one seed.

    Raises every error of the implementation, and `UnusableOutput`.
    """
    sums: dict[str, list[Tensor]] = {}
    for found in _run(case, name, stimulus, draws, seed):
        for statistic, values in summarise({name: value - centre[name] for name, value in found.items()}).items():
            features = project(values, draws)
            parts = features.sum(dim=0), features.T @ features, values.mean(dim=1).sum()
            before = sums.get(statistic, [torch.zeros(())] * 3)
            sums[statistic] = [a + b.cpu() for a, b in zip(before, parts, strict=True)]
    origin = {f"{quantity}_mean": value.mean().item() for quantity, value in centre.items()}
    moments = {}
    for statistic, (total, products, average) in sums.items():
        mean = total / draws
        covariance = (products - draws * torch.outer(mean, mean)) / (draws - 1)
        moments[statistic] = Moments(draws, mean, covariance, average.item() / draws + origin.get(statistic, 0.0))
    return moments


def summarise(deviations: Mapping[str, Float[Tensor, "S n H"]]) -> dict[str, Float[Tensor, "n H"]]:
    """Every statistic of every row and unit, from deviations d: means over s of d_s, of d_s² and of d_s·d_{s+1}.

    s counts the steps of output and the layers of a last state.
    """
    summaries = {}
    for quantity, d in deviations.items():
        summaries[f"{quantity}_mean"] = d.mean(dim=0)
        summaries[f"{quantity}_variance"] = d.square().mean(dim=0)
        if len(d) > 1:
            summaries[f"{quantity}_covariance"] = (d[1:] * d[:-1]).mean(dim=0)
    return summaries


def project(values: Float[Tensor, "n H"], draws: int) -> Float[Tensor, "n K"]:
    """At most draws / 10 features: the units themselves, or sums over units with fixed random signs, over √H."""
    units, features = values.shape[1], max(1, draws // DRAWS_PER_FEATURE)
    if units <= features:
        return values
    signs = torch.randint(0, 2, (units, features), generator=torch.Generator().manual_seed(0)) * 2 - 1
    return values @ (signs / units**0.5).to(values)


def compare_distributions(
    baseline: Mapping[str, Moments], candidate: Mapping[str, Moments], roundoffs: Mapping[str, float]
) -> dict[str, TwoSampleTest]:
    """Compare every statistic, at a level that keeps the false alarms of all together below `FALSE_ALARMS`.

    Args:
        roundoffs: per quantity, unit roundoff times the size of a state. A state is wrong by some κ, 4 of it, and its
            variance σ² thereby by some κ·(ρσ + κ), ρ being the correlation of rounding errors with the state.
    """
    compared = {}
    for statistic, ours in baseline.items():
        quantity, kind = statistic.split("_")
        kappa = ROUNDING * roundoffs[quantity]
        spread = max(moments[f"{quantity}_variance"].average for moments in (baseline, candidate))
        slack = kappa if kind == "mean" else kappa * (ROUNDING_CORRELATION * math.sqrt(max(spread, 0.0)) + kappa)
        compared[statistic] = compare(statistic, ours, candidate[statistic], slack, FALSE_ALARMS / len(baseline))
    return compared


def compare(statistic: str, ours: Moments, theirs: Moments, slack: float, level: float) -> TwoSampleTest:
    """Hotelling's two-sample T² = δᵀ(Σ/n + Σ'/n' + τ²)⁻¹δ of the difference δ of two means, against the F law.

    The slack τ is the largest shift of a mean by rounding. It enters as a variance. So rounding alone stays below the
    limit in a direction without variance, and with any number of draws.
    """
    features, freedom = len(ours.mean), ours.draws + theirs.draws - 2
    scale = freedom * features / (freedom - features + 1)
    limit = math.sqrt(scale * f_distribution.isf(level, features, freedom - features + 1))
    name = statistic.replace("_", " ")
    for who, moments in (("the baseline's ", ours), ("", theirs)):
        if not (moments.mean.isfinite().all() and moments.covariance.isfinite().all()):
            return TwoSampleTest(math.inf, limit, f"{who}{name} is not finite: there is NaN or infinity")
    difference = theirs.mean - ours.mean
    covariance = ours.covariance / ours.draws + theirs.covariance / theirs.draws
    # Where there are fewer masks than units the matrix is singular; the second term is far above its own roundoff.
    ridge = slack**2 + 1e-9 * covariance.diagonal().mean().item()
    squared = difference @ torch.linalg.solve(covariance + ridge * torch.eye(features, dtype=torch.float64), difference)
    distance = math.sqrt(max(squared.item(), 0.0))
    digits = next((n for n in range(4, 12) if f"{ours.average:.{n}g}" != f"{theirs.average:.{n}g}"), 4)
    found, expected = (f"{moments.average:.{digits}g}" for moments in (theirs, ours))
    reason = (
        f"{name} is {found} and the baseline's {expected} (average over units); with all units "
        f"together {distance:.1f} standard errors apart over {theirs.draws:,} draws, limit {limit:.1f}"
    )
    return TwoSampleTest(distance, limit, reason if distance > limit else "")


def _run(case: Case, name: str, stimulus: Stimulus, draws: int, seed: int) -> Iterator[dict[str, Tensor]]:
    """Output and last states of `draws` copies of the stimulus' first row, in float64, a chunk of rows at a time."""
    module = build_loaded(case, name, stimulus).train()
    given = [tensor[:, :1].to(case.device) for tensor in (stimulus.input, *stimulus.states)]
    row_bytes = 8 * max(case.sequence_length, case.num_layers) * max(case.input_size, case.hidden_size)
    rows = max(1, CHUNK_BYTES // row_bytes)
    seed_generators(seed)
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        with torch.no_grad():
            input, *states = (tensor.expand(-1, count, -1).contiguous() for tensor in given)
            found = dict(zip(load_cell(case.cell).outputs(), call_layer(module, input, states), strict=True))
        for quantity, value in found.items():
            steps = case.sequence_length if quantity == "output" else case.num_layers
            shape = steps, count, case.hidden_size
            if value.shape != shape or value.dtype != input.dtype:
                got, wanted = f"{tuple(value.shape)} {value.dtype}", f"{shape} {input.dtype}"
                raise UnusableOutput(f"{quantity} is {got}, expected {wanted}")
        yield {quantity: value.double() for quantity, value in found.items()}


def _of_masks(case: Case, stimulus: Stimulus, named: Mapping[str, str], seed: int) -> str:
    """What the masks that can be seen say of the cause, to stand behind a reason: whose, and how they depend."""

    def record(name: str) -> str:
        with DropoutRecorder() as recorder:
            for _ in _run(case, name, stimulus, PILOT_DRAWS, seed):
                pass
        return dependence(recorder.drawn)

    found = [(whose, _attempt(record, name)[0]) for whose, name in named.items()]
    return "".join(f"; in {whose} masks {said}" for whose, said in found if said)


def _attempt(run: Callable[..., Any], *arguments: Any) -> tuple[Any, tuple[Verdict, str] | None]:
    """The result of `run` and None; or None, and the verdict and reason of the error that it raised."""
    try:
        return run(*arguments), None
    except InputError:
        raise
    except UnusableOutput as error:
        return None, (Verdict.DIFFERENT, str(error))
    except Exception as error:  # an implementation under test may raise anything
        return None, classify_exception(error)
