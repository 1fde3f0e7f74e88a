"""What is said of a decoder sweep follows from its tables, and what is not in them is not said."""

import json

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import make_grid
from rnn_parity.report.facts import collect_facts
from rnn_parity.report.markdown import render_markdown
from rnn_parity.tables import COLLECTED
from rnn_parity.tracking.content import case_content
from rnn_parity_t2vec.attribution import VARIANTS
from rnn_parity_t2vec.histories import loss_histories
from rnn_parity_t2vec.report import FIGURES
from rnn_parity_t2vec.report.figures import plot_all
from rnn_parity_t2vec.report.findings import (
    divergence,
    facts,
    last_losses,
    training_table,
)
from rnn_parity_t2vec.tables import ATTRIBUTION, GENERATION, TRAINING
from synthetic import equivalence_rows, timing_rows

CONFIG = {
    "study": "decoder",
    "baseline": "stacking_gru_cell",
    "candidates": ["stacking_gru"],
    "device": "cpu",
    "defaults": {"input_size": 8, "hidden_size": 16, "batch_size": 4},
    "sweeps": {"model": {"workload": "decoder", "sequence_length": [5, 9]}, "alone": {"sequence_length": 3}},
    "workloads": {"decoder": {"vocabulary": 50, "training": {"steps": 8, "seeds": [0, 1, 2]}}},
}
GRID = make_grid(CONFIG)
EXTRAS = {"attribution": ATTRIBUTION, "training": TRAINING, "generation": GENERATION}
CASES = [case for job in GRID.jobs if job.workload == "decoder" for case in job.cases]


def training_rows(case, *, off=1e-7, own=0.0, floor=2e-7):
    """Trainings whose candidate is `off` away, `own` with masks of its own, beside a `floor`."""
    random, rows = np.random.default_rng(0), []
    common = {**case.columns, "baseline": "stacking_gru_cell", "verdict": "", "reason": ""}
    for mode in ("no_dropout", "matched_masks", "own_masks"):
        runs = [("baseline", 0, 0.0), ("candidate", 0, off), *(("perturbed", k, floor * (k + 1) / 3) for k in range(3))]
        if mode == "own_masks":
            runs = [("baseline", k, 0.0) for k in range(3)] + [("candidate", k, own) for k in range(3)]
        for role, seed, shift in runs:
            noise = random.normal(0, 1e-3) if mode == "own_masks" else 0.0
            name = "stacking_gru" if role == "candidate" else "stacking_gru_cell"
            run = common | {"implementation": name, "role": role, "mode": mode, "seed": seed}
            for step in range(8):
                moved = shift if step == 5 or mode == "own_masks" else 0.0
                rows.append(run | {"step": step, "loss": 3 - 0.1 * step + noise + moved})
    return rows


def attribution_rows(case, *, once=0.7):
    rows = []
    for phase in ("inference", "step", "train_step"):
        common = {**case.columns, "baseline": "stacking_gru_cell", "implementation": "stacking_gru", "phase": phase}
        for way, speedup in zip(VARIANTS, (1.0, 1.4, 1.2, 2.0), strict=True):
            row = {**common, "way": way, "median_s": case.sequence_length / speedup, "reason": "", "speedup": speedup}
            row |= {"speedup_ci_low": speedup * 0.98, "speedup_ci_high": speedup * 1.02}
            if way in ("attention_once", "layer_replaced"):
                share = once if way == "attention_once" else 1 - once
                row |= {"share": share, "share_ci_low": share - 0.02, "share_ci_high": share + 0.02}
            rows.append(row)
    row = {**rows[-1], "way": "input_feeding", "speedup": 1.01, "speedup_ci_low": 1.0, "speedup_ci_high": 1.02}
    row |= {"conclusion": "within noise"}
    return [*rows, row | {"reason": "attention is fed back", "share": None}]


def generation_rows(case):
    row = {**case.columns, "baseline": "stacking_gru_cell", "implementation": "stacking_gru", "reason": ""}
    row |= {"sequences": 4, "tokens": 36, "different_tokens": 9, "agreement": 35 / 36, "sequences_alike": 3}
    return [row]


def frame(schema, rows):
    return pd.DataFrame(rows, columns=schema.names)


