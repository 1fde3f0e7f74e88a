"""Seeing and imposing the dropout masks that an unmodified module draws.

All that a layer draws in a run, one draw after the other, is one stream of numbers; `order.py` finds which of them
belongs to which entry of the masks. A `TorchDispatchMode` stands below autograd and sees every draw, also those made
inside `aten::gru`; only kernels that draw inside themselves (cuDNN's) stay opaque.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import LightDispatchMode, seed_generators

aten = torch.ops.aten
_IN_PLACE = (aten.bernoulli_.float, aten.bernoulli_.Tensor)
_OUT_OF_PLACE = (aten.bernoulli.default, aten.bernoulli.p)
_FUSED = (aten.native_dropout.default,)  # nn.Dropout and aten::gru call it on CUDA


_MOST_SEEDS = 64
_NEVER = 1e-9
"""How often independent draws may be called dependent."""


def _is_certain(func: Any, args: Sequence[Any], p: Any = 0.5, **_: Any) -> bool:
    """Whether a draw has one result alone, as of probability 1: it is no dropout, whatever it is for."""
    if func is aten.bernoulli.default:
        p = args[0]
    elif len(args) > 1:
        p = args[1]
    return bool(((p == 0) | (p == 1)).all()) if isinstance(p, Tensor) else p in (0, 1)


@dataclass
class DropoutRecorder(LightDispatchMode):
    """Records every Bernoulli draw made inside the `with`; with a stream, makes each draw return its next numbers.

    Attributes:
        imposed: the stream, of zeros and ones; what is drawn beyond its end stays as it is. None records only.
        drawn: the drawn or imposed numbers, draw by draw.
    """

    imposed: Float[Tensor, " N"] | None = None
    drawn: list[Tensor] = field(default_factory=list)
    count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run every operator; record the draws, and replace them where a stream is imposed."""
        result = func(*args, **(kwargs or {}))
        if func in _IN_PLACE or func in _OUT_OF_PLACE:
            if not _is_certain(func, args, **(kwargs or {})):
                self._see(result)
        elif func in _FUSED:
            output, kept = result
            input, p = args[0], args[1]
            self._see(kept)
            if self.imposed is not None:
                output.copy_(input * kept * (1.0 / (1.0 - p) if p < 1 else 0.0))
        return result

    def _see(self, mask: Tensor) -> None:
        if self.imposed is not None:
            wanted = self.imposed[self.count : self.count + mask.numel()].to(mask)
            mask.copy_(torch.cat([wanted, mask.flatten()[len(wanted) :]]).view(mask.shape))
        self.count += mask.numel()
        self.drawn.append(mask.detach().clone())

    def stream(self) -> Float[Tensor, " N"]:
        """All numbers in the order of the draws, in float64 on the CPU."""
        return torch.cat([torch.empty(0, dtype=torch.float64), *(mask.cpu().double().flatten() for mask in self.drawn)])

    def describe(self) -> str:
        """The number and shapes of the draws, as `20 masks of (7, 10)`."""
        shapes = [tuple(mask.shape) for mask in self.drawn]
        return ", ".join(f"{shapes.count(shape)} masks of {shape}" for shape in dict.fromkeys(shapes)) or "no mask"


def mask_shape(case: Case) -> tuple[int, int, int, int]:
    """(G, T, B, H) of a layer's masks, with G = L − 1 gaps."""
    return case.num_layers - 1, case.sequence_length, case.batch_size, case.hidden_size


def draw_masks(shape: tuple[int, int, int, int], dropout: float, seed: int) -> Float[Tensor, "G T B H"]:
    """Masks of our own, 1 with probability 1 − `dropout`, from `seed`, in float64 on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.full(shape, 1.0 - dropout, dtype=torch.float64)
    return torch.bernoulli(keep, generator=generator)


def draws_out_of_sight(run: Callable[[], Tensor], dropout: float) -> bool:
    """Whether `run` is random although no draw was recorded: under some seed it gives another result.

    A mask may be the same for every first index of the result. Seeds are tried until one that drops an entry with a
    fourth of the probability `dropout` would have shown, but for one time in a million; at most 64.
    """

    def under(seed: int) -> Tensor:
        seed_generators(seed)
        return run()

    first = under(1)
    entries = max(1, first.shape[1:].numel())
    seeds = min(_MOST_SEEDS, 2 + math.ceil(math.log(1e-6) / (entries * math.log1p(-dropout / 4))))
    return any(not torch.equal(first, under(seed)) for seed in range(2, seeds + 1))


def dependence(draws: Sequence[Tensor]) -> str:
    """In words, how draws of masks depend on the one before; empty where they may well be independent.

    All entries are held against those of the draw before, at every shift. Where they are independent, Bernstein's
    inequality bounds the sum of their products, however rare a drop.
    """
    alike = [draw.cpu().double().flatten() for draw in draws if draw.shape == draws[0].shape]
    if len(alike) < 2:
        return ""
    entries, products = len(alike[0]), (len(alike) - 1) * len(alike[0])
    kept = torch.stack(alike).mean().item()
    spectra = [torch.fft.rfft(draw - kept) for draw in alike]
    sums = torch.fft.irfft(sum(before * after.conj() for before, after in pairwise(spectra)), entries)
    shift = int(sums.abs().argmax())
    if abs(sums[shift]) <= _largest_sum(torch.tensor(products), kept, entries):
        return ""
    correlation = sums[shift].item() / (products * kept * (1 - kept))
    places = shift if shift <= entries / 2 else shift - entries
    return f"an entry correlates by {correlation:.2f} with the entry {places} places on in the draw before"


def echo(kept: Float[Tensor, " N"]) -> int:
    """How many entries on a sequence of independent draws resembles itself, or its opposite; 0 where it does not.

    As `dependence`, of one draw at every distance from its start.
    """
    entries, share = len(kept), kept.mean().item()
    spectrum = torch.fft.rfft(kept - share, 2 * entries)
    sums = torch.fft.irfft(spectrum.abs().square(), 2 * entries)[1:entries]
    excess = sums.abs() - _largest_sum(torch.arange(entries - 1, 0, -1), share, entries)
    distance = int(excess.argmax()) + 1
    return distance if excess[distance - 1] > 0 else 0


def _largest_sum(products: Tensor, kept: float, tried: int) -> Tensor:
    """Bernstein's bound of a sum of so many products of independent, centred entries, for each of those `tried`."""
    variance, largest = kept * (1 - kept), max(kept, 1 - kept) ** 2
    t = math.log(2 * tried / _NEVER)
    return t * largest / 3 + torch.sqrt((t * largest / 3) ** 2 + 2 * t * products.double() * variance * largest)
