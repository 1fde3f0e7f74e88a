"""One case to rows: does each candidate compute what the baseline computes, forward and backward?

For every seed one stimulus is drawn, rounded to the case's dtype and given to all. In every regime the baseline and
each candidate run forward and backward, and every quantity is held against the float64 oracle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnn_parity import criterion, oracle
from rnn_parity.criterion import Verdict
from rnn_parity.dropout import Draws, MaskLayout, UnknownDraw, draw_masks, draws_out_of_sight
from rnn_parity.errors import InputError
from rnn_parity.execution import describe_error, numerics
from rnn_parity.grid import Case
from rnn_parity.stimulus import Stimulus, build_loaded, draw_stimulus
from rnn_parity.weights import canonical_parameters, canonical_shapes

SENSITIVITY_DRAWS = {True: 6, False: 2}
"""How often the oracle is moved, for a small case and for a large one."""
FORWARD_QUANTITIES = ("output", "hn")
DRAWS = 10_000
"""Dropout draws of `train_distribution`, unless it is told another number."""
_SMALL = 100_000  # numbers in the states of all steps of all layers


@dataclass
class Outcome:
    """What one implementation made of a stimulus: its quantities, or why there are none.

    Attributes:
        values: quantity to tensor, on the CPU. faults: quantity to (verdict, reason) where there is no tensor.
        draws: the dropout that was seen.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    faults: dict[str, tuple[Verdict, str]] = field(default_factory=dict)
    draws: Draws | None = None


@dataclass(frozen=True)
class Truth:
    """The oracle's quantities and, per quantity, its own sensitivity in the 2-norm and the maximum norm."""

    values: Mapping[str, Tensor]
    sensitivities: Mapping[str, tuple[float, float]]


def quantities(num_layers: int) -> list[str]:
    """Every compared tensor of a stacked GRU."""
    parameters = canonical_shapes(1, 1, num_layers)
    return [*FORWARD_QUANTITIES, "grad_input", "grad_h0", *(f"grad_{name}" for name in parameters)]


def compare_case(
    case: Case,
    baseline: str,
    candidates: Sequence[str],
    seeds: Sequence[int],
    regimes: Sequence[str],
    draws: int = DRAWS,
) -> Iterator[dict[str, Any]]:
    """Yield one row per seed × regime × candidate × quantity; a fault of an implementation is a row, never raised.

    `draws` are those of `train_distribution`. That regime has no rows where no dropout is drawn.
    """
    with numerics(case.threads, case.tf32):
        for seed in seeds:
            yield from compare_stimulus(case, draw_stimulus(case, seed), baseline, candidates, seed, regimes, draws)


def compare_stimulus(
    case: Case,
    stimulus: Stimulus,
    baseline: str,
    candidates: Sequence[str],
    seed: int,
    regimes: Sequence[str],
    draws: int = DRAWS,
) -> Iterator[dict[str, Any]]:
    """The rows of `compare_case` for one stimulus."""
    truths: dict[bytes, Truth] = {}
    for regime in regimes:
        if regime != "train_distribution":
            yield from _compare_regime(case, stimulus, truths, baseline, candidates, seed, regime)
        elif case.draws_dropout:
            from rnn_parity.distribution import distribution_rows  # scipy: half a second that no other regime needs

            context = {**case.columns, "baseline": baseline, "regime": regime, "seed": seed}
            for row in distribution_rows(case, baseline, candidates, stimulus, draws, seed):
                yield {**context, **row}


def relative_errors(value: Tensor, truth: Float[Tensor, ...]) -> tuple[float, float]:
    """‖x − x*‖₂ / ‖x*‖₂ and max|x − x*| / max|x*|, taken in float64; 0 / 0 is 0."""
    difference = value.double() - truth
    pairs = (
        (difference.norm().item(), truth.norm().item()),
        (difference.abs().max().item(), truth.abs().max().item()),
    )
    return tuple(0.0 if error == 0 else (error / size if size else float("inf")) for error, size in pairs)


def max_ulp_difference(a: Tensor, b: Tensor) -> float:
    """The largest number of representable values between corresponding entries; NaN if either holds one."""
    if a.isnan().any() or b.isnan().any():
        return float("nan")
    kinds = {2: (torch.int16, np.int16), 4: (torch.int32, np.int32), 8: (torch.int64, np.int64)}
    as_torch, as_numpy = kinds[a.element_size()]
    lowest = np.iinfo(as_numpy).min
    # Sign-magnitude floats, read as integers, are in order once the negative ones are mirrored.
    x, y = (t.contiguous().view(as_torch).numpy() for t in (a, b))
    x, y = (np.where(n < 0, lowest - n, n).astype(np.int64) for n in (x, y))
    # Differences of 64-bit patterns overflow int64 and are exact modulo 2⁶⁴.
    return float((np.maximum(x, y).view(np.uint64) - np.minimum(x, y).view(np.uint64)).max(initial=0))


