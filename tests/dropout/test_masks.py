"""Masks are seen and imposed on unmodified modules, number by number."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rnn_parity.dropout.masks import DropoutRecorder, dependence, draw_masks, draws_out_of_sight, echo
from rnn_parity.dropout.order import MaskOrder
from rnn_parity.layers.parameters import canonical_parameters, copy_weights
from rnn_parity.layers.registry import build

T, B, INPUT, H, L = 4, 3, 5, 6, 3
BOTH = "stacking_gru_cell", "stacking_gru"
SHAPE = L - 1, T, B, H
ORDERS = MaskOrder(SHAPE, (1, 0, 2, 3)), MaskOrder(SHAPE)
"""Of the two: step by step, and gap by gap."""


def both(dropout=0.5, dtype=torch.float32):
    """The loop and the fused layer with the same weights, an input and a state."""
    torch.manual_seed(0)
    modules = [build(name, input_size=INPUT, hidden_size=H, num_layers=L, dropout=dropout) for name in BOTH]
    modules = [module.to(dtype) for module in modules]
    copy_weights({k: v.detach() for k, v in canonical_parameters(modules[0]).items()}, modules[1])
    return modules, torch.randn(T, B, INPUT, dtype=dtype), torch.randn(L, B, H, dtype=dtype)


def drawn_by(module, input, h0, seed=1):
    torch.manual_seed(seed)
    with DropoutRecorder() as draws:
        output, _ = module(input, h0)
    return draws, output


def test_looking_changes_nothing():
    (loop, fused), input, h0 = both()
    for module in (loop, fused):
        torch.manual_seed(1)
        expected, _ = module(input, h0)
        assert torch.equal(drawn_by(module, input, h0)[1], expected)


def test_the_loop_draws_per_step_and_the_fused_layer_per_gap():
    (loop, fused), input, h0 = both()
    assert drawn_by(loop, input, h0)[0].describe() == "8 masks of (3, 6)"
    assert drawn_by(fused, input, h0)[0].describe() == "2 masks of (4, 3, 6)"
    assert drawn_by(loop.eval(), input, h0)[0].describe() == "no mask"


def test_the_same_seed_deals_the_same_stream_out_in_another_order():
    (loop, fused), input, h0 = both()
    ours, theirs = (drawn_by(module, input, h0)[0] for module in (loop, fused))
    assert torch.equal(ours.stream(), theirs.stream())
    masks = [order.to_masks(draws.stream()) for order, draws in zip(ORDERS, (ours, theirs), strict=True)]
    assert not torch.equal(*masks)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_matched_masks_make_the_two_agree(dtype):
    modules, input, h0 = both(dtype=dtype)
    masks = draw_masks(SHAPE, 0.5, seed=3)
    outputs = []
    for module, order in zip(modules, ORDERS, strict=True):
        with DropoutRecorder(order.to_stream(masks)) as draws:
            outputs.append(module(input, h0)[0])
        assert torch.equal(order.to_masks(draws.stream()), masks)
    torch.testing.assert_close(*outputs)
    with DropoutRecorder(ORDERS[0].to_stream(1 - masks)):
        assert not torch.allclose(modules[0](input, h0)[0], outputs[0])


def test_the_backward_pass_uses_the_imposed_masks_too():
    """With everything dropped, no gradient reaches the input."""
    modules, input, h0 = both()
    input.requires_grad_()
    for module in modules:
        with DropoutRecorder(torch.zeros((L - 1) * T * B * H)):
            output, _ = module(input, h0)
        (gradient,) = torch.autograd.grad(output.sum(), input)
        assert torch.equal(gradient, torch.zeros_like(input))


def test_the_fused_operator_of_cuda_is_seen_and_replaced_as_well():
    """`native_dropout` is what CUDA calls; it runs on the CPU too when it is called by name."""
    masks = draw_masks((1, 1, 3, 4), 0.5, seed=0)
    input = torch.randn(3, 4, requires_grad=True)
    with DropoutRecorder(masks.flatten()) as draws:
        output, kept = torch.native_dropout(input, 0.5, True)
    assert torch.equal(output, input.detach() * masks[0, 0].float() * 2)
    assert torch.equal(kept, masks[0, 0].bool())
    assert torch.equal(draws.stream(), masks.flatten())
    (gradient,) = torch.autograd.grad(output.sum(), input)
    assert torch.equal(gradient, masks[0, 0].float() * 2)


def test_draws_of_any_shape_take_the_next_numbers_and_keep_their_own_beyond_the_last():
    stream = torch.tensor([1.0, 0, 0, 1, 1, 0, 0])
    torch.manual_seed(0)
    with DropoutRecorder(stream) as draws:
        first = F.dropout(torch.ones(2, 2).T.contiguous().T, 0.5)  # in another order in memory
        second = F.dropout(torch.ones(1, 3), 0.5)
        F.dropout(torch.ones(1000), 0.5)
    assert torch.equal(first, torch.tensor([[2.0, 0], [0, 2]]))
    assert torch.equal(second, torch.tensor([[2.0, 0, 0]]))
    assert 400 < draws.stream()[7:].sum() < 600
    assert (draws.count, draws.describe()) == (1007, "1 masks of (2, 2), 1 masks of (1, 3), 1 masks of (1000,)")


def test_our_own_masks_have_the_asked_rate_and_come_from_the_seed():
    shape = 2, 50, 20, 10
    masks = draw_masks(shape, 0.2, seed=1)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert masks.mean().item() == pytest.approx(0.8, abs=0.01)
    assert torch.equal(masks, draw_masks(shape, 0.2, seed=1))
    assert not torch.equal(masks, draw_masks(shape, 0.2, seed=2))


def test_randomness_inside_a_kernel_is_noticed():
    input = torch.ones(5, 5)
    assert draws_out_of_sight(lambda: input * torch.rand(5, 5), 0.1)
    assert not draws_out_of_sight(lambda: nn.Identity()(input), 0.1)


def test_few_entries_that_come_out_alike_do_not_hide_that_they_are_random():
    seeds = []

    def run(different, entries=2):
        seeds.append(torch.initial_seed())
        return torch.full((9, 1, entries), float(len(seeds) == different))

    assert draws_out_of_sight(lambda: run(40), 0.1)
    assert len(set(seeds)) == len(seeds) == 40  # it stops at the first difference
    seeds.clear()
    assert not draws_out_of_sight(lambda: run(65), 0.1)
    assert len(seeds) == 64
    seeds.clear()
    assert not draws_out_of_sight(lambda: run(99, entries=10_000), 0.1)  # so many are never alike by chance
    assert len(seeds) == 3
    seeds.clear()
    assert not draws_out_of_sight(lambda: run(99, entries=40), 0.5)  # the likelier an entry is dropped, the fewer
    assert len(seeds) == 5


@pytest.mark.parametrize("dropout", [0.001, 0.1, 0.5, 0.999])
def test_independent_draws_are_not_called_dependent_however_rare_a_drop(dropout):
    generator = torch.Generator().manual_seed(0)
    for size in [(1, 1), (3, 6), (256, 8)] * 40:
        draws = [torch.rand(size, generator=generator) >= dropout for _ in range(5)]
        assert dependence(draws) == ""


@pytest.mark.parametrize("places", [0, 4, -7])
def test_entries_that_return_in_the_next_draw_are_found_where_they_stand(places):
    numbers = torch.rand(6, 256, 8, generator=torch.Generator().manual_seed(0))
    draws = [numbers[0] >= 0.1]
    for fresh in numbers[1:]:
        again = torch.rand(256, 8, generator=torch.Generator().manual_seed(len(draws))) < 0.5
        draws.append(torch.where(again, draws[-1].flatten().roll(-places).view(256, 8), fresh >= 0.1))
    found = dependence([*draws, draws[-1][:100]])  # a last chunk of fewer rows is left out
    assert found.startswith("an entry correlates by 0.")
    assert found.endswith(f"with the entry {places} places on in the draw before")


@pytest.mark.parametrize("dropout", [0.005, 0.5])
def test_independent_draws_are_no_echo_of_themselves(dropout):
    for seed in range(30):
        assert echo((torch.rand(3000, generator=torch.Generator().manual_seed(seed)) >= dropout).double()) == 0
    assert echo(torch.ones(5)) == 0


def test_draws_that_repeat_or_oppose_themselves_are_found_where_they_do():
    numbers = torch.rand(4000, generator=torch.Generator().manual_seed(0))
    assert echo((numbers[torch.arange(10_000) % 4000] >= 0.5).double()) == 4000
    assert echo((torch.stack([numbers, 1 - numbers], 1).flatten() >= 0.5).double()) == 1


def test_nothing_to_hold_against_each_other_is_no_dependence():
    kept, dropped = torch.ones(3, 6), torch.zeros(3, 6)
    assert dependence([]) == dependence([kept]) == dependence([kept] * 3) == dependence([dropped] * 3) == ""
