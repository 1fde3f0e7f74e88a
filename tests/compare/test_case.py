"""The check says `identical`, `equivalent` or `different` where it must, forward and backward."""

import dataclasses
import re

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from rnn_parity.cells.base import Arithmetic, load_cell
from rnn_parity.cells.gru import GRU
from rnn_parity.cells.stack import run_stack
from rnn_parity.compare import criterion
from rnn_parity.compare.case import assert_close_holds, compare_case, compare_task
from rnn_parity.compare.reference import References, relative_errors, run_oracle
from rnn_parity.compare.run import run_implementation
from rnn_parity.experiment.grid import Case
from rnn_parity.experiment.vocabulary import PASSING, Verdict
from rnn_parity.layers.parameters import WeightError, canonical_parameters
from rnn_parity.layers.registry import named
from rnn_parity.layers.stimulus import build_loaded, draw_stimulus
from rnn_parity.tables import EQUIVALENCE
from rnn_parity.workloads.layer import Layer, LayerTask

REGIMES = ["eval", "train_matched_masks", "train_same_seed"]
CASE = Case("test", "cpu", "float32", False, 5, 8, 3, 12, 4, 0.3, 1)
ARTICLE = Case("article", "cpu", "float32", False, 5, 10, 3, 1, 7, 0.1, 1)


def compare(case=CASE, candidate="stacking_gru", baseline="stacking_gru_cell", seeds=(0,), regimes=REGIMES):
    return list(compare_case(Layer(), case, baseline, [candidate], seeds, regimes))


def verdicts(rows, regime):
    return {row["quantity"]: row["verdict"] for row in rows if row["regime"] == regime}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("candidate", ["stacking_gru", "torch.nn:GRU"])
def test_the_fused_layer_is_equivalent_in_every_dtype(dtype, candidate):
    case = dataclasses.replace(CASE, dtype=dtype)
    rows = compare(case, candidate, seeds=[0, 1], regimes=REGIMES[:2])
    assert {row["verdict"] for row in rows} <= {"identical", "equivalent"}
    assert len(rows) == 2 * 2 * len(GRU.quantities(3))
    assert len(GRU.quantities(3)) == 4 + 4 * 3


class ZerosInInference(nn.GRU):
    def forward(self, input, states=None):
        output, last = super().forward(input, states)
        return (output if torch.is_grad_enabled() else 0 * output), last


class RefusesInference(nn.GRU):
    def forward(self, input, states=None):
        if not torch.is_grad_enabled():
            raise RuntimeError("no gradients")
        return super().forward(input, states)


class SpoilsGradient(nn.GRU):
    """Right, and its backward pass scales what it is handed in place."""

    class Spoil(torch.autograd.Function):
        @staticmethod
        def forward(ctx, output):
            return output.clone()

        @staticmethod
        def backward(ctx, gradient):
            whole = gradient.clone()
            gradient.mul_(2)
            return whole

    def forward(self, input, states=None):
        output, last = super().forward(input, states)
        return self.Spoil.apply(output), last


def test_evaluation_is_judged_without_gradients_too():
    rows = compare(candidate=f"{__name__}:ZerosInInference", regimes=REGIMES[:2])
    wrong = {(row["regime"], row["quantity"]): row["reason"] for row in rows if row["verdict"] == "different"}
    assert wrong == {("eval", "output"): "without gradients, it is zero"}
    rows = compare(candidate=f"{__name__}:RefusesInference", regimes=REGIMES[:2])
    reasons = {(row["quantity"], row["verdict"], row["reason"]) for row in rows if row["verdict"] not in PASSING}
    reason = "without gradients, RuntimeError: no gradients"
    assert reasons == {(quantity, "failed", reason) for quantity in ("output", "hn")}


class RandomInEvaluation(nn.GRU):
    def forward(self, input, states=None):
        output, last = super().forward(input, states)
        return output if self.training else output * (torch.rand_like(output) > 0.5), last


