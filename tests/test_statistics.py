"""The numbers that are quoted are right on samples of known truth."""

import numpy as np
import pytest
from scipy.special import bdtr

from rnn_parity.statistics import (
    Conclusion,
    Interval,
    _fewer_heads,
    conclude,
    describe_samples,
    median_ratio,
    ratio_changes,
    wilson,
)


def test_samples_are_described_by_their_quantiles():
    described = describe_samples(np.arange(101.0))
    assert described == {"samples": 101, "median_s": 50.0, "q25_s": 25.0, "q75_s": 75.0}


def rounds(random, n, speedup):
    """n rounds of baseline, candidate and control: a load that drifts by a tenth, noise, and one outlier in twenty."""
    load = 1 + 0.1 * np.sin(random.uniform(0, 6) + np.linspace(0, random.uniform(1, 6), n))

    def samples(seconds):
        found = seconds * load * random.lognormal(0, 0.03, n)
        return np.where(random.random(n) < 0.05, found * random.uniform(1.5, 4, n), found)

    return samples(speedup), samples(1.0), samples(speedup)


@pytest.mark.parametrize("n", [10, 22, 50, 200])
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(n):
    random = np.random.default_rng(n)
    hits = 0
    for _ in range(1000):
        baseline, candidate, _ = rounds(random, n, speedup=1.5)
        interval = median_ratio(baseline, candidate, confidence=0.95)
        hits += interval.low <= 1.5 <= interval.high
    assert 920 <= hits <= 980


@pytest.mark.parametrize("n", [10, 50, 200])
def test_a_layer_against_itself_is_within_noise(n):
    random = np.random.default_rng(n)
    claims = 0
    for _ in range(1000):
        baseline, same, control = rounds(random, n, speedup=1.0)
        found = conclude(median_ratio(baseline, same, 0.95), median_ratio(baseline, control, 0.95))
        claims += found is not Conclusion.WITHIN_NOISE
    assert claims <= 50


def test_five_per_cent_are_found_in_fifty_rounds():
    random = np.random.default_rng(0)
    found = 0
    for _ in range(1000):
        baseline, candidate, control = rounds(random, 50, speedup=1.05)
        found += conclude(median_ratio(baseline, candidate, 0.95), median_ratio(baseline, control, 0.95)) == "faster"
    assert found >= 900


def test_rounds_are_paired_so_that_what_slows_both_widens_nothing():
    random = np.random.default_rng(0)
    load = random.uniform(1, 3, 50)
    quiet = random.lognormal(0, 0.01, (2, 50))
    paired = median_ratio(1.2 * load * quiet[0], load * quiet[1], 0.95)
    broken = median_ratio(1.2 * load * quiet[0], random.permutation(load * quiet[1]), 0.95)
    assert paired.relative_width < 0.05 * broken.relative_width
    assert paired.low <= 1.2 <= paired.high


