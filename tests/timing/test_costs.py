"""Memory is what was really held, operators those that really ran."""

import contextlib
import dataclasses
import warnings
from types import SimpleNamespace

import pytest
import torch

from fake_cudnn import CudnnGRU
from rnn_parity.compare.run import Role
from rnn_parity.experiment.grid import Case
from rnn_parity.timing.costs import WARM_UPS, OperatorMeter, measure_costs, measure_kernels
from rnn_parity.timing.rounds import make_contender
from rnn_parity.workloads.layer import Layer

CASE = Case("test", "cpu", "float32", False, 5, 8, 3, 12, 4, 0.3, 1)


def costs(contender):
    return measure_costs(lambda: contender.calls.prepare(0, 1)[0], contender.calls.call, "cpu")


def costs_of(call):
    return measure_costs(lambda: None, lambda _: call(), "cpu")


def test_memory_is_counted_at_its_peak_and_not_in_sum():
    def call():
        for _ in range(5):
            kept = torch.empty(250_000)  # one million bytes, freed before the next
        return kept

    assert costs_of(call)["peak_memory_bytes"] == 2_000_000  # the next is there before the old goes


def test_what_a_layer_costs_is_the_same_every_time_and_in_every_phase():
    task = Layer().draw(CASE, 0)
    for phase in ("inference", "forward", "backward", "step"):
        found = []
        for _ in range(3):
            contender = make_contender(task, "stacking_gru_cell", Role.BASELINE, phase)
            found.append(costs(contender))
        assert found[0] == found[1] == found[2]
        assert found[0]["peak_memory_bytes"] > 12 * 4 * 8 * 4  # at least its output, or the gradient of its input


def test_operator_calls_grow_with_the_steps_of_a_loop_and_are_few_in_a_matrix_product():
    def calls(steps):
        case = dataclasses.replace(CASE, sequence_length=steps, dropout=0.0)
        contender = make_contender(Layer().draw(case, 0), "stacking_gru_cell", Role.BASELINE, "inference")
        return costs(contender)["operator_calls"]

    assert calls(12) - calls(11) == calls(11) - calls(10) > 3  # so many a step, three layers
    weight = torch.ones(4, 4)
    assert costs_of(lambda: weight @ weight)["operator_calls"] == 1


def test_views_and_changes_in_place_take_no_memory_and_freed_memory_is_given_back():
    existing = torch.ones(1000)

    def call():
        existing.add_(1).view(10, 100).t()
        return torch.ones(10) + 1

    with OperatorMeter() as meter:
        result = call()
        assert meter.held_bytes == 40
        del result
        assert (meter.held_bytes, meter.peak_bytes) == (0, 80)


def test_what_the_backward_pass_needs_is_held_until_it_is_done():
    weight = torch.ones(100, 100, requires_grad=True)
    with OperatorMeter() as meter:
        product = (weight * 2).exp()  # exp keeps its result
        assert meter.held_bytes == 40_000
        total = product.sum()
        del product
        assert meter.held_bytes == 40_004
        total.backward()
        del total
        assert meter.held_bytes == 40_000  # the gradient


class Held:
    """What is asked of the memory of a GPU that is not there: now, and at most since the peak was reset."""

    now = peak = 0

    def __init__(self, size):
        self.size = size
        Held.now += size
        Held.peak = max(Held.peak, Held.now)

    def __del__(self):
        Held.now -= self.size


@pytest.fixture
def gpu_memory(monkeypatch):
    Held.now = Held.peak = 0
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: setattr(Held, "peak", Held.now))

    def stats():
        rounded = {f"allocated_bytes.all.{name}": 512 for name in ("current", "peak")}
        return rounded | {"requested_bytes.all.current": Held.now, "requested_bytes.all.peak": Held.peak}

    monkeypatch.setattr(torch.cuda, "memory_stats", stats)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_memory_is_what_is_held_above_the_inputs_on_either_device(gpu_memory, device):
    """What `prepare` makes counts, what it makes and frees does not, nor do the gradients of the call before."""

    def make(size):
        return torch.empty(size, dtype=torch.uint8), Held(size)

    inputs, gradients = make(1000), [make(50)]

    def prepare():
        gradients.clear()
        make(5000)  # the forward pass peaks here, and then holds what the backward pass needs
        return make(200)

    def call(graph):
        gradients.append(make(40))
        return make(30)

    costs = measure_costs(prepare, call, device)
    assert costs == {"peak_memory_bytes": 270, "operator_calls": 2, "path": ""}
    del inputs


def test_a_backward_pass_holds_what_its_forward_pass_saved():
    weight = torch.ones(100, 100, requires_grad=True)
    costs = measure_costs(lambda: weight.exp().exp().sum(), lambda loss: loss.backward(), "cpu")
    assert costs["peak_memory_bytes"] >= 80_000  # both results of exp


CUDA, CPU = torch.autograd.DeviceType.CUDA, torch.autograd.DeviceType.CPU
CALLS_ONLY = [(CUDA, "Memcpy HtoD", 0, 4), (CUDA, "Memset", 5, 6), (CPU, "cudaLaunchKernel", 0, 1000)]
KERNELS = [(CUDA, "gemm", 20, 30), (CUDA, "sigmoid", 25, 40), (CUDA, "tanh", 26, 27)]  # two of them side by side


@pytest.mark.parametrize(
    ("seen", "launches", "busy_us"),
    [([*KERNELS, *CALLS_ONLY], 3, 25), (CALLS_ONLY, None, 5), (CALLS_ONLY[2:], None, None), ([], None, None)],
)
def test_launches_and_busy_time_are_of_what_the_profiler_sees_on_the_device(monkeypatch, seen, launches, busy_us):
    """On a GPU that is not there. A profiler that sees none is one that cannot see; it looks at one warm call."""
    events = [
        SimpleNamespace(device_type=device, name=name, time_range=SimpleNamespace(start=start, end=end))
        for device, name, start, end in seen
    ]
    profile = SimpleNamespace(events=lambda: events)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    log = []

    @contextlib.contextmanager
    def profiler(activities):
        log.append("profile")
        yield profile
        log.append("done")

    monkeypatch.setattr(torch.profiler, "profile", profiler)
    found = measure_kernels(lambda: log.append("prepare"), lambda _: log.append("call"))
    assert found == {"kernel_launches": launches, "device_busy_s": busy_us and pytest.approx(busy_us * 1e-6)}
    assert log == [*WARM_UPS * ["prepare", "call"], "prepare", "profile", "call", "done"]


@pytest.mark.parametrize("copied", [False, True])
def test_the_library_that_ran_is_named_and_weights_that_it_copies(cudnn, copied):
    layer = CudnnGRU(input_size=5, hidden_size=6, num_layers=2)

    def call():
        if copied:
            warnings.warn("RNN module weights are not part of single contiguous chunk of memory.", stacklevel=1)
        return layer(torch.randn(4, 3, 5), torch.randn(2, 3, 6))

    assert costs_of(call)["path"] == "cuDNN" + copied * ", weights copied at every call"


def test_a_loop_and_a_layer_without_such_a_library_have_no_path():
    assert costs_of(lambda: torch.nn.GRUCell(5, 6)(torch.randn(3, 5)))["path"] == ""
