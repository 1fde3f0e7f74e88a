"""What is said of the time that is left follows from what was done."""

import pytest

from rnn_parity.commands import time_left
from rnn_parity.commands.time_left import Planned, progress_line, time_left_s


def job(tmp_path, kind, cases, seconds=None, alone=False, expected_s=None):
    """A job that is done where its seconds are known."""
    number = len(list(tmp_path.iterdir()))
    file = tmp_path / f"{number}.tsv"
    file.write_text("s\th:m:s\n" + ("" if seconds is None else f"{seconds}\t0:00:01\n"))
    return Planned(kind, cases, alone, file, lambda: seconds is not None, expected_s)


def test_what_is_alone_follows_one_another_and_the_rest_shares_the_cores(tmp_path):
    jobs = [
        job(tmp_path, "equivalence", 2, 30),
        job(tmp_path, "equivalence", 4),
        job(tmp_path, "timing", 1, 10, alone=True),
        job(tmp_path, "timing", 3, 50, alone=True),
        job(tmp_path, "timing", 8, alone=True),
    ]
    assert time_left_s(jobs, 2, elapsed_s=60) == 4 * 15 / 2 + 8 * 15
    assert progress_line(jobs, 2, elapsed_s=60) == "3 of 5 jobs have measured; about 2 min left"


def test_before_a_kind_is_known_what_is_expected_counts_or_nothing_is_said(tmp_path):
    expected = job(tmp_path, "timing", 3, alone=True, expected_s=600)
    assert progress_line([expected], 2, 0) == "0 of 1 jobs have measured; about 10 min left"
    assert progress_line([expected, job(tmp_path, "life", 1)], 2, 0) == "0 of 2 jobs have measured"
    done = job(tmp_path, "timing", 3, 7, alone=True)
    assert time_left_s([expected, done], 2, 0) == 7


def test_small_jobs_take_longer_for_a_case_than_large_ones_that_are_done_first(tmp_path):
    """Of those with as many cases; before one is known what is expected, and not the large ones' share."""
    large, small = (job(tmp_path, "timing", n, alone=True, expected_s=12 * n) for n in (5, 1))
    done = [job(tmp_path, "timing", 5, 40, alone=True), job(tmp_path, "timing", 4, 30, alone=True)]
    assert time_left_s([*done, large, small], 2, 0) == 40 + 12
    assert time_left_s([*done, job(tmp_path, "timing", 1, 14, alone=True), large, small], 2, 0) == 40 + 14


def test_a_run_takes_longer_than_its_jobs_by_as_much_as_until_now(tmp_path):
    jobs = [
        job(tmp_path, "life", 1, 40),
        job(tmp_path, "timing", 1, 10, alone=True),
        job(tmp_path, "timing", 1, alone=True),
    ]
    assert time_left_s(jobs, 2, elapsed_s=45) == pytest.approx(10 * 45 / (40 / 2 + 10))
    assert time_left_s(jobs, 2, elapsed_s=15) == 10


def test_a_job_whose_time_cannot_be_read_is_done_all_the_same(tmp_path):
    done = job(tmp_path, "life", 1, 5)
    done.benchmark.write_text("s\nNA\n")
    assert progress_line([done], 2, 0) == ""
    assert progress_line([done, job(tmp_path, "life", 1)], 2, 0) == "1 of 2 jobs have measured"


def test_it_is_told_again_and_again_until_all_is_done(tmp_path, capsys, monkeypatch):
    done = []
    one = Planned("life", 1, False, tmp_path / "none", lambda: len(done) > 2, 600)
    monkeypatch.setattr(time_left.time, "sleep", lambda _: done.append(1))
    monkeypatch.setattr(
        time_left.threading, "Thread", lambda target, daemon: type("Now", (), {"start": lambda _: target()})()
    )
    time_left.tell_time_left([one], 1)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.endswith("0 of 1 jobs have measured; about 10 min left") for line in said)


@pytest.mark.parametrize(("seconds", "words"), [(30, "a minute left"), (100, "about 2 min left")])
def test_a_minute_is_the_least_that_is_said(tmp_path, seconds, words):
    assert progress_line([job(tmp_path, "timing", 1, expected_s=seconds)], 1, 0).endswith(words)
