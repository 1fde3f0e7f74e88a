"""What is timed is held to be what was judged: values move, results are looked at, and what cannot be is refused."""

import dataclasses
import itertools
import random
import threading
import time
from typing import ClassVar

import pandas as pd
import pytest
import torch

from rnn_parity.compare import criterion
from rnn_parity.compare.run import Role
from rnn_parity.experiment.grid import Case
from rnn_parity.findings.answer import answer_for
from rnn_parity.layers.fused import StackingGRU
from rnn_parity.layers.stepwise import StackingGRUCellLoop
from rnn_parity.report.gate import gate
from rnn_parity.timing import audits, rounds
from rnn_parity.timing.audits import EARLY, FIRST, LATE, Unfinished, too_fast, too_many_threads, watch_finished
from rnn_parity.timing.calls import Calls, RewrittenTensors
from rnn_parity.timing.rounds import Contender, make_contender, run_rounds, time_case
from rnn_parity.workloads.layer import Layer

CASE = Case("test", "cpu", "float32", False, 3, 4, 2, 3, 2, 0.3, 1)
SETTINGS = {"precision": 0.5, "min_rounds": 4, "max_seconds": 0.05, "confidence": 0.95, "exclusive": True}
PHASES = ("inference", "forward", "backward", "step")


NOISE = torch.Generator()  # of its own: the global one is seeded before a call that is looked at


def timed(name, phase="inference", **settings):
    rows = time_case(Layer(), CASE, "stacking_gru_cell", [name], phases=[phase], **SETTINGS | settings)
    return rows[1]


class Stale(StackingGRUCellLoop):
    """Goes on with the input, the state or the weights that it saw first."""

    what = ""

    def forward(self, input, h0):
        first = vars(self).setdefault("first", {"input": input.detach().clone(), "h0": h0.detach().clone()})
        if self.what != "weights":
            return super().forward(*({"input": input, "h0": h0} | {self.what: first[self.what]}).values())
        kept = first.setdefault("weights", {name: p.detach().clone() for name, p in self.named_parameters()})
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.data = kept[name].clone()
        return super().forward(input, h0)


class StaleInput(Stale):
    what = "input"


class StaleState(Stale):
    what = "h0"


class StaleWeights(Stale):
    what = "weights"


class Noisy(StackingGRU):
    """Rounds anew at every call, as a kernel with atomic additions does."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output * (1 + 2.0**-23 * torch.randint(0, 2, output.shape, generator=NOISE)), hn


class DoubleByDefault(StackingGRU):
    """Changes settings of the process at every call."""

    def forward(self, input, h0):
        torch.set_num_threads(2)
        torch.set_grad_enabled(True)
        result = super().forward(input, h0)
        torch.set_default_dtype(torch.float64)
        return result


class Spy(StackingGRUCellLoop):
    """A baseline that notes the settings which it is called under."""

    seen: ClassVar = set()

    def forward(self, input, h0):
        self.seen.add((torch.get_num_threads(), torch.get_default_dtype()))
        return super().forward(input, h0)


@pytest.mark.parametrize(
    ("layer", "phase", "says"),
    [
        (StaleInput, "inference", "output"),
        (StaleState, "inference", "output"),
        (StaleWeights, "forward", "output"),
        (StaleWeights, "step", "grad_input"),
    ],
)
def test_input_states_and_in_training_the_weights_move_between_calls(layer, phase, says):
    row = timed(f"{__name__}:{layer.__name__}", phase)
    assert row["conclusion"] == "different"
    assert row["reason"].startswith(f"its result changed while it was being timed: {says} is ")
    assert "speedup" not in row
    assert "median_s" not in row


def test_weights_that_are_kept_in_serving_are_no_fault():
    assert timed(f"{__name__}:StaleWeights", "inference")["reason"] == ""


@pytest.mark.parametrize("phase", PHASES)
def test_what_differs_by_rounding_alone_is_no_fault(phase):
    assert timed(f"{__name__}:Noisy", phase)["reason"] == ""


class DrawsAtFirst(StackingGRUCellLoop):
    """What it compiles or records at its first call draws random numbers, as that of a CUDA graph does."""

    def forward(self, input, h0):
        if not vars(self).setdefault("recorded", False):
            self.recorded = torch.rand(7).sum() > -1
        return super().forward(input, h0)


@pytest.mark.parametrize("phase", ["forward", "step"])
def test_what_a_first_call_draws_is_no_change_of_its_results(phase):
    assert timed(f"{__name__}:DrawsAtFirst", phase)["reason"] == ""


@pytest.mark.parametrize(("off", "asked"), [(1e-7, []), (1e-5, ["output"])])
def test_the_oracle_is_asked_only_where_the_least_limit_is_passed(monkeypatch, off, asked):
    """A GPU's results are seldom the same bits, and a run of the oracle takes longer than all that is timed."""
    task, found = Layer().draw(CASE, 0), []
    limits = task.limits
    monkeypatch.setattr(type(task), "limits", lambda _, quantity: found.append(quantity) or limits(quantity))
    known = {"output": task.reference(None).values["output"].float()}
    assert bool(audits.why_changed(task, known, {"output": known["output"] * (1 + off)})) == bool(asked)
    assert found == asked
    assert max(task.limits("output")) >= task.least_limit("output")