def results(wrong=None, timed=True, **training):
    """The collected tables of an experiment with a decoder sweep and one of a layer alone."""
    timing = timing_rows(GRID) if timed else []
    of_step = [row | {"phase": "train_step"} for row in timing if row["phase"] == "step" and row["sweep"] == "model"]
    tables = {name: frame(schema, []) for name, schema in COLLECTED.items()}
    tables["equivalence"] = frame(COLLECTED["equivalence"], equivalence_rows(GRID, wrong=wrong))
    tables["timing"] = frame(COLLECTED["timing"], [*timing, *of_step])
    tables["timing"].loc[tables["timing"]["sweep"] == "model", ["flops", "sequential_flops", "least_bytes"]] = np.nan
    tables["attribution"] = frame(
        ATTRIBUTION, [row for case in CASES for row in attribution_rows(case)] if timed else []
    )
    tables["training"] = frame(TRAINING, [row for case in CASES for row in training_rows(case, **training)])
    tables["generation"] = frame(GENERATION, [row for case in CASES for row in generation_rows(case)])
    return tables


def test_distances_are_from_the_baseline_and_the_floor_is_the_largest_of_the_perturbed():
    far = divergence(frame(TRAINING, training_rows(CASES[0])))
    at_five = far[far["step"] == 5].set_index(["mode", "what"])["difference"]
    assert at_five["no_dropout", "stacking_gru"] == pytest.approx(1e-7, rel=1e-6)
    assert at_five["matched_masks", "floor"] == pytest.approx(2e-7, rel=1e-6)
    assert not far[far["step"] != 5]["difference"].any()


def test_where_no_training_came_to_its_end_nothing_diverges():
    nothing = frame(TRAINING, [])
    assert divergence(nothing).empty
    assert training_table(nothing).empty


@pytest.mark.parametrize(("changes", "same"), [({}, [True, True, None]), ({"off": 1e-5}, [False, False, None]),
                                               ({"own": 0.5}, [True, True, False])])  # fmt: skip
def test_trainings_are_the_same_within_the_floor_and_chance(changes, same):
    table = training_table(frame(TRAINING, training_rows(CASES[0], **changes)))
    assert table["same"].tolist() == same
    own = table[table["mode"] == "own_masks"].iloc[0]
    assert own["difference"] == pytest.approx(changes.get("own", 0), abs=3e-3)
    assert own["difference_ci_low"] < own["difference"] < own["difference_ci_high"]


@pytest.mark.parametrize(
    ("roles", "verdict", "same"),
    [
        (["candidate"], "failed", [False] * 3),
        (["candidate"], "unsupported", [None] * 3),
        (["baseline", "candidate"], "failed", [None] * 3),
        (["baseline"], "failed", [None] * 3),
    ],
)
def test_a_training_that_ended_early_is_not_called_the_same(roles, verdict, same):
    end = {"reason": "the loss is no longer finite at step 7", "verdict": verdict, "loss": None}
    rows = [row | end if row["role"] in roles and row["step"] == 7 else row for row in training_rows(CASES[0])]
    table = training_table(frame(TRAINING, rows))
    assert set(table["reason"]) == {end["reason"]}
    assert table["same"].tolist() == same


def test_without_a_floor_nothing_is_said():
    rows = [row for row in training_rows(CASES[0], off=1.0) if row["role"] != "perturbed"]
    table = training_table(frame(TRAINING, rows))
    assert table["same"].isna().all()
    assert "one rounding away" in table["reason"].iloc[0]


def test_last_losses_are_of_the_last_quarter():
    found = last_losses(frame(TRAINING, training_rows(CASES[0])))
    mine = found[(found["mode"] == "no_dropout") & (found["role"] == "baseline")]["loss"].item()
    assert mine == pytest.approx(3 - 0.1 * (6 + 7) / 2)


def test_the_facts_are_of_the_largest_case():
    found = facts(results(), "stacking_gru")
    assert found["case"]["sequence_length"] == 9
    assert found["train_step"]["speedup"] == 1.5
    assert found["ways"]["step"]["attention_once"]["share"] == 0.7
    assert found["answer"].word == "yes"
    assert found["training_same"]
    assert facts(results(wrong="stacking_gru"), "stacking_gru")["answer"].word == "no"


def test_it_is_open_where_a_quantity_of_the_model_was_judged_in_no_case():
    found = results()
    rows = found["equivalence"]
    rows.loc[(rows["quantity"] == "grad_h0") & (rows["sweep"] == "model"), "verdict"] = "not judged"
    assert facts(found, "stacking_gru")["answer"].never_judged == ("grad_h0",)
    text = markdown(found)
    assert "**In t2vec's decoder: not answered.**" in text
    assert "`grad_h0` could be judged in no case" in text
    rows.loc[rows["case_id"] == CASES[0].case_id, "verdict"] = "equivalent"
    assert facts(found, "stacking_gru")["answer"].word == "yes"


def markdown(found):
    return render_markdown("report.md.j2", collect_facts(GRID.config, {}, found))