def test_what_is_random_in_evaluation_is_the_reason():
    """Where its draws are seen, they are told; else that two calls differ."""
    expected = {
        "rnn_parity.trust.faults:EvalAndTrainSwapped": r"it draws dropout in evaluation \(2 masks of \(12, 4, 8\)\): ",
        f"{__name__}:RandomInEvaluation": "in evaluation its numbers change from call to call: ",
    }
    for candidate, words in expected.items():
        wrong = [row for row in compare(candidate=candidate, regimes=["eval"]) if row["verdict"] == "different"]
        assert wrong
        assert all(re.match(words, row["reason"]) for row in wrong)


def test_a_backward_pass_that_writes_into_what_it_is_handed_accuses_nobody_else():
    rows = compare(candidate=f"{__name__}:SpoilsGradient", regimes=REGIMES[:2])
    wrong = {row["quantity"]: row["reason"] for row in rows if row["verdict"] == "different"}
    assert set(wrong) == {quantity for quantity in GRU.quantities(3) if quantity.startswith("grad_")}
    assert set(wrong.values()) == {"its backward pass writes into the gradient that it is handed"}
    again = compare(candidate="torch.nn:GRU", regimes=REGIMES[:2])
    assert {row["verdict"] for row in again} <= set(PASSING)


class OverwritesOutput(nn.GRU):
    class Overwrite(torch.autograd.Function):
        @staticmethod
        def forward(ctx, output):
            ctx.there = output.clone()
            return ctx.there.view_as(ctx.there)

        @staticmethod
        def backward(ctx, gradient):
            ctx.there.zero_()
            return gradient

    def forward(self, input, states=None):
        output, last = super().forward(input, states)
        return self.Overwrite.apply(output), last


def test_a_backward_pass_that_overwrites_the_output_is_told_as_such():
    rows = compare(candidate=f"{__name__}:OverwritesOutput", regimes=REGIMES[:2])
    wrong = {(row["quantity"], row["reason"]) for row in rows if row["verdict"] == "different"}
    assert wrong == {("output", "its backward pass overwrites it")}


def test_every_row_fits_the_table():
    for row in compare():
        assert set(row) <= set(EQUIVALENCE.names)
        assert {"case_id", "ratio", "limit_2", "error_inf", "baseline_error_2", "sensitivity_inf"} <= set(row)


def test_the_baseline_is_identical_to_itself():
    rows = compare(candidate="rnn_parity.layers.stepwise:StackingGRUCellLoop")
    assert {row["verdict"] for row in rows} == {"identical"}
    assert {row["max_abs_diff"] for row in rows} == {0.0}


def test_the_articles_protocol_holds_at_one_step_and_fails_from_the_second_on():
    rows = compare(ARTICLE, seeds=[1215])
    assert set(verdicts(rows, "train_same_seed").values()) == {"identical"}
    assert {row["mask_agreement"] for row in rows if row["regime"] == "train_same_seed"} == {1.0}
    for steps in (2, 10):
        rows = compare(dataclasses.replace(ARTICLE, sequence_length=steps), seeds=[1215])
        assert "different" in verdicts(rows, "train_same_seed").values()
        same_seed = [row for row in rows if row["regime"] == "train_same_seed"]
        reasons = {row["reason"] for row in same_seed if row["verdict"] == "different"}
        drew = f"the baseline drew {2 * steps} masks of (7, 10), the candidate 2 masks of ({steps}, 7, 10)"
        assert len(reasons) == 1
        assert "of the dropout masks' entries differ: " + drew in reasons.pop()
        assert 0 < same_seed[0]["mask_agreement"] < 1
        assert set(verdicts(rows, "train_matched_masks").values()) <= {"identical", "equivalent"}


def test_where_everything_is_dropped_nothing_is_drawn_and_all_regimes_hold():
    rows = compare(dataclasses.replace(CASE, dropout=1.0))
    assert {row["verdict"] for row in rows} <= {"identical", "equivalent"}
    rows = compare(
        dataclasses.replace(CASE, dropout=1.0), "rnn_parity.trust.faults:NoDropout", regimes=["train_same_seed"]
    )
    assert "different" in {row["verdict"] for row in rows}