def test_the_limits_of_a_task_are_found_once(monkeypatch):
    asked, judged_limits = [], criterion.judged_limits
    monkeypatch.setattr(criterion, "judged_limits", lambda *given: asked.append(1) or judged_limits(*given))
    task = Layer().draw(CASE, 0)
    limits = [task.limits(quantity) for quantity in ("output", "grad_h0", "output", "never compared")]
    assert len(asked) == len(task.quantities())
    assert limits[0] == limits[2] != limits[1]
    assert limits[3] == max(filter(None, map(task.limits, task.quantities())))


def test_values_are_written_in_place_do_not_come_back_and_are_the_same_for_all():
    one, other = (RewrittenTensors([torch.ones(3), torch.ones(2)]) for _ in range(2))
    (tensor, _), seen = one.tensors, set()
    for number in range(-3, 50):
        for fresh in (one, other):
            fresh.write(str(number))
        assert torch.equal(tensor, other.tensors[0])
        assert tensor[0] != one.tensors[1][0]
        assert 0.9 <= tensor[0] <= 1.1
        seen.add(tensor[0].item())
    assert one.tensors[0] is tensor
    assert len(seen) == 53


def test_calls_of_one_sample_are_given_values_of_their_own():
    contender = make_contender(Layer().draw(CASE, 0), "stacking_gru", Role.CANDIDATE, "inference")
    first, second = contender.calls.prepare(5, 2)
    assert not torch.equal(first[0], second[0])
    assert contender.calls.prepare(6, 2)[1][0] is second[0]


@pytest.mark.parametrize("seed", [0, 25])
def test_a_known_stimulus_is_in_the_first_round_an_early_one_and_the_last(seed):
    numbers = []  # with seed 25 the first round would be drawn, were it among those for the early one

    def prepare(number, count):
        numbers.append(number)
        return [None] * count

    everyone = [Contender(name, Calls(lambda _: time.sleep(1e-4), prepare)) for name in ("baseline", "control")]
    run_rounds(everyone, "cpu", random.Random(seed), 1e-9, 10, 0.2, 0.95)
    after = numbers[numbers.index(FIRST) :: 2]
    assert after[0] == FIRST
    assert EARLY in after[1:10]
    assert after[-1] == LATE
    windows = [10, 15, 22, 33]
    for start, end in itertools.pairwise(windows):
        assert len(after) < end or LATE in after[start:end]


@pytest.mark.parametrize("finds", [True, False])
def test_results_that_change_after_the_clock_has_stopped_are_not_finished(finds):
    result = torch.zeros(3)
    kept = {"output": result.clone()}
    worker = threading.Timer(0.005 if finds else 60.0, lambda: result.fill_(1))
    worker.daemon = True
    worker.start()
    if finds:
        with pytest.raises(Unfinished, match="its result still changed after the clock had stopped"):
            watch_finished(kept, lambda: {"output": result}, 0.04)
    else:
        watch_finished(kept, lambda: {"output": result}, 0.04)
        worker.cancel()


def watch_some_times():
    for _ in range(20):  # a busy machine may give a thread no core for a while
        watch_finished({}, dict, 0.05)


def test_a_thread_that_computes_on_is_not_finished_and_one_that_waits_is():
    stop, weight = threading.Event(), torch.rand(300, 300)

    def compute():
        torch.set_num_threads(1)
        while not stop.is_set():
            weight @ weight

    worker = threading.Thread(target=compute)
    waiting = threading.Thread(target=stop.wait)
    waiting.start()
    watch_finished({}, dict, 0.02)
    worker.start()
    try:
        with pytest.raises(Unfinished, match="a thread of its own was still working after the clock had stopped"):
            watch_some_times()
    finally:
        stop.set()
        worker.join()
        waiting.join()