def _compare_regime(
    case: Case,
    stimulus: Stimulus,
    truths: dict[bytes, Truth],
    baseline: str,
    candidates: Sequence[str],
    seed: int,
    regime: str,
) -> Iterator[dict[str, Any]]:
    masks = None
    if regime == "train_matched_masks" and case.draws_dropout:
        masks = draw_masks(MaskLayout.of(case), case.dropout, seed)
    of_baseline = run_implementation(case, baseline, stimulus, seed, regime, masks)
    applied = masks if masks is not None else _masks_of(case, of_baseline.draws)
    key = b"" if applied is None else applied.to(torch.bool).numpy().tobytes()
    if key not in truths:
        truths[key] = run_oracle(case, stimulus, applied, seed)
    for name in candidates:
        of_candidate = run_implementation(case, name, stimulus, seed, regime, masks)
        context = {**case.columns, "baseline": baseline, "candidate": name, "regime": regime, "seed": seed}
        agreement, why = _mask_agreement(of_baseline.draws, of_candidate.draws)
        for quantity in quantities(case.num_layers):
            row = compare_quantity(case, quantity, truths[key], of_baseline, of_candidate)
            if row["verdict"] == Verdict.DIFFERENT and why:
                row["reason"] = why if agreement < 1 else f"{row['reason']}; {why}"
            yield {**context, **row, "mask_agreement": agreement}


def run_implementation(
    case: Case, name: str, stimulus: Stimulus, seed: int, regime: str, masks: Tensor | None
) -> Outcome:
    """Run one implementation forward and backward under a regime. Everything it raises becomes a fault in the outcome.

    In training `torch.manual_seed(seed)` comes right before the forward; `masks` (G, T, B, H), where given, replace
    every dropout draw. Raises `InputError` only for an implementation that cannot be built at all.
    """
    outcome = Outcome()
    every = quantities(case.num_layers)
    try:
        module = build_loaded(case, name, stimulus).train(regime != "eval")
        input, h0 = (t.to(case.device).requires_grad_() for t in (stimulus.input.clone(), stimulus.h0.clone()))
        outcome.draws = Draws(MaskLayout.of(case), masks) if case.draws_dropout and regime != "eval" else None
        torch.manual_seed(seed)
        if outcome.draws is None:
            output, hn = module(input, h0)
        else:
            with outcome.draws:
                output, hn = module(input, h0)
        for quantity, value, like in (("output", output, stimulus.cotangents[0]), ("hn", hn, stimulus.h0)):
            _record(outcome, quantity, value, like)
        if masks is not None and not outcome.draws.drawn and draws_out_of_sight(lambda: module(input, h0)[0]):
            reason = "its dropout masks are drawn inside one kernel, where they cannot be set"
            outcome.values.clear()
            outcome.faults |= {quantity: (Verdict.UNSUPPORTED, reason) for quantity in every}
            return outcome
    except InputError:
        raise
    except UnknownDraw as error:
        outcome.faults |= {quantity: (Verdict.UNSUPPORTED, str(error)) for quantity in every}
        return outcome
    except Exception as error:  # whatever an implementation under test raises is a result
        outcome.faults |= {quantity: describe_error(error) for quantity in every}
        return outcome
    if "output" in outcome.values and "hn" in outcome.values:
        _run_backward(case, module, (input, h0), (output, hn), stimulus, outcome)
    else:
        outcome.faults |= {q: (Verdict.FAILED, "the forward pass gave no usable output") for q in every[2:]}
    return outcome


def run_oracle(case: Case, stimulus: Stimulus, masks: Tensor | None, seed: int) -> Truth:
    """The oracle's quantities, and how far one rounding of all it is given and all it keeps moves them.

    A quantity of few numbers takes more draws, lest luck make it look better conditioned than it is.
    """
    generator = torch.Generator().manual_seed(seed)
    size = case.num_layers * case.sequence_length * case.batch_size * max(case.input_size, case.hidden_size)

    def run(stimulus: Stimulus, rounding: oracle.Rounding | None) -> dict[str, Tensor]:
        given = stimulus.input, stimulus.h0, stimulus.weights, stimulus.cotangents
        return oracle.stacked_gru(*given, masks, case.dropout, rounding)

    def rounded(tensor: Tensor, tf32: bool = False) -> Tensor:
        """1 ± u times the tensor, and not the nearest number of the dtype: luck must not make a case look exact."""
        signs = torch.randint(0, 2, tensor.shape, generator=generator, dtype=torch.float64) * 2 - 1
        return tensor * (1 + criterion.unit_roundoff(case.dtype, tf32) * signs)

    def given(tensor: Tensor) -> Tensor:
        return rounded(tensor.expand(SENSITIVITY_DRAWS[size <= _SMALL], *tensor.shape), case.tf32)

    exact = stimulus.map(Tensor.double)
    values, draws = run(exact, None), exact.map(given)
    # Side by side, small runs share what every operator costs; large ones would only take more memory.
    if size <= _SMALL:
        moved = run(draws, rounded)
    else:
        parts = [run(draws.map(itemgetter(k)), rounded) for k in range(len(draws.input))]
        moved = {quantity: torch.stack([part[quantity] for part in parts]) for quantity in values}
    sensitivities = {}
    for quantity, truth in values.items():
        squares = np.square([relative_errors(value, truth) for value in moved[quantity]])
        sensitivities[quantity] = tuple(float(s) for s in np.sqrt(squares.mean(axis=0)))
    return Truth(values, sensitivities)