def test_with_one_gap_the_same_seed_gives_the_same_masks():
    rows = compare(dataclasses.replace(CASE, num_layers=2), regimes=["train_same_seed"])
    assert {row["mask_agreement"] for row in rows} == {1.0}
    assert set(verdicts(rows, "train_same_seed").values()) <= {"identical", "equivalent"}


def test_a_result_that_is_no_number_is_different():
    rows = compare(candidate="faults:NotANumber", regimes=["eval"])
    output = next(row for row in rows if row["quantity"] == "output")
    assert output["verdict"] == "different"
    assert output["ratio"] == float("inf")


def test_a_wrong_baseline_is_noticed_and_makes_nothing_equivalent():
    rows = compare(baseline="rnn_parity.trust.faults:StatesReversed", regimes=["eval"])
    output = next(row for row in rows if row["quantity"] == "output")
    assert output["verdict"] == "different"
    assert "the baseline itself is" in output["reason"]
    assert output["ratio"] < 1  # its own error would have let the right candidate pass


@pytest.mark.slow
def test_masks_drawn_out_of_sight_are_recovered_and_given_to_the_other():
    for baseline, candidate in (("stacking_gru", "faults:HiddenDropout"), ("faults:HiddenDropout", "stacking_gru")):
        rows = compare(baseline=baseline, candidate=candidate)
        matched = [row for row in rows if row["regime"] == "train_matched_masks"]
        assert {row["verdict"] for row in matched} <= {"identical", "equivalent"}
        assert {row["mask_agreement"] for row in matched} == {1.0}
        assert "different" in verdicts(rows, "train_same_seed").values()
        reason = next(row["reason"] for row in rows if row["verdict"] == "different")
        assert "out of sight" in reason


@pytest.mark.slow
def test_two_that_draw_out_of_sight_are_each_held_to_the_oracle_with_their_own_masks():
    matched = ["train_matched_masks"]
    rows = compare(baseline="faults:HiddenDropout", candidate="faults:OtherHiddenDropout", regimes=matched)
    assert {row["verdict"] for row in rows} == {"equivalent"}
    rows = [row for row in rows if row["regime"] in matched]
    assert all(0.3 < row["mask_agreement"] < 1 for row in rows)
    assert not any("max_abs_diff" in row for row in rows)
    wrong = compare(baseline="faults:HiddenDropout", candidate="faults:HiddenButWrong", regimes=matched)
    assert verdicts(wrong, *matched)["grad_h0"] == "different"


def test_where_the_masks_cannot_be_had_many_draws_step_in():
    rows = list(compare_case(Layer(), CASE, "stacking_gru_cell", ["faults:Unrepeatable"], [0], REGIMES, num_draws=1000))
    assert set(verdicts(rows, "train_matched_masks").values()) == {"not judged"}
    assert "other dropout masks in another run under the same seed" in next(
        row["reason"] for row in rows if row["regime"] == "train_matched_masks"
    )
    assert set(verdicts(rows, "train_distribution").values()) == {"equivalent"}
    assert set(verdicts(rows, "eval").values()) <= {"identical", "equivalent"}


def test_masks_that_were_recovered_have_their_law_tried_too():
    """In `train_matched_masks` whatever masks a layer draws by itself are right."""
    given = CASE, "stacking_gru_cell", ["faults:HiddenDropout", "faults:HiddenOneMask", "stacking_gru"], [0]
    rows = list(compare_case(Layer(), *given, ["train_matched_masks"], num_draws=1000))
    found = {name: [row for row in rows if row["implementation"] == name] for name in given[2]}
    assert {row["verdict"] for row in found["faults:HiddenDropout"]} <= {"identical", "equivalent"}
    assert {row["regime"] for row in found["faults:HiddenDropout"]} == {"train_matched_masks", "train_distribution"}
    assert set(verdicts(found["faults:HiddenOneMask"], "train_matched_masks").values()) == {"equivalent"}
    assert "different" in verdicts(found["faults:HiddenOneMask"], "train_distribution").values()
    assert {row["regime"] for row in found["stacking_gru"]} == {"train_matched_masks"}


