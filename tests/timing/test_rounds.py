"""Rounds, order, control and phases are what the design says; no clock is trusted in these tests."""

import dataclasses
import mmap
import random

import pytest
import torch

from rnn_parity.compare.run import Role
from rnn_parity.experiment.grid import Case
from rnn_parity.tables import TIMING
from rnn_parity.timing import environment
from rnn_parity.timing import rounds as timing
from rnn_parity.timing.calls import Calls
from rnn_parity.timing.rounds import Contender, make_contender, run_rounds, summarize, time_case
from rnn_parity.workloads import layer
from rnn_parity.workloads.layer import Layer

CASE = Case("test", "cpu", "float32", False, 3, 4, 2, 3, 2, 0.3, 1)
SETTINGS = {"precision": 0.5, "min_rounds": 4, "max_seconds": 0.05, "confidence": 0.95, "exclusive": True}
ON_A_GPU = {"device_median_s", "device_busy_s", "kernel_launches"}
ON_A_GPU |= {"clock_limits", "throttled_rounds", "other_gpu_processes"}
PHASES = ["inference", "forward", "backward", "step"]


class FakeClock(timing.WallClock):
    """Every call takes what its contender says; time passes only by being measured."""

    def __init__(self):
        self.now = 0.0

    def resolution_s(self):
        return 1e-8

    def time(self, run):
        self.now += (seconds := sum(returned := run()))
        return seconds, None, returned


@pytest.fixture
def clock(monkeypatch):
    fake = FakeClock()
    monkeypatch.setattr(timing, "WallClock", lambda: fake)
    monkeypatch.setattr(timing, "perf_counter", lambda: fake.now)
    return fake


def contender(name, seconds, calls=None):
    """A contender whose n-th call takes the n-th of `seconds`, the last one for ever."""
    count = iter(range(10**9))

    def call(_):
        if calls is not None:
            calls.append(name)
        return seconds[min(next(count), len(seconds) - 1)]

    return Contender(name, Calls(call))


def prepared(contender):
    return contender.calls.prepare(0, 1)[0]


def run(contenders, precision=0.02, min_rounds=6, max_seconds=1.0):
    return run_rounds(contenders, "cpu", random.Random(0), precision, min_rounds, max_seconds, confidence=0.95)


