"""The order in which a layer draws its masks is found by what a dropped entry changes, whatever the shapes say."""

import dataclasses

import orders
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from orders import ORDERS

from rnn_parity.compare.case import compare_case
from rnn_parity.dropout import order
from rnn_parity.dropout.masks import DropoutRecorder, draw_masks, mask_shape
from rnn_parity.dropout.order import MaskOrder, UnknownOrder, UnlawfulDraws, find_order, order_of
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import call_layer
from rnn_parity.layers.stepwise import StackingGRUCellLoop
from rnn_parity.layers.stimulus import build_loaded, draw_stimulus
from rnn_parity.workloads.layer import Layer

PASSES = {"identical", "equivalent"}
CASE = Case("order", "cpu", "float32", False, 3, 4, 3, 4, 4, 0.3, 1)  # T = B = H
BASELINES = {"gru": "stacking_gru_cell", "lstm": "stacking_lstm_cell"}


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """The layers here change their order; what is found of one of them is not kept for the next test."""
    monkeypatch.setattr(order, "_KNOWN", {})


def case_of(steps, batch, hidden, layers, **others):
    sizes = {"sequence_length": steps, "batch_size": batch, "hidden_size": hidden, "num_layers": layers}
    return dataclasses.replace(CASE, **sizes, **others)


def here(layer):
    return f"orders:{layer.__name__}"


def matched(case, layer, regime="train_matched_masks"):
    rows = list(compare_case(Layer(), case, BASELINES[case.cell], [layer], [0], [regime], num_draws=300))
    return [row for row in rows if row["regime"] == regime]


def verdicts(*given):
    return {row["verdict"] for row in matched(*given)}


def reasons(*given):
    return {row["reason"].rpartition(": ")[0] for row in matched(*given) if row["verdict"] == "different"}


small = st.integers(1, 4)


@pytest.mark.slow
@given(
    sizes=st.tuples(small, small, small, st.integers(2, 4)),
    axes=st.sampled_from(ORDERS),
    pieces=st.integers(1, 9),
    layer=st.sampled_from([orders.Drawn, orders.DrawnForEveryLayer]),
    cell=st.sampled_from(list(BASELINES)),
)
def test_no_order_of_the_masks_is_different(sizes, axes, pieces, layer, cell):
    orders.Chosen = type("Chosen", (layer,), {"axes": axes, "pieces": pieces})  # a layer whose order is not known yet
    assert "different" not in verdicts(case_of(*sizes, cell=cell), here(orders.Chosen))


@pytest.mark.parametrize("cell", BASELINES)
@pytest.mark.parametrize("axes", ORDERS)
@pytest.mark.parametrize("layer", [orders.Drawn, orders.DrawnForEveryLayer])
def test_every_order_is_found_where_no_size_tells_them_apart(layer, axes, cell):
    layer.axes, layer.pieces = axes, 3
    order = order_of(case_of(3, 3, 3, 4, cell=cell), here(layer))
    assert order == MaskOrder((3, 3, 3, 3), axes, int(layer is orders.DrawnForEveryLayer))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("layer", orders.RIGHT)
def test_right_layers_of_any_make_are_judged_under_the_masks_imposed(layer, dtype):
    for case in (case_of(8, 8, 5, 3, dtype=dtype), case_of(6, 5, 5, 3, dtype=dtype), case_of(7, 3, 4, 2, dtype=dtype)):
        rows = matched(case, here(layer))
        assert {row["verdict"] for row in rows} <= PASSES
        assert {row["mask_agreement"] for row in rows} == {1.0}


@pytest.mark.parametrize("layer", orders.RIGHT)
def test_with_the_same_seed_the_masks_are_those_that_each_layer_applied(layer):
    rows = matched(case_of(8, 8, 8, 3), here(layer), "train_same_seed")
    assert all(0.3 < row["mask_agreement"] < 1 for row in rows)
    same = matched(case_of(8, 8, 8, 3), "rnn_parity.layers.stepwise:StackingGRUCellLoop", "train_same_seed")
    assert {row["mask_agreement"] for row in same} == {1.0}


