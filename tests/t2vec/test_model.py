"""The model computes what its paper says, whichever way its decoder is run."""

import itertools

import pytest
import torch

from rnn_parity.experiment.grid import Case
from rnn_parity.layers.parameters import canonical_parameters, copy_weights
from rnn_parity_t2vec.batches import drawn_batches
from rnn_parity_t2vec.generation import greedy
from rnn_parity_t2vec.model import BOS, EOS, PAD, GlobalAttention, T2Vec, nll_loss

CASE, VOCABULARY = Case("decoder", "cpu", "float32", False, 6, 8, 2, 9, 5, 0.3, 1), 29


def model(implementation="stacking_gru_cell", attending="each_step", **options):
    """In float64; two of the same options have the same weights."""
    torch.manual_seed(0)
    built = T2Vec(CASE, VOCABULARY, "stacking_gru", attending, **options)
    other = T2Vec(CASE, VOCABULARY, implementation, attending, **options).double()
    copy_weights({k: v.detach() for k, v in canonical_parameters(built.decoder.rnn).items()}, other.decoder.rnn)
    rest = {name: value for name, value in built.state_dict().items() if not name.startswith("decoder.rnn")}
    other.load_state_dict(rest, strict=False)
    return other


def batch(steps=9, size=5):
    return next(drawn_batches(VOCABULARY, steps, size, 1, seed=0))


def run(module, given):
    return module(given.source, given.lengths, given.target[:-1])


def test_the_published_key_names():
    names = list(model().state_dict())
    assert names[:3] == ["embedding.weight", "encoder.embedding.weight", "encoder.rnn.weight_ih_l0"]
    assert {"decoder.embedding.weight", "decoder.attention.L1.weight", "decoder.attention.L2.weight"} <= set(names)
    assert names[-2:] == ["generator.0.weight", "generator.0.bias"]


@pytest.mark.parametrize("implementation", ["stacking_gru_cell", "stacking_gru"])
@pytest.mark.parametrize("attending", ["each_step", "all_steps"])
def test_all_ways_of_the_decoder_give_the_same(implementation, attending):
    given = batch()
    expected = run(model().eval(), given)
    found = run(model(implementation, attending).eval(), given)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_attention_is_luongs_and_sees_no_padding():
    torch.manual_seed(2)
    attention = GlobalAttention(4).double()
    query, context = torch.randn(3, 2, 4, dtype=torch.float64), torch.randn(5, 2, 4, dtype=torch.float64)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    found = attention(query, context, padding)
    for t, b in itertools.product(range(3), range(2)):
        seen = context[: 5 - 2 * b, b]
        weights = torch.softmax(seen @ attention.L1.weight @ query[t, b], 0)
        expected = torch.tanh(attention.L2.weight @ torch.cat([weights @ seen, query[t, b]]))
        torch.testing.assert_close(found[t, b], expected, rtol=0, atol=1e-14)


def test_padding_of_the_source_changes_nothing():
    given, module = batch(), model().eval()
    expected = run(module, given)[0]
    more = torch.cat([given.source, torch.full((3, 5), PAD)])
    found = module(more, given.lengths, given.target[:-1])[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_the_decoder_begins_with_both_directions_last_states():
    given, module = batch(), model().eval()
    context, h0 = module.encoder(given.source, given.lengths)
    rows = torch.arange(5)
    last, first = context[given.lengths - 1, rows], context[0, rows]
    assert torch.equal(h0[-1], torch.cat([last[:, :4], first[:, 4:]], dim=1))


def test_the_loss_leaves_padding_out():
    torch.manual_seed(0)
    logp = torch.randn(7, 3, VOCABULARY, dtype=torch.float64).log_softmax(-1)
    wanted = torch.randint(EOS, VOCABULARY, (7, 3))
    wanted[4:, 1] = PAD
    places = [(t, b) for t, b in itertools.product(range(7), range(3)) if wanted[t, b] != PAD]
    torch.testing.assert_close(nll_loss(logp, wanted), -sum(logp[t, b, wanted[t, b]] for t, b in places) / 3)


def test_the_loss_of_a_published_batch_is_no_overflow_in_float16():
    """Its terms, over 70 steps and 128 rows, sum up to more than float16 holds; their mean over the rows does not."""
    logp = torch.full((70, 128, 5), -9.8, dtype=torch.float16)
    wanted = torch.full((70, 128), 4)
    assert torch.finfo(torch.float16).max < 70 * 128 * 9.8
    assert nll_loss(logp, wanted).item() == pytest.approx(70 * 9.8, rel=2e-3)


def test_with_input_feeding_the_stack_is_called_step_by_step():
    given, module = batch(), model("stacking_gru", input_feeding=True).eval()
    lengths = []
    module.decoder.rnn.register_forward_hook(lambda _, inputs, __: lengths.append(len(inputs[0])))
    _, hn = run(module, given)
    assert lengths == [1] * 9
    assert module.decoder.rnn.gru.weight_ih_l0.shape == (24, 6 + 8)
    with torch.no_grad():
        module.decoder.attention.L2.weight.mul_(0.5)
    assert not torch.allclose(run(module, given)[1], hn)
    plain = []
    other = model("stacking_gru")
    other.decoder.rnn.register_forward_hook(lambda _, inputs, __: plain.append(len(inputs[0])))
    run(other, given)
    assert plain == [9]


def after_end(tokens):
    ends = (tokens == EOS) | (tokens == PAD)
    return ends.cumsum(0) - ends.long() > 0


@pytest.mark.parametrize("implementation", ["stacking_gru_cell", "stacking_gru"])
def test_greedy_says_what_the_decoder_would_with_its_own_words_before_it(implementation):
    given, module = batch(size=12), model(implementation).eval()
    with torch.no_grad():
        for parameter in module.parameters():  # so that it says more than one word
            parameter.mul_(4)
        module.generator[0].bias[EOS] += 0.5
    tokens = greedy(module, given, 12)
    read = torch.cat([torch.full((1, 12), BOS), tokens[:-1]])
    wanted = module.generator(module(given.source, given.lengths, read)[0]).argmax(-1)
    assert len(tokens.unique()) > 5
    assert (tokens[-1] == PAD).any()
    over = after_end(tokens)
    assert torch.equal(tokens, wanted.masked_fill(over, PAD))
