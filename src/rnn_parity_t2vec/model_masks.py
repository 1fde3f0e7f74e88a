"""The same dropout masks in all places of a model: its encoder, the replaced stack, and behind the attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from rnn_parity.dropout.masks import DropoutRecorder, draw_masks, mask_shape
from rnn_parity.dropout.order import MaskOrder, UnlawfulDraws, order_of
from rnn_parity.experiment.grid import Case
from rnn_parity_t2vec.model import T2Vec


@dataclass(frozen=True)
class Masks:
    """1 where an entry is kept, 0 where it is dropped; in float64 on the CPU.

    Attributes:
        encoder: (L − 1, S, B, H). stack: (L − 1, T, B, H), between the layers of the decoder. output: (1, T, B, H).
    """

    encoder: Float[Tensor, "G S B H"]
    stack: Float[Tensor, "G T B H"]
    output: Float[Tensor, "1 T B H"]

    @classmethod
    def draw(cls, case: Case, source_steps: int, seed: int) -> Masks:
        """Masks of our own, from a seed."""
        shapes = enumerate(_shapes(case, source_steps))
        return cls(*(draw_masks(shape, case.dropout, 3 * seed + place) for place, shape in shapes))

    def flatten(self) -> Float[Tensor, " N"]:
        """All masks in one row."""
        return torch.cat([mask.flatten() for mask in (self.encoder, self.stack, self.output)])

    @classmethod
    def unflatten(cls, flat: Float[Tensor, " N"], case: Case, source_steps: int) -> Masks:
        """The masks behind `flatten`."""
        shapes = _shapes(case, source_steps)
        parts = flat.split([math.prod(shape) for shape in shapes])
        return cls(*(part.view(shape) for part, shape in zip(parts, shapes, strict=True)))


def _shapes(case: Case, source_steps: int) -> list[tuple[int, int, int, int]]:
    """Of the encoder's, the stack's and the output's masks."""
    gaps, steps, batch, hidden = mask_shape(case)
    return [(g, t, batch, hidden) for g, t in ((gaps, source_steps), (gaps, steps), (1, steps))]


@contextmanager
def imposed(
    model: T2Vec, lengths: Tensor, masks: Masks | None, in_stack: AbstractContextManager | None = None
) -> Iterator[None]:
    """Inside, every dropout of the model applies these masks; without masks no dropout is changed.

    The encoder, which is not replaced, runs without cuDNN: that draws masks unseen, and has no backward pass in eval
    mode. `in_stack` is entered around the stack in place of its masks, which else it takes gap by gap.
    """
    cudnn = torch.backends.cudnn
    with ExitStack() as hooks:
        without_cudnn = partial(cudnn.flags, enabled=False, allow_tf32=cudnn.allow_tf32)
        hooks.enter_context(_around(model.encoder.rnn, without_cudnn))
        if masks is None:
            yield
            return
        # The encoder reads a packed sequence: a draw is one gap, over the rows of all steps that are no padding.
        flat = masks.encoder.flatten(1, 2)  # (L − 1, S · B, H)
        places = torch.arange(flat.shape[1]).view(masks.encoder.shape[1:3])
        packed = flat[:, None, pack_padded_sequence(places, lengths, enforce_sorted=False).data]
        of_encoder, of_stack, of_output = (
            DropoutRecorder(part.flatten()) for part in (packed, masks.stack, masks.output)
        )
        hooks.enter_context(_around(model.encoder.rnn, lambda: of_encoder))
        hooks.enter_context(_around(model.decoder.rnn, lambda: in_stack or of_stack))
        hooks.enter_context(_around(model.decoder.dropout, lambda: of_output))
        yield


def order_of_stack(case: Case, name: str) -> MaskOrder | None:
    """The order in which an implementation draws the masks of the decoder's stack.

    None where it draws none, or what no order makes right. Raises `UnknownOrder` where it takes no masks of ours.
    """
    if not case.draws_dropout or case.dropout == 1:
        return None
    try:
        return order_of(case, name)
    except UnlawfulDraws:
        return None


def in_order(order: MaskOrder | None, masks: Masks) -> DropoutRecorder:
    """What imposes the stack's masks on an implementation that draws them in this order; None stands for gap by gap."""
    return DropoutRecorder(masks.stack.flatten() if order is None else order.to_stream(masks.stack))


@contextmanager
def _around(module: nn.Module, context: Callable[[], Any]) -> Iterator[None]:
    """Enter this whenever the module runs forward."""
    entered = ExitStack()

    def enter(*_: Any) -> None:
        entered.enter_context(context())

    def leave(*_: Any) -> None:
        entered.close()

    with (
        module.register_forward_pre_hook(enter),
        module.register_forward_hook(leave, always_call=True),
    ):
        yield
