"""Where the files of a run are, and of which parts the tables of an experiment are joined."""

import json
from pathlib import Path

from project import SMOKE
from rnn_parity.experiment.devices import Cuda
from rnn_parity.experiment.grid import make_grid
from rnn_parity.experiment.results import Results

RESULTS = Results()


def test_a_part_has_the_rules_wildcards_or_a_jobs_names():
    assert str(RESULTS.of_job("timing")) == "results/timing/{sweep}/{job}.parquet"
    assert RESULTS.of_job("timing", "width", "h8") == Path("results/timing/width/h8.parquet")
    assert str(Results(Path("there")).published()) == "there/published/{sweep}/{job}.json"


def test_the_parts_of_every_table_follow_the_config():
    def parts(**changed):
        return {name: [str(p) for p in paths] for name, paths in RESULTS.parts(make_grid({**SMOKE, **changed})).items()}

    smoke = parts()
    assert {name: len(paths) for name, paths in smoke.items() if paths} == {
        "equivalence": 3, "timing": 3, "coverage": 3, "masks": 3,
        "self_test": 1, "power": 1, "life": 1, "capabilities": 1,
    }  # fmt: skip
    assert smoke["self_test"] == ["results/self_test/cpu.parquet"]
    width = SMOKE["sweeps"]["width"]
    assert parts(sweeps={"width": width | {"regimes": ["eval"]}})["power"] == []
    assert parts(self_test={"cases": 8})["power"] == []
    nothing = parts(self_test={"cases": 0, "own_cases": False}, capabilities=False, life=False)
    assert {name for name, paths in nothing.items() if paths} == {"equivalence", "timing", "coverage", "masks"}


def test_results_know_the_gpu_that_they_come_from(tmp_path):
    """So that a report of them is made on a machine without one."""
    results = Results(tmp_path)
    assert results.cuda is None
    for said, known in [({"gpu": None}, None), ({"gpu": {"capability": [9, 0]}}, Cuda(9)), ([], None)]:
        results.environment.write_text(json.dumps(said))
        assert results.cuda == known
    results.environment.write_text("{")
    assert results.cuda is None
