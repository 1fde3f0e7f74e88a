"""The life of one implementation: its modules are built and called, and every call is judged."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from rnn_parity.cells.base import Cell, load_cell
from rnn_parity.compare.reference import Reference
from rnn_parity.compare.run import take_gradients
from rnn_parity.dropout.masks import DropoutRecorder
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import Verdict
from rnn_parity.layers.adapters import Adapter
from rnn_parity.layers.parameters import unwrapped
from rnn_parity.layers.registry import adapter_of
from rnn_parity.layers.running import classify_exception, same, seed_generators
from rnn_parity.layers.settings import note
from rnn_parity.layers.stimulus import Stimulus, build_loaded, draw_stimulus
from rnn_parity.life.drawing import Drawing
from rnn_parity.life.judging import Found, judge
from rnn_parity.life.one_call import Given, Results, generator_states, results_of

SEED = 180
"""Of dropout, in every training call that is not asked for another."""


@dataclass
class Life:
    """One implementation, and what is known of it so far.

    Attributes:
        case: the sizes of its modules, unless a point asks for others. modes: those whose first call held; wrong: the
            others.
        quiet: the mode that has gradients and drops nothing, training where evaluation refuses a backward pass.
        seed: another one draws everything anew.
        last: what the last call gave. earlier: its tensors with copies, since a later call may not change them.
        drawing: how it draws its masks.
        firsts: what training calls gave whose masks cannot be seen: the same seed must give it again.
    """

    name: str
    case: Case
    modes: tuple[str, ...] = ("inference", "eval", "train")
    wrong: tuple[str, ...] = ()
    quiet: str = "eval"
    seed: int = 0
    drawn: dict[tuple[int, int | None, Case], Given] = field(default_factory=dict)
    last: Results = field(default_factory=lambda: Results({}))
    earlier: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)
    drawing: Drawing = field(init=False)
    firsts: dict[int, tuple[Given, dict[str, Tensor]]] = field(default_factory=dict)
    called: WeakSet[nn.Module] = field(default_factory=WeakSet)

    def __post_init__(self) -> None:
        self.drawing = Drawing(self.name, self.case)

    @property
    def cell(self) -> type[Cell]:
        """The kind of cell."""
        return load_cell(self.case.cell)

    @property
    def learning_modes(self) -> tuple[str, ...]:
        """The modes that have gradients."""
        return tuple(mode for mode in self.modes if mode != "inference")

    @property
    def takes_states(self) -> bool:
        """Whether it can be given states at all."""
        return self.adapter.states != "none"

    @cached_property
    def adapter(self) -> Adapter:
        """How it is called."""
        return adapter_of(self.name, self.case.cell)

    @property
    def sees_masks(self) -> bool:
        """Whether the masks of training calls could be seen so far."""
        return not self.firsts

    def refuses_eval(self) -> bool:
        """Whether a fresh module refuses a backward pass in evaluation, and none in training."""
        given = self.draw()

        def refuses(mode: str) -> bool:
            return self.hold(given, lambda: self.call(self.build(given), given, mode)).verdict == Verdict.UNSUPPORTED

        return refuses("eval") and not refuses("train")

    def leave_eval(self) -> None:
        """Go on without backward passes in evaluation: training with dropout 0 computes the same."""
        self.modes, self.quiet = tuple(mode for mode in self.modes if mode != "eval"), "train"

    def draw(self, seed: int = 0, weights_of: int | None = None, **axes: Any) -> Given:
        """What a module is given, for the case with some axes replaced; the same draw is the same object.

        Where training is the quiet mode, dropout is 0 unless it is asked for. `weights_of`: another seed, whose draw
        gives the weights.
        """
        case = replace(self.case, **({"dropout": 0.0} if self.quiet == "train" else {}) | axes)
        key = seed, weights_of, case
        if key not in self.drawn:
            stimulus = draw_stimulus(case, 1000 * self.seed + seed)
            given = Given.of(case, stimulus if self.takes_states else without_states(stimulus), seed)
            self.drawn[key] = (
                given if weights_of is None else given.with_weights(self.draw(weights_of).stimulus.weights)
            )
        return self.drawn[key]

    def draw_undropped(self, mode: str) -> Given:
        """What a module is given in a mode that is to drop nothing: in training, dropout is 0."""
        return self.draw(dropout=0.0) if mode == "train" else self.draw()

    def build(self, given: Given, **options: Any) -> nn.Module:
        """Build a module with the weights that are given; `options` as those of `build_sized`."""
        return build_loaded(given.case, self.name, given.stimulus, **options)

    def judge(
        self, module: nn.Module, given: Given, mode: str, when: str = "", before: Given | None = None, **how
    ) -> Found:
        """Call a module once, and hold what it gives against the oracle.

        Args:
            mode: `train`, `eval`, or `inference`, which is evaluation without gradients. An `eval` that refuses a
                backward pass goes forward alone.
            when: what came before, in words. before: what the module was given then. how: see `call`.
        """
        draws = mode == "train" and given.case.draws_dropout
        if draws and not self.drawing.is_itself_watched:
            return self.hold(given, lambda: self._call_twice(module, given, mode, **how), when, before)
        found = self.hold(given, lambda: self.call(module, given, mode, **how), when, before)
        if found.fails and draws and self.drawing.has_another_order(given.case):
            return self.hold(given, lambda: self.call(module, given, mode, **how), when, before)
        return found

    def hold(
        self,
        given: Given,
        run: Callable[[], Results],
        when: str = "",
        before: Given | None = None,
        reference: Callable[[], Reference] | None = None,
    ) -> Found:
        """Hold what `run` gives against a reference, by default the oracle's; what it raises is a finding."""
        if when and given.case.dropout == 0 < self.case.dropout:
            when = f"{when}, with dropout 0"
        try:
            results = run()
        except InputError:
            raise
        except Exception as error:  # whatever an implementation under test raises is a result
            verdict, reason = classify_exception(error)
            return Found(verdict, "", reason, when=when)
        if results.hides_masks and results.offence:
            return Found(Verdict.DIFFERENT, "", results.offence, when=when)
        found = judge(given.case, results.values, reference() if reference else self._reference(given, results))
        if results.hides_masks and found.reason.startswith(("error is", "is wrong")):
            found = replace(found, reason="is not what the same seed gave before")
        if found.fails and before is not None:
            value = {found.quantity: results.values[found.quantity]}
            if not judge(given.case, value, before.references.with_masks(results.masks)).fails:
                found = replace(found, reason="is what it was before")
        if results.offence:
            reason = f"{found.reason}; it {results.offence}" if found.fails else results.offence
            found = replace(found, verdict=Verdict.DIFFERENT, reason=reason, quantity=found.quantity * found.fails)
        return replace(found, when=when)

    def _reference(self, given: Given, results: Results) -> Reference:
        """The oracle's; of training calls whose masks cannot be seen, what the first one gave."""
        reference = given.references.with_masks(results.masks)
        if results.hides_masks:
            _, first = self.firsts.setdefault(id(given), (given, {}))
            for name, value in results.values.items():
                first.setdefault(name, value.double())
            return Reference(first, lambda: reference.sensitivities)
        return reference

    def call(self, module: nn.Module, given: Given, mode: str, **how) -> Results:
        """Call a module once, forward and, in a mode that has gradients, backward; `how` as of `start`."""
        return self.start(module, given, mode, **how).finish()

    def _call_twice(self, module: nn.Module, given: Given, mode: str, **how) -> Results:
        """Call a module that may compute something else while it is watched; its masks are known where it does not.

        The copy of a compiled module is not compiled.
        """
        alone = self.call(module, given, mode, **how)
        seen = self.call(module, given, mode, watched=True, **how)
        return seen if all(same(value, seen.values[name]) for name, value in alone.values.items()) else alone

    def start(
        self,
        module: nn.Module,
        given: Given,
        mode: str,
        *,
        through: Callable[[Tensor, Any], Any] | None = None,
        arrange: Callable[[Tensor], Tensor] = lambda tensor: tensor,
        with_states: bool = True,
        learning: tuple[str, ...] | None = None,
        as_parameters: bool = False,
        seed: int | None = SEED,
        watched: bool = False,
    ) -> Pass:
        """Call a module forward.

        Args:
            through: another way to call it. arrange: makes what it is given lie otherwise in memory.
            with_states: whether it is given states; without, they have no gradients.
            learning: what asks for gradients besides the parameters: input and states, where it is None.
            as_parameters: whether input and states are parameters of nobody.
            seed: of dropout; None seeds nothing. watched: whether its draws are, also where it then computes otherwise.

        Raises whatever the module raises.
        """
        learns = mode != "inference"
        asked = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
        if module.training != (mode == "train"):  # a change of mode may refresh what was packed
            module.train(mode == "train")
        tensors = map(arrange, given.tensors())
        inputs = {
            name: tensor.detach().requires_grad_(learns and (learning is None or name in learning))
            for name, tensor in zip(self.cell.inputs(), tensors, strict=True)
        }
        if as_parameters:
            inputs = {name: nn.Parameter(tensor) for name, tensor in inputs.items()}
        owned = inputs | dict(module.named_parameters())
        asked |= {name: tensor.requires_grad for name, tensor in inputs.items()}
        copies = {name: tensor.detach().clone() for name, tensor in owned.items()}
        if mode == "train" and seed is not None:
            seed_generators(self.seed + seed)
        before, draws = generator_states(given.case.device), DropoutRecorder()
        drops = mode == "train" and given.case.draws_dropout
        watched = drops and (watched or self.drawing.is_itself_watched)
        with torch.set_grad_enabled(learns), draws if watched else nullcontext():
            values = results_of(self.cell, through or module, *inputs.values())
            if torch.is_grad_enabled() != learns:
                note(self.name, "torch.is_grad_enabled()", not learns)
        # What is made at a module's first call may draw its first weights.
        moved = (
            mode != "train"
            and module in self.called
            and not all(map(torch.equal, before, generator_states(given.case.device)))
        )
        self.called.add(module)
        left_out = () if with_states and self.takes_states else tuple(self.cell.inputs()[1:])
        masks, offence = None, f"moves torch's global generator in {mode}" if moved else ""
        if watched or (drops and given.case.dropout == 1):
            masks, offence = self.drawing.masks_of(draws, given, through or module)
        turned = [
            name for name, tensor in owned.items() if tensor.requires_grad != asked.get(name, tensor.requires_grad)
        ]
        offence = offence or (f"changes whether {turned[0]} learns" if turned else "")
        if unwrapped(module).training != (mode == "train"):
            offence = offence or f"leaves {'training' if mode == 'train' else 'evaluation'} mode"
        offence = offence or _unfit_for_use(values, learns)
        return Pass(self, module, given, mode, inputs, values, masks, offence, owned, copies, left_out)

    def offence_of(self, owned, copies, found) -> str:
        """What a call changed of what it was given, of its weights, or of the results of the call before."""
        written = [f"writes into its {name}" for name, tensor in owned.items() if not same(tensor, copies[name])]
        written += [f"overwrites {name} of the call before" for name, t, copy in self.earlier if not same(t, copy)]
        self.earlier = [(name, value.detach(), value.detach().clone()) for name, value in found.items()]
        return written[0] if written else ""


