"""Trajectories drawn, read and batched: each step next to the one before, each bad line named."""

import gzip
import json

import numpy as np
import pytest
import torch

from rnn_parity.experiment.errors import InputError
from rnn_parity_t2vec.data.batches import BUCKETS, KEPT, drawn_batches, file_batches, make_batch
from rnn_parity_t2vec.data.city import CELL_M, city
from rnn_parity_t2vec.data.files import read_gps, read_tokens, read_trajectories
from rnn_parity_t2vec.data.walks import thinned, walks
from rnn_parity_t2vec.model import BOS, EOS, PAD


@pytest.mark.parametrize(("kind", "most"), [("square", 4), ("hexagon", 6)])
def test_a_walk_goes_from_cell_to_neighbour_and_rather_straight_on(kind, most):
    cells = city(400, kind)
    neighbours = cells.neighbours
    assert neighbours.shape == (400, most)
    assert cells.neighbours is neighbours  # every batch asks, and for a city this is minutes of work in all
    lengths = np.array([40] * 60 + [7])
    paths = walks(cells, lengths, seed=0)
    assert [len(path) for path in paths] == lengths.tolist()
    turns = []
    for path in paths:
        points = cells.centres_m[np.array(path) - 4]
        moves = np.diff(points, axis=0) / CELL_M
        assert np.allclose(np.linalg.norm(moves, axis=1), 1)
        turns += (moves[1:] * moves[:-1]).sum(axis=1).tolist()
    assert np.mean(turns) > 0.4  # an aimless walk would have 0
    assert paths == walks(cells, lengths, seed=0)
    assert paths != walks(cells, lengths, seed=1)
    starts = [path[0] for path in walks(cells, np.full(2000, 1), seed=0)]
    assert max(map(starts.count, set(starts))) > 10 * 2000 / 400


def test_a_city_is_about_as_wide_as_long_and_its_cells_are_a_hundred_metres():
    for kind in ("square", "hexagon"):
        cells = city(18_860, kind)
        assert cells.vocabulary == 18_864
        assert np.ptp(cells.centres_m, axis=0) == pytest.approx([13_700, 13_700], rel=0.15)


def test_proximity_is_a_distribution_over_the_nearest():
    nearest, weights = city(100).proximity(nearest=5, scale_m=100.0)
    torch.testing.assert_close(weights.sum(1), torch.ones(104, dtype=torch.float64))
    assert nearest[4 + 55].tolist()[0] == 4 + 55
    assert set(nearest[4 + 55].tolist()) == {4 + k for k in (55, 54, 56, 45, 65)}
    assert weights[4 + 55, 1] / weights[4 + 55, 0] == pytest.approx(np.exp(-1))
    assert nearest[EOS].tolist() == [EOS] * 5
    assert weights[EOS].tolist() == [1, 0, 0, 0, 0]


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
    with pytest.raises(ValueError, match="a trajectory of 3 tokens, expected at most 2"):
        make_batch([[5, 6, 7]], 3, np.random.default_rng(1))


@pytest.mark.parametrize("steps", [*BUCKETS, 1, 2, 13])
def test_drawn_batches_fill_their_bucket(steps):
    batches = drawn_batches(city(60), steps, 40, 3, seed=0)
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
    again = drawn_batches(city(60), steps, 40, 3, seed=0)
    assert all(torch.equal(a.source, b.source) for a, b in zip(batches, again, strict=True))


def test_batches_of_a_file_take_what_fits_the_bucket_once_before_anything_twice():
    trajectories = [[4 + k] * 35 for k in range(10)] + [[99] * 10, [98] * 60]
    batches = file_batches(trajectories, 50, 5, 2, seed=0)
    seen = torch.cat([batch.target[1] for batch in batches]).tolist()
    assert sorted(seen) == list(range(4, 14))
    with pytest.raises(InputError, match="x.t: 1 trajectories have 50 to 69 tokens, expected a batch of 5"):
        file_batches(trajectories, 70, 5, 1, seed=0, name="x.t")


def write(path, text):
    path.write_text(text)
    return path


def test_token_files(tmp_path):
    path = write(tmp_path / "a.t", "4 5 6\n18863 7 \n")
    found = read_tokens(path)
    assert found.tokens == [[4, 5, 6], [18863, 7]]
    assert found.vocabulary == 18864
    assert found.describe_bad() == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("4 x 5", "line 2: holds 'x', expected a token, a number from 4 on"),
        ("4 -5", "line 2: holds '-5', expected a token"),
        ("4 5.0", "line 2: holds '5.0', expected a token"),
        ("4 2", "line 2: holds the special token 2, expected numbers from 4 on"),
        ("", "line 2: it has 0 tokens, expected at least 2"),
        ("4 99999999999", "line 2: holds '99999999999', expected a token"),
    ],
)
def test_a_bad_line_is_named_and_refused_or_counted_and_skipped(tmp_path, line, message):
    path = write(tmp_path / "a.t", f"4 5\n{line}\n6 7\n")
    with pytest.raises(InputError, match=message) as caught:
        read_trajectories(path)
    assert "\n" not in str(caught.value)
    found = read_trajectories(path, "skip")
    assert found.tokens == [[4, 5], [6, 7]]
    assert message.replace("line 2: ", "") in found.bad[2]
    assert found.describe_bad().startswith("1 lines skipped: line 2: ")


