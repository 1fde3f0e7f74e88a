"""Layers of the same law are not told apart, layers of another law are, and rounding is no law."""

import dataclasses
import math
import re

import pytest
import torch
from scipy.stats import t, ttest_ind
from torch.nn import functional as F

from rnn_parity.dropout import distribution
from rnn_parity.dropout.distribution import (
    Moments,
    compare,
    detection_power,
    distribution_rows,
    draw_moments,
    draw_pilot,
    project,
    statistics_of,
    summarise,
)
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.registry import adapter_of
from rnn_parity.layers.running import numerics
from rnn_parity.layers.stepwise import StackingGRUCellLoop
from rnn_parity.layers.stimulus import draw_stimulus
from rnn_parity.tables import EQUIVALENCE
from rnn_parity.trust.right import WrittenOut

STATISTICS = ("output_mean", "output_variance", "output_covariance", "hn_mean", "hn_variance", "hn_covariance")
CASE = Case("test", "cpu", "float32", False, 7, 16, 3, 12, 2, 0.1, 1)
SMALL = dataclasses.replace(CASE, hidden_size=4, sequence_length=5)
MUTANTS = "rnn_parity.trust.faults"
RIGHT = ["stacking_gru", "rnn_parity.trust.right:StateTransposed", "faults:HiddenDropout"]


class MoreDropout(WrittenOut):
    """0.12 in place of 0.1."""

    def between(self, layer, sequence):
        return F.dropout(sequence, 1.2 * self.dropout, self.training)


class OneMaskForAllRows(WrittenOut):
    def between(self, layer, sequence):
        return sequence * F.dropout(torch.ones_like(sequence[:, :1]), self.dropout, self.training)


class InFloat32(WrittenOut):
    """Right: only the results are rounded to the dtype of what is given."""

    def given(self, input):
        self.dtype = input.dtype
        return input.float()

    def initial(self, states):
        return tuple(state.float() for state in states)

    def parameters_of(self, layer):
        return [parameter.float() for parameter in super().parameters_of(layer)]

    def result(self, sequence, last):
        return sequence.to(self.dtype), tuple(state.to(self.dtype) for state in last)


class HalfOfTheDrawBefore(WrittenOut):
    """Four of eight entries have the numbers of the step before: PyTorch's dropout in 16 bits (docs/gpu.md)."""

    def between(self, layer, sequence):
        steps, rows, units = sequence.shape
        numbers = torch.rand(steps + 1, rows, units // 8, 4)
        kept = torch.cat([numbers[:-1], numbers[1:]], dim=-1).reshape(sequence.shape) >= self.dropout
        seen = [torch.bernoulli(mask) for mask in kept.float().clamp(1e-6, 1 - 1e-6)]  # a draw with hardly a choice
        return sequence * torch.stack(seen).to(sequence) / (1 - self.dropout)


class Recording(StackingGRUCellLoop):
    """Right; keeps what it is given."""

    given: list = []  # noqa: RUF012 - of the class: the code under test builds instances that the test never sees

    def forward(self, input, h0):
        self.given.append((input, h0, self.training, torch.is_grad_enabled()))
        return super().forward(input, h0)


@pytest.fixture(autouse=True)
def one_thread():
    with numerics(1, False):
        yield


def sampled(values):
    return Moments(len(values), values.mean(0), torch.cov(values.T).reshape(values.shape[1], -1), values.mean().item())


def rows_of(case=CASE, candidate="stacking_gru", baseline="stacking_gru_cell", draws=1000, seed=0, **scales):
    stimulus = draw_stimulus(case, seed, **scales)
    return list(distribution_rows(case, baseline, [candidate], stimulus, draws, seed))


def by_quantity(rows, column="verdict"):
    return {row["quantity"]: row[column] for row in rows}


def shares(case, names, draws, trials, seed=0):
    rows = detection_power(case, "stacking_gru_cell", names, draws, trials, seed)
    return {row["implementation"]: row["share"] for row in rows}


# The comparison, on samples of known law.


@pytest.mark.parametrize("skewed", [False, True])
def test_equal_laws_are_called_different_about_as_often_as_the_level_says(skewed):
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(4, 4, generator=generator, dtype=torch.float64)

    def draw():
        values = torch.randn(300, 4, generator=generator, dtype=torch.float64)
        return sampled((values**4 if skewed else values) @ mixing)

    found = [compare("output_mean", draw(), draw(), slack=0.0, level=0.05) for _ in range(500)]
    alarms = sum(comparison.verdict == "different" for comparison in found) / 500
    assert 0.02 < alarms < 0.07


def test_one_feature_is_students_t():
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 50, 1, generator=generator, dtype=torch.float64)
    found = compare("output_mean", sampled(a), sampled(b), slack=0.0, level=0.01)
    expected = ttest_ind(a[:, 0].numpy(), b[:, 0].numpy())
    assert found.limit == pytest.approx(t.isf(0.005, 98))
    assert found.distance == pytest.approx(abs(expected.statistic))
    assert found.ratio == pytest.approx(found.distance / found.limit)


