"""Workloads are found by what installed packages say, and by these sources where they only lie there."""

from importlib.metadata import EntryPoint

import pytest

from project import PROJECT
from rnn_parity.experiment import workloads
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.workloads import GROUP, find_workload


@pytest.fixture
def installed(monkeypatch):
    """What installed packages bring: nothing, until something is put there."""
    points = []
    workloads._registered.cache_clear()
    monkeypatch.setattr(workloads, "entry_points", lambda group: points)
    yield points
    workloads._registered.cache_clear()


@pytest.mark.skipif(not (PROJECT / "src/rnn_parity_t2vec").is_dir(), reason="t2vec is not here")
def test_sources_that_are_not_installed_bring_their_workloads(installed):
    assert find_workload("decoder").name == "decoder"
    installed.append(EntryPoint("another", "nowhere:NOTHING", GROUP))
    workloads._registered.cache_clear()
    assert find_workload("decoder").name == "decoder"
    with pytest.raises(InputError, match="'another', which cannot be imported"):
        find_workload("another")


def test_what_is_installed_goes_before_the_sources(installed):
    installed.append(EntryPoint("decoder", "rnn_parity.experiment.workloads:LAYER", GROUP))
    assert find_workload("decoder").name == "layer"
