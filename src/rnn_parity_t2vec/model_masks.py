"""The same dropout masks in all places of a model: its encoder, the replaced stack, and behind the attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from rnn_parity.dropout.masks import DropoutRecorder, MaskLayout, draw_masks
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
        return cls(*(draw_masks(MaskLayout(*shape), case.dropout, 3 * seed + place) for place, shape in shapes))

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
    gaps, steps = case.num_layers - 1, case.sequence_length
    sizes = (gaps, source_steps), (gaps, steps), (1, steps)
    return [(*size, case.batch_size, case.hidden_size) for size in sizes]


@contextmanager
def imposed(
    model: T2Vec, lengths: Tensor, masks: Masks | None, in_stack: Any = None
) -> Iterator[DropoutRecorder | None]:
    """Inside, every dropout of the model applies these masks; yields the recorder of the stack's draws.

    The encoder, which is not replaced, runs without cuDNN: that draws masks unseen, and has no backward pass in eval
    mode. Without masks nothing else is changed. `in_stack` is entered around a stack that draws out of sight.
    """
    cudnn = torch.backends.cudnn
    with ExitStack() as hooks:
        without_cudnn = partial(cudnn.flags, enabled=False, allow_tf32=cudnn.allow_tf32)
        hooks.enter_context(_around(model.encoder.rnn, without_cudnn))
        if masks is None:
            yield None
            return
        # The encoder reads a packed sequence: a draw is one gap, over the rows of all steps that are no padding.
        flat = masks.encoder.flatten(1, 2)  # (L − 1, S · B, H)
        places = torch.arange(flat.shape[1]).view(masks.encoder.shape[1:3])
        packed = flat[:, None, pack_padded_sequence(places, lengths, enforce_sorted=False).data]
        of_encoder, of_stack, of_output = (
            DropoutRecorder(MaskLayout(*part.shape), part) for part in (packed, masks.stack, masks.output)
        )
        hooks.enter_context(_around(model.encoder.rnn, lambda: of_encoder))
        hooks.enter_context(_around(model.decoder.rnn, lambda: in_stack or of_stack))
        hooks.enter_context(_around(model.decoder.dropout, lambda: of_output))
        yield of_stack


def draws_unseen(case: Case, recorder: DropoutRecorder) -> bool:
    """Whether the case has the stack draw masks, and its recorder saw none: they are out of sight, or missing."""
    return case.draws_dropout and case.dropout < 1 and not recorder.drawn


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
