"""What is compiled is judged as it runs: compiled, whoever has watched it, and by the masks that it then draws."""

import pytest
import torch
from torch import nn

from rnn_parity.compare.case import compare_case
from rnn_parity.dropout.masks import DropoutRecorder
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.stepwise import StackingGRUCellLoop
from rnn_parity.life.live import live
from rnn_parity.workloads.layer import Layer

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the compiler's own

CASE = Case("compiled", "cpu", "float32", False, 5, 6, 2, 4, 3, 0.3, 1)
RAN = []
DROPOUT = nn.functional.dropout


def redrawn(input, p, training, inplace=False):
    """Dropout from numbers that are drawn otherwise, as a compiler draws them."""
    RAN.append(training)
    return input * (torch.rand_like(input) >= p) / (1 - p) if training else input * 1


def redrawn_and_smaller(*args, **kwargs):
    return 0.9 * redrawn(*args, **kwargs)


class _Spoiled(torch.autograd.Function):
    """Its input, and a wrong gradient."""

    @staticmethod
    def forward(ctx, input):
        return input.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 0.9 * gradient


def spoiled(*args, **kwargs):
    return _Spoiled.apply(DROPOUT(*args, **kwargs))


class Compiled(StackingGRUCellLoop):
    """Right, compiled or not; the masks are others."""

    dropout_where_compiled = staticmethod(redrawn)

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__(input_size, hidden_size, num_layers, dropout)
        self.cell.compile(backend=self.replace_dropout)

    def replace_dropout(self, graph, _):
        for node in graph.graph.nodes:
            if node.target is DROPOUT:
                node.target = self.dropout_where_compiled
        graph.recompile()
        return graph.forward


class CompiledWrong(Compiled):
    """Wrong where it is compiled alone."""

    dropout_where_compiled = staticmethod(redrawn_and_smaller)


class CompiledWrongBackward(Compiled):
    """Its masks are those of the layer as it is written, and so is its forward pass."""

    dropout_where_compiled = staticmethod(spoiled)


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch.compiler.reset()
    RAN.clear()
    yield
    torch.compiler.reset()


def name(layer):
    return f"{__name__}:{layer.__name__}"


def verdicts(layer, *regimes):
    rows = list(compare_case(Layer(), CASE, "stacking_gru_cell", [name(layer)], [0, 1], regimes, 1000))
    rows = [row for row in rows if row["implementation"] == name(layer)]
    return {regime: {(row["verdict"], row["reason"]) for row in rows if row["regime"] == regime} for regime in regimes}


def test_a_compiled_layer_stays_compiled_where_it_has_been_watched():
    layer = Compiled(5, 6, 2, 0.3)
    given = torch.randn(4, 3, 5), torch.randn(2, 3, 6)
    with DropoutRecorder() as recorder:
        layer(*given)
    assert recorder.count > 0
    assert not RAN
    layer(*given)
    assert len(RAN) == 4


def test_masks_that_are_drawn_where_it_is_compiled_are_found():
    found = verdicts(Compiled, "train_matched_masks", "eval", "train_same_seed")
    assert {verdict for verdict, _ in found["eval"] | found["train_matched_masks"]} <= {"identical", "equivalent"}
    assert "different" in {verdict for verdict, _ in found["train_same_seed"]}


@pytest.mark.slow
@pytest.mark.parametrize("layer", [CompiledWrong, CompiledWrongBackward])
def test_what_is_wrong_where_it_is_compiled_is_seen_by_masks_too(layer):
    found = verdicts(layer, "train_matched_masks")["train_matched_masks"]
    assert "different" in {verdict for verdict, _ in found}


@pytest.mark.slow
def test_a_compiled_layer_lives_with_masks_of_its_own_and_its_copy_with_those_that_can_be_seen():
    points = ("first_call", "same_seed", "shapes_in_turn", "copied", "frozen")
    rows = list(live(CASE, name(Compiled), points=points))
    assert {row["point"]: row["reason"] for row in rows if row["verdict"] not in ("identical", "equivalent")} == {}


def test_a_fault_that_changes_from_call_to_call_is_not_taken_for_compiled():
    """Where the compiler is loaded, as any layer of the process may have it."""
    rows = live(CASE, "rnn_parity.trust.life.masks:MaskOfStepBefore", points=("without_seed",))
    assert [row["verdict"] for row in rows] == ["different"]
