"""Which kind of cell a layer is: read from its parameters, and held against what is asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rnn_parity.cells.base import Cell, load_cell
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.names import CELLS
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.adapters import UNITS, WIDTH, Adapter
from rnn_parity.layers.parameters import WeightError, canonical_parameters, canonical_shapes, copy_weights
from rnn_parity.layers.registry import NoParameter, adapter_of, build, construct
from rnn_parity.layers.running import call_layer, classify_exception
from rnn_parity.layers.settings import put_back

SIZES: dict[str, Any] = {"input_size": WIDTH, "hidden_size": UNITS, "num_layers": 2}
"""Three different lengths, so that a shape tells what it is of; those at which a layer is tried."""


def infer_kind(name: str) -> str | None:
    """The kind of a layer: by the rows of its recurrent weights, or else by what it loads and can be called with.

    None where nothing tells. A GRU's parameters are those of either kind of GRU; it is taken for the one of PyTorch.
    """
    found = _recurrent(name)
    if found is None:
        return next((kind for kind in CELLS if _fits(name, kind)), None)
    rows = {kind: len(load_cell(kind).gates) * UNITS for kind in CELLS}
    return next((kind for kind in CELLS if rows[kind] == found[0] or found == (UNITS, rows[kind])), None)


def require_kind(name: str, cell: str, key: str = "", num_layers: int = 1, dropout: float = 0.0) -> None:
    """Raise `InputError`, naming the argument `key`, for a layer that cannot be given the weights of a kind of cell.

    Likewise for one that cannot be called, or has no parameter for the layers and dropout that are asked for.
    """
    who = ": ".join(filter(None, (key, name)))
    wanted = load_cell(cell)
    try:
        how = _load_zeros(name, cell)
        if how.problem:
            raise InputError(how.problem)
        if how.num_layers == 1 and num_layers > 1:
            raise InputError("has one layer only, expected --num-layers 1")
        construct(name, cell, **SIZES | {"num_layers": num_layers}, dropout=dropout)
    except NoParameter as error:  # for which it may not be to blame
        how = adapter_of(name, cell)
        reason = how.problem or how.raised or str(error).removeprefix(f"{name}: ")
        raise InputError(f"{who}: {reason}") from error
    except InputError as error:
        raise InputError(f"{who}: {str(error).removeprefix(f'{name}: ')}") from error
    except WeightError as error:
        if other := _other_kind(name, wanted):
            raise InputError(f"{who}: {other}") from error
        shape = _recurrent(name) or (0,)
        gates, expected = shape[0] // UNITS, len(wanted.gates)
        if shape == (UNITS, expected * UNITS):
            reason = f"its weights are transposed, (H, {expected} × H); expected ({expected} × H, H), or a method "
            raise InputError(f"{who}: {reason}load_canonical(weights) with canonical_gradients()") from error
        if gates and gates != expected:
            reason = f"its recurrent weights have {gates} × H rows, expected {expected} × H"
            raise InputError(f"{who}: this is not {wanted.words}: {reason}") from error
        reason = str(error).removeprefix(f"{name.rpartition(':')[2]}: ")
        raise InputError(f"{who}: {reason}") from error
    except Exception:  # it may do at the sizes asked for; if not, the comparison says why
        return


def require_call(name: str, case: Case, key: str = "") -> None:
    """Raise `InputError`, naming the argument `key`, for a layer that raises at a case's size however it is called.

    What it says it does not support is left to the comparison.
    """
    raised = adapter_of(name, case.cell).raised
    if not raised:
        return
    like = {"device": case.device, "dtype": getattr(torch, case.dtype)}
    states = [torch.zeros(case.num_layers, case.batch_size, case.hidden_size, **like)] * len(
        load_cell(case.cell).states
    )
    try:
        module = _build(name, case.cell, **case.sizes).to(**like).eval()
        with put_back(name), torch.random.fork_rng():
            call_layer(module, torch.zeros(case.sequence_length, case.batch_size, case.input_size, **like), states)
    except Exception as error:
        if classify_exception(error)[0] == Verdict.FAILED:
            reason = _other_kind(name, load_cell(case.cell)) or raised
            raise InputError(": ".join(filter(None, (key, name, reason)))) from error


def fits_no_call(name: str, cell: str) -> bool:
    """Whether a layer that can be built is called in no known way as one of a kind: it may be of another."""
    try:
        how = adapter_of(name, cell)
    except Exception:
        return False
    return bool(how.problem or how.raised)


def _other_kind(name: str, wanted: type[Cell]) -> str:
    """What a layer is in place of the kind that is wanted, and how to ask for that; empty where nothing tells."""
    own = infer_kind(name)
    if own is None or len(load_cell(own).gates) == len(wanted.gates):
        return ""
    return f"this is {load_cell(own).words}, not {wanted.words}: --cell {own}"


def _fits(name: str, kind: str) -> bool:
    """Whether a layer takes the weights of a kind, and states as one does."""
    try:
        how = _load_zeros(name, kind)
    except Exception:  # whoever needs it as a layer says why
        return False
    return not (how.problem or how.raised)


def _load_zeros(name: str, cell: str) -> Adapter:
    """How a layer is called, after giving weights of a kind to a new one."""
    how = adapter_of(name, cell)
    sizes = SIZES | ({"num_layers": 1} if how.num_layers == 1 else {})
    shapes = canonical_shapes(**sizes, cell=cell)
    copy_weights({key: torch.zeros(shape) for key, shape in shapes.items()}, _build(name, cell, **sizes))
    return how


def _recurrent(name: str) -> tuple[int, ...] | None:
    """The shape of a layer's recurrent weights, for H = `UNITS`; None where it has none under PyTorch's names."""
    for cell in CELLS:  # a lazy layer has weights only once it is called with the states of its own kind
        try:
            weight = canonical_parameters(_build(name, cell, **SIZES | {"num_layers": 1}))["weight_hh_l0"]
        except Exception:  # it cannot be built, or has other names: whoever needs it as a layer says why
            continue
        return tuple(weight.shape)
    return None


def _build(name: str, cell: str, **sizes: int) -> nn.Module:
    return build(name, **sizes, dropout=0.0, cell=cell)