@pytest.mark.parametrize("layer", [orders.TakenFromTheEnd, orders.Chunked])
def test_an_order_of_another_kind_is_not_taken_for_one_of_ours(layer):
    layer.axes, layer.pieces = ORDERS[0], 1
    case = case_of(6, 5, 16, 4)
    with pytest.raises(UnknownOrder, match=r"no order explains the 1,440 numbers") as caught:
        order_of(case, here(layer))
    assert not isinstance(caught.value, UnlawfulDraws)
    rows = matched(case, here(layer))
    assert {row["verdict"] for row in rows} <= PASSES
    assert {row["mask_agreement"] for row in rows} == {1.0}  # what was recovered is given to the baseline


MUTANTS = "rnn_parity.trust.faults:"


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        (MUTANTS + "NoDropout", "it draws no dropout mask"),
        (MUTANTS + "OneMaskForAllSteps", "it draws one dropout mask for all steps"),
        (MUTANTS + "OneMaskForAllLayers", "it draws one dropout mask for all layers"),
        (MUTANTS + "DropoutAfterLast", "it drops its last layer's output"),
        (here(orders.AlsoAfterLast), "it drops its last layer's output"),
        (here(orders.OneTooHigh), "it drops its last layer's output"),
        (here(orders.StateDropped), "it drops its states, not only what goes from one layer to the next"),
        (MUTANTS + "RecurrentDropout", "it drops what its first layer reads: its input, or the state that is carried"),
        (MUTANTS + "FinalStateAfterDropout", "it drops its last states"),
        (MUTANTS + "FinalStatesReversed", "its last state is not its output's last step"),
    ],
)
@pytest.mark.parametrize("cell", BASELINES)
def test_draws_that_no_order_makes_right_are_different_and_the_cause_is_named(layer, cause, cell):
    orders.AlsoAfterLast.axes = (2, 1, 0, 3)
    case = case_of(5, 2, 6, 4, cell=cell)
    assert reasons(case, layer) == {cause}
    rows = compare_case(Layer(), case, layer, [BASELINES[cell]], [0], ["train_matched_masks"])
    said = {row["reason"] for row in rows if row["verdict"] == "different"}
    assert all(reason.startswith(f"the baseline: {cause}: the baseline itself ") for reason in said)
    assert said


@pytest.mark.parametrize("layer", ["StateCarried", "StatesSwap"])
def test_a_layer_whose_results_change_from_call_to_call_is_not_said_to_drop_something(layer):
    with pytest.raises(UnknownOrder, match="its results change from call to call") as caught:
        order_of(case_of(5, 2, 6, 4, cell="lstm"), f"rnn_parity.trust.life.repetition:{layer}")
    assert not isinstance(caught.value, UnlawfulDraws)


def test_where_sizes_are_equal_a_count_names_all_that_it_may_mean():
    cause = "it draws one dropout mask for all steps, or for all rows of the batch"
    assert reasons(case_of(5, 5, 6, 3), MUTANTS + "OneMaskForAllSteps") == {cause}


def test_a_mask_that_is_drawn_and_not_used_hides_no_cause():
    """Two gaps, twelve steps, four rows: the numbers drawn would also be those of a mask for all layers and rows."""
    layer = here(orders.OneForAllStepsOfEveryLayer)
    assert reasons(case_of(12, 4, 6, 3), layer) == {"it draws one dropout mask for all steps"}


def test_dropout_on_the_second_state_is_named():
    case = case_of(5, 3, 6, 4, cell="lstm")
    assert reasons(case, "rnn_parity.trust.lstm_faults:FinalCellDropped") == {"it drops its last states"}