def test_a_shift_that_no_single_feature_shows_is_found():
    generator = torch.Generator().manual_seed(2)
    common = torch.randn(2, 500, 1, generator=generator, dtype=torch.float64)
    a, b = (c + 0.01 * torch.randn(500, 2, generator=generator, dtype=torch.float64) for c in common)
    b = b + torch.tensor([0.003, -0.003], dtype=torch.float64)  # a 300th of each feature's own deviation
    found = compare("output_variance", sampled(a), sampled(b), slack=0.0, level=1e-4)
    assert found.verdict == "different"
    assert found.reason.startswith("output variance is ")
    assert "standard errors apart over 500 draws, limit" in found.reason


def test_a_difference_of_rounding_is_no_difference_of_law_however_many_the_draws():
    still = Moments(10**9, torch.zeros(3).double(), torch.zeros(3, 3).double(), 0.0)
    near, far = (dataclasses.replace(still, mean=still.mean + shift) for shift in (1e-3, 1e-1))
    assert compare("hn_mean", still, still, slack=1e-3, level=1e-4).ratio == 0
    assert compare("hn_mean", still, near, slack=1e-3, level=1e-4).verdict == "equivalent"
    assert compare("hn_mean", still, far, slack=1e-3, level=1e-4).verdict == "different"


def test_the_statistics_are_moments_of_deviations_over_steps_and_layers():
    d = torch.tensor([1.0, 2.0, -3.0]).double().reshape(3, 1, 1).expand(3, 2, 1)
    found = summarise({"output": d, "hn": d[:2]})
    assert set(found) == set(STATISTICS)
    assert [found[name][0, 0].item() for name in STATISTICS] == pytest.approx([0, 14 / 3, -2, 1.5, 2.5, 2])


