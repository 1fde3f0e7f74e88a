"""Operations follow from the shape; memory is what was really held."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rnn_parity.costs import StorageMeter, matmul_flops, peak_memory_bytes
from rnn_parity.grid import Case
from rnn_parity.stimulus import build_loaded, draw_stimulus

CASE = Case("test", "cpu", "float32", False, 5, 8, 3, 12, 4, 0.3, 1)


def test_flops_are_those_that_torch_counts():
    stimulus = draw_stimulus(CASE, 0)
    module = build_loaded(CASE, "stacking_gru_cell", stimulus)
    input, h0 = stimulus.input.requires_grad_(), stimulus.h0.requires_grad_()
    with FlopCounterMode(display=False) as forward:
        outputs = module(input, h0)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.backward(outputs, stimulus.cotangents)
    assert matmul_flops(CASE, "forward") == matmul_flops(CASE, "inference") == forward.get_total_flops()
    assert matmul_flops(CASE, "backward") == backward.get_total_flops()
    assert matmul_flops(CASE, "step") == forward.get_total_flops() + backward.get_total_flops()


def test_memory_is_counted_at_its_peak_and_not_in_sum():
    def call():
        for _ in range(5):
            kept = torch.empty(250_000)  # one million bytes, freed before the next
        return kept

    assert peak_memory_bytes(call, "cpu") == 2_000_000  # the next is there before the old goes


def test_what_a_layer_holds_is_the_same_every_time():
    gru, input = nn.GRU(8, 16), torch.randn(20, 4, 8)
    peaks = {peak_memory_bytes(lambda: gru(input), "cpu") for _ in range(3)}
    assert len(peaks) == 1
    assert peaks.pop() > 20 * 4 * 16 * 4  # at least its output


def test_views_and_changes_in_place_take_no_memory_and_freed_memory_is_given_back():
    existing = torch.ones(1000)

    def call():
        existing.add_(1).view(10, 100).t()
        return torch.ones(10) + 1

    with StorageMeter() as meter:
        result = call()
        assert meter.held_bytes == 40
        del result
        assert (meter.held_bytes, meter.peak_bytes) == (0, 80)


def test_what_the_backward_pass_needs_is_held_until_it_is_done():
    weight = torch.ones(100, 100, requires_grad=True)
    with StorageMeter() as meter:
        product = (weight * 2).exp()  # exp keeps its result
        assert meter.held_bytes == 40_000
        total = product.sum()
        del product
        assert meter.held_bytes == 40_004
        total.backward()
        del total
        assert meter.held_bytes == 40_000  # the gradient
