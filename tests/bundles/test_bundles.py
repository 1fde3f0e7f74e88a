"""A `no` in a folder: run again it is bit for bit what it was, and what moves is told."""

import functools
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import faults
from rnn_parity.api import check
from rnn_parity.bundles.files import read_bundle
from rnn_parity.bundles.replay import find_moved, replay
from rnn_parity.experiment.errors import InputError

QUICK = {"device": "cpu", "seeds": [0], "life": False, "capabilities": False, "timing_seconds": 0.0}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    """The bundle of a layer that gives one percent too much. To be read."""
    folder = tmp_path_factory.mktemp("bundles") / "wrong"
    report = check(None, faults.Wrong, bundle=folder, **QUICK)
    assert report.bundle == str(folder)
    return folder


@pytest.fixture
def copy(wrong, tmp_path):
    for file in wrong.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_yes_writes_none(tmp_path):
    report = check(None, "torch.nn:GRU", bundle=tmp_path / "none", **QUICK)
    assert (report.bundle, list(tmp_path.iterdir())) == ("", [])


def test_a_partial_has_no_path_and_keeps_its_label(tmp_path):
    check(None, functools.partial(faults.Wrong), bundle=tmp_path, **QUICK)
    assert read_bundle(tmp_path).question.candidate == "Wrong"


@pytest.mark.slow
def test_it_has_what_was_asked_what_was_drawn_and_what_both_gave(wrong):
    assert sorted(file.name for file in wrong.iterdir()) == ["bundle.json", "tensors.safetensors"]
    bundle = read_bundle(wrong)
    asked = bundle.question
    assert (asked.baseline, asked.candidate) == ("stacking_gru_cell", "faults:Wrong")  # a class is named by its path
    assert (asked.seed, asked.regime, asked.case.hidden_size) == (0, "eval", 16)
    tensors = bundle.evidence.tensors
    torch.testing.assert_close(tensors["candidate/output"], 1.01 * tensors["baseline/output"])
    assert {"stimulus/input", "stimulus/h0", "stimulus/weight_hh_l2", "cotangent/hn"} <= tensors.keys()
    assert {"torch", "cpu", "commit", "machine"} <= bundle.environment.keys()


def test_asked_again_it_is_bit_for_bit_what_it_was(wrong):
    replayed = replay(wrong, 60.0)
    assert not replayed.holds
    said = "no: faults:Wrong output in eval is different: it is 1.01× what it should be, as it was\n"
    assert replayed.explain().startswith(said)
    assert "the baseline gives bit for bit what it gave" in replayed.explain()
    assert "the candidate gives bit for bit what it gave" in replayed.explain()
    assert not replayed.redrawn
    assert not replayed.unlike


def test_a_layer_that_was_mended_passes_and_what_it_was_is_told(wrong):
    replayed = replay(wrong, 60.0, candidate="stacking_gru_cell", baseline="torch.nn:GRU")
    assert replayed.holds
    first, second = replayed.explain().splitlines()[:2]
    assert first.startswith("yes: stacking_gru_cell ")
    assert second == "  it was: faults:Wrong output in eval is different: it is 1.01× what it should be"
    assert replayed.moved["candidate/output"].startswith("moved by 9.9e-03")


def test_other_bits_another_stimulus_and_another_machine_are_told(copy):
    tensors = load_file(copy / "tensors.safetensors")
    tensors["candidate/output"][0, 0, 0] += 1e-6
    tensors["stimulus/input"][0, 0, 0] += 1.0
    save_file(tensors, copy / "tensors.safetensors")
    about = json.loads((copy / "bundle.json").read_text())
    about["environment"]["torch"] = "1.0"
    (copy / "bundle.json").write_text(json.dumps(about))
    said = replay(copy, 60.0).explain()
    assert "  the candidate gives other bits in " in said
    assert "  the seed draws another stimulus here; that of the bundle was taken" in said
    assert f"  torch: 1.0 there, {torch.__version__} here" in said


