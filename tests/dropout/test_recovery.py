"""Masks drawn out of sight are recovered as they were drawn, or not at all; whatever else is wrong with the layer."""

import os
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rnn_parity.cells.gru import GRU
from rnn_parity.cells.stack import run_stack
from rnn_parity.dropout.masks import DropoutRecorder, mask_shape
from rnn_parity.dropout.order import MaskOrder
from rnn_parity.dropout.recovery import Replay, Unrecoverable, recover_masks
from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import LightDispatchMode, numerics
from rnn_parity.layers.stimulus import build_loaded, draw_stimulus
from rnn_parity.trust.examine import faults_of
from rnn_parity.trust.right import WrittenOut

CASE = Case(
    sweep="test", device="cpu", dtype="float32", tf32=False, input_size=5, hidden_size=16, num_layers=3,
    sequence_length=4, batch_size=3, dropout=0.3, threads=1,
)  # fmt: skip
SEED = 7
HIDDEN = "faults:HiddenDropout"
aten = torch.ops.aten


@pytest.fixture(autouse=True)
def one_thread():
    """Hundreds of tiny runs: threads that wait for one another take most of the time."""
    with numerics(threads=1, tf32=False):
        yield


class GapByGap(WrittenOut):
    """Draws (T, B, H) for a gap, out of sight; keeps what it drew."""

    drawn = ()

    def forward(self, input, h0):
        type(self).drawn = []
        return super().forward(input, h0)

    def between(self, layer, sequence):
        kept = self.random(sequence) >= self.dropout
        self.drawn.append(kept.double())
        return sequence * kept / (1 - self.dropout)

    def random(self, sequence):
        return torch.rand(sequence.shape)


class OwnGenerator(GapByGap):
    """From a generator of its own, which every forward seeds anew."""

    def forward(self, input, h0):
        self.generator = torch.Generator().manual_seed(5)
        return super().forward(input, h0)

    def random(self, sequence):
        return torch.rand(sequence.shape, generator=self.generator)


class Unrepeatable(GapByGap):
    """From the system's noise, which no seed sets."""

    def random(self, sequence):
        noise = torch.frombuffer(bytearray(os.urandom(sequence.numel())), dtype=torch.uint8)
        return noise.reshape(sequence.shape) / 256


class ByWeights(GapByGap):
    """From a seed that depends on the weights."""

    def random(self, sequence):
        seed = int(self.weight_hh_l0.sum().item() * 1e3)
        return torch.rand(sequence.shape, generator=torch.Generator().manual_seed(seed))


class OneHiddenMask(GapByGap):
    """One mask for all steps, out of sight."""

    def random(self, sequence):
        return torch.rand(sequence.shape[1:]).expand(sequence.shape)


class SumOverTime(nn.GRU):
    """No stacked GRU: its output adds up."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output.cumsum(0) / 3, hn


class TooShort(nn.GRU):
    """Gives the last step only."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output[-1:], hn


class WithStateTensor(GapByGap):
    """Draws from a state that a call of `_cudnn_rnn` is given and advances, and that no seed sets."""

    state = None

    def random(self, sequence):
        sizes = (self.weight_hh_l0.shape[1], 0, 2)  # H, of a projection, L
        given = (sequence, [], 4, None, sequence[0], None, 3, *sizes, False, self.dropout, True, False, [], self.state)
        return aten._cudnn_rnn(*given)[0]