def test_in_every_round_each_is_timed_once_and_the_baseline_twice_in_shuffled_order(clock):
    calls = []
    contenders = [contender(name, [1e-3], calls) for name in ("baseline", "a", "b", "control")]
    run(contenders, precision=1e-9, min_rounds=5, max_seconds=0.1)
    rounds = [calls[i : i + 4] for i in range(4 * 2, len(calls), 4)]  # after two calls each
    assert len(rounds) >= 5
    assert all(sorted(one) == ["a", "b", "baseline", "control"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert all(len(c.seconds) == len(rounds) for c in contenders)


def test_it_warms_up_until_calls_get_no_faster(clock):
    slow_start = [contender(name, [9.0, 5.0, 3.0, 1.0]) for name in ("baseline", "control")]
    run(slow_start)
    assert set(slow_start[0].seconds) == {1.0}
    falling = contender("baseline", [0.5**k for k in range(99)])
    run([falling, contender("control", [1.0])])
    assert falling.seconds[0] == 0.5**timing.MOST_WARM_UPS


def test_a_device_that_rests_is_given_work_before_the_first_sample(clock):
    clock.warm_up_s = 0.5
    first = contender("baseline", [0.1, 0.1, 0.1, 0.1, 0.1, 0.05])
    run([first, contender("control", [0.1])])
    assert set(first.seconds) == {0.05}
    short = contender("baseline", [1e-9])
    timing._warm_up(short, clock)  # and ends, whatever the clock says
    assert timing.CudaClock.warm_up_s > 0


def test_what_only_the_first_call_takes_is_in_no_sample_and_recorded_apart(clock):
    compiled = contender("candidate", [40.0, 1.0])
    others = [contender(name, [1.0]) for name in ("baseline", "control")]
    everyone = [others[0], compiled, others[1]]
    rounds_s = run(everyone, max_seconds=9.0)
    assert compiled.first_call_s == 40.0
    assert set(compiled.seconds) == {1.0}
    assert rounds_s == pytest.approx(7 * 3)
    assert summarize(everyone[:-1], everyone[-1], 0.95)[1]["first_call_s"] == 40.0


def test_a_compiled_layer_is_compiled_anew_for_every_phase_and_before_its_samples(monkeypatch):
    compiled, before_a_sample = [], []

    class Plain(torch.nn.Linear):
        def forward(self, input, h0):
            return super().forward(input), h0

    def build(case, name, _):
        torch.manual_seed(0)  # whatever is built anew is the same layer
        made = Plain(3, 4)
        if name == "compiled":
            made.compile(backend=lambda graph, _: compiled.append(1) or graph.forward)
        return made

    sample = timing._sample
    monkeypatch.setattr(layer, "build_loaded", build)
    monkeypatch.setattr(timing, "_sample", lambda *given: before_a_sample.append(len(compiled)) or sample(*given))
    rows = time_case(Layer(), CASE, "plain", ["compiled"], phases=["inference", "forward"], **SETTINGS)
    assert [row["reason"] for row in rows] == [""] * 4
    first, second = sorted(set(before_a_sample))  # one number in all samples of a phase: none of them compiles
    assert second > first > 0


def test_a_ratio_that_changes_midway_is_disturbed_and_a_load_on_both_is_not(clock):
    """Another process comes after half of the rounds: it slows one down, or all alike."""

    def conclusion(*factors):
        quiet = [3.0, 2.0, 3.0]
        lists = [[t] * 52 + [t * f] * 999 for t, f in zip(quiet, factors, strict=True)]  # two calls to warm up
        everyone = [contender(name, seconds) for name, seconds in zip(("baseline", "a", "control"), lists, strict=True)]
        run(everyone, precision=1e-9, min_rounds=100, max_seconds=0.0)
        return summarize(everyone[:-1], everyone[-1], 0.95)[1]

    alike = conclusion(2.0, 2.0, 2.0)
    assert alike["conclusion"] == "faster"
    assert alike["speedup"] == pytest.approx(1.5, rel=0.05)
    apart = conclusion(1.3, 1.0, 1.3)
    assert apart["conclusion"] == "disturbed"
    said = "the speedup of the first half of the rounds differs from the second by more than 5 %"
    assert apart["reason"] == said


def test_a_layer_whose_costs_cannot_be_counted_keeps_its_times_and_the_log_says_why(monkeypatch, caplog):
    monkeypatch.setattr(timing, "measure_costs", lambda *_: 1 / 0)
    rows = time_case(Layer(), CASE, "stacking_gru_cell", ["stacking_gru"], phases=["inference"], **SETTINGS)
    assert all(row["median_s"] > 0 and "operator_calls" not in row for row in rows)
    why = "its costs could not be counted: ZeroDivisionError: division by zero"
    assert caplog.messages == [f"stacking_gru_cell: {why}", f"stacking_gru: {why}"]


def test_it_stops_when_the_ratio_is_known_well_enough(clock):
    exact = [contender(name, [1e-3]) for name in ("baseline", "a", "control")]
    run(exact, max_seconds=1e9)
    assert len(exact[0].seconds) == 6 + 1  # and the last one, which is looked at


def test_it_goes_on_until_the_time_is_spent_while_the_ratio_is_unsure(clock):
    noisy = random.Random(0)
    contenders = [contender(n, [noisy.uniform(1, 3) for _ in range(999)]) for n in ("baseline", "a", "control")]
    run(contenders, precision=1e-6, min_rounds=4, max_seconds=300.0)
    assert len(contenders[0].seconds) == pytest.approx(300 / 6, rel=0.2)  # three samples of two seconds a round


def test_the_least_number_of_rounds_is_made_whatever_it_costs(clock):
    contenders = [contender(name, [100.0]) for name in ("baseline", "a", "control")]
    run(contenders, precision=1e-9, min_rounds=7)
    assert len(contenders[0].seconds) == 7 + 1


def test_a_call_too_short_for_the_clock_is_repeated_within_a_sample(clock):
    contenders = [contender(name, [1e-7]) for name in ("baseline", "a", "control")]
    run(contenders, min_rounds=4)
    assert contenders[0].calls_per_sample == 11  # 100 times the resolution of 10 ns, and one more
    assert contenders[0].seconds[0] == pytest.approx(1e-7)


def test_pages_that_the_system_gives_to_a_call_are_counted_per_call(clock):
    def given_pages(_):
        with mmap.mmap(-1, 50 * mmap.PAGESIZE) as memory:
            for page in range(50):
                memory[page * mmap.PAGESIZE] = 1
        return 1e-7  # ten calls a sample

    few, many = contender("few", [1.0]), Contender("many", Calls(given_pages))
    control = contender("control", [1.0])
    run([few, many, control])
    rows = summarize([few, many], control, 0.95)
    assert many.calls_per_sample > 5
    assert rows[0]["page_faults"] < 5 < 50 <= rows[1]["page_faults"] < 55


def test_one_that_fails_leaves_the_others_their_measurement(clock):
    contenders = [contender(name, [1e-3]) for name in ("baseline", "broken", "a", "control")]
    contenders[1].calls = Calls(lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")))
    run(contenders, min_rounds=4)
    rows = summarize(contenders[:-1], contenders[-1], 0.95)
    assert [row["conclusion"] for row in rows] == ["baseline", "not judged", "within noise"]
    assert rows[1]["reason"] == "out of memory: CUDA out of memory"
    assert "median_s" not in rows[1]


def test_without_a_baseline_there_is_a_time_and_no_speedup(clock):
    contenders = [contender(name, [1e-3]) for name in ("baseline", "a", "control")]
    for broken in (contenders[0], contenders[2]):
        broken.calls = Calls(lambda _: (_ for _ in ()).throw(NotImplementedError("no kernel")))
    run(contenders, min_rounds=4, max_seconds=0.1)
    rows = summarize(contenders[:-1], contenders[-1], 0.95)
    assert [row["conclusion"] for row in rows] == ["unsupported", "no baseline"]
    assert rows[1]["median_s"] == pytest.approx(1e-3)
    assert "speedup" not in rows[1]


def test_a_speedup_is_the_baselines_median_over_this_one(clock):
    contenders = [contender("baseline", [3e-3]), contender("a", [2e-3]), contender("control", [3e-3])]
    run(contenders, min_rounds=5)
    baseline, candidate = summarize(contenders[:-1], contenders[-1], 0.95)
    assert candidate["speedup"] == pytest.approx(1.5)
    assert candidate["conclusion"] == "faster"
    assert candidate["control_ratio"] == pytest.approx(1.0)
    assert (baseline["speedup"], baseline["conclusion"]) == (1.0, "baseline")


def test_every_row_of_a_real_case_fits_its_table_and_nothing_is_missing():
    rows = time_case(Layer(), CASE, "stacking_gru_cell", ["stacking_gru"], phases=PHASES, **SETTINGS)
    assert [(row["phase"], row["implementation"]) for row in rows] == [
        (phase, name) for phase in PHASES for name in ("stacking_gru_cell", "stacking_gru")
    ]
    for row in rows:
        assert set(row) == set(TIMING.names) - ON_A_GPU
        assert row["speedup_ci_low"] <= row["speedup"] <= row["speedup_ci_high"]
        assert row["q25_s"] <= row["median_s"] <= row["q75_s"]
        assert row["peak_memory_bytes"] > 0
        assert row["exclusive"] is True
        assert row["machine"] == environment.machine_of("cpu")
        assert row["step_gemm_flops_per_s"] > 0
        assert 0 < row["rounds_s"] < row["ended_at"] - row["started_at"]
        assert row["started_at"] < row["ended_at"]
        assert row["samples"] >= SETTINGS["min_rounds"]


def test_a_layer_that_cannot_be_timed_is_a_row_with_its_reason():
    rows = time_case(Layer(), CASE, "stacking_gru_cell", ["faults:Crash"], phases=["step"], **SETTINGS)
    assert [row["conclusion"] for row in rows] == ["baseline", "failed"]
    assert rows[1]["reason"] == "ValueError: it went wrong"


def test_inference_records_no_graph_and_drops_nothing():
    task = Layer().draw(dataclasses.replace(CASE, dropout=1.0), 0)
    inference, forward = (
        make_contender(task, "stacking_gru_cell", Role.BASELINE, phase) for phase in ("inference", "forward")
    )
    output, _ = inference.calls.call(prepared(inference))
    assert not output.requires_grad
    trained, _ = forward.calls.call(prepared(forward))
    assert trained.requires_grad
    assert not torch.equal(output, trained)  # everything between the layers was dropped


def test_backward_excludes_the_forward_pass_and_starts_without_gradients(monkeypatch):
    calls = []

    class Spy(torch.nn.GRU):
        def forward(self, input, h0):
            calls.append([p.grad for p in self.parameters()] + [input.grad, h0.grad])
            return super().forward(input, h0)

    monkeypatch.setattr(layer, "build_loaded", lambda *_: Spy(3, 4, 2))
    task = Layer().draw(CASE, 0)
    backward = make_contender(task, "spy", Role.CANDIDATE, "backward")
    given = prepared(backward)
    assert len(calls) == 1
    backward.calls.call(given)
    assert len(calls) == 1
    step = make_contender(task, "spy", Role.CANDIDATE, "step")
    for _ in range(2):
        step.calls.call(prepared(step))
    assert len(calls) == 3
    assert all(gradient is None for gradients in calls for gradient in gradients)