def test_the_report_answers_for_the_model_and_says_what_it_rests_on():
    text = markdown(results())
    top, below = text.split("## In t2vec's decoder")
    assert "**In t2vec's decoder: yes.** With `stacking_gru` in place of `stacking_gru_cell`" in top
    assert "takes 33 % less time: 1.50× (1.46–1.54)" in top
    assert "attention once for all steps saves 70 % (68 % to 72 %)" in top
    assert "Training is the same, too" in top
    section_text = below.split("\n## ")[0]
    for words in (
        "| attention once for all steps | 1.40× (1.37–1.43), 70 % of the time saved",
        "**With input feeding** the sequence cannot be taken at once: attention is fed back",
        "What is left of the gain in a training step is 1.01× (1.00–1.02): within noise.",
        "| model T 9 | dropout off | 8 | yes |",
        "| model T 9 | dropout masks of their own | 8 | no difference seen |",
        "36 tokens; 97.22 % of them are the baseline's, and all of them in 3 of 4 sequences",
        "figures/decoder_training.png",
    ):
        assert words in section_text
    assert "In the largest case of `alone`" in top
    assert "<h2>In t2vec" in MarkdownIt("commonmark").enable("table").render(text)


def test_where_the_model_alone_was_timed_it_says_what_is_gained():
    config = {**GRID.config, "sweeps": {"model": GRID.config["sweeps"]["model"]}}
    found = {name: table[table["sweep"] == "model"] if "sweep" in table else table for name, table in results().items()}
    text = render_markdown("report.md.j2", collect_facts(config, {}, found))
    top = text.split("## In t2vec's decoder")[0]
    assert "You gain" not in top
    assert "figures/roofline.png" not in text  # the floor of a whole model is not counted
    assert "takes 33 % less time: 1.50× (1.46–1.54)" in top


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wrong": "stacking_gru"}, "**In t2vec's decoder: no.**"),
        ({"off": 1.0}, "**Training is not the same**; see below."),
        ({"timed": False}, "**In t2vec's decoder: yes.**"),
    ],
)
def test_what_is_wrong_or_was_not_measured_is_said_or_not_said(changes, words):
    text = markdown(results(**changes))
    assert words in text
    if "timed" in changes:
        assert "less time" not in text
        assert "Where the gain comes from** (" not in text


@pytest.mark.slow
def test_the_data_are_those_that_were_read():
    found = results()
    assert "Vocabulary 50, trajectories walked through a made-up city. " in markdown(found)
    grid = make_grid({**CONFIG, "workloads": {"decoder": {"vocabulary": 5004, "file": __file__}}})
    text = render_markdown("report.md.j2", collect_facts(grid.config, {}, found))
    assert f"Vocabulary 5,004, trajectories of `{__file__}`. The sizes" in text


def test_without_a_decoder_sweep_the_report_says_nothing_of_it():
    grid = make_grid({**CONFIG, "sweeps": {"alone": {"sequence_length": 3}}, "workloads": {}})
    tables = {name: frame(schema, []) for name, schema in COLLECTED.items()}
    tables["equivalence"] = frame(COLLECTED["equivalence"], equivalence_rows(grid))
    tables["timing"] = frame(COLLECTED["timing"], timing_rows(grid))
    text = render_markdown("report.md.j2", collect_facts(grid.config | {"study": "alone"}, {}, tables))
    assert "decoder" not in text


@pytest.mark.slow
def test_the_figures_are_drawn_and_say_so_where_there_is_nothing_to_draw(tmp_path):
    tables = results()
    plot_all(GRID.config, tables, tmp_path / "full")
    plot_all(GRID.config, tables, tmp_path / "again")
    for name in FIGURES:
        drawn = (tmp_path / "full" / f"{name}.svg").read_bytes()
        assert drawn == (tmp_path / "again" / f"{name}.svg").read_bytes()
    empty = {name: frame(schema, []) for name, schema in (COLLECTED | EXTRAS).items()}
    plot_all(GRID.config, empty, tmp_path / "empty")
    for name in FIGURES:
        assert (tmp_path / "empty" / f"{name}.png").stat().st_size < (tmp_path / "full" / f"{name}.png").stat().st_size


