"""The numbers that are quoted are right on samples of known truth."""

import numpy as np
import pytest

from rnn_parity.statistics import Conclusion, Interval, conclude, describe_samples, ratio_of_medians


def test_samples_are_described_by_their_quantiles():
    described = describe_samples(np.arange(101.0))
    assert described == {"samples": 101, "median_s": 50.0, "q25_s": 25.0, "q75_s": 75.0, "p95_s": 95.0}


def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        drift = 1 + 0.1 * np.sin(np.linspace(0, 3, 40))  # the machine slows down, for both
        baseline = 3.0 * drift * random.lognormal(0, 0.05, 40)
        other = 2.0 * drift * random.lognormal(0, 0.05, 40)
        interval = ratio_of_medians(baseline, other, confidence=0.95, seed=trial)
        hits += interval.low <= 1.5 <= interval.high
    assert 0.90 <= hits / 200 <= 0.99


def test_rounds_are_paired_so_that_what_slows_both_widens_nothing():
    random = np.random.default_rng(0)
    load = random.uniform(1, 3, 50)
    quiet = random.lognormal(0, 0.01, (2, 50))
    paired = ratio_of_medians(1.2 * load * quiet[0], load * quiet[1], 0.95)
    broken = ratio_of_medians(1.2 * load * quiet[0], random.permutation(load * quiet[1]), 0.95)
    assert paired.relative_width < 0.2 * broken.relative_width
    assert paired.low <= 1.2 <= paired.high


def test_the_same_samples_give_the_same_interval_and_exact_ones_no_width():
    a, b = np.arange(1.0, 21), np.arange(2.0, 22)
    assert ratio_of_medians(a, b, 0.95) == ratio_of_medians(a, b, 0.95)
    exact = ratio_of_medians(np.full(10, 6.0), np.full(10, 2.0), 0.95)
    assert (exact.estimate, exact.low, exact.high) == (3.0, 3.0, 3.0)
    assert exact.relative_width == 0


def test_a_higher_confidence_is_a_wider_interval():
    random = np.random.default_rng(1)
    a, b = random.lognormal(0, 0.1, (2, 30))
    assert ratio_of_medians(a, b, 0.99).relative_width > ratio_of_medians(a, b, 0.8).relative_width


@pytest.mark.parametrize(
    ("speedup", "control", "conclusion"),
    [
        ((1.30, 1.25, 1.35), (1.00, 0.99, 1.01), Conclusion.FASTER),
        ((0.80, 0.75, 0.85), (1.00, 0.99, 1.01), Conclusion.SLOWER),
        ((1.02, 0.99, 1.05), (1.00, 0.99, 1.01), Conclusion.WITHIN_NOISE),
        ((1.05, 1.03, 1.07), (1.02, 0.98, 1.04), Conclusion.WITHIN_NOISE),  # clears 1, not the baseline's own noise
        ((0.96, 0.94, 0.98), (1.00, 0.95, 1.03), Conclusion.WITHIN_NOISE),
        ((1.05, 1.03, 1.07), (0.90, 0.88, 0.92), Conclusion.FASTER),
        ((0.95, 0.94, 0.96), (1.10, 1.08, 1.12), Conclusion.SLOWER),
    ],
)
def test_a_difference_is_claimed_only_beyond_the_noise_of_the_baseline_against_itself(speedup, control, conclusion):
    assert conclude(Interval(*speedup), Interval(*control)) is conclusion
