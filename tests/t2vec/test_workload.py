"""A layer in t2vec's decoder is held against equations written apart from the model; what is wrong is found there."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from conftest import PROJECT
from faults import refuse_as_cudnn_does
from rnn_parity.compare.case import compare_case
from rnn_parity.compare.run import Role
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.tables import EQUIVALENCE
from rnn_parity.trust.examine import faults_of
from rnn_parity_t2vec import model as t2vec
from rnn_parity_t2vec.batches import make_batch
from rnn_parity_t2vec.inputs import draw_batches, draw_parameters
from rnn_parity_t2vec.model import PAD
from rnn_parity_t2vec.model_masks import Masks, imposed
from rnn_parity_t2vec.reference import Equations, training_step
from rnn_parity_t2vec.workload import Decoder

BY_NAME = {path.split(":")[1]: path for path in faults_of("gru")}
CASE = Case("decoder", "cpu", "float32", False, 6, 8, 3, 7, 4, 0.3, 1)
DECODER = Decoder(vocabulary=23)
SETTINGS = DECODER.settings
REGIMES = ("eval", "train_matched_masks")
PASSES = {"identical", "equivalent"}


def compare(case=CASE, candidate="stacking_gru", baseline="stacking_gru_cell", regimes=REGIMES, seeds=(0,), **settings):
    workload = Decoder(**{"vocabulary": 23, **settings})
    return list(compare_case(workload, case, baseline, [candidate], seeds, regimes))


def verdicts(rows, regime="eval"):
    return {row["quantity"]: row["verdict"] for row in rows if row["regime"] == regime}


def reference(case=CASE, settings=SETTINGS, masks=None, seed=0):
    (batch,) = draw_batches(case, settings, 1, seed)
    parameters = {name: value.double() for name, value in draw_parameters(case, settings.vocabulary, seed).items()}
    return Equations(batch, masks(len(batch.source)) if masks else None, case.dropout), parameters


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_a_training_step_is_equivalent_in_every_dtype(dtype):
    rows = compare(dataclasses.replace(CASE, dtype=dtype), seeds=[0, 1])
    found = [row["verdict"] for row in rows]
    assert set(found) <= PASSES | {"not judged"}
    assert found.count("not judged") <= 0.03 * len(found)  # bfloat16: too coarse to judge
    names = DECODER.draw(CASE, 0).quantities()
    assert len(rows) == 2 * 2 * len(names)
    assert {"output", "hn", "grad_context", "grad_encoder.rnn.weight_ih_l0_reverse", "grad_generator.0.bias"} <= set(
        names
    )
    assert "grad_decoder.rnn.weight_hh_l2" in names
    assert all(set(row) <= set(EQUIVALENCE.names) for row in rows)


def test_a_saturated_attention_is_no_fault():
    """Where a weight is nearly 1 the softmax's gradient cancels: what rounding does there is granted."""
    case = dataclasses.replace(CASE, input_size=3, hidden_size=4, sequence_length=5, batch_size=8, dropout=0.8)
    rows = compare(case, regimes=["eval"], seeds=[541721], vocabulary=60)
    assert set(verdicts(rows).values()) <= PASSES


def test_one_saturated_gate_that_rules_a_gradient_is_no_fault():
    """There the rounding of one number decides, and of six draws of it all may happen to be small."""
    case = dataclasses.replace(CASE, hidden_size=2, sequence_length=10, batch_size=1, dropout=0.8)
    assert {row["verdict"] for row in compare(case, seeds=[978451], vocabulary=12)} <= PASSES


def test_the_names_of_the_parameters_are_those_of_the_model():
    for name in ("stacking_gru_cell", "stacking_gru"):
        task = DECODER.draw(CASE, 0)
        found = task.build(name, "all_steps").canonical_parameters()
        assert found.keys() == task.parameters.keys()
        assert all(torch.equal(found[key], value) for key, value in task.parameters.items())
        assert len({id(p) for p in found.values()}) == len(list(task.build(name, "all_steps").parameters()))


@pytest.mark.parametrize("group", ["embedding", "encoder", "decoder.attention", "decoder.rnn", "generator"])
def test_the_references_gradients_are_the_slopes_of_its_loss(group):
    case = dataclasses.replace(CASE, num_layers=2, sequence_length=4)
    equations, parameters = reference(case, masks=lambda steps: Masks.draw(case, steps, 5))
    values, generator = training_step(equations, parameters), torch.Generator().manual_seed(1)
    directions = {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for name, value in parameters.items()
        if name.startswith(group)
    }
    if group == "embedding":
        directions["embedding.weight"][PAD] = 0
    slope = sum((values[f"grad_{name}"] * direction).sum() for name, direction in directions.items())
    losses = [
        training_step(equations, parameters | {name: parameters[name] + h * d for name, d in directions.items()})[
            "loss"
        ]
        for h in (1e-6, -1e-6)
    ]
    torch.testing.assert_close(slope, (losses[0] - losses[1]) / 2e-6, rtol=1e-6, atol=0)