class FakeCuDNN(LightDispatchMode):
    """Answers `_cudnn_rnn` with random numbers made from its dropout state, a byte tensor it advances in place."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is not aten._cudnn_rnn.default:
            return func(*args, **(kwargs or {}))
        generator = torch.Generator()
        generator.set_state(args[-1])
        numbers = torch.rand(args[0].shape, generator=generator)
        args[-1].copy_(generator.get_state())
        return (numbers, *(torch.empty(0) for _ in range(4)))


def here(layer):
    return f"{__name__}:{layer.__name__}"


def mutant(name):
    return next(path for path in faults_of("gru") if path.endswith(f":{name}"))


def run(case, name, seed=SEED, replay=None):
    """The output under ordinary weights and a seed, the dropout that was seen, and what the oracle was given."""
    stimulus = draw_stimulus(case, 1)
    module = build_loaded(case, name, stimulus).train()
    with DropoutRecorder() as draws, replay or Replay(seed):
        output, _ = module(stimulus.input, *stimulus.states)
    return output.detach(), draws, stimulus


def seen(case, draws):
    """The masks that were drawn: by the loop step by step, by the others gap by gap."""
    by_step = draws.drawn[0].dim() == 2
    return MaskOrder(mask_shape(case), (1, 0, 2, 3) if by_step else (0, 1, 2, 3)).to_masks(draws.stream())


def by_the_oracle(case, stimulus, masks):
    exact = stimulus.map(torch.Tensor.double)
    return run_stack(
        GRU, exact.input, exact.states, exact.weights, exact.cotangents, masks=masks, dropout=case.dropout
    )["output"]


@pytest.mark.parametrize("name", ["stacking_gru_cell", "stacking_gru", "torch.nn:GRU"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_masks_that_can_be_seen_are_recovered_as_they_are_seen(name, dtype):
    case = replace(CASE, dtype=dtype)
    _, draws, _ = run(case, name)
    assert torch.equal(recover_masks(case, name, Replay(SEED)), seen(case, draws))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_layers": 2, "hidden_size": 1, "sequence_length": 1, "batch_size": 1},
        {"num_layers": 2, "dropout": 0.99, "dtype": "float16"},
        {"num_layers": 2, "dropout": 1e-6},
        {"num_layers": 4, "dropout": 0.4, "sequence_length": 2},
        {"hidden_size": 64, "dropout": 0.8, "sequence_length": 2, "batch_size": 2},
        {"hidden_size": 3, "dropout": 0.1, "input_size": 1},
    ],
)
def test_in_every_size_and_rate(changes):
    case = replace(CASE, **changes)
    _, draws, _ = run(case, "stacking_gru")
    assert torch.equal(recover_masks(case, "stacking_gru", Replay(SEED)), seen(case, draws))


def test_hidden_draws_of_every_step_are_recovered():
    masks = recover_masks(CASE, HIDDEN, Replay(SEED))
    assert not torch.equal(masks, recover_masks(CASE, HIDDEN, Replay(SEED + 1)))
    output, draws, stimulus = run(CASE, HIDDEN)
    assert not draws.drawn
    truth = by_the_oracle(CASE, stimulus, masks)
    torch.testing.assert_close(output.double(), truth, rtol=0, atol=1e-5)
    masks[0, 0, 0, 0] = 1 - masks[0, 0, 0, 0]  # and no other masks fit
    assert not torch.allclose(output.double(), by_the_oracle(CASE, stimulus, masks), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layer", [GapByGap, OwnGenerator, OneHiddenMask])
def test_hidden_draws_of_a_whole_gap_are_recovered(layer):
    masks = recover_masks(CASE, here(layer), Replay(SEED))
    run(CASE, here(layer))
    assert torch.equal(masks, torch.stack([gap.expand(masks.shape[1:]) for gap in layer.drawn]))
    assert 0 < masks.mean() < 1


def test_a_state_of_cudnns_is_put_back():
    """Also where seeding does not reset it; the run with the weights that matter then meets the masks recovered."""
    WithStateTensor.state = torch.Generator().manual_seed(3).get_state()
    replay = Replay(SEED)
    with FakeCuDNN():
        masks = recover_masks(CASE, here(WithStateTensor), replay)
        output, _, stimulus = run(CASE, here(WithStateTensor), replay=replay)
        assert torch.equal(masks, torch.stack(WithStateTensor.drawn))
        run(CASE, here(WithStateTensor))
        assert not torch.equal(masks, torch.stack(WithStateTensor.drawn))
    torch.testing.assert_close(output.double(), by_the_oracle(CASE, stimulus, masks), rtol=0, atol=1e-5)


def test_putting_a_state_back_leaves_its_version_for_the_backward_pass():
    """Autograd keeps the state before the replay changes it; a new version would make the backward pass fail."""
    state, replay = torch.Generator().manual_seed(3).get_state(), Replay(SEED)
    WithStateTensor.state = state
    for _ in range(2):
        with FakeCuDNN():
            run(replace(CASE, num_layers=2), here(WithStateTensor), replay=replay)
    assert state._version == 0


@pytest.mark.parametrize("dropout", [0.3, 1e-6])
@pytest.mark.parametrize("layer", [Unrepeatable, ByWeights])
def test_draws_that_cannot_be_replayed_are_given_up(layer, dropout):
    """Also where so little is dropped that the masks of all runs are alike."""
    with pytest.raises(Unrecoverable, match="other dropout masks in another run under the same seed"):
        recover_masks(replace(CASE, dropout=dropout), here(layer), Replay(SEED))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("faults:NotANumber", "nan where"),
        (here(TooShort), r"gives \(1, 3, 16\), expected \(4, 3, 16\)"),
        (here(SumOverTime), "shows no dropout masks between layers: .* where -?1 is expected"),
        (mutant("DropoutAfterLast"), "where -?1 is expected"),
        (mutant("UpdateInverted"), "where -?1 is expected"),
        (mutant("LayersTied"), "dropout masks"),
    ],
)
def test_what_shows_no_masks_is_given_up_with_the_reason(name, reason):
    with pytest.raises(Unrecoverable, match=reason):
        recover_masks(CASE, name, Replay(SEED))


def test_masks_that_hide_others_are_given_up():
    case = replace(CASE, hidden_size=2, dropout=0.7)
    with pytest.raises(Unrecoverable, match="drops every unit of a row"):
        recover_masks(case, "stacking_gru", Replay(SEED))


@pytest.mark.parametrize(
    "name",
    ["ResetAndUpdateSwapped", "ResetBeforeProduct", "BiasOutsideReset", "StatesReversed", "StateIgnored",
     "DropoutNotRescaled", "FinalStateAfterDropout", "StateInBfloat16", "ProductsInTF32", "TanhOff1e4"],
)  # fmt: skip
def test_the_masks_of_wrong_layers_are_the_right_ones(name):
    _, draws, _ = run(CASE, mutant(name))
    assert torch.equal(recover_masks(CASE, mutant(name), Replay(SEED)), seen(CASE, draws))


@pytest.mark.parametrize("name", ["BiasNotCopied", "UpdateAndNewSwapped", "RowMixedUp", "LayersTied", "StateIgnored"])
@pytest.mark.parametrize("seed", range(3))
def test_or_none_at_all_however_small_the_case(name, seed):
    case = replace(CASE, sequence_length=1, batch_size=1, hidden_size=4, num_layers=2)
    _, draws, _ = run(case, mutant(name), seed)
    try:
        masks = recover_masks(case, mutant(name), Replay(seed))
    except Unrecoverable:
        return
    assert torch.equal(masks, seen(case, draws))


@pytest.mark.parametrize("name", ["NoDropout", "EvalAndTrainSwapped", "RecurrentDropout"])
def test_where_nothing_is_dropped_between_layers_all_is_kept(name):
    """And the oracle, which scales what is kept, calls the layer wrong."""
    masks = recover_masks(CASE, mutant(name), Replay(SEED))
    assert torch.equal(masks, torch.ones(mask_shape(CASE), dtype=torch.float64))
    output, _, stimulus = run(CASE, mutant(name))
    assert not torch.allclose(output.double(), by_the_oracle(CASE, stimulus, masks), rtol=0, atol=1e-3)


def test_one_mask_for_all_steps_or_layers_is_recovered_as_such():
    masks = recover_masks(CASE, mutant("OneMaskForAllSteps"), Replay(SEED))
    assert torch.equal(masks, masks[:, :1].expand(masks.shape))
    masks = recover_masks(CASE, mutant("OneMaskForAllLayers"), Replay(SEED))
    assert torch.equal(masks, masks[:1].expand(masks.shape))
    assert 0 < masks.mean() < 1


def test_where_everything_is_dropped_the_masks_are_zero():
    case = replace(CASE, dropout=1.0)
    assert torch.equal(recover_masks(case, "stacking_gru", Replay(SEED)), torch.zeros(mask_shape(case)).double())


def test_the_generator_is_left_as_it_was():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    recover_masks(CASE, HIDDEN, Replay(SEED))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_replay_starts_every_run_from_the_same_randomness():
    replay, drawn = Replay(SEED), []
    for _ in range(2):
        with replay:
            drawn.append(F.dropout(torch.ones(50), 0.5))
    torch.manual_seed(SEED)
    assert torch.equal(*drawn)
    assert torch.equal(drawn[0], F.dropout(torch.ones(50), 0.5))