class ComputedAgain(nn.GRU):
    """Its forward pass is computed again in the backward pass, with the masks of the first time."""

    same_masks = True

    def forward(self, input, states=None):
        again = super().forward
        return checkpoint(again, input, states, use_reentrant=False, preserve_rng_state=self.same_masks)


class ComputedWithOthers(ComputedAgain):
    same_masks = False


def test_a_layer_that_draws_again_in_its_backward_pass_is_judged_under_masks_of_its_own():
    """Masks of ours, given in the forward pass, it would not have the second time."""
    right = compare(candidate=f"{__name__}:ComputedAgain", regimes=["train_matched_masks"])
    assert {row["verdict"] for row in right} <= {"identical", "equivalent"}
    assert {row["regime"] for row in right} == {"train_matched_masks", "train_distribution"}
    rows = compare(baseline=f"{__name__}:ComputedAgain", regimes=["train_matched_masks"])
    assert {row["verdict"] for row in rows} <= {"identical", "equivalent"}
    wrong = verdicts(compare(candidate=f"{__name__}:ComputedWithOthers"), "train_matched_masks")
    assert wrong["output"] in PASSING
    assert wrong["grad_input"] == "different"


def test_a_pass_that_a_layer_refuses_is_unsupported_and_the_rest_is_judged():
    found = verdicts(compare(candidate="faults:Unsupported"), "eval")
    assert found["output"] in ("identical", "equivalent")
    assert found["grad_input"] == found["grad_bias_hh_l2"] == "unsupported"
    assert "unsupported" not in verdicts(compare(candidate="faults:Unsupported"), "train_matched_masks").values()


@pytest.mark.parametrize(
    ("fault", "verdict", "reason"),
    [("OutOfMemory", "not judged", "out of memory: CUDA out"), ("Crash", "failed", "ValueError: it went wrong")],
)
def test_what_a_layer_raises_is_data(fault, verdict, reason):
    rows = compare(candidate=f"faults:{fault}")
    assert {row["verdict"] for row in rows} == {verdict}
    assert all(row["reason"].startswith(reason) for row in rows)
    rows = compare(candidate="stacking_gru", baseline=f"faults:{fault}")
    assert {row["verdict"] for row in rows} == {"not judged"}  # the baseline's fault is no verdict on the candidate
    assert all(row["reason"].startswith(f"baseline: {reason}") for row in rows)


def test_a_parameter_that_a_layer_freezes_is_never_trained_and_that_is_different():
    class Frozen(nn.GRU):
        def __init__(self, **sizes):
            super().__init__(**sizes)
            self.bias_hh_l1.requires_grad_(False)

    with named(Frozen, "candidate") as name:
        rows = compare(candidate=name, regimes=["eval"])
    wrong = {row["quantity"]: (row["verdict"], row["reason"]) for row in rows if row["verdict"] not in PASSING}
    assert wrong == {"grad_bias_hh_l1": ("different", "it asks for none: requires_grad is False")}