def test_a_mask_that_only_the_backward_pass_transposes_is_different_there():
    orders.TransposedInBackward.axes = ORDERS[0]
    found = {row["quantity"]: row["verdict"] for row in matched(case_of(5, 5, 6, 3), here(orders.TransposedInBackward))}
    assert {found["output"], found["hn"]} <= PASSES
    assert found["grad_input"] == "different"


def test_masks_drawn_out_of_sight_have_no_order():
    with pytest.raises(UnknownOrder, match="its masks are drawn out of sight") as caught:
        order_of(CASE, "faults:HiddenDropout")
    assert not isinstance(caught.value, UnlawfulDraws)


def test_one_row_is_tried_until_one_order_is_left():
    """Sixteen entries, one at a time, are all of even places here where they show in the first gap."""
    found = order_of(case_of(39, 1, 9, 3), "stacking_gru_cell")
    assert [axis for axis in found.axes if axis != 2] == [1, 0, 3]  # one row has no place in the order


class RowsInHalves(StackingGRUCellLoop):
    """Right: half of the rows after the other, through all layers; no order of whole axes is that of its draws."""

    def forward(self, input, h0):
        halves = [
            super(RowsInHalves, self).forward(*half) for half in zip(input.chunk(2, 1), h0.chunk(2, 1), strict=True)
        ]
        return tuple(torch.cat(results, dim=1) for results in zip(*halves, strict=True))


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
@pytest.mark.parametrize("rows", [4, 7])
def test_an_order_that_is_half_right_is_not_believed(steps, rows):
    with pytest.raises(UnknownOrder, match="no order explains"):
        order_of(case_of(steps, rows, 6, 3), f"{__name__}:RowsInHalves")


def test_a_layer_is_run_few_times_with_gradients_and_generators_are_left_as_they_were():
    case, runs = case_of(9, 32, 16, 3), []
    stimulus = draw_stimulus(case, 0)
    module = build_loaded(case, "stacking_gru_cell", stimulus).train()
    given = [tensor.clone().requires_grad_() for tensor in (stimulus.input, *stimulus.states)]

    def run(draws):
        runs.append(draws)
        with draws:
            outputs = call_layer(module, given[0], given[1:])
        assert all(output.requires_grad for output in outputs)
        return outputs

    torch.manual_seed(3)
    before = torch.get_rng_state()
    order = find_order(case, run)
    assert torch.equal(torch.get_rng_state(), before)
    assert order == MaskOrder(mask_shape(case), (1, 0, 2, 3))
    assert len(runs) == 3


@given(sizes=st.tuples(small, small, small, small), axes=st.sampled_from(ORDERS), unused=st.integers(0, 1))
def test_masks_come_back_from_a_stream(sizes, axes, unused):
    order, masks = MaskOrder(sizes, axes, unused), draw_masks(sizes, 0.5, seed=0)
    stream = order.to_stream(masks)
    assert torch.equal(order.to_masks(stream), masks)
    with pytest.raises(UnknownOrder, match="in another call"):
        order.to_masks(stream[1:])
    numbers = torch.arange(len(stream))
    for place, (gap, step, row) in zip(numbers.tolist(), order.places(numbers), strict=True):
        assert gap == sizes[0] or place in order.to_masks(numbers.double())[gap, step, row]


def test_the_recorder_of_a_right_layer_holds_its_masks():
    """What was drawn, in the order that was found, is what the oracle needs."""
    orders.Drawn.axes = (3, 1, 0, 2)
    case, name = case_of(4, 4, 4, 3), here(orders.Drawn)
    stimulus = draw_stimulus(case, 0)
    module = build_loaded(case, name, stimulus).train()
    with DropoutRecorder() as draws:
        call_layer(module, stimulus.input, stimulus.states)
    applied = (module.masks > 0).double()
    assert torch.equal(order_of(case, name).to_masks(draws.stream()), applied)
    assert 0 < applied.mean() < 1
