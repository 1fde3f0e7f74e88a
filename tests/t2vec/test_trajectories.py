"""Trajectories walked, read and batched: each step next to the one before, each bad line named."""

import numpy as np
import pytest
import torch

from rnn_parity.experiment.errors import InputError
from rnn_parity_t2vec.batches import BUCKETS, KEPT, drawn_batches, file_batches, make_batch
from rnn_parity_t2vec.model import BOS, EOS, PAD
from rnn_parity_t2vec.trajectories import read_trajectories, thinned, walks


def places(path):
    """Column and row of every cell of a path through a city of 20 columns."""
    cells = np.array(path) - 4
    return np.stack([cells % 20, cells // 20], axis=1)


def test_a_walk_goes_from_cell_to_neighbour_and_rather_straight_on():
    lengths = np.array([40] * 60 + [7])
    paths = walks(4 + 390, lengths, seed=0)
    assert [len(path) for path in paths] == lengths.tolist()
    turns = []
    for path in paths:
        assert min(path) >= 4
        assert max(path) < 4 + 390
        moves = np.diff(places(path), axis=0)
        assert (np.abs(moves).sum(axis=1) == 1).all()
        turns += (moves[1:] * moves[:-1]).sum(axis=1).tolist()
    assert np.mean(turns) > 0.4  # an aimless walk would have 0
    assert paths == walks(4 + 390, lengths, seed=0)
    assert paths != walks(4 + 390, lengths, seed=1)
    starts = [path[0] for path in walks(4 + 390, np.full(2000, 1), seed=0)]
    assert max(map(starts.count, set(starts))) > 10 * 2000 / 390


def test_a_walk_reaches_every_cell_of_a_city_whose_last_row_is_short():
    paths = walks(4 + 11, np.full(200, 30), seed=0)
    assert {token for path in paths for token in path} == set(range(4, 4 + 11))


def test_thinning_keeps_the_ends_and_the_order():
    random = np.random.default_rng(0)
    long = list(range(4, 5004))
    kept = thinned(long, 0.7, random)
    assert kept[0] == 4
    assert kept[-1] == 5003
    assert kept == sorted(kept)
    assert len(kept) / len(long) == pytest.approx(0.7, abs=0.03)
    assert thinned([7], 0.0, random) == [7]


def test_a_batch_is_padded_and_has_its_beginning_and_end():
    batch = make_batch([[5, 6, 7], [8]], 6, np.random.default_rng(1))
    assert batch.target.T.tolist() == [[BOS, 5, 6, 7, EOS, PAD, PAD], [BOS, 8, EOS, PAD, PAD, PAD, PAD]]
    assert batch.source.T[1].tolist() == [8] + [PAD] * (len(batch.source) - 1)
    assert batch.lengths[1] == 1
    assert make_batch([[5]], 1, np.random.default_rng(1)).target.T.tolist() == [[BOS, 5]]


@pytest.mark.parametrize("steps", [*BUCKETS, 1, 2, 13])
def test_drawn_batches_fill_their_bucket(steps):
    batches = list(drawn_batches(64, steps, 40, 3, seed=0))
    assert len(batches) == 3
    ends = [(batch.target != PAD).sum(0) for batch in batches]
    for batch, lengths in zip(batches, ends, strict=True):
        assert batch.target.shape == (steps + 1, 40)
        assert lengths.max() == steps + 1
        assert (batch.lengths == (batch.source != PAD).sum(0)).all()
        assert set(batch.target[0].tolist()) == {BOS}
    if steps == 50:
        assert 30 + 2 <= torch.cat(ends).min() < 36
        assert torch.cat([batch.lengths for batch in batches]).double().mean() == pytest.approx(KEPT * 40, rel=0.1)
    again = list(drawn_batches(64, steps, 40, 3, seed=0))
    assert all(torch.equal(a.source, b.source) for a, b in zip(batches, again, strict=True))


def test_batches_of_a_file_take_what_fits_the_bucket_once_before_anything_twice():
    trajectories = [[4 + k] * 35 for k in range(10)] + [[99] * 10, [98] * 60]
    batches = list(file_batches(trajectories, 50, 5, 2, seed=0))
    seen = torch.cat([batch.target[1] for batch in batches]).tolist()
    assert sorted(seen) == list(range(4, 14))
    with pytest.raises(InputError, match="x.t: 1 trajectories have 50 to 69 tokens, expected a batch of 5"):
        next(file_batches(trajectories, 70, 5, 1, seed=0, name="x.t"))


def write(path, text):
    path.write_text(text)
    return path


def test_token_files(tmp_path):
    path = write(tmp_path / "a.t", "4 5 6\n18863 7 \n")
    assert read_trajectories(path, 18864) == [[4, 5, 6], [18863, 7]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("4 x 5", "line 2: holds 'x', expected tokens from 4 to 99, since workloads.decoder.vocabulary is 100"),
        ("4 -5", "line 2: holds '-5', expected tokens"),
        ("4 5.0", "line 2: holds '5.0', expected tokens"),
        ("4 2", "line 2: holds '2', expected tokens from 4"),
        ("4 100", "line 2: holds '100', expected tokens from 4 to 99"),
        ("", "line 2: has 0 tokens, expected at least 2"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = write(tmp_path / "a.t", f"4 5\n{line}\n6 7\n")
    with pytest.raises(InputError, match=message) as caught:
        read_trajectories(path, 100)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "b.t").write_bytes(b"4 5\n\xff\xfe\n")
    for name in ("absent.t", "b.t"):
        with pytest.raises(InputError, match=f"{name}: cannot be read .*expected lines of tokens") as caught:
            read_trajectories(tmp_path / name, 100)
        assert "\n" not in str(caught.value)
