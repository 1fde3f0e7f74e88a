"""One small case to rows: which number of the generator's stream decided each entry of the dropout masks."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from rnn_parity.dropout.masks import DropoutRecorder, mask_shape
from rnn_parity.dropout.order import UnknownOrder, order_of
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import call_layer, numerics, seed_generators
from rnn_parity.layers.stimulus import build_loaded, draw_stimulus

log = logging.getLogger("rnn_parity")


def mask_rows(case: Case, implementations: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    """Yield one row per implementation and mask entry; none for an implementation whose masks cannot be seen."""
    stimulus = draw_stimulus(case, seed)
    for name in implementations:
        draws = DropoutRecorder()
        try:
            with numerics(case.threads, case.tf32):
                order = order_of(case, name)
                module = build_loaded(case, name, stimulus).train()
                given = [tensor.to(case.device) for tensor in (stimulus.input, *stimulus.states)]
                seed_generators(seed)
                with torch.no_grad(), draws:
                    call_layer(module, given[0], given[1:])
            kept = order.to_masks(draws.stream())
        except InputError:
            raise
        except UnknownOrder:
            continue
        except Exception as error:  # a layer that cannot run has no masks; the equivalence table says why
            log.warning("%s: %s", name, error)
            continue
        positions = order.to_masks(torch.arange(draws.count, dtype=torch.float64))
        common = {**case.columns, "implementation": name, "seed": seed}
        indices = itertools.product(*(range(size) for size in mask_shape(case)))
        entries = zip(indices, positions.flatten().tolist(), kept.flatten().tolist(), strict=True)
        for (gap, step, row, unit), position, keeps in entries:
            place = {"gap": gap, "step": step, "row": row, "unit": unit}
            yield common | place | {"draw": int(position), "kept": bool(keeps)}