def test_losses_and_distances_are_metric_histories():
    case = CASES[0]
    equivalence = [row for row in equivalence_rows(GRID) if row["case_id"] == case.case_id]
    timing = [row for row in timing_rows(GRID) if row["case_id"] == case.case_id]
    request = json.loads(GRID.publish_request(next(job for job in GRID.jobs if job.sweep == "model")))
    histories = loss_histories(training_rows(case))[case.case_id]
    run = case_content(request, case.columns, equivalence, timing, {}, None, histories)
    assert len(run.histories["loss_no_dropout/stacking_gru"]) == 8
    assert run.histories["loss_distance_matched_masks/stacking_gru"][5] == pytest.approx(1e-7, rel=1e-6)
    assert len([key for key in run.histories if key.startswith("loss_own_masks/")]) == 6
    assert any("perturbed 2" in key for key in run.histories if key.startswith("loss_distance_no_dropout"))
    plain = case_content(request, case.columns, equivalence, timing, {})
    assert plain.histories == {}
    assert plain.digest != run.digest


def test_the_grid_asks_decoder_jobs_for_the_model_and_layers_for_none():
    alone, model = sorted(GRID.jobs, key=lambda job: job.sweep)
    asked = json.loads(GRID.equivalence_request(model))
    assert (asked["workload"], asked["settings"]["vocabulary"]) == ("decoder", 50)
    assert "training" not in asked["settings"]
    assert asked["regimes"] == ["eval", "train_matched_masks"]
    assert not {"own_cases", "picture"} & asked.keys()
    assert json.loads(GRID.timing_request(model))["settings"]["file"] is None
    training = json.loads(GRID.extra_request(model, "training"))
    assert (training["steps"], training["seeds"]) == (8, [0, 1, 2])
    assert json.loads(GRID.extra_request(model, "attribution"))["min_rounds"] == GRID.config["timing"]["min_rounds"]
    assert "vocabulary" not in GRID.equivalence_request(alone) + GRID.timing_request(alone)
    only = make_grid({**CONFIG, "sweeps": {"alone": {"sequence_length": 3}}, "workloads": {}})
    assert only.equivalence_request(only.jobs[0]) == GRID.equivalence_request(alone)
    assert only.extra_jobs == {}
    assert json.loads(GRID.equivalence_request(alone))["picture"].startswith("alone/")
    untrained = make_grid({**CONFIG, "sweeps": {"model": {"workload": "decoder", "extras": ["attribution"]}}})
    assert list(untrained.extra_jobs) == ["attribution"]


def test_other_settings_of_the_training_measure_nothing_else_again():
    workloads = {"decoder": {"vocabulary": 50, "training": {"steps": 9}}}
    longer = make_grid({**CONFIG, "workloads": workloads})
    for before, after in zip(GRID.jobs, longer.jobs, strict=True):
        assert GRID.equivalence_request(before) == longer.equivalence_request(after)
        assert GRID.timing_request(before) == longer.timing_request(after)
    (before,), (after,) = GRID.extra_jobs["training"], longer.extra_jobs["training"]
    assert GRID.extra_request(before, "training") != longer.extra_request(after, "training")
    assert GRID.extra_request(before, "generation") == longer.extra_request(after, "generation")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sweeps": {"x": {"workload": "decodr"}}}, "sweeps.x.workload: holds 'decodr'.*did you mean decoder?"),
        ({"sweeps": {"x": {"workload": "absent:NAME"}}}, "sweeps.x.workload: holds 'absent:NAME', which cannot be"),
        ({"sweeps": {"x": {"workload": "json:dumps"}}}, "sweeps.x.workload: holds 'json:dumps', a function"),
        ({"sweeps": {"x": {"workload": "decoder", "hidden_size": 7}}}, "sweeps.x.hidden_size: holds 7, expected even"),
        ({"sweeps": {"x": {"workload": "decoder", "extras": ["drawing"]}}}, "sweeps.x.extras: holds 'drawing'"),
        ({"sweeps": {"x": {}}}, "workloads.decoder: no sweep has this workload"),
        (
            {"workloads": {"decoder": {"file": "absent.t"}}},
            'decoder.file: holds "absent.t", expected trajectories in a file that is there',
        ),
        ({"workloads": {"decoder": {"vocabulary": 3}}}, "workloads.decoder.vocabulary: holds 3, expected at least 8"),
        ({"workloads": {"decoder": {"fil": "a.t"}}}, 'workloads.decoder: unknown key "fil", .*did you mean file'),
        (
            {"workloads": {"decoder": {"training": {"step": 3}}}},
            'workloads.decoder.training: unknown key "step", .* mean steps',
        ),
        (
            {"workloads": {"decoder": {"training": {"seeds": [1, 1]}}}},
            "seeds: holds .*, expected every value once",
        ),
    ],
)
def test_a_config_that_cannot_be_run_is_named(change, message):
    with pytest.raises(InputError, match=message):
        make_grid({**CONFIG, **change})
