"""The self-test's lives tell what a first call sees from what a life sees, and its rates are those of what it found."""

import io
import random

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from rnn_parity.commands.cli import app
from rnn_parity.experiment.names import CELLS
from rnn_parity.experiment.vocabulary import LIFE_FAULT_KINDS
from rnn_parity.findings.life_rates import by_kind, kept_lives, life_counts, missed, totals, unmet_targets
from rnn_parity.report.self_test import show_lives
from rnn_parity.tables import LIVES, read_table, write_rows
from rnn_parity.trust import lives
from rnn_parity.trust.examine import fault_title, faults_of
from rnn_parity.trust.life.planting import LIFE_FAULTS
from rnn_parity.trust.lives import draw_life, examine_life
from rnn_parity.trust.right import right_layers

FAULTS = {path.partition(":")[2]: path for path in LIFE_FAULTS}


def life(name, cell="gru", seed=0):
    return examine_life("cpu", "float32", seed, cell, FAULTS[name])


def rows(caught=20, of=20, alarms=0, first=0):
    """Lives of one fault and of one right layer, of 1,000 calls each."""
    case = draw_life("cpu", "float32", 0).columns | {"seed": 0, "point": "", "when": "", "calls": 1000, "seconds": 1.0}
    fault = case | {"implementation": "wrong", "kind": "masks", "fault": "Masks kept"}
    planted = [fault | {"first_call": k < first, "alarms": int(k < caught), "named": k < caught - 1} for k in range(of)]
    right = case | {"implementation": "right", "kind": "correct", "fault": "", "first_call": False, "named": False}
    return [*planted, right | {"alarms": alarms}]


@pytest.mark.slow
def test_a_fault_of_the_life_is_seen_by_the_life_alone_and_by_its_point():
    row = life("GraphOfFirstMode")
    assert (row["first_call"], row["point"], row["named"]) == (False, "modes_in_turn", True)
    assert row["fault"] == "A graph is kept for each shape, with the mode of the first call"


def test_an_ordinary_fault_is_seen_by_a_first_call():
    assert lives.seen_by_first_call(draw_life("cpu", "float32", 0), "rnn_parity.trust.faults:StateIgnored", 0)
    assert not lives.seen_by_first_call(draw_life("cpu", "float32", 0), "torch.nn:GRU", 0)


def test_a_life_that_sees_nothing_is_found_out(monkeypatch):
    monkeypatch.setattr(lives, "live", lambda *_, **__: iter(()))
    row = life("GraphOfFirstMode")
    assert (row["point"], row["named"], row["alarms"]) == ("", False, 0)
    counts = life_counts(pd.DataFrame([row]))
    assert unmet_targets(counts) == ["gru in float32 on cpu: only 0 of 1 faults of the life caught"]
    assert missed(counts) == ["gru in float32: A graph is kept for each shape, with the mode of the first call"]


@pytest.mark.slow
def test_a_fault_that_is_named_by_another_point_is_caught_but_not_named(monkeypatch):
    honest = lives.live
    monkeypatch.setattr(lives, "live", lambda *a, **k: ({**row, "point": "large"} for row in honest(*a, **k)))
    row = life("GraphOfFirstMode")
    assert (row["point"], row["named"], row["alarms"]) == ("large", False, 1)


@pytest.mark.slow
def test_what_one_fault_keeps_for_the_process_is_gone_before_the_next():
    assert life("AllDroppedLaterInProcess")["point"] == life("AllDroppedLaterInProcess")["point"] == "same_seed"


def test_every_life_is_drawn_anew_and_the_same_for_the_same_seed():
    assert draw_life("cpu", "float32", 5) == draw_life("cpu", "float32", 5)
    planted = [draw_life("cpu", "float32", seed) for seed in range(60)]
    for case in planted:
        sizes = {case.sequence_length, case.batch_size, case.input_size, case.hidden_size}
        assert len(sizes) == 4
        assert case.draws_dropout
    right = [draw_life("cpu", "float32", seed, fault=False) for seed in range(60)]
    assert {case.num_layers for case in right} == {1, 2, 3}
    assert {case.threads for case in right} == {1, 2}
    assert {case.dropout for case in right} == {0.0, 0.001, 0.3, 0.9}


def test_rates_and_targets_of_known_lives():
    counts = life_counts(pd.DataFrame(rows(caught=19, first=2)))
    (kind,) = by_kind(counts).to_dict("records")
    assert kind == {
        "cell": "gru",
        "kind": "masks",
        "faults": 1,
        "lives": 20,
        "first_call": 2,
        "caught": 19,
        "named": 18,
    }
    (total,) = totals(counts).to_dict("records")
    assert (total["caught"], total["right_lives"], total["right_calls"], total["alarms"]) == (19, 1, 1000, 0)
    assert total["caught_ci_low"] == pytest.approx(0.764, abs=1e-3)
    assert total["alarms_ci_high"] == pytest.approx(0.00383, abs=1e-5)
    assert unmet_targets(counts) == []
    assert missed(counts) == ["gru in float32: Masks kept"]
    assert unmet_targets(life_counts(pd.DataFrame(rows(caught=18, alarms=2)))) == [
        "gru in float32 on cpu: only 18 of 20 faults of the life caught",
        "gru in float32 on cpu: 2 false alarms in 1,000 calls of correct layers",
    ]


@pytest.mark.parametrize("caught", [20, 18])
def test_they_are_shown_at_eighty_columns(caught):
    screen = io.StringIO()
    assert show_lives(pd.DataFrame(rows(caught)), Console(file=screen, width=80)) is (caught == 20)
    assert ("does not hold" in screen.getvalue()) is (caught != 20)
    assert "0 false alarms in 1,000 calls of 1 lives" in screen.getvalue()
    assert "…" not in screen.getvalue()


@pytest.mark.parametrize(("caught", "code"), [(20, 0), (10, 1)])
def test_the_command_writes_its_lives_and_exits_by_its_targets(monkeypatch, tmp_path, caught, code):
    found = random.Random(0).sample(rows(caught), 21)
    monkeypatch.setattr(lives, "examine_lives", lambda *_: (1, iter([found])))
    ended = CliRunner().invoke(app, ["self-test", "--life", "--output", str(tmp_path / "lives.parquet")])
    assert ended.exit_code == code
    assert len(read_table(tmp_path / "lives.parquet", LIVES)) == 21


def test_a_row_fits_its_table(tmp_path):
    write_rows(tmp_path / "lives.parquet", LIVES, [life("GraphOfFirstMode")])


@pytest.mark.parametrize("cell", CELLS)
def test_the_kept_lives_are_of_faults_that_there_are_and_meet_the_targets(cell):
    kept, planted = kept_lives((cell,)), faults_of(cell, LIFE_FAULTS)
    wrong, right = kept[kept["kind"] != "correct"], kept[kept["kind"] == "correct"]
    faults = {(path, fault.kind, fault_title(fault)) for path, fault in planted.items()}
    assert set(zip(wrong["implementation"], wrong["kind"], wrong["fault"], strict=True)) <= faults
    assert set(right["implementation"]) == set(right_layers(cell))
    assert set(wrong["kind"]) == set(LIFE_FAULT_KINDS)
    assert set(kept["dtype"]) == {"float64", "float32", "bfloat16", "float16"}
    assert unmet_targets(kept) == []


def test_every_fault_was_lived_in_some_kind_of_cell():
    assert set(LIFE_FAULTS) <= set(kept_lives()["implementation"])