def test_one_bit_is_a_difference():
    then = {"a": torch.ones(3), "b": torch.zeros(2), "c": torch.ones(2), "d": torch.tensor([float("nan")])}
    now = {"a": torch.ones(3), "b": torch.tensor([0.0, -0.0]), "d": torch.tensor([float("nan")])}
    assert find_moved(then, now) == {"b": "moved by 0.0e+00", "c": "is not there any more"}


@pytest.mark.slow
@pytest.mark.contained
@pytest.mark.parametrize(
    ("candidate", "options", "said"),
    [
        ("rnn_parity.trust.faults:DropoutNotRescaled", {}, "in train_matched_masks is different"),
        ("faults:RightOnce", {"life": True}, "is different: is 1.01× what it should be, as it was"),
        (
            "faults:WrongInInference",
            {},
            "output in eval is different: without gradients, it is 1.01× what it should be",
        ),
        ("faults:Segfaults", {"hidden_size": 8}, "in eval failed: it crashes its process: SIGSEGV, as it was"),
        ("faults:HiddenOneMask", {}, "in train_distribution is different"),
    ],
)
def test_whatever_the_fault_it_comes_again(tmp_path, candidate, options, said):
    check(None, candidate, bundle=tmp_path, **QUICK | options)
    replayed = replay(tmp_path, 60.0)
    assert said in replayed.explain()
    assert not replayed.moved
    assert replayed.now.row == replayed.then.row
    assert any(name.startswith("candidate/") for name in replayed.then.tensors) == (
        "DropoutN" in candidate or "Once" in candidate or "Inference" in candidate
    )


def test_a_fault_that_shows_only_while_it_is_timed(tmp_path, monkeypatch):
    from rnn_parity import steps

    def changed(workload, case, baseline, candidates, phases, **_):
        row = {**case.columns, "phase": phases[0], "baseline": baseline, "implementation": candidates[0]}
        return [row | {"conclusion": "different", "reason": "its result changed while it was being timed: output"}]

    monkeypatch.setattr(steps, "time_case", changed)
    check(None, "torch.nn:GRU", bundle=tmp_path, **QUICK | {"timing_seconds": 0.1})
    assert replay(tmp_path, 60.0).explain().startswith("no: torch.nn:GRU in inference is different: its result changed")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "bundle.json").unlink(), "cannot be read as a bundle (No such file or directory)"),
        (lambda folder: (folder / "bundle.json").write_text("{"), "is no bundle (JSONDecodeError: "),
        (lambda folder: (folder / "bundle.json").write_text("[]"), "is no bundle (TypeError: "),
        (lambda folder: change(folder, "format", 2), "format holds 2, expected 1"),
        (lambda folder: change(folder, "question", {"case": {}}), "is no bundle (TypeError: "),
        (lambda folder: ask(folder, candidate=3), "bundle.json: candidate: holds 3, expected the name of a layer"),
        (lambda folder: ask(folder, seed=-1), "bundle.json: seed: holds -1, expected at least 0"),
        (lambda folder: ask(folder, regime="foo"), 'bundle.json: regime: holds "foo", expected one of eval'),
        (lambda folder: ask(folder, regime=""), "bundle.json: question: holds none of regime, point, phase"),
        (lambda folder: ask(folder, point="first_call"), "bundle.json: question: holds regime and point of regime"),
        (lambda folder: ask(folder, regime="", point="foo"), "bundle.json: point: holds 'foo', expected one of first_"),
        (lambda folder: ask(folder, regime="", phase="foo"), "bundle.json: phase: holds 'foo', expected one of infer"),
        (lambda folder: ask_of(folder, dtype="float99"), 'bundle.json: dtype: holds "float99", expected one of'),
        (lambda folder: ask_of(folder, threads=10**6), "bundle.json: threads: holds 1000000, expected at most 1024"),
        (lambda folder: ask_of(folder, tf32=True), "bundle.json: tf32: holds true, which a CPU does not have"),
        (
            lambda folder: ask_of(folder, hidden_size=17),
            "tensors.safetensors: stimulus/h0 is (3, 4, 16) torch.float32, expected (3, 4, 17) torch.float32 by the",
        ),
        (
            lambda folder: ask_of(folder, dtype="float64"),
            "tensors.safetensors: stimulus/input is (12, 4, 7) torch.float32, expected (12, 4, 7) torch.float64 by",
        ),
        (lambda folder: change(folder, "row", {"quantity": 3}), "bundle.json: row.quantity: holds 3, expected a str"),
        (lambda folder: (folder / "tensors.safetensors").write_bytes(b"none"), "is no bundle (SafetensorError: "),
        (
            lambda folder: save_file({"a": torch.ones(1)}, folder / "tensors.safetensors"),
            "is no bundle (KeyError: 'stimulus/input')",
        ),
    ],
)
def test_what_is_no_bundle_is_refused_in_one_line(copy, spoil, message):
    spoil(copy)
    with pytest.raises(InputError) as caught:
        replay(copy, 60.0)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(copy))
    assert "\n" not in str(caught.value)