def test_nobody_is_blamed_for_a_thread_that_another_has_left_working():
    """The first contender leaves one at every call, for longer than the second is looked at."""
    weight = torch.rand(100, 100)

    def compute(until):
        torch.set_num_threads(1)
        while time.monotonic() < until:
            weight @ weight

    def leave(_):
        threading.Thread(target=compute, args=(time.monotonic() + 0.08,)).start()

    everyone = [Contender("leaves", Calls(leave)), Contender("does not", Calls(lambda _: None))]
    for contender in everyone:
        contender.expected = {number: {} for number in audits.KNOWN}
    for _ in range(3):
        for contender in everyone:
            rounds._attempt(rounds._sample, contender, rounds.WallClock(), FIRST)
    assert [contender.not_timed is None for contender in everyone] == [False, True]


def test_more_threads_than_were_granted_are_told():
    assert too_many_threads(1.05, 1.0, 1) == ""
    assert too_many_threads(1.98, 1.0, 2) == ""
    assert too_many_threads(3.8, 1.0, 1) == "it computed on 3.8 threads where 1 was granted"
    assert too_many_threads(3.8, 1.0, 2) == "it computed on 3.8 threads where 2 were granted"
    assert too_many_threads(0.001, 1e-6, 1) == ""  # the clock of the processor is not so fine


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.9, ""), (0.5, "faster than this machine can compute it: 0.5 s, and its operations and bytes take 1 s")],
)
def test_a_time_below_the_floor_is_refused_with_both_numbers(monkeypatch, seconds, words):
    monkeypatch.setattr(audits, "_peak", lambda *_: 1e9)
    rates = {"flops": 1e9, "least_bytes": 1000, "step_gemm_flops_per_s": 1e8}
    assert too_fast(CASE, seconds, rates) == words
    monkeypatch.setattr(audits, "_peak", lambda *_: 1 / 0)
    assert too_fast(CASE, 10.1, rates) == ""  # far from it, nothing is measured
    assert too_fast(CASE, seconds, {}) == ""  # a workload that counts nothing


def test_a_time_that_no_machine_reaches_has_no_speedup(monkeypatch):
    monkeypatch.setattr(rounds.audits, "too_fast", lambda case, median_s, rates: f"{rates['flops']} operations")
    row = timed("stacking_gru")
    assert (row["conclusion"], row["reason"]) == ("no baseline", "baseline: 2016 operations") or "median_s" not in row


def test_no_layer_is_timed_under_the_settings_of_another():
    Spy.seen.clear()
    names = [f"{__name__}:{name}" for name in ("Spy", "DoubleByDefault")]
    time_case(Layer(), CASE, names[0], [names[1]], phases=["inference"], **SETTINGS)
    assert Spy.seen == {(1, torch.float32)}


def test_a_result_that_changed_is_the_answer_and_fails_the_gate():
    row = timed(f"{__name__}:StaleInput")
    timing = pd.DataFrame([row])
    name = row["implementation"]
    columns = {"sweep": "s", "seed": 0, "baseline": "b", "implementation": name, "regime": "eval", "reason": ""}
    held = {"quantity": "output", "verdict": "equivalent", "ratio": 0.1, "mask_agreement": None}
    equivalence = pd.DataFrame([dataclasses.asdict(CASE) | columns | held | {"case_id": CASE.case_id}])
    assert answer_for(equivalence, name).word == "yes"
    answer = answer_for(equivalence, name, None, timing)
    assert answer.word == "no"
    holds, text = gate(equivalence, None, timing)
    assert not holds
    assert "in inference, its result changed while it was being timed: output" in text
    assert answer_for(equivalence, "another", None, timing).fault is None
    kept = timing.assign(reason="its result is the same for other values: output")  # from the first call on
    assert "in inference, its result is the same for other values: output" in gate(equivalence, None, kept)[1]


def test_a_time_of_more_threads_than_were_granted_is_refused():
    contender = Contender("a", Calls(lambda _: None), cpu_s=3.8, watched_s=1.0, seconds=[0.5, 0.5])
    rounds.refuse(contender, None, CASE, {})
    assert contender.not_timed == ("not judged", "it computed on 3.8 threads where 1 was granted")
    on_a_gpu = dataclasses.replace(contender, not_timed=None)
    rounds.refuse(on_a_gpu, None, dataclasses.replace(CASE, device="cuda"), {})
    assert on_a_gpu.not_timed is None  # there a process turns while it waits
