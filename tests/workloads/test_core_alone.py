"""The core needs no workload from outside: with t2vec's package hidden it imports, plans and checks."""

import json
import subprocess
import sys

import pytest

_HIDDEN = """
import importlib, json, pkgutil, sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "rnn_parity_t2vec":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hide())
import rnn_parity
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import make_grid

for module in pkgutil.walk_packages(rnn_parity.__path__, "rnn_parity."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
names = {"study": "s", "baseline": "stacking_gru_cell", "candidates": ["stacking_gru"], "device": "cpu"}
found = {"cases": len(make_grid({**names, "sweeps": {"a": {}}}).cases)}
try:
    make_grid({**names, "sweeps": {"a": {"workload": "decoder"}}})
except InputError as error:
    found["refused"] = str(error)
report = rnn_parity.check("stacking_gru_cell", "stacking_gru", timing_seconds=0, capabilities=False, seeds=[0])
print(json.dumps(found | {"answer": report.answer.word}))
"""


@pytest.mark.slow
def test_the_core_works_where_no_workload_from_outside_can_be_imported():
    done = subprocess.run([sys.executable, "-c", _HIDDEN], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert (found["cases"], found["answer"]) == (1, "yes, when")
    assert found["refused"].startswith("sweeps.a.workload: holds 'decoder', ")
    assert "\n" not in found["refused"]