def _masks_of(case: Case, draws: Draws | None) -> Tensor | None:
    """The masks that an implementation applied by itself; None for no dropout, or none that can be seen."""
    if draws is not None and case.dropout == 1:  # everything is dropped, so nothing is drawn
        return torch.zeros(draws.layout.shape, dtype=torch.float64)
    return draws and draws.assembled()


def _run_backward(case: Case, module: nn.Module, inputs, outputs, stimulus: Stimulus, outcome: Outcome) -> None:
    """Gradients of ⟨C_output, output⟩ + ⟨C_hn, hn⟩ with respect to the inputs and every parameter."""
    parameters = canonical_parameters(module)
    given = {"input": inputs[0], "h0": inputs[1]}
    given |= {name: parameters[name] for name in stimulus.weights}
    sources = [
        (value, cotangent.to(case.device))
        for value, cotangent in zip(outputs, stimulus.cotangents, strict=True)
        if value.requires_grad
    ]
    try:
        gradients = [None] * len(given)
        if sources:
            values, cotangents = zip(*sources, strict=True)
            gradients = torch.autograd.grad(values, list(given.values()), cotangents, allow_unused=True)
    except Exception as error:  # as in the forward pass
        outcome.faults |= {f"grad_{name}": describe_error(error) for name in given}
        return
    for (name, tensor), gradient in zip(given.items(), gradients, strict=True):
        # No gradient is a gradient of zero, and is judged as one.
        gradient = torch.zeros_like(tensor) if gradient is None else gradient
        _record(outcome, f"grad_{name}", gradient, tensor)


def _record(outcome: Outcome, quantity: str, value: Tensor, like: Tensor) -> None:
    if value.shape == like.shape and value.dtype == like.dtype:
        outcome.values[quantity] = value.detach().cpu()
    else:
        got, expected = (f"{tuple(t.shape)} {t.dtype}" for t in (value, like))
        outcome.faults[quantity] = (Verdict.DIFFERENT, f"gives {got}, expected {expected}")


def _mask_agreement(baseline: Draws | None, candidate: Draws | None) -> tuple[float, str]:
    """The share of mask entries both drew alike, and what they drew where that was not the same; NaN if unseen."""
    if baseline is None or candidate is None:
        return float("nan"), ""
    drew = f"the baseline drew {baseline.describe()}, the candidate {candidate.describe()}"
    ours, theirs = baseline.assembled(), candidate.assembled()
    if ours is None or theirs is None:
        return float("nan"), f"dropout masks: {drew}"
    agreement = (ours == theirs).double().mean().item()
    return agreement, f"{1 - agreement:.0%} of the dropout masks' entries differ: {drew}" if agreement < 1 else ""


def compare_quantity(
    case: Case, quantity: str, truth: Truth, of_baseline: Outcome, of_candidate: Outcome
) -> dict[str, Any]:
    """Judge one quantity of a candidate: the columns of a row that are its own."""
    row: dict[str, Any] = {"quantity": quantity}
    for who, outcome in (("", of_candidate), ("baseline: ", of_baseline)):
        if quantity in outcome.faults:
            verdict, reason = outcome.faults[quantity]
            return {**row, "verdict": verdict, "reason": f"{who}{reason}"}
    ours, theirs = of_baseline.values[quantity], of_candidate.values[quantity]
    u = criterion.unit_roundoff(case.dtype, case.tf32)
    floor = criterion.roundoff_floor(quantity, case)
    errors, baseline_errors = (relative_errors(value, truth.values[quantity]) for value in (theirs, ours))
    sensitivities = truth.sensitivities[quantity]
    bit_identical = torch.equal(ours, theirs)
    verdict, reason, ratio = criterion.judge(
        errors=errors,
        baseline_errors=baseline_errors,
        sensitivities=sensitivities,
        floor=floor,
        u=u,
        bit_identical=bit_identical,
    )
    limits = [criterion.limit(sensitivity, floor) for sensitivity in sensitivities]
    row |= {"verdict": verdict, "reason": reason, "ratio": ratio, "bit_identical": bit_identical}
    row |= {"max_abs_diff": (ours.double() - theirs.double()).abs().max().item()}
    row |= {"max_ulp_diff": max_ulp_difference(ours, theirs)}
    pairs = {"error": errors, "baseline_error": baseline_errors, "sensitivity": sensitivities, "limit": limits}
    row |= {f"{name}_{norm}": pair[i] for name, pair in pairs.items() for i, norm in enumerate(("2", "inf"))}
    row |= {"allclose_default": torch.allclose(theirs, ours), "assert_close_default": _assert_close(theirs, ours)}
    return row


def _assert_close(actual: Tensor, expected: Tensor) -> bool:
    try:
        torch.testing.assert_close(actual, expected)
    except AssertionError:
        return False
    return True