PORTO = '"TRIP_ID","CALL_TYPE","POLYLINE"\n'


def trip(points):
    return '"1","A","' + json.dumps(points) + '"\n'


def test_gps_tracks_become_cells_of_a_hundred_metres(tmp_path):
    """Two cells 30 km apart, east of each other; at this latitude 0.001° are 111 m north and 84 m east."""
    east = 30_000 / (111_195 * np.cos(np.radians(41.15)))
    a, b = [-8.61, 41.15], [-8.61 + east, 41.15]
    path = write(tmp_path / "porto.csv", PORTO + trip([a, b, a]) + trip([b, b]) + trip([[-8.3, 41.15], a]))
    found = read_gps(path, min_points=3)
    assert found.cells.vocabulary == 6
    assert np.linalg.norm(np.diff(found.cells.centres_m, axis=0)) == pytest.approx(30_000, abs=CELL_M)
    x, y = found.tokens[0][0], found.tokens[0][1]
    assert found.tokens == [[x, y, x], [y, y], [y, x]]
    assert {x, y} == {4, 5}
    fine = read_gps(path, min_points=1)
    assert fine.vocabulary == 4 + 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"2","A","[]"\n', r"line 3: POLYLINE has the shape \(0,\), expected at least 2 points"),
        ('"2","A","[[1,2"\n', r"line 3: POLYLINE holds '\[\[1,2'"),
        ('"2","A"\n', "line 3: POLYLINE holds ''"),
        (trip([[1, 2], [3]]), "line 3: POLYLINE holds"),
        (trip([[200, 2], [3, 4]]), "line 3: POLYLINE has a point outside"),
        (f'"2","A","[[{"9" * 400}, 1], [2, 3]]"\n', r"line 3: POLYLINE holds '\[\[9999"),
        ('"2","A","[[NaN, 1], [2, 3]]"\n', "line 3: POLYLINE has a point outside"),
    ],
)
def test_a_bad_track_is_named_and_refused_or_counted_and_skipped(tmp_path, line, message):
    good = trip([[-8.6, 41.1], [-8.6, 41.1]])
    path = write(tmp_path / "porto.csv", PORTO + good + line + good)
    with pytest.raises(InputError, match=message):
        read_trajectories(path)
    found = read_trajectories(path, "skip", min_points=1)
    assert len(found.tokens) == 2
    assert list(found.bad) == [3]


def test_files_that_are_something_else_are_named(tmp_path):
    cases = {
        "a.txt": ("4 5", "has the suffix '.txt', expected .t"),
        "a.csv": ("x,y\n1,2\n", r"has the columns \['x', 'y'\], expected POLYLINE"),
        "b.csv": (PORTO, "holds 0 trips, expected at least 2"),
        "c.csv": (PORTO + 2 * trip([[1, 2], [3, 4]]), "no cell of 100 m has 50 points"),
        "d.csv": (PORTO + '"1","A","' + "x" * (2**24 + 1) + '"\n', "after line 1: field larger than field limit"),
    }
    for name, (text, message) in cases.items():
        with pytest.raises(InputError, match=message):
            read_trajectories(write(tmp_path / name, text))
    with pytest.raises(InputError, match=r"absent.t: cannot be read"):
        read_tokens(tmp_path / "absent.t")
    (tmp_path / "b.t").write_bytes(b"4 5\n\xff\xfe\n")
    with pytest.raises(InputError, match=r"b.t: is no text in UTF-8"):
        read_tokens(tmp_path / "b.t", "skip")


@pytest.mark.parametrize("change", [lambda text: text.encode("utf-16"), lambda text: gzip.compress(text.encode())])
def test_a_gps_table_that_is_packed_or_in_another_encoding_is_named(tmp_path, change):
    text = PORTO + 60 * trip([[-8.6, 41.1], [-8.6, 41.1]])
    (tmp_path / "porto.csv").write_bytes(change(text))
    for on_bad_line in ("refuse", "skip"):
        with pytest.raises(InputError, match=r"porto.csv: is no text in UTF-8 \(") as caught:
            read_trajectories(tmp_path / "porto.csv", on_bad_line)
        assert "\n" not in str(caught.value)
    (tmp_path / "porto.csv").write_bytes(text.encode() + b"\xff")
    with pytest.raises(InputError, match=r"porto.csv: is no text in UTF-8 \("):
        read_gps(tmp_path / "porto.csv")