def change(folder, key, value):
    about = json.loads((folder / "bundle.json").read_text()) | {key: value}
    (folder / "bundle.json").write_text(json.dumps(about))


def ask(folder, **values):
    """Change the question."""
    change(folder, "question", json.loads((folder / "bundle.json").read_text())["question"] | values)


def ask_of(folder, **values):
    """Change the case of the question."""
    ask(folder, case=json.loads((folder / "bundle.json").read_text())["question"]["case"] | values)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"candidate": "torch.nn:LSTM"}, "candidate: torch.nn:LSTM: this is an LSTM, not a GRU: --cell lstm"),
        ({"candidate": "torch.nn:Linear"}, "candidate: torch.nn:Linear: cannot be called with input_size"),
        ({"baseline": "torch.nn:LSTM"}, "baseline: torch.nn:LSTM: this is an LSTM, not a GRU: --cell lstm"),
        ({"baseline": "my layer"}, "baseline: holds 'my layer', expected one of stacking_gru_cell"),
        (
            {"candidate": "__main__:Mine"},
            "candidate: __main__:Mine is of a script or a notebook, which no other process",
        ),
        ({"baseline": "faults:Wrong"}, "candidate: holds 'faults:Wrong', the baseline itself, expected another"),
        ({"time_limit": 0.0}, "time_limit: holds 0.0, expected more than 0 and at most 1000000"),
        ({"time_limit": float("inf")}, "time_limit: holds inf, expected more than 0 and at most 1000000"),
    ],
)
def test_what_a_check_refuses_is_refused_here_too(wrong, given, message):
    with pytest.raises(InputError) as caught:
        replay(wrong, **{"time_limit": 60.0} | given)
    assert str(caught.value).startswith(message)


@pytest.mark.slow
@pytest.mark.contained
def test_a_baseline_that_ends_its_process_here_is_no_no_to_the_candidate(tmp_path):
    check(None, "faults:Wrong", bundle=tmp_path, **QUICK | {"hidden_size": 8})
    replayed = replay(tmp_path, 60.0, baseline="faults:Segfaults")
    said = "not shown: faults:Wrong in eval is not judged: baseline: it crashes its process: SIGSEGV\n"
    assert replayed.explain().startswith(said)


def test_a_folder_with_other_files_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "mine").touch()
    places = {tmp_path: "holds other files", tmp_path / "mine": "is a file"}
    places |= {tmp_path / "mine/x": "cannot be written (Not a directory)"}
    places |= {Path("/proc/none"): "cannot be written (No such file or directory)"}
    for place, message in places.items():
        with pytest.raises(InputError, match=re.escape(f"{place}: {message}, expected a new folder for a bundle")):
            check(None, "torch.nn:GRU", bundle=place, progress=pytest.fail, **QUICK)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