def test_side_by_side_the_reference_gives_what_it_gives_one_by_one():
    equations, parameters = reference()
    other = reference(seed=1)[1]
    both = training_step(equations, {name: torch.stack([value, other[name]]) for name, value in parameters.items()})
    for index, given in enumerate((parameters, other)):
        for quantity, value in training_step(equations, given).items():
            torch.testing.assert_close(both[quantity][index], value, rtol=1e-12, atol=1e-14)


def test_padding_reaches_nothing():
    """The same trajectories, once in a batch with a longer one: what is theirs stays."""
    random = np.random.default_rng(0)
    short = make_batch([[5, 6, 7], [8, 9]], 7, random)
    padded = dataclasses.replace(
        short,
        source=torch.cat([short.source, torch.full((4, 2), PAD)]),
        target=torch.cat([short.target, torch.full((2, 2), PAD)]),
    )
    _, parameters = reference()
    one, other = (training_step(Equations(batch, None, 0.0), parameters) for batch in (short, padded))
    for quantity in one.keys() - {"output", "grad_context", "hn"}:
        torch.testing.assert_close(one[quantity], other[quantity], rtol=1e-12, atol=1e-14)
    assert not one["grad_embedding.weight"][PAD].any()


def test_all_masks_of_the_model_are_imposed():
    """With everything dropped behind the attention, nothing comes out; between the layers, only biases get on."""
    task = DECODER.draw(CASE, 0)
    batch = task.batch
    for name, attending in (("stacking_gru_cell", "each_step"), ("stacking_gru", "all_steps")):
        model = task.build(name, attending).train()
        given = batch.source, batch.lengths, batch.target[:-1]
        masks = Masks.draw(CASE, len(batch.source), 0)
        with imposed(model, batch.lengths, masks):
            first = model(*given)
        closed = dataclasses.replace(masks, output=torch.zeros_like(masks.output))
        with imposed(model, batch.lengths, closed):
            assert not model(*given)[0].any()
        for place in ("encoder", "stack"):
            changed = dataclasses.replace(masks, **{place: 1 - getattr(masks, place)})
            with imposed(model, batch.lengths, changed):
                assert not torch.allclose(model(*given)[1], first[1])


def test_padding_of_the_source_takes_no_masks_from_the_next_sequence():
    """The encoder draws over packed rows; each row must get the mask of its own step and sequence."""
    case = dataclasses.replace(CASE, dtype="float64")
    rows = compare(case, regimes=["train_matched_masks"])
    assert {row["verdict"] for row in rows} <= PASSES
    assert max(row["ratio"] for row in rows) < 1


@pytest.mark.parametrize(
    ("mutant", "quantity", "regime"),
    [
        ("UpdateAndNewSwapped", "output", "eval"),
        ("BiasOutsideReset", "output", "eval"),
        ("StatesReversed", "hn", "eval"),
        ("StateDetached", "grad_h0", "eval"),
        ("GradientTruncated", "grad_decoder.rnn.weight_hh_l0", "eval"),
        ("OneMaskForAllSteps", "output", "train_matched_masks"),
        ("NoDropout", "output", "train_matched_masks"),
    ],
)
def test_a_planted_fault_is_found_inside_the_model(mutant, quantity, regime):
    rows = compare(candidate=BY_NAME[mutant])
    assert verdicts(rows, regime)[quantity] == "different"


def faulty_attention(self, query, context, padding):
    return RIGHT(self, query, context, torch.zeros_like(padding))


def detached_context(self, query, context, padding):
    return RIGHT(self, query, context.detach(), padding)


def late_query(self, query, context, padding):
    return RIGHT(self, query.roll(1, 0) if len(query) > 1 else query, context, padding)


RIGHT = t2vec.GlobalAttention.forward


@pytest.mark.parametrize(
    ("fault", "quantity"),
    [(faulty_attention, "output"), (detached_context, "grad_context"), (late_query, "output")],
)
def test_a_fault_of_the_rewritten_attention_is_found(monkeypatch, fault, quantity):
    """Planted on both sides: the reference shares nothing with the model that could hide it."""
    monkeypatch.setattr(t2vec.GlobalAttention, "forward", fault)
    rows = compare(candidate="stacking_gru", regimes=["eval"])
    assert next(row for row in rows if row["quantity"] == quantity)["ratio"] > 1