@dataclass(frozen=True)
class Pass:
    """A forward pass whose graph is still there."""

    life: Life
    module: nn.Module
    given: Given
    mode: str
    inputs: dict[str, Tensor]
    values: dict[str, Tensor]
    masks: Tensor | None
    offence: str
    owned: dict[str, Tensor]
    copies: dict[str, Tensor]
    left_out: tuple[str, ...]

    def gradients(self, **options: bool) -> dict[str, Tensor]:
        """The gradients of the loss, by quantity; `options` are those of `torch.autograd.grad`."""
        found = take_gradients(self.module, self.inputs, self.given.weighed(self.values), **options)
        return {f"grad_{name}": gradient for name, gradient in found.items() if name not in self.left_out}

    def forward(self) -> Results:
        """The results without gradients."""
        return self.results(self.values)

    def finish(self, **options: bool) -> Results:
        """The results, gradients included where the mode has any."""
        found, computed = dict(self.values), {name: value.detach().clone() for name, value in self.values.items()}
        if self.mode in self.life.learning_modes:
            found |= self.gradients(**options)
        written = [name for name, value in computed.items() if not same(self.values[name], value)]
        offence = self.life.offence_of(self.owned, self.copies, found)
        if written:
            found, offence = found | computed, f"overwrites its {written[0]} in its backward pass"
        self.life.last = self.results(found, offence)
        return self.life.last

    def results(self, found: dict[str, Tensor], offence: str = "") -> Results:
        """What was found, with the masks of the call."""
        hidden = self.mode == "train" and self.given.case.draws_dropout and self.masks is None
        values = {name: value.detach().cpu() for name, value in found.items()}
        return Results(values, self.masks, hidden, self.offence or offence)


def _unfit_for_use(values: dict[str, Tensor], learns: bool) -> str:
    """What is wrong with results that carry more than numbers; empty where nothing is."""
    for name, value in values.items():
        if value.requires_grad and not learns:
            return f"gives {name} with a graph where gradients are off"
        if value.is_inference() and not torch.is_inference_mode_enabled():
            return f"gives {name} as a tensor of torch.inference_mode, which nothing that learns can take"
    return ""


def without_states(stimulus: Stimulus) -> Stimulus:
    """The same from states of zero."""
    return replace(stimulus, states=tuple(map(torch.zeros_like, stimulus.states)))