def test_a_fault_that_shows_only_when_a_result_is_read_is_data_too(monkeypatch):
    """As a GPU's faults do, which runs behind."""
    read, message = torch.Tensor.cpu, "CUDA error: invalid configuration argument"

    def cpu(tensor):
        if tensor.shape == (12, 4, 5):  # the gradient of the input
            raise RuntimeError(message)
        return read(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    rows = compare(regimes=["eval"])
    found = verdicts(rows, "eval")
    assert {found["output"], found["hn"]} <= {"identical", "equivalent"}
    assert {verdict for quantity, verdict in found.items() if quantity.startswith("grad_")} == {"failed"}
    assert all(message in row["reason"] for row in rows if row["verdict"] == "failed")


def test_a_right_layer_with_few_mask_entries_is_not_called_different():
    """Two entries, seldom dropped: most seeds draw them alike."""
    case = dataclasses.replace(CASE, num_layers=2, sequence_length=1, batch_size=1, hidden_size=2, dropout=0.05)
    for seed in range(3):
        rows = compare(case, "faults:HiddenDropout", seeds=[seed], regimes=["train_matched_masks"])
        assert "different" not in {row["verdict"] for row in rows}


def test_a_result_of_the_wrong_shape_is_different():
    rows = compare(candidate="faults:WrongShape", regimes=["eval"])
    hn = next(row for row in rows if row["quantity"] == "hn")
    assert hn["verdict"] == "different"
    assert hn["reason"] == "gives (1, 4, 8) torch.float32, expected (3, 4, 8) torch.float32"


@pytest.mark.parametrize(("dtype", "reason"), [("float32", "ill-conditioned"), ("bfloat16", "too coarse")])
def test_a_chaotic_case_is_not_judged(dtype, reason):
    case = dataclasses.replace(CASE, dtype=dtype, sequence_length=100)
    wild, mutant = draw_stimulus(case, 0, weight_scale=20.0), "rnn_parity.trust.faults:StatesReversed"
    rows = compare_task(LayerTask(References(case, wild, 0)), "stacking_gru_cell", [mutant], ["eval"])
    output = next(row for row in rows if row["quantity"] == "output")
    assert output["verdict"] == "not judged"
    assert output["reason"].startswith(reason)


def test_the_stimulus_comes_from_the_seed_and_leaves_nothing_at_zero():
    one, same, other = (draw_stimulus(CASE, seed) for seed in (0, 0, 1))
    assert torch.equal(one.input, same.input)
    assert not torch.equal(one.input, other.input)
    tensors = [*one.states, *one.cotangents, *one.weights.values()]
    assert all((tensor != 0).all() for tensor in tensors)
    assert all(tensor.dtype == torch.float32 for tensor in tensors)
    assert max(w.abs().max() for w in one.weights.values()) > 1.5 / CASE.hidden_size**0.5  # wider than nn.GRU's own


def test_both_are_given_the_same_rounded_weights():
    case = dataclasses.replace(CASE, dtype="bfloat16")
    given = draw_stimulus(case, 0)
    for name in ("stacking_gru_cell", "stacking_gru"):
        parameters = canonical_parameters(build_loaded(case, name, given))
        assert all(torch.equal(parameters[key], value) for key, value in given.weights.items())


def test_weights_that_do_not_fit_are_no_silent_copy():
    with pytest.raises(WeightError, match="weight_ih_l0"):
        build_loaded(CASE, "torch.nn:LSTM", draw_stimulus(CASE, 0))
    rows = compare(candidate="torch.nn:LSTM", regimes=["eval"])
    assert {row["verdict"] for row in rows} == {"failed"}
    assert "WeightError" in rows[0]["reason"]


def test_relative_errors_in_both_norms():
    truth = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert relative_errors(torch.tensor([3.0, 4.5]), truth) == pytest.approx((0.1, 0.125))
    zero = torch.zeros(2, dtype=torch.float64)
    assert relative_errors(torch.zeros(2), zero) == (0.0, 0.0)
    assert relative_errors(torch.ones(2), zero) == (float("inf"), float("inf"))


def test_the_sensitivity_grows_with_the_roundoff():
    narrow = dataclasses.replace(CASE, dtype="bfloat16")
    given = draw_stimulus(narrow, 0)
    wide = run_oracle(CASE, given.map(lambda t: t.float()), None, 0).sensitivities["output"][0]
    assert run_oracle(narrow, given, None, 0).sensitivities["output"][0] == pytest.approx(wide * 2**16, rel=0.2)


def test_the_verdict_enum_is_what_the_table_holds():
    assert {row["verdict"] for row in compare()} <= set(Verdict)


def test_many_draws_are_compared_where_dropout_is_drawn():
    def many(case, candidate):
        given = case, "stacking_gru_cell", [candidate], [0], ["train_distribution"]
        return list(compare_case(Layer(), *given, num_draws=1000))

    rows = many(CASE, "stacking_gru")
    assert {row["verdict"] for row in rows} == {"equivalent"}
    assert {row["regime"] for row in rows} == {"train_distribution"}
    assert set(rows[0]) <= set(EQUIVALENCE.names)
    wrong = many(CASE, "rnn_parity.trust.faults:DropoutAfterLast")
    assert "different" in {row["verdict"] for row in wrong}
    assert many(dataclasses.replace(CASE, dropout=0.0), "stacking_gru") == []
    assert many(dataclasses.replace(CASE, num_layers=1), "stacking_gru") == []


def off(values, case, reference=None):
    """The largest error over its limit of float32 quantities, judged as on the device of a case."""
    reference = reference or run_oracle(case, draw_stimulus(case, 0), None, 0)
    found = []
    for name, value in values.items():
        limits = criterion.judged_limits(
            reference.sensitivities[name], criterion.layer_terms(name, case, load_cell(case.cell)), case
        )
        found.append(criterion.worst_ratio(relative_errors(value, reference.values[name]), limits))
    return max(found)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("hidden_size", [8, 64])
def test_on_a_gpu_functions_of_fast_instructions_are_granted_and_ten_times_that_is_not(cell, hidden_size):
    """Every value of σ and tanh off by up to 2⁻¹⁸ and more, as in cuDNN's kernels for narrow layers."""
    on_cpu = dataclasses.replace(CASE, dropout=0.0, cell=cell, hidden_size=hidden_size)
    on_gpu = dataclasses.replace(on_cpu, device="cuda")
    stimulus = draw_stimulus(on_cpu, 0)
    generator = torch.Generator().manual_seed(0)

    def computed(error):
        def rounding(tensor, function=False, terms=1):
            size = error if function else 2.0**-25
            return tensor * (1 + size * (2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 1))

        given = stimulus.map(torch.Tensor.double)
        inputs = given.input, given.states, given.weights, given.cotangents
        return run_stack(load_cell(cell), *inputs, None, 0.0, Arithmetic(rounding))

    coarse = computed(2.0**-17)
    assert off(coarse, on_gpu) < 1 < off(coarse, on_cpu)
    assert off(computed(10 * 2.0**-17), on_gpu) > 1


@pytest.mark.parametrize(
    ("cell", "sizes", "seed"), [("gru", (4096, 16), 0), ("lstm", (1030, 3), 5), ("lstm", (300, 5), 1)]
)
def test_sums_that_saturate_gates_are_granted_their_rounding_and_no_coarse_tanh(cell, sizes, seed):
    """With wide inputs these sums are tens in size, and so is their error beside the gates."""
    case = dataclasses.replace(CASE, dropout=0.0, cell=cell, input_size=sizes[0], hidden_size=sizes[1], num_layers=1)
    stimulus = draw_stimulus(case, seed)
    reference = run_oracle(case, stimulus, None, seed)

    def error(layer):
        return off(run_implementation(case, layer, stimulus, seed, "eval", None).values, case, reference)

    assert error("rnn_parity.trust.right:WrittenOut") < 0.4  # twice as much with the rounding of one number
    assert error("rnn_parity.trust.faults:TanhOff1e4") > 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_tolerances_of_assert_close_are_torchs(dtype):
    expected = torch.tensor([0.0, 1e-3, 1.0, 100.0], dtype=dtype)
    said = set()
    for off in torch.logspace(-8, 0, 60, dtype=torch.float64).tolist():
        for actual in ((expected.double() + off).to(dtype), (expected.double() * (1 + off)).to(dtype)):
            try:
                torch.testing.assert_close(actual, expected)
            except AssertionError:
                holds = False
            else:
                holds = True
            assert assert_close_holds(actual, expected) == holds
            said.add(holds)
    assert said == {True, False}
