"""Recovering the dropout masks of a layer that draws them out of sight, by weights that make its output show them.

A kernel that draws inside itself, as cuDNN's does, takes no masks from us. Yet its randomness can be replayed, under
weights that turn the layer into a display. To show a gap, every layer below it is given positive numbers only, so that
all it emits is positive: an entry behind the gap is zero where dropped, and only there. The layer above the gap reads
entries as ±1 and every further one passes ±1 on, so that a 0 at the end marks an entry hidden by a later mask. Biases
close every gate but one, as the kind of cell says, and that one reads no state: a new state depends on its x alone.

The layer may be wrong, so every entry is read at least twice, with different weights, inputs and states and with the
opposite sign: neither a constant nor a leaking state can pass for a mask. The hidden entries must be those that the
later masks, recovered before, hide. Recovery does not test the law of the masks: one mask for all steps is recovered.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rnn_parity.cells.base import Arithmetic, Cell, load_cell
from rnn_parity.dropout.masks import mask_shape
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.parameters import copy_weights
from rnn_parity.layers.running import LightDispatchMode, call_layer, generators_kept, seed_generators
from rnn_parity.layers.stimulus import Stimulus, build_loaded, draw_stimulus

GAIN = 256.0
"""Weight of a reading unit: also a kept entry that is scaled down, not up, saturates tanh. In range of float16."""
OFFSET = 8.0
"""A reading unit shows a dropped entry as tanh(−8) = −1 + 2e-7."""
TOLERANCE = 1 / 8
"""The largest distance of a display from what it shall show; the accuracy of the layer is judged elsewhere."""
COIN_TOSSES = 64
"""The least number of entries, over all replays, that must come out alike."""
MAX_PAIRS = 300
"""Pairs of replays per gap."""

_CUDNN = torch.ops.aten._cudnn_rnn.default
_DROPOUT_STATE = [argument.name for argument in _CUDNN._schema.arguments].index("dropout_state")


class Unrecoverable(RuntimeError):
    """The masks cannot be recovered; the message is the reason."""


@dataclass
class Replay(LightDispatchMode):
    """`with replay: module(...)` starts every run from the same randomness: `torch.manual_seed(seed)`, and cuDNN's.

    cuDNN keeps a state of its own in a tensor, an argument that every call advances in place. Later runs get the state
    of the first run back. A torch that draws the state anew after a seeding (CUDAGeneratorImpl::reset_rnn_state) is not
    disturbed by this. A layer that computes something else while it is watched is seeded alone.
    """

    seed: int
    watches: bool = True
    _state: Tensor | None = field(default=None, init=False)
    _starts: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        super().__init__()

    def __enter__(self):
        """Seed torch's generators. They are not restored afterwards."""
        seed_generators(self.seed)
        self._starts = True
        return super().__enter__() if self.watches else self

    def __exit__(self, *raised):
        """End the run."""
        if self.watches:
            super().__exit__(*raised)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run every operator; give the run's first call of cuDNN the state of the first run."""
        state = args[_DROPOUT_STATE] if func is _CUDNN else None
        if state is not None and self._starts:
            self._starts = False
            if self._state is None:
                self._state = state.clone()
            else:
                state.copy_(self._state)
        return func(*args, **(kwargs or {}))


def recover_masks(case: Case, name: str, replay: Replay) -> Float[Tensor, "G T B H"]:
    """The masks that the implementation `name` applies in training under `replay`, in float64 on the CPU.

    torch's generators are left as they were. Raises `Unrecoverable` where the masks cannot be replayed or read, or
    where a later mask drops every unit of a row, which hides the earlier masks.
    """
    masks = torch.zeros(mask_shape(case), dtype=torch.float64)
    if case.num_layers == 1 or case.dropout == 1:  # nothing is drawn
        return masks
    with generators_kept(case.device):
        # Where hardly anything is dropped, all masks are alike, replayed or not; with p = 1/2 they are not.
        even = replace(case, dropout=0.5)
        _recover_gap(even, build_loaded(even, name, draw_stimulus(even, 0)), replay, masks[:0])
        module = build_loaded(case, name, draw_stimulus(case, 0))
        for gap in reversed(range(len(masks))):
            masks[gap] = _recover_gap(case, module, replay, masks[gap + 1 :])
    return masks


