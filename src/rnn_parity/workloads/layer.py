"""The recurrent layer alone: input and initial states in, output and final states out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rnn_parity.cells.base import load_cell
from rnn_parity.compare.criterion import layer_terms
from rnn_parity.compare.reference import References
from rnn_parity.compare.run import Role, RunResult, run_implementation
from rnn_parity.dropout.masks import draw_masks, mask_shape
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.parameters import canonical_gradients, gradient_sources
from rnn_parity.layers.registry import adapter_of
from rnn_parity.layers.running import call_layer
from rnn_parity.layers.stimulus import Stimulus, build_loaded, draw_stimulus
from rnn_parity.timing.calls import Calls, parameter_gradients, phase_calls
from rnn_parity.timing.peaks import measure_gemm
from rnn_parity.timing.roofline import least_bytes, matmul_flops, sequential_flops
from rnn_parity.workloads.base import ReferencedTask


class Layer:
    """The workload `layer`."""

    def draw(self, case: Case, seed: int) -> LayerTask:
        """Draw weights, input, states and cotangents."""
        return LayerTask(References(case, draw_stimulus(case, seed), seed))

    def phases(self, asked: Sequence[str]) -> Sequence[str]:
        """Those that are asked for."""
        return asked


class LayerTask(ReferencedTask):
    """A stimulus of a layer, with its references."""

    def quantities(self) -> list[str]:
        """Output, last states and every gradient; of states of zero, which nobody gives, there is none."""
        cell = load_cell(self.case.cell)
        taken = any(state.any() for state in self.stimulus.states)
        left_out = [] if taken else [f"grad_{state}" for state in cell.inputs()[1:]]
        return [quantity for quantity in cell.quantities(self.case.num_layers) if quantity not in left_out]

    def split(self, baseline: str, candidates: Sequence[str]) -> list[tuple[LayerTask, Sequence[str]]]:
        """Candidates that take no states, or all where the baseline takes none, are compared from states of zero."""

        def from_zero(name: str) -> bool:
            return adapter_of(name, self.case.cell).states == "none"

        of_zero = [name for name in candidates if from_zero(baseline) or from_zero(name)]
        others = [name for name in candidates if name not in of_zero]
        zero = replace(self.stimulus, states=tuple(map(torch.zeros_like, self.stimulus.states)))
        at_zero = LayerTask(References(self.case, zero, self.seed))
        return [(task, names) for task, names in ((self, others), (at_zero, of_zero)) if names]

    def draw_masks(self) -> Tensor | None:
        """Masks (G, T, B, H) between the layers."""
        return draw_masks(mask_shape(self.case), self.case.dropout, self.seed) if self.case.draws_dropout else None

    def run(self, implementation: str, role: Role, regime: str, masks: Tensor | None) -> RunResult:
        """Run a layer forward and backward; its role changes nothing."""
        return run_implementation(self.case, implementation, self.stimulus, self.seed, regime, masks)

    def terms(self, quantity: str) -> int:
        """As the criterion counts them."""
        return layer_terms(quantity, self.case, load_cell(self.case.cell))

    def compare_distributions(
        self, baseline: str, candidates: Sequence[str], num_draws: int
    ) -> Iterator[dict[str, Any]]:
        """Many draws of dropout beside each other."""
        if self.case.draws_dropout:
            from rnn_parity.dropout.distribution import distribution_rows  # scipy: half a second for this regime alone

            yield from distribution_rows(self.case, baseline, candidates, self.stimulus, num_draws, self.seed)

    def calls(self, implementation: str, role: Role, phase: str) -> Calls:
        """Build a layer, and what a phase asks of it; its role changes nothing."""
        stimulus = self._on_device
        module = build_loaded(self.case, implementation, stimulus)
        cell = load_cell(self.case.cell)
        given = (tensor.clone() for tensor in (stimulus.input, *stimulus.states))

        def gradients() -> Mapping[str, Tensor]:
            return canonical_gradients(module, parameter_gradients(gradient_sources(module).items()))

        return phase_calls(
            phase,
            module,
            lambda input, *states: call_layer(module, input, states),
            dict(zip(cell.inputs(), given, strict=True)),
            dict(zip(cell.outputs(), stimulus.cotangents, strict=True)),
            gradients,
        )

    def rates(self, phase: str) -> dict[str, Any]:
        """Operations and bytes of the case, and the rate of the product of one step."""
        case, cell = self.case, load_cell(self.case.cell)
        return {
            "flops": matmul_flops(case, cell, phase),
            "sequential_flops": sequential_flops(case, cell, phase),
            "least_bytes": least_bytes(case, cell, phase),
            "step_gemm_flops_per_s": self._step_rate,
        }

    @cached_property
    def _on_device(self) -> Stimulus:
        return self.stimulus.map(lambda tensor: tensor.to(self.case.device))

    @cached_property
    def _step_rate(self) -> float:
        case = self.case
        rows = len(load_cell(case.cell).gates) * case.hidden_size
        return measure_gemm(case.batch_size, case.hidden_size, rows, case.device, case.dtype)