def test_one_mask_for_all_steps_behind_the_attention_is_found(monkeypatch):
    def once(self, target, h0, context, padding):
        states, hn = self.rnn(self.embedding(target), h0)
        attended = self.attention(states, context, padding)
        if self.attending == "all_steps":
            return attended * self.dropout(torch.ones_like(attended))[:1], hn
        return self.dropout(attended), hn

    monkeypatch.setattr(t2vec.Decoder, "forward", once)
    found = compare(regimes=["train_matched_masks"])
    assert verdicts(found, "train_matched_masks")["output"] == "different"


@pytest.mark.slow
def test_masks_drawn_out_of_sight_are_recovered_inside_the_model():
    for pair in (("faults:HiddenDropout", "stacking_gru_cell"), ("stacking_gru", "faults:HiddenDropout")):
        rows = compare(candidate=pair[0], baseline=pair[1])
        assert {row["verdict"] for row in rows} <= PASSES
    wrong = compare(candidate="faults:HiddenButWrong")
    assert verdicts(wrong, "train_matched_masks")["grad_h0"] == "different"
    rows = compare(candidate="faults:Unrepeatable")
    assert set(verdicts(rows, "train_matched_masks").values()) == {"not judged"}


@pytest.mark.parametrize(
    ("fault", "verdict", "reason"),
    [("OutOfMemory", "not judged", "out of memory"), ("Crash", "failed", "ValueError: it went wrong")],
)
def test_what_a_layer_raises_is_data(fault, verdict, reason):
    rows = compare(candidate=f"faults:{fault}")
    assert {row["verdict"] for row in rows} == {verdict}
    assert all(row["reason"].startswith(reason) for row in rows)


_OF_SHAPES = """
import json, sys
from rnn_parity.compare.case import compare_case
from rnn_parity.experiment.grid import Case
from rnn_parity_t2vec.workload import Decoder
case = Case("decoder", "cpu", "float32", False, 6, 8, int(sys.argv[2]), 7, 4, 0.3, 1)
rows = compare_case(Decoder(vocabulary=23), case, "stacking_gru_cell", [sys.argv[1]], [0], ["eval"])
print(json.dumps({row["quantity"]: [row["verdict"], row["reason"]] for row in rows}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "layers", "shape"),
    [("WrongShape", 3, "(1, 4, 8)"), ("BatchFirstStates", 3, "(4, 3, 8)"), ("FlatStates", 1, "(4, 8)")],
)
def test_a_wrong_shape_is_not_taken_for_a_result(fault, layers, shape):
    """In a process of its own, since here every call's shapes are checked, which for its users they are not."""
    command = [sys.executable, "-c", _OF_SHAPES, f"faults:{fault}", str(layers)]
    done = subprocess.run(command, cwd=PROJECT / "tests", capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found.pop("hn") == ["different", f"gives {shape} torch.float32, expected ({layers}, 4, 8) torch.float32"]
    assert {verdict for verdict, _ in found.values()} <= PASSES


def test_an_encoder_without_a_backward_pass_in_eval_mode_hides_no_gradient(monkeypatch):
    """As cuDNN's has none: what is not replaced must not stand in the way of what is."""
    refuse_as_cudnn_does(monkeypatch)
    rows = compare(candidate="rnn_parity.trust.right:WrittenOut", regimes=["eval"])
    assert set(verdicts(rows).values()) <= PASSES
    ours = verdicts(compare(candidate="stacking_gru", regimes=["eval"]))
    assert {quantity for quantity, verdict in ours.items() if verdict in PASSES} == {"output", "hn", "loss"}
    assert set(ours.values()) - PASSES == {"unsupported"}


def test_a_file_of_trajectories_is_read_and_must_fit(tmp_path):
    path = tmp_path / "train.t"
    path.write_text("".join(f"{4 + k} {5 + k} {6 + k} 7\n" for k in range(9)))
    rows = compare(file=str(path), regimes=["eval"])
    assert set(verdicts(rows).values()) <= PASSES
    with pytest.raises(InputError, match=r"train.t: line 5: holds '10', expected tokens from 4 to 9"):
        compare(file=str(path), vocabulary=10)


def test_the_baseline_and_the_candidate_are_given_the_same():
    task = DECODER.draw(CASE, 0)
    one, other = (task.run(name, Role.CANDIDATE, "eval", None) for name in ("stacking_gru", "torch.nn:GRU"))
    assert all(torch.equal(one.values[name], other.values[name]) for name in one.values)


def test_masks_come_back_from_one_row():
    task = DECODER.draw(CASE, 0)
    masks = Masks.draw(CASE, len(task.batch.source), 3)
    again = Masks.unflatten(masks.flatten(), CASE, len(task.batch.source))
    for place in ("encoder", "stack", "output"):
        assert torch.equal(getattr(masks, place), getattr(again, place))
