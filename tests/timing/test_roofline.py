"""Operations and bytes follow from the shape; they are those of real tensors."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rnn_parity.cells.gru import GRU
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.stimulus import build_loaded, draw_stimulus
from rnn_parity.timing.roofline import floor_s, least_bytes, matmul_flops, sequential_flops, step_floor_s

CASE = Case("test", "cpu", "float32", False, 5, 8, 3, 12, 4, 0.3, 1)
PHASES = ("inference", "forward", "backward", "step")


def test_flops_are_those_that_torch_counts():
    stimulus = draw_stimulus(CASE, 0)
    module = build_loaded(CASE, "stacking_gru_cell", stimulus)
    input, h0 = stimulus.input.requires_grad_(), stimulus.states[0].requires_grad_()
    with FlopCounterMode(display=False) as forward:
        outputs = module(input, h0)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.backward(outputs, stimulus.cotangents)
    assert matmul_flops(CASE, GRU, "forward") == matmul_flops(CASE, GRU, "inference") == forward.get_total_flops()
    assert matmul_flops(CASE, GRU, "backward") == backward.get_total_flops()
    assert matmul_flops(CASE, GRU, "step") == forward.get_total_flops() + backward.get_total_flops()


def test_sequential_are_the_products_with_the_state_forward_and_backward():
    state = torch.ones(4, 8, requires_grad=True)
    weight = torch.ones(24, 8)  # without a gradient: that of all steps is one product at the end
    with FlopCounterMode(display=False) as forward:
        gates = [state @ weight.T for _ in range(12 * 3)]
    with FlopCounterMode(display=False) as backward:
        sum(gate.sum() for gate in gates).backward()
    assert (
        sequential_flops(CASE, GRU, "forward") == sequential_flops(CASE, GRU, "inference") == forward.get_total_flops()
    )
    assert sequential_flops(CASE, GRU, "backward") == backward.get_total_flops()
    assert sequential_flops(CASE, GRU, "step") == forward.get_total_flops() + backward.get_total_flops()
    for phase in PHASES:
        assert sequential_flops(CASE, GRU, phase) < matmul_flops(CASE, GRU, phase)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_the_least_bytes_are_those_of_what_is_given_and_given_back(dtype):
    case = dataclasses.replace(CASE, dtype=dtype)
    stimulus = draw_stimulus(case, 0)
    module = build_loaded(case, "stacking_gru_cell", stimulus)
    input, h0 = stimulus.input.requires_grad_(), stimulus.states[0].requires_grad_()
    outputs = module(input, h0)
    torch.autograd.backward(outputs, stimulus.cotangents)
    given = [*module.parameters(), input, h0]

    def size(tensors):
        return sum(tensor.nbytes for tensor in tensors)

    gradients = [tensor.grad for tensor in given]
    assert least_bytes(case, GRU, "inference") == least_bytes(case, GRU, "forward") == size(given) + size(outputs)
    assert least_bytes(case, GRU, "backward") == size(given) + size(stimulus.cotangents) + size(gradients)
    assert least_bytes(case, GRU, "step") == least_bytes(case, GRU, "backward") + size(outputs)


def test_the_floor_is_the_slower_of_computing_and_moving():
    assert floor_s(6e9, 1e6, gemm_flops_per_s=2e9, copy_bytes_per_s=1e9) == 3.0
    assert floor_s(6e9, 5e9, gemm_flops_per_s=2e9, copy_bytes_per_s=1e9) == 5.0
    assert step_floor_s(6e9, 2e9, gemm_flops_per_s=2e9, step_gemm_flops_per_s=0.5e9) == 4.0 + 2.0