@pytest.mark.parametrize("n", [10, 22, 50, 200])
def test_a_ratio_that_stays_is_not_called_another_and_one_that_changes_is(n):
    random = np.random.default_rng(n)
    midway = np.where(np.arange(n) < n // 2, 1.0, 1.3)
    false = found = alike = 0
    for _ in range(1000):
        baseline, candidate, _ = rounds(random, n, speedup=1.5)
        false += ratio_changes(baseline, candidate, 0.95)
        alike += ratio_changes(baseline * midway, candidate * midway, 0.95)
        found += ratio_changes(baseline * midway, candidate, 0.95)
    assert false <= 10
    assert alike == false
    assert found >= (500 if n == 10 else 950)


def test_a_load_on_all_alike_in_half_of_the_rounds_moves_no_speedup():
    random = np.random.default_rng(0)
    for _ in range(200):
        baseline, candidate, _ = rounds(random, 50, speedup=1.5)
        load = np.where(np.arange(50) < 25, 1.0, random.uniform(1.2, 3))
        assert median_ratio(baseline * load, candidate * load, 0.95).estimate == pytest.approx(1.5, rel=0.05)


def test_a_change_too_small_to_matter_or_rounds_too_few_to_tell_are_no_disturbance():
    steady, changed = np.ones(200), np.repeat([1.0, 1.04], 100)
    assert not ratio_changes(changed, steady, 0.95)
    assert ratio_changes(np.repeat([1.0, 1.06], 100), steady, 0.95)
    assert not ratio_changes(3 * changed, steady, 0.95)
    assert not ratio_changes(np.repeat([1.05, 1.0], 100), steady, 0.95)
    assert not ratio_changes([1, 1, 1, 1, 9, 9, 9, 9], np.ones(8), 0.95)


def test_halves_whose_intervals_touch_are_not_apart():
    touching, apart = [1.0, 1.0, 1.0, 1.0, 1.1, 1.1, 1.2, 1.2, 1.2, 1.2], [1.0] * 5 + [1.1] + [1.2] * 4
    for rising, changes in ((touching, False), (apart, True)):
        assert ratio_changes(rising, np.ones(10), 0.95) is ratio_changes(rising[::-1], np.ones(10), 0.95) is changes


def test_the_interval_of_known_samples():
    """Of 20 fair coins fewer than 6 show heads with a chance of 2.07 %: the 6th from either end cover 95.9 %."""
    ratios = np.arange(1.0, 21)
    interval = median_ratio(np.random.default_rng(0).permutation(ratios), np.ones(20), 1 - 2 * 0.020694732666015625)
    assert (interval.estimate, interval.low, interval.high) == (10.5, 6.0, 15.0)
    between = median_ratio(ratios, np.ones(20), 0.95)
    assert 6 < between.low < 7
    assert between.high == pytest.approx(21 - between.low)
    of_three = median_ratio([1.0, 4.0, 7.0], np.ones(3), 0.6)  # the extremes cover 75 %, the median alone nothing
    assert (of_three.low, of_three.high) == (pytest.approx(2.0), pytest.approx(6.0))
    exact = median_ratio(np.full(10, 6.0), np.full(10, 2.0), 0.95)
    assert (exact.estimate, exact.low, exact.high, exact.relative_width) == (3.0, 3.0, 3.0, 0.0)


@pytest.mark.parametrize("n", [2, 3, 6, 7, 50, 1001, 20000])
def test_the_chance_of_heads_is_scipys(n):
    expected = bdtr(np.arange(n // 2), n, 0.5)
    np.testing.assert_allclose(_fewer_heads(n), expected, rtol=1e-9, atol=1e-300)


def test_few_rounds_give_their_extremes_and_one_gives_nothing():
    interval = median_ratio([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], 0.95)
    assert (interval.estimate, interval.low, interval.high) == (2.0, 1.0, 3.0)
    assert median_ratio([3.0, 1.0], [1.0, 1.0], 0.95) == Interval(2.0, 1.0, 3.0)
    for numerator, denominator in (([1.0], [1.0]), ([1.0, 2.0], [1.0])):
        with pytest.raises(ValueError, match="expected the same number, at least 2"):
            median_ratio(numerator, denominator, 0.95)


@pytest.mark.parametrize("n", [6, 7, 20, 51])
def test_a_higher_confidence_is_a_wider_interval(n):
    ratios = np.random.default_rng(1).lognormal(0, 0.1, n)
    widths = [median_ratio(ratios, np.ones(n), c).relative_width for c in (0.6, 0.8, 0.9, 0.95, 0.99, 0.999)]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


@pytest.mark.parametrize(
    ("speedup", "control", "conclusion"),
    [
        ((1.30, 1.25, 1.35), (1.00, 0.99, 1.01), Conclusion.FASTER),
        ((0.80, 0.75, 0.85), (1.00, 0.99, 1.01), Conclusion.SLOWER),
        ((1.02, 0.99, 1.05), (1.00, 0.99, 1.01), Conclusion.WITHIN_NOISE),
        ((1.05, 1.03, 1.07), (1.02, 0.98, 1.04), Conclusion.WITHIN_NOISE),  # clears 1, not the baseline's own noise
        ((0.96, 0.94, 0.98), (1.00, 0.95, 1.03), Conclusion.WITHIN_NOISE),
        ((1.02, 1.01, 1.03), (1.10, 1.05, 1.15), Conclusion.WITHIN_NOISE),  # clears the noise, not 1
        ((0.98, 0.97, 0.99), (0.90, 0.85, 0.95), Conclusion.WITHIN_NOISE),
        ((1.04, 1.02, 1.06), (1.00, 0.98, 1.02), Conclusion.WITHIN_NOISE),  # touches it
        ((0.96, 0.94, 0.98), (1.00, 0.98, 1.02), Conclusion.WITHIN_NOISE),
        ((1.05, 1.03, 1.07), (0.90, 0.88, 0.92), Conclusion.FASTER),
        ((0.95, 0.94, 0.96), (1.10, 1.08, 1.12), Conclusion.SLOWER),
    ],
)
def test_a_difference_is_claimed_only_beyond_the_noise_of_the_baseline_against_itself(speedup, control, conclusion):
    assert conclude(Interval(*speedup), Interval(*control)) is conclusion


def test_wilsons_interval():
    assert wilson(0, 1000) == (0.0, pytest.approx(0.00383, abs=1e-5))
    assert wilson(5, 10) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    assert wilson(0, 0) == (0.0, 1.0)
