"""A GPU whose clock is held down for a while, or under one layer alone, makes no layer faster or slower."""

import pytest

from rnn_parity.timing.calls import Calls
from rnn_parity.timing.rounds import Contender, summarize
from rnn_parity.timing.throttling import conclude_in_cycles, leave_out_throttled

ROUNDS = 40


def contender(name, million_cycles, clocks):
    """Always as many cycles; the clock says how long they take."""
    seconds = [million_cycles / mhz for mhz in clocks]
    return Contender(name, Calls(lambda _: None), seconds=seconds, device_seconds=list(seconds), sm_mhz=list(clocks))


def everyone(of_candidate, of_baseline=(1980,) * ROUNDS, cycles=1.0):
    baseline, control = (contender(name, 1.0, of_baseline) for name in ("baseline", "control"))
    return [baseline, contender("a", cycles, of_candidate), control]


def conclusion(contenders):
    return summarize(contenders[:-1], contenders[-1], 0.95)[1]


def test_rounds_in_which_the_clock_was_held_down_are_left_out_of_all_and_counted():
    held_down = [1980] * 25 + [1200] * 12 + [1980] * 3
    contenders = everyone(held_down)
    assert leave_out_throttled(contenders) == 12
    for one in contenders:
        assert {len(one.seconds), len(one.device_seconds), len(one.sm_mhz)} == {ROUNDS - 12}
        assert set(one.sm_mhz) == {1980}
    row = conclusion(contenders)
    assert row["conclusion"] == "within noise"
    assert row["speedup"] == pytest.approx(1.0)


def test_a_clock_that_wavers_a_little_is_steady_and_one_without_a_middle_leaves_every_round():
    wavering = [1980, 1950, 1935, 1965] * (ROUNDS // 4)
    assert leave_out_throttled(everyone(wavering)) == 0
    contenders = everyone([1980] * 15 + [1200] * 25, of_baseline=[1980] * 15 + [1980] * 25)
    assert leave_out_throttled(contenders) == 0
    assert len(contenders[0].seconds) == ROUNDS


def test_a_gap_that_is_the_clocks_alone_is_disturbed_and_a_true_one_is_called():
    heats_up = everyone([1890] * ROUNDS)  # 5 % slower, in as many cycles: it throttles the GPU at every call of its own
    row = conclusion(heats_up)
    assert row["conclusion"] == "disturbed"
    assert row["reason"] == "in cycles of the GPU's clock the conclusion is another"
    assert conclusion(everyone([1980] * ROUNDS, cycles=1.1))["conclusion"] == "slower"
    assert conclusion(everyone([1980] * ROUNDS, cycles=0.9))["conclusion"] == "faster"


def test_without_a_clock_times_are_all_there_is():
    for clocks in ((), (None,) * ROUNDS):
        contenders = everyone([1890] * ROUNDS)
        contenders[0].sm_mhz = list(clocks)
        assert leave_out_throttled(contenders) is None
        assert conclude_in_cycles(contenders[0], contenders[2], contenders[1], 0.95) is None
        assert conclusion(contenders)["conclusion"] == "slower"


def test_who_was_not_timed_has_no_clock():
    contenders = everyone([1980] * 39 + [1200])
    failed = Contender("failed", Calls(lambda _: None), not_timed=("failed", "ValueError"), sm_mhz=[1980])
    assert leave_out_throttled([*contenders, failed]) == 1
    assert leave_out_throttled([failed]) is None