def _recover_gap(
    case: Case, module: nn.Module, replay: Replay, later: Float[Tensor, "R T B H"]
) -> Float[Tensor, "T B H"]:
    """The mask of the gap before the `later` ones, which are known."""
    if not later.any(-1).all():
        raise Unrecoverable(
            "cannot recover the dropout masks: a later mask drops every unit of a row, which hides the earlier masks"
        )
    kept = torch.full(mask_shape(case)[1:], torch.nan, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    module.train()
    for pair in range(MAX_PAIRS):
        display = _Display.draw(case, len(later), generator)
        for run, turned in enumerate((display, replace(display, signs=-display.signs)), start=2 * pair):
            stimulus = turned.applied_to(draw_stimulus(case, run))
            copy_weights(stimulus.weights, module)
            # The compared run asks for gradients; without them the layer might take another path.
            input, *states = (t.to(case.device).requires_grad_() for t in (stimulus.input, *stimulus.states))
            with replay:
                output, *_ = call_layer(module, input, states)
            shown = turned.read(output.detach().double().cpu(), later)
            if ((shown != kept) & ~shown.isnan() & ~kept.isnan()).any():
                raise Unrecoverable("its output shows other dropout masks in another run under the same seed")
            kept = torch.where(kept.isnan(), shown, kept)
        if not kept.isnan().any() and (pair + 1) * kept.numel() >= COIN_TOSSES:
            return kept
    percent = 100 * kept.isnan().double().mean().item()
    runs = 2 * MAX_PAIRS
    raise Unrecoverable(f"cannot recover the dropout masks: later masks hide {percent:.1f} % of one in all {runs} runs")


@dataclass(frozen=True)
class _Display:
    """How the M layers above a gap show it: each spreads the same K entries over its H units.

    Attributes:
        cell: the kind. entries: the shown entries behind the gap. signs: ±1 for each, which turns it into ±1 or ∓1.
        groups: for every layer and unit, the index in `entries` that the unit carries. An entry has several carriers,
            so that one of them is kept.
    """

    cell: type[Cell]
    entries: Int[Tensor, " K"]
    signs: Float[Tensor, " K"]
    groups: Int[Tensor, "M H"]

    @classmethod
    def draw(cls, case: Case, later: int, generator: torch.Generator) -> _Display:
        """Draw a display, with so many carriers that one of each entry's is kept more often than not."""
        size = case.hidden_size
        shown = max(1, min(size, round(size * (1 - case.dropout)))) if later else size
        units = torch.stack([torch.randperm(size, generator=generator) for _ in range(later + 2)])
        signs = torch.randint(0, 2, (shown,), generator=generator, dtype=torch.float64) * 2 - 1
        return cls(load_cell(case.cell), units[0, :shown], signs, units[1:] % shown)

    @property
    def shown_size(self) -> float:
        """The size of the state after a closed step whose open gate saturates."""
        x = torch.tensor([[self.cell.closed.get(gate, torch.inf) for gate in self.cell.gates]], dtype=torch.float64)
        nothing = torch.zeros(1, 1, dtype=torch.float64)
        weight = torch.zeros(len(self.cell.gates), 1, dtype=torch.float64)
        states, _ = self.cell.forward(x, (nothing,) * len(self.cell.states), weight, torch.zeros_like(x), Arithmetic())
        return states[0].item()

    def applied_to(self, stimulus: Stimulus) -> Stimulus:
        """The stimulus turned into one that shows the gap."""
        # Below the gap all is positive, and biases of at least 1 keep the states above tanh(1).
        weights = {name: weight.double().abs() for name, weight in stimulus.weights.items()}
        weights |= {name: weight + 1 for name, weight in weights.items() if name.startswith("bias")}
        layers, size = len(stimulus.states[0]), self.groups.shape[1]
        rows = {gate: slice(size * at, size * (at + 1)) for at, gate in enumerate(self.cell.gates)}
        (reading,) = (rows.pop(gate) for gate in self.cell.gates if gate not in self.cell.closed)
        for layer in range(layers):
            weights[f"weight_hh_l{layer}"][reading] = 0.0
            for gate, of_gate in rows.items():
                weights[f"weight_ih_l{layer}"][of_gate] = 0.0
                weights[f"bias_ih_l{layer}"][of_gate] = self.cell.closed[gate]
        below = torch.arange(size)
        for layer, group in enumerate(self.groups, start=layers - len(self.groups)):
            reads_gap = layer == layers - len(self.groups)
            read = self.entries[group] if reads_gap else group
            signs = self.signs[group] if reads_gap else torch.ones(size)
            weights[f"weight_ih_l{layer}"][reading] = GAIN * signs[:, None] * (read[:, None] == below)
            weights[f"bias_ih_l{layer}"][reading] = -OFFSET * signs if reads_gap else 0.0
            weights[f"bias_hh_l{layer}"][reading] = 0.0
            below = group
        states = tuple(0.5 + state.abs() / 4 for state in stimulus.states)
        return replace(stimulus, weights=weights, input=stimulus.input.abs(), states=states)

    def read(self, output: Tensor, later: Float[Tensor, "R T B H"]) -> Float[Tensor, "T B H"]:
        """Read the mask from an output (T, B, H); NaN where it is not shown."""
        if output.shape != later.shape[1:]:
            raise Unrecoverable(f"gives {tuple(output.shape)}, expected {tuple(later.shape[1:])}")
        shown_entries, last = torch.arange(len(self.entries)), self.groups[-1]
        visible = torch.ones(*output.shape[:2], len(shown_entries), dtype=torch.float64)
        for mask, group in zip(later, self.groups, strict=False):
            visible *= mask @ (group[:, None] == shown_entries).double() > 0
        visible, signs, entry = visible[..., last], self.signs[last], self.entries[last]
        shown = torch.full_like(output, torch.nan)
        shown[..., entry] = torch.where(visible > 0, (output * signs > 0).double(), torch.nan)
        # The output must follow from the mask.
        expected = self.shown_size * visible * signs * (2 * shown[..., entry].nan_to_num() - 1)
        error = (output - expected).abs().flatten()
        if not (error <= TOLERANCE).all():
            worst = error.argmax()  # a NaN first
            values = f"{output.flatten()[worst]:.3g} where {expected.flatten()[worst]:.3g} is expected"
            raise Unrecoverable(f"its output shows no dropout masks between layers: {values}")
        return shown
