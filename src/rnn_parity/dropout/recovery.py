"""Recovering the dropout masks of a layer that draws them out of sight, by weights that make its output show them.

A kernel that draws inside itself, as cuDNN's does, takes no masks from us. Yet its randomness can be replayed, under
weights that turn the layer into a display. To show a gap, every layer below it is given positive numbers only, so that
all it emits is positive: an entry behind the gap is zero where dropped, and only there. The layer above the gap
reads entries as ±1 and every further one passes ±1 on, so that a 0 at the end tells what a later mask hides. No gate
acts anywhere: with r = z = 0, h' = tanh(W_in x + b_in).

Nothing is taken on trust, and no equation either, for the layer may be wrong. Every entry is shown at least twice,
under other weights, inputs and states and with the opposite sign, so that neither a constant nor a state that leaks
through can pass for a mask; and what is hidden must be what the later masks, recovered before, hide. What the masks
are says nothing of their law: one and the same mask at every step is recovered as such.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rnn_parity.dropout.masks import MaskLayout
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.parameters import copy_weights
from rnn_parity.layers.running import LightDispatchMode
from rnn_parity.layers.stimulus import Stimulus, build_loaded, draw_stimulus

GAIN = 256.0
"""Weight of a reading unit: also a kept entry that is scaled down, not up, saturates tanh. In range of float16."""
OFFSET = 8.0
"""What a reading unit shows of a dropped entry is tanh(−8) = −1 + 2e-7."""
CLOSED = -1000.0
"""Bias of a gate that shall be 0: σ is exactly 0 in every dtype."""
TOLERANCE = 1 / 8
"""How far from −1, 0 or 1 a display may be: how well a layer computes tanh is for the comparison to judge."""
COIN_TOSSES = 64
"""So many entries at least, over all replays, must have come out alike."""
MAX_PAIRS = 300
"""Pairs of replays per gap."""

_CUDNN = torch.ops.aten._cudnn_rnn.default
_DROPOUT_STATE = [argument.name for argument in _CUDNN._schema.arguments].index("dropout_state")


class Unrecoverable(RuntimeError):
    """The masks cannot be had; the message is the reason."""


@dataclass
class Replay(LightDispatchMode):
    """`with replay: module(...)` starts every run from the same randomness: `torch.manual_seed(seed)`, and cuDNN's.

    cuDNN keeps a state of its own in a tensor, an argument that every call advances in place. The first run's is put
    back in later runs. A torch that draws it anew after a seeding (CUDAGeneratorImpl::reset_rnn_state) needs it not,
    and is not disturbed by it.
    """

    seed: int
    _state: Tensor | None = field(default=None, init=False)
    _starts: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        super().__init__()

    def __enter__(self):
        """Seed torch's generators, which are left as the run leaves them."""
        torch.manual_seed(self.seed)
        self._starts = True
        return super().__enter__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Let every operator run; give the run's first call of cuDNN the state that the first run met."""
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

    torch's generators are left as they were. Raises `Unrecoverable` where the masks cannot be replayed or read, also
    where a later mask drops a whole row of units and so hides all that is behind it.
    """
    masks = torch.zeros(MaskLayout.of(case).shape, dtype=torch.float64)
    if case.num_layers == 1 or case.dropout == 1:  # nothing is drawn
        return masks
    with torch.random.fork_rng([torch.cuda.current_device()] if case.device == "cuda" else []):
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
    """The mask of the gap before those `later`."""
    if not later.any(-1).all():
        raise Unrecoverable("its dropout masks hide one another: one drops a whole row of units, and all behind it")
    kept = torch.full(MaskLayout.of(case).shape[1:], torch.nan, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    module.train()
    for pair in range(MAX_PAIRS):
        display = _Display.draw(case, len(later), generator)
        for run, turned in enumerate((display, replace(display, signs=-display.signs)), start=2 * pair):
            stimulus = turned.given(draw_stimulus(case, run))
            copy_weights(stimulus.weights, module)
            # Gradients are asked for as in the run that is to follow, lest the layer take another way without.
            input, h0 = (t.to(case.device).requires_grad_() for t in (stimulus.input, stimulus.h0))
            with replay:
                output, _ = module(input, h0)
            shown = turned.read(output.detach().double().cpu(), later)
            if ((shown != kept) & ~shown.isnan() & ~kept.isnan()).any():
                raise Unrecoverable("its output shows other dropout masks in another run under the same seed")
            kept = torch.where(kept.isnan(), shown, kept)
        if not kept.isnan().any() and (pair + 1) * kept.numel() >= COIN_TOSSES:
            return kept
    share = kept.isnan().double().mean().item()
    raise Unrecoverable(f"its dropout masks hide one another: {share:.1%} of one stay unseen in {2 * MAX_PAIRS} runs")


@dataclass(frozen=True)
class _Display:
    """How the M layers above a gap show it: each spreads the same K entries over its H units.

    Attributes:
        entries: which entries behind the gap are shown, and signs: what turns each into ±1 or ∓1.
        groups: the place in `entries` of what a unit carries, for every layer. Copies get through where one would not.
    """

    entries: Int[Tensor, " K"]
    signs: Float[Tensor, " K"]
    groups: Int[Tensor, "M H"]

    @classmethod
    def draw(cls, case: Case, later: int, generator: torch.Generator) -> _Display:
        """A random one. Carriers enough that one of each entry's is kept more often than not."""
        size = case.hidden_size
        shown = max(1, min(size, round(size * (1 - case.dropout)))) if later else size
        places = torch.stack([torch.randperm(size, generator=generator) for _ in range(later + 2)])
        signs = torch.randint(0, 2, (shown,), generator=generator, dtype=torch.float64) * 2 - 1
        return cls(places[0, :shown], signs, places[1:] % shown)

    def given(self, stimulus: Stimulus) -> Stimulus:
        """The stimulus turned into one that shows the gap."""
        # Below the gap all is positive, and biases of at least 1 keep the states above tanh(1).
        weights = {name: weight.double().abs() + name.startswith("bias") for name, weight in stimulus.weights.items()}
        layers, size = len(stimulus.h0), self.groups.shape[1]
        for layer in range(layers):
            weights[f"weight_ih_l{layer}"][: 2 * size] = 0.0
            weights[f"bias_ih_l{layer}"][: 2 * size] = CLOSED
        below = torch.arange(size)
        for layer, group in enumerate(self.groups, start=layers - len(self.groups)):
            reads_gap = layer == layers - len(self.groups)
            wanted = self.entries[group] if reads_gap else group
            signs = self.signs[group] if reads_gap else torch.ones(size)
            weights[f"weight_ih_l{layer}"][-size:] = GAIN * signs[:, None] * (wanted[:, None] == below)
            weights[f"bias_ih_l{layer}"][-size:] = -OFFSET * signs if reads_gap else 0.0
            weights[f"bias_hh_l{layer}"][-size:] = 0.0
            below = group
        return replace(stimulus, weights=weights, input=stimulus.input.abs(), h0=0.5 + stimulus.h0.abs() / 4)

    def read(self, output: Tensor, later: Float[Tensor, "R T B H"]) -> Float[Tensor, "T B H"]:
        """The mask that is shown, NaN where it is not."""
        if output.shape != later.shape[1:]:
            raise Unrecoverable(f"gives {tuple(output.shape)}, expected {tuple(later.shape[1:])}")
        places, last = torch.arange(len(self.entries)), self.groups[-1]
        visible = torch.ones(*output.shape[:2], len(places), dtype=torch.float64)
        for mask, group in zip(later, self.groups, strict=False):
            visible *= mask @ (group[:, None] == places).double() > 0
        visible, signs, entry = visible[..., last], self.signs[last], self.entries[last]
        shown = torch.full_like(output, torch.nan)
        shown[..., entry] = torch.where(visible > 0, (output * signs > 0).double(), torch.nan)
        # What was read must give back all that was shown.
        expected = visible * signs * (2 * shown[..., entry].nan_to_num() - 1)
        off = (output - expected).abs().flatten()
        if not (off <= TOLERANCE).all():
            worst = off.argmax()  # a NaN first
            values = f"{output.flatten()[worst]:.3g} where {expected.flatten()[worst]:.0f} belongs"
            raise Unrecoverable(f"its output shows no dropout masks between layers: {values}")
        return shown
