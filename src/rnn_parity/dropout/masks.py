"""Seeing and fixing the dropout masks that an unmodified module draws.

`nn.GRU` draws one mask per gap between layers for the whole sequence, (T, B, H); a loop over cells draws one (B, H) per
step and gap. So the same seed gives both the same stream of numbers, and each deals it out in another order. A
`TorchDispatchMode` stands below autograd and sees every draw, also those made inside `aten::gru`; only kernels that
draw inside themselves (cuDNN's) stay opaque.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import LightDispatchMode

aten = torch.ops.aten
_IN_PLACE = (aten.bernoulli_.float, aten.bernoulli_.Tensor)
_OUT_OF_PLACE = (aten.bernoulli.default, aten.bernoulli.p)
_FUSED = (aten.native_dropout.default,)  # nn.Dropout and aten::gru call it on CUDA


_MOST_SEEDS, _ENOUGH_ENTRIES = 64, 4096  # few mask entries come out alike under many seeds


class UnknownDraw(RuntimeError):
    """A mask of a shape that fits neither a step nor a sequence."""


@dataclass(frozen=True)
class MaskLayout:
    """The place of the n-th draw of a stacked layer in its masks, (G, T, B, H) with G = L − 1 gaps."""

    gaps: int
    sequence_length: int
    batch_size: int
    hidden_size: int

    @classmethod
    def of(cls, case: Case) -> MaskLayout:
        """The layout of a case's masks."""
        return cls(case.num_layers - 1, case.sequence_length, case.batch_size, case.hidden_size)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(G, T, B, H)."""
        return self.gaps, self.sequence_length, self.batch_size, self.hidden_size

    def view(self, masks: Float[Tensor, "G T B H"], index: int, drawn_shape: tuple[int, ...]) -> Tensor | None:
        """The part of `masks` that the draw `index` of `drawn_shape` fills; None once all are filled.

        A draw over the sequence, (T, B, H) or (B, T, H), is one gap, in the order of the layers. A draw over a step,
        (B, H), is one gap of one step, gaps first. Raises `UnknownDraw` for other shapes.
        """
        steps, batch, hidden = self.shape[1:]
        if drawn_shape in ((steps, batch, hidden), (steps * batch, hidden)):
            return masks[index].reshape(drawn_shape) if index < self.gaps else None
        if drawn_shape == (batch, steps, hidden):
            return masks[index].transpose(0, 1) if index < self.gaps else None
        if drawn_shape in ((batch, hidden), (1, batch, hidden)):
            step, gap = divmod(index, self.gaps)
            return masks[gap, step].reshape(drawn_shape) if step < steps else None
        raise UnknownDraw(
            f"it draws a dropout mask of shape {drawn_shape}, expected {(steps, batch, hidden)} or {(batch, hidden)}"
        )


@dataclass
class DropoutRecorder(LightDispatchMode):
    """Records every Bernoulli draw made inside the `with`; with `masks`, makes each draw return its part of them.

    Attributes:
        layout: the place of each draw.
        masks: (G, T, B, H) to impose; None records only.
        drawn: the drawn or imposed masks, in the order of the draws.
    """

    layout: MaskLayout
    masks: Float[Tensor, "G T B H"] | None = None
    drawn: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run every operator; record the draws, and replace them where masks are imposed."""
        result = func(*args, **(kwargs or {}))
        if func in _IN_PLACE or func in _OUT_OF_PLACE:
            self._see(result)
        elif func in _FUSED:
            output, kept = result
            input, p = args[0], args[1]
            self._see(kept)
            if self.masks is not None:
                output.copy_(input * kept * (1.0 / (1.0 - p) if p < 1 else 0.0))
        return result

    def _see(self, mask: Tensor) -> None:
        if self.masks is not None:
            wanted = self.layout.view(self.masks, len(self.drawn), tuple(mask.shape))
            if wanted is not None:
                mask.copy_(wanted)
        self.drawn.append(mask.detach().clone())

    def assembled(self) -> Float[Tensor, "G T B H"] | None:
        """The drawn masks, each in its place, in float64 on the CPU.

        None where a place stayed empty or a draw has no place.
        """
        return self._assemble([mask.cpu().double() for mask in self.drawn])

    def stream_positions(self) -> Float[Tensor, "G T B H"] | None:
        """For each mask entry the position, from 0, of its number in the stream of drawn numbers; None as above."""
        numbered, start = [], 0
        for mask in self.drawn:
            numbered.append(torch.arange(start, start + mask.numel(), dtype=torch.float64).reshape(mask.shape))
            start += mask.numel()
        return self._assemble(numbered)

    def _assemble(self, parts: list[Tensor]) -> Tensor | None:
        whole = torch.full(self.layout.shape, torch.nan, dtype=torch.float64)
        for index, part in enumerate(parts):
            try:
                target = self.layout.view(whole, index, tuple(part.shape))
            except UnknownDraw:
                return None
            if target is None:
                break
            target.copy_(part)
        return None if whole.isnan().any() else whole

    def describe(self) -> str:
        """The number and shapes of the drawn masks, as `20 masks of (7, 10)`."""
        shapes = [tuple(mask.shape) for mask in self.drawn]
        return ", ".join(f"{shapes.count(shape)} masks of {shape}" for shape in dict.fromkeys(shapes)) or "no mask"


def draw_masks(layout: MaskLayout, dropout: float, seed: int) -> Float[Tensor, "G T B H"]:
    """Masks of our own, 1 with probability 1 − `dropout`, from `seed`, in float64 on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.full(layout.shape, 1.0 - dropout, dtype=torch.float64)
    return torch.bernoulli(keep, generator=generator)


def draws_out_of_sight(run: Callable[[], Tensor]) -> bool:
    """Whether `run` is random although no draw was recorded: under some seed it gives another result.

    A mask may be the same for every first index of the result. The fewer entries it then has, the more seeds are tried.
    """

    def under(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return run()

    first = under(1)
    seeds = min(_MOST_SEEDS, 2 + _ENOUGH_ENTRIES // max(1, first.shape[1:].numel()))
    return any(not torch.equal(first, under(seed)) for seed in range(2, seeds + 1))
