"""A factory that builds layers of every kind, compared in two: to a reader of the tables these are two layers."""

import json
import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from project import PROJECT
from rnn_parity.commands.rules import _collected, _config, join_parts
from rnn_parity.experiment.results import Results
from rnn_parity.report.facts import collect_facts
from rnn_parity.report.gate import gate
from rnn_parity.tables import read_json

KEPT = PROJECT / "reports/reference/cpu"
FACTORY = "rnn_parity.trust.right:InputHoisted"


@pytest.fixture
def collected(tmp_path):
    """The tables of a run of both kinds whose one candidate is the factory; of the LSTM no output could be judged."""
    parts = Results(tmp_path / "parts")
    parts.folder.mkdir()
    config = (KEPT / "config.json").read_text()
    config = config.replace('"stacking_lstm"', json.dumps(FACTORY)).replace('"stacking_gru"', json.dumps(FACTORY))
    for folder in (parts.folder, tmp_path):
        (folder / "config.json").write_text(config)
        shutil.copy(KEPT / "environment.json", folder)
    tables = {}
    for name in ("equivalence", "timing", "coverage", "self_test", "power", "life", "capabilities"):
        table, path = pq.read_table(KEPT / f"{name}.parquet"), parts.table(name)
        for at, column in enumerate(table.schema.names):
            if column == "implementation":
                ours = pc.is_in(table[column], pa.array(["stacking_gru", "stacking_lstm"]))
                table = table.set_column(at, column, pc.if_else(ours, FACTORY, table[column]))
            if name == "equivalence" and column == "verdict":
                unseen = pc.and_(pc.equal(table["cell"], "lstm"), pc.equal(table["quantity"], "output"))
                table = table.set_column(at, column, pc.if_else(unseen, "not judged", table[column]))
        pq.write_table(table, path)
        tables[name] = [path]
    files = Results(tmp_path)
    join_parts(files, tables, files)
    return files


def test_each_kind_has_an_answer_of_its_own(collected):
    tables = _collected(collected)
    facts = collect_facts(_config(collected), read_json(collected.environment), tables)
    found = {entry["candidate"]: (entry["baseline"], entry["answer"].word) for entry in facts["answers"]}
    assert found == {
        f"{FACTORY} (gru)": ("stacking_gru_cell", "yes, when"),
        f"{FACTORY} (lstm)": ("stacking_lstm_cell", "open"),
    }
    assert [{row["cell"] for row in entry["quoted"]} for entry in facts["answers"]] == [{"gru"}, {"lstm"}]


def test_what_was_never_judged_in_one_kind_shuts_the_gate(collected):
    tables = _collected(collected)
    holds, text = gate(tables["equivalence"], tables["life"], tables["timing"])
    assert not holds
    assert f"{FACTORY} (lstm)" in text
