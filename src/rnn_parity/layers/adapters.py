"""Layers as people have them: how one is called and what it gives back, found once, by trying it at a tiny size.

The tiny sizes are all different, so that a shape tells what it is of. A layer that fits as it is stays as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rnn_parity.cells.base import Arithmetic, Cell, load_cell
from rnn_parity.layers.parameters import WeightError, canonical_parameters
from rnn_parity.layers.refusals import explain_error, explain_result, explain_signature
from rnn_parity.layers.running import compiler_is_loaded, pack_states, unpack_states
from rnn_parity.layers.signatures import places_of_states, second_argument, takes

STEPS, ROWS, WIDTH, UNITS = 2, 7, 8, 16  # T, B, I, H; and L = S + 2
GIVEN: dict[str, Callable[[tuple[Tensor, ...]], tuple[Any, ...]]] = {
    "stacked": lambda states: (pack_states(states),),
    "tuple": lambda states: (tuple(states),),
    "separate": lambda states: states,
    "layers": lambda states: (list(map(pack_states, zip(*(state.unbind() for state in states), strict=True))),),
    "layers of one": lambda states: (list(map(pack_states, zip(*(state.split(1) for state in states), strict=True))),),
    "lists": lambda states: (tuple(list(state.unbind()) for state in states),),
    "transposed": lambda states: GIVEN["stacked"](tuple(state.transpose(0, 1) for state in states)),
    "single": lambda states: GIVEN["stacked"](tuple(state.squeeze(0) for state in states)),
    "none": lambda states: (),
}
"""States (L, B, H) as the arguments of a layer."""

_WORDS = {
    "step": "called step by step",
    "batch_first": "called with (B, T, ·)",
    "tuple": "its state in a tuple",
    "separate": "each state an argument",
    "layers": "states per layer, (B, H)",
    "layers of one": "states per layer, (1, B, H)",
    "lists": "each state a list over layers",
    "transposed": "states (B, L, H)",
    "single": "states without a dimension for layers",
    "none": "takes no states: compared from zero states only, and without their gradients",
}


@dataclass(frozen=True)
class Adapter:
    """How a layer is called, and what it gives back.

    Attributes:
        num_states: S. input: `sequence` (T, B, I), `batch_first` (B, T, I), or `step` (B, I). states: a key of `GIVEN`.
        keyword: the name by which it is given the states, where they are not its second argument.
        output: whether it gives an output beside the states; a step may give the states alone.
        separate: whether each state is a result of its own. nest: `whole`, `layers` (one or S tensors for each layer)
            or `lists` (L tensors for each state). extra: how many results are ignored.
        carried: whether a step takes the states as the step before gave them. unheeded: its second argument, where that
            is not called as states are, and whatever states it is given change nothing.
        num_layers: of the layer that was tried, 1 where it has no more whatever it is asked for. lazy: whether it has
            its parameters only after a call. one_bias: whether one bias stands for both. compiled: whether it is.
        problem: why the layer can be no candidate, in one line. raised: the same, if it raises at the size of the case
            as it does here, however it is called.
    """

    num_states: int = 1
    input: str = "sequence"
    states: str = "stacked"
    keyword: str = ""
    output: bool = True
    separate: bool = False
    nest: str = "whole"
    extra: int = 0
    carried: bool = False
    unheeded: str = ""
    num_layers: int = 0
    lazy: bool = False
    one_bias: bool = False
    compiled: bool = False
    problem: str = ""
    raised: str = ""

    @property
    def words(self) -> str:
        """What is done for the layer, in one line; empty where it fits as it is."""
        said = [_WORDS[key] for key in (self.input, self.states) if key in _WORDS]
        said += [f"states given as {self.keyword}="] if self.keyword else []
        said += [f"states given as its second argument, {self.unheeded}, which ignores them"] if self.unheeded else []
        said += ["states stacked from its results for each layer"] if self.nest != "whole" else []
        said += [f"{self.extra} further result{'s' * (self.extra > 1)} ignored"] if self.extra else []
        said += ["called once to create its parameters"] if self.lazy else []
        said += ["its one bias gets the sum of the two"] if self.one_bias else []
        said += ["one layer only"] if self.num_layers == 1 else []
        said += ["compiled, but run uncompiled where its dropout masks are observed"] if self.compiled else []
        return "; ".join(said or ([""] if self == self.plain else ["its last states unpacked"]))

    @property
    def plain(self) -> Adapter:
        """The same of a layer that is called as PyTorch's."""
        call: dict[str, Any] = {"input": "sequence", "states": "stacked", "keyword": "", "output": True}
        return replace(self, **call, separate=False, nest="whole", extra=0, carried=False)

    def fit(self, layer: nn.Module, input_size: int, hidden_size: int, num_layers: int) -> nn.Module:
        """The layer, with parameters, called as PyTorch's."""
        fitted = layer if self == self.plain else Adapted(layer, self)
        if self.lazy:
            with _trying(layer):
                states = (torch.zeros(num_layers, 1, hidden_size),) * self.num_states
                fitted(torch.zeros(1, 1, input_size), pack_states(states))
        return fitted

    def ask(self, layer: Callable[..., Any], input: Tensor, given: Sequence[Any]) -> Any:
        """All that it gives for an input and its states."""
        return layer(input, **{self.keyword: given[0]}) if self.keyword and given else layer(input, *given)

    def call(self, layer: Callable[..., Any], input: Tensor, given: Sequence[Any]) -> tuple[Any, Any]:
        """Its output, and its states as it gives them."""
        result = self.ask(layer, input, given)
        if not self.output:
            return None, result
        return result[0], result[1 : 1 + self.num_states] if self.separate else result[1]

    def read(self, last: Any) -> tuple[Tensor, ...]:
        """States (L, B, H) of what a call gives."""
        if self.nest == "lists":
            return tuple(map(_joined, last))
        if self.nest == "layers":
            each = [(of_layer,) if isinstance(of_layer, Tensor) else of_layer for of_layer in last]
            return tuple(map(_joined, zip(*each, strict=True)))
        found = (last,) if isinstance(last, Tensor) else tuple(last)
        if self.states == "transposed":
            return tuple(state.transpose(0, 1) for state in found)
        return tuple(state if state.dim() == 3 else state.unsqueeze(0) for state in found)

    def run(self, layer: Callable[..., Any], input: Tensor, given: Sequence[Any]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Output (T, B, H) and states (L, B, H) of a sequence (T, B, I)."""
        if self.input == "step":
            outputs = []
            for step in input.unbind():
                output, last = self.call(layer, step, given)
                handed_on = last if self.separate else (last,)
                given = handed_on if self.carried else GIVEN[self.states](self.read(last))
                outputs.append(self.read(last)[0][-1] if output is None else output)
            return torch.stack(outputs), self.read(last)
        first = self.input == "batch_first" and input.dim() == 3
        output, last = self.call(layer, input.transpose(0, 1).contiguous() if first else input, given)
        return output.transpose(0, 1) if first else output, self.read(last)


class Adapted(nn.Module):
    """A layer called as PyTorch's, by an `Adapter`."""

    def __init__(self, layer: nn.Module, adapter: Adapter) -> None:
        super().__init__()
        self.adapted_layer = layer
        self.adapter = adapter

    def forward(self, input: Tensor, states: Any = None) -> tuple[Tensor, Any]:
        """Map as `nn.GRU` or `nn.LSTM` does."""
        how = self.adapter
        given = () if states is None else GIVEN[how.states](unpack_states(states))
        output, last = how.run(self.adapted_layer, input, given)
        return output, pack_states(last)


def find_adapter(construct: Callable[..., nn.Module], cell: str) -> Adapter:
    """Try a layer, and say how it is to be called; without a fit, as PyTorch's, which then says what is wrong."""
    kind = load_cell(cell)
    found = Adapter(len(kind.states))
    for num_layers, device in itertools.product((len(kind.states) + 2, 1), ("cpu", "cuda")):
        if device == "cuda" and not torch.cuda.is_available():
            continue
        try:
            with torch.random.fork_rng([]):
                layer = construct(input_size=WIDTH, hidden_size=UNITS, num_layers=num_layers, dropout=0.0)
            before = _parameter_names(layer)
            with _trying(layer.to(device)):
                tried = _try(layer, kind.states, num_layers, device)
        except Exception:  # it cannot be built like this; whoever asks for it is told
            continue
        tried = replace(tried, lazy=before != _parameter_names(layer), compiled=hasattr(layer, "_orig_mod"))
        found = tried if not found.problem else found
        if tried.num_layers:
            found = tried if _num_layers(layer) != 1 else replace(tried, num_layers=1)
            return _with_bias(found, layer, kind)
        if num_layers > 1 and _num_layers(layer) == num_layers:
            return found
    return found


def _try(layer: nn.Module, names: Sequence[str], num_layers: int, device: str) -> Adapter:
    """The first way of calling the layer that gives the right shapes and heeds its states; without one, the first that
    gives the right shapes; or else the problem.
    """
    num_states, problem, raised, deaf, misshapen = len(names), "", None, None, False
    generator = torch.Generator().manual_seed(0)
    input, *states = (
        torch.rand(shape, generator=generator).to(device)
        for shape in ((STEPS, ROWS, WIDTH), *[(num_layers, ROWS, UNITS)] * num_states)
    )
    for how in _ways(layer, num_states, num_layers):
        given = GIVEN[how.states](tuple(states))
        shown = {"sequence": input, "batch_first": input.transpose(0, 1).contiguous(), "step": input[0]}[how.input]
        try:
            result = how.ask(layer, shown, given)
        except Exception as error:  # it is not called so
            raised = raised or error
            continue
        read = next(_readings(how, result, shown, num_layers), None)
        if read is not None:
            found = replace(_carrying(read, layer, input, given), num_layers=num_layers)
            if _heeds_states(found, layer, shown, states, result):
                return found
            deaf = deaf or replace(found, unheeded="" if found.keyword else second_argument(layer))
            continue
        # As PyTorch's, with wrong shapes: unless another way gives the right ones, that is for the comparison to say.
        misshapen |= how == Adapter(num_states) and _gives_states(result, shown, num_states)
        problem = problem or explain_result(layer, names, shown, given, result, states[0])
    if misshapen:
        return Adapter(num_states)
    if deaf:
        return deaf
    if not problem and not takes(layer, 2) and not takes(layer, 1):
        problem = explain_signature(layer, names)
    refused = explain_error(layer, names, input, states, raised) if raised and not problem else ""
    return Adapter(num_states, problem=problem, raised=refused)


def _gives_states(result: Any, shown: Tensor, num_states: int) -> bool:
    """Whether a result is an output of the steps and rows shown, and as many tensors of H units as there are states."""
    if not isinstance(result, tuple | list) or len(result) != 2 or not isinstance(result[0], Tensor):
        return False
    output, last = result[0], [result[1]] if isinstance(result[1], Tensor) else result[1]
    if not isinstance(last, tuple | list) or len(last) != num_states or output.shape[:2] != shown.shape[:2]:
        return False
    return all(isinstance(state, Tensor) and state.dim() > 1 and state.shape[-1] == UNITS for state in last)


def _heeds_states(how: Adapter, layer: nn.Module, shown: Tensor, states: Sequence[Tensor], result: Any) -> bool:
    """Whether a layer gives something else from other states; one that is called without has none to heed."""
    if how.states == "none":
        return True
    try:
        other = how.ask(layer, shown, GIVEN[how.states](tuple(state + 1 for state in states)))
        (_, one), (_, another) = (how.call(lambda *_, _of=of, **__: _of, shown, ()) for of in (result, other))
        return not all(map(torch.equal, how.read(one), how.read(another)))
    except Exception:  # its comparison will say more
        return True


def _ways(layer: nn.Module, num_states: int, num_layers: int) -> Iterator[Adapter]:
    """Every way in which a layer may be called, that of PyTorch first."""
    places = places_of_states(layer)
    for states in GIVEN:
        if (states == "single" and num_layers > 1) or (states in ("separate", "lists") and num_states == 1):
            continue
        if states == "tuple" and num_states > 1:  # as stacked
            continue
        # A layer that takes states, and fails with them, is not called without.
        if states == "none" and (takes(layer, 2) or any(places)):
            continue
        for input in ("sequence", "batch_first", "step") if states != "none" else ("sequence", "batch_first"):
            for keyword in places if states not in ("separate", "none") else [""]:
                yield Adapter(num_states, input, states, keyword=keyword)


def _readings(how: Adapter, result: Any, shown: Tensor, num_layers: int) -> Iterator[Adapter]:
    """The ways of reading a result that give the right shapes."""
    parts = len(result) if isinstance(result, tuple | list) else 0
    size = (num_layers, ROWS, UNITS)
    for output, separate, nest in itertools.product((True, False), (False, True), ("whole", "layers", "lists")):
        used = 1 + (how.num_states if separate else 1)
        if (separate and (how.num_states == 1 or not output)) or (output and parts < used):
            continue
        if not output and how.input != "step":
            continue
        read = replace(how, output=output, separate=separate, nest=nest, extra=max(0, parts - used) if output else 0)
        try:
            first, last = read.call(lambda *_, **__: result, shown, ())
            shapes = [tuple(state.shape) for state in read.read(last)]
            right = not output or tuple(first.shape) == (*shown.shape[:-1], UNITS)
        except (AttributeError, IndexError, TypeError, ValueError, RuntimeError):
            continue
        if right and shapes == [size] * how.num_states:
            yield read


def _carrying(how: Adapter, layer: nn.Module, input: Tensor, given: Sequence[Any]) -> Adapter:
    """The same, handing a step's states on as they are, where that computes the same."""
    if how.input != "step":
        return how
    handed_on = replace(how, carried=True)
    try:
        pairs = (adapter.run(layer, input, given) for adapter in (how, handed_on))
        (one, of_one), (other, of_other) = pairs
    except Exception:  # it takes its states in another form than it gives them
        return how
    same = all(map(torch.equal, (one, *of_one), (other, *of_other)))
    return handed_on if same else how


def _with_bias(how: Adapter, layer: nn.Module, kind: type[Cell]) -> Adapter:
    """The same, told whether one bias stands for both, and whether it can in this kind of cell."""
    try:
        found = canonical_parameters(layer)
    except WeightError:  # named by whoever gives the weights
        return how
    if found.get("bias_ih_l0") is None or found["bias_ih_l0"] is not found.get("bias_hh_l0"):
        return how
    x, b = (torch.linspace(least, 1, len(kind.gates), dtype=torch.float64)[None] for least in (-1, 0.5))
    w, states = torch.ones(len(kind.gates), 1, dtype=torch.float64), (torch.full_like(x[:, :1], 0.5),) * how.num_states
    (apart, _), (folded, _) = (kind.forward(*a, Arithmetic()) for a in ((x, states, w, b), (x + b, states, w, b * 0)))
    if all(map(torch.allclose, apart, folded)):
        return replace(how, one_bias=True)
    words = f"has one bias where {kind.words} has two that do not add up, since a gate acts on the second alone"
    return replace(how, problem=f"{words}; expected bias_ih and bias_hh, or a kind of cell of your own: --cell")


@contextmanager
def _trying(layer: nn.Module) -> Iterator[None]:
    """Evaluate without gradients, compilers and traces in torch's generators; modes are put back."""
    modes = {module: module.training for module in layer.modules()}
    with ExitStack() as stack, torch.random.fork_rng([]), torch.no_grad():
        if compiler_is_loaded():  # a first compilation for other shapes would change the next ones
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        layer.eval()
        try:
            yield
        finally:
            for module in layer.modules():  # what the call has made goes with the layer
                module.training = modes.get(module, modes[layer])


def _joined(layers: Sequence[Tensor]) -> Tensor:
    """States (B, H) or (1, B, H) of every layer as (L, B, H)."""
    return torch.cat(tuple(layers)) if layers[0].dim() == 3 else torch.stack(tuple(layers))


def _num_layers(layer: nn.Module) -> int | None:
    try:
        return sum(name.startswith("weight_hh") for name in canonical_parameters(layer))
    except WeightError:
        return None


def _parameter_names(layer: nn.Module) -> list[str]:
    return [name for name, p in layer.named_parameters() if not isinstance(p, nn.UninitializedParameter)]