def test_wide_layers_are_projected_to_what_the_draws_can_carry():
    values = torch.randn(100, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert project(values, 640) is values
    narrow = project(values, 100)
    assert narrow.shape == (100, 10)
    assert narrow.square().mean().item() == pytest.approx(1, abs=0.2)
    assert torch.equal(project(values[:50], 100), narrow[:50])
    wide = dataclasses.replace(SMALL, hidden_size=64)
    assert shares(wide, ["stacking_gru", f"{MUTANTS}:OneMaskForAllSteps"], 300, 2) == {
        "stacking_gru": 0,
        f"{MUTANTS}:OneMaskForAllSteps": 1,
    }


# Layers.


@pytest.mark.slow
def test_every_planted_fault_of_dropout_is_caught_and_no_right_layer():
    faults = ["NoDropout", "DropoutAfterLast", "DropoutNotRescaled", "OneMaskForAllSteps", "OneMaskForAllLayers"]
    faults = [f"{MUTANTS}:{name}" for name in [*faults, "RecurrentDropout", "FinalStateAfterDropout"]]
    faults += [f"{__name__}:{layer.__name__}" for layer in (MoreDropout, OneMaskForAllRows)]
    found = shares(CASE, [*RIGHT, *faults], draws=1000, trials=6)
    assert found == dict.fromkeys(RIGHT, 0) | dict.fromkeys(faults, 1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_in_every_dtype_rounding_is_forgiven_and_faults_are_not(dtype):
    case = dataclasses.replace(CASE, dtype=dtype, sequence_length=6)
    faults = [f"{MUTANTS}:{name}" for name in ("NoDropout", "OneMaskForAllSteps")]
    assert shares(case, [*RIGHT, *faults], draws=1000, trials=2) == dict.fromkeys(RIGHT, 0) | dict.fromkeys(faults, 1)
    rows = rows_of(case, draws=8000, state_scale=10.0)
    assert set(by_quantity(rows).values()) == {"equivalent"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_layer_in_float32_that_rounds_its_results_alone_is_right(dtype):
    name = f"{__name__}:InFloat32"
    assert shares(dataclasses.replace(CASE, dtype=dtype), [name], draws=8000, trials=4) == {name: 0}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_masks_that_depend_on_each_other_are_found_though_every_entry_has_the_right_law(dtype):
    name = f"{__name__}:HalfOfTheDrawBefore"
    case = dataclasses.replace(CASE, dtype=dtype, num_layers=2, dropout=0.2)
    assert shares(case, [name], draws=1000, trials=6) == {name: 1}
    said = r"masks an entry correlates by 0\.[45]\d with the entry 4 places on in the draw before"
    for rows, whose in ((rows_of(case, name), "its"), (rows_of(case, baseline=name), "the baseline's")):
        reasons = [row["reason"] for row in rows if row["reason"]]
        assert reasons
        assert all(re.search(f"limit [0-9.]+; in {whose} own {said}$", reason) for reason in reasons)


def test_a_row_is_a_statistic_and_fits_the_table():
    rows = rows_of(candidate=f"{MUTANTS}:NoDropout")
    assert [row["quantity"] for row in rows] == list(STATISTICS)
    for row in rows:
        assert set(row) <= set(EQUIVALENCE.names)
        assert (row["implementation"], row["bit_identical"]) == (f"{MUTANTS}:NoDropout", False)
        assert row["verdict"] == "different"
        assert 1 < row["ratio"] < math.inf
    assert re.fullmatch(
        r"output mean is -?[\d.]+ and the baseline's -?[\d.]+ \(average over units\); with all units together "
        r"[\d.]+ standard errors apart over 1,000 draws, limit [\d.]+",
        by_quantity(rows, "reason")["output_mean"],
    )


def test_averages_that_differ_late_are_told_apart():
    ours, theirs = (
        Moments(1000, torch.tensor([mean], dtype=torch.float64), torch.full((1, 1), 1e-12, dtype=torch.float64), mean)
        for mean in (0.226941, 0.226938)
    )
    reason = compare("output_mean", ours, theirs, 0.0, 1e-3).reason
    assert reason.startswith("output mean is 0.226938 and the baseline's 0.226941 ")


def test_a_fault_of_hn_alone_shows_in_hn_alone():
    found = by_quantity(rows_of(candidate=f"{MUTANTS}:FinalStateAfterDropout"))
    assert {found[name] for name in STATISTICS[:3]} == {"equivalent"}
    assert found["hn_variance"] == "different"


@pytest.mark.parametrize(
    "change", [{"dropout": 0.0}, {"dropout": 1.0}, {"num_layers": 1}, {"dropout": 1.0, "dtype": "bfloat16"}]
)
def test_where_nothing_is_random_rounding_alone_is_compared(change):
    case = dataclasses.replace(CASE, **change)
    rows = [row for name in RIGHT for row in rows_of(case, name, draws=200) if case.dropout < 1 or "Hidden" not in name]
    assert {row["verdict"] for row in rows} == {"equivalent"}
    assert "different" in by_quantity(rows_of(case, f"{MUTANTS}:StateIgnored", draws=200)).values()


def test_everything_dropped_is_told_from_nothing_dropped():
    rows = rows_of(dataclasses.replace(CASE, dropout=1.0), f"{MUTANTS}:NoDropout", draws=200)
    assert by_quantity(rows)["output_mean"] == "different"


@pytest.mark.parametrize(("change", "absent"), [({"sequence_length": 1}, "output"), ({"num_layers": 1}, "hn")])
def test_one_step_or_one_layer_has_no_covariance(change, absent):
    case = dataclasses.replace(CASE, **change)
    expected = [name for name in STATISTICS if name != f"{absent}_covariance"]
    rows = rows_of(case)
    assert [row["quantity"] for row in rows] == expected == statistics_of(case)
    assert [row["quantity"] for row in rows_of(case, "faults:Crash")] == expected
    assert {row["verdict"] for row in rows} == {"equivalent"}


def test_one_unit_and_rare_drops_raise_no_alarm():
    case = dataclasses.replace(CASE, input_size=2, hidden_size=1, num_layers=2, sequence_length=1, dropout=0.02)
    assert shares(case, RIGHT[:2], draws=1000, trials=50, seed=100) == {RIGHT[0]: 0, RIGHT[1]: 0}


# What goes wrong is data.


def test_a_result_that_is_no_number_is_different():
    rows = rows_of(SMALL, "faults:NotANumber", draws=100)
    assert by_quantity(rows) == {name: "different" if "output" in name else "equivalent" for name in STATISTICS}
    assert by_quantity(rows, "ratio")["output_mean"] == math.inf
    assert by_quantity(rows, "reason")["output_mean"] == "output mean is not finite: there is NaN or infinity"
    rows = rows_of(SMALL, baseline="faults:NotANumber", draws=100)
    assert by_quantity(rows, "reason")["output_mean"].startswith("the baseline's output mean is not finite")


@pytest.mark.parametrize(
    ("fault", "verdict", "reason"),
    [
        ("WrongShape", "different", "hn is (1, 256, 4) torch.float32, expected (3, 256, 4) torch.float32"),
        ("Crash", "failed", "ValueError: it went wrong"),
        ("OutOfMemory", "not judged", "out of memory: CUDA out of memory. Tried to allocate 20.00 GiB."),
    ],
)
def test_what_a_layer_raises_is_data(fault, verdict, reason):
    of_another = "not judged" if verdict == "failed" else verdict
    for candidate, baseline, prefix, expected in (
        (f"faults:{fault}", "stacking_gru_cell", "", verdict),
        ("stacking_gru", f"faults:{fault}", "baseline: ", of_another),
    ):
        rows = rows_of(SMALL, candidate, baseline, draws=256)
        assert set(by_quantity(rows).values()) == {expected}
        assert set(by_quantity(rows, "reason").values()) == {prefix + reason}


def test_a_name_that_cannot_be_built_is_the_users_error():
    with pytest.raises(InputError, match="nowhere"):
        rows_of(SMALL, "nowhere:Layer", draws=20)


# How it is drawn.


@pytest.mark.slow
@pytest.mark.parametrize("rows_at_once", [64, 1])
def test_chunks_change_no_law_and_no_number_of_draws(rows_at_once, monkeypatch):
    adapter_of(f"{__name__}:Recording", "gru")  # which tries it once
    monkeypatch.setattr(Recording, "given", given := [])
    monkeypatch.setattr(distribution, "CHUNK_BYTES", rows_at_once * 8 * 7 * 5)  # the input is wider than H
    stimulus = draw_stimulus(SMALL, 0)
    centre, roundoffs = draw_pilot(SMALL, "stacking_gru_cell", stimulus, 1)
    found = draw_moments(SMALL, f"{__name__}:Recording", stimulus, 1000, 2, centre)
    assert [input.shape[1] for input, *_ in given] == ([64] * 15 + [40] if rows_at_once == 64 else [1] * 1000)
    monkeypatch.undo()
    whole = draw_moments(SMALL, "stacking_gru_cell", stimulus, 1000, 3, centre)
    assert {c.verdict for c in distribution.compare_distributions(whole, found, roundoffs).values()} == {"equivalent"}
    assert found["output_mean"].draws == 1000
    assert found["output_mean"].covariance.diagonal() == pytest.approx(whole["output_mean"].covariance.diagonal(), 0.3)


def test_every_row_is_the_stimulus_first_row_in_training_without_gradients(monkeypatch):
    adapter_of(f"{__name__}:Recording", "gru")  # which tries it once
    monkeypatch.setattr(Recording, "given", given := [])
    rows_of(SMALL, f"{__name__}:Recording", draws=30)
    stimulus = draw_stimulus(SMALL, 0)
    ((input, h0, training, grad_enabled),) = given
    assert torch.equal(input, stimulus.input[:, :1].expand(-1, 30, -1))
    assert torch.equal(h0, stimulus.states[0][:, :1].expand(-1, 30, -1))
    assert (training, grad_enabled) == (True, False)


def test_draws_come_from_the_seed_and_are_independent_of_the_baselines():
    same = "rnn_parity.layers.stepwise:StackingGRUCellLoop"
    first, again, other = (rows_of(SMALL, same, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert all(0.01 < row["ratio"] < 1 for row in first)


def test_power_is_a_share_with_its_interval():
    names = [f"{MUTANTS}:NoDropout", "stacking_gru", "faults:Crash"]
    caught, right, crashed = detection_power(SMALL, "stacking_gru_cell", names, 100, 4, seed=5)
    assert caught == {"implementation": names[0], "draws": 100, "trials": 4, "detections": 4, "share": 1.0} | {
        "share_ci_low": pytest.approx(0.510, abs=1e-3),
        "share_ci_high": 1.0,
    }
    assert right["detections"] == crashed["detections"] == 0
    assert right["share_ci_high"] == pytest.approx(0.490, abs=1e-3)
