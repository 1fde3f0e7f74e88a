"""What a command line asks for is what is run: no key is dropped, and no number becomes a text."""

import json

import pytest

from project import SMOKE
from rnn_parity.experiment.config_files import load_config, read_config
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import make_grid


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: a\nstudy: b\n", 'line 2: the key "study" is set here and in line 1'),
        ('study: a\n"study": a\n', 'line 2: the key "study" is set here and in line 1'),
        ("sweeps:\n  x: {}\n  y: {}\n  x: {}\n", 'line 4: the key "x" is set here and in line 2'),
        ("a: [{b: 1, c: 2, b: 3}]\n", 'line 1: the key "b" is set here and in line 1'),
        ('{"a": 1,\n\t"a": 2}', 'line 2: the key "a" is set here and in line 1'),
    ],
)
def test_a_key_that_is_written_twice_is_refused_with_both_lines(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        load_config(path)
    assert str(refused.value) == f"{path}: {message}, expected it once"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 010", 'line 1: holds "010", expected a decimal number, or a text in quotes'),
        ("a: 1\nb: [2, 1:30]", 'line 2: holds "1:30", expected a decimal number'),
        ("a: 1:30.5", 'line 1: holds "1:30.5", expected a decimal number'),
        (f"a: {'9' * 5000}", "is not YAML: Exceeds the limit"),
        (f"a: {'[' * 2000}", "is not YAML: maximum recursion depth"),
    ],
)
def test_a_number_that_is_none_to_people_is_refused(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        load_config(path)
    assert str(refused.value).startswith(f"{path}: {message}")
    path.write_text("a: [10, -3, 1e-3, 0.5, 1_000, '010', 0]")
    assert load_config(path) == {"a": [10, -3, 0.001, 0.5, 1000, "010", 0]}


def test_a_key_that_overrides_a_merged_one_is_no_second_one(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\n")
    assert load_config(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 3, "y": 4}}


def test_later_files_lie_over_earlier_ones_and_the_command_line_over_all(tmp_path):
    files = [tmp_path / "first.yaml", tmp_path / "second.json"]
    files[0].write_text("study: a\ntiming: {max_seconds: 1, min_rounds: 6}\n")
    files[1].write_text('{"timing":\n\t{"max_seconds": 2}}')
    assert read_config(files, []) == {"study": "a", "timing": {"max_seconds": 2, "min_rounds": 6}}
    assert read_config(files, ["timing={max_seconds: 0.2}"])["timing"] == {"max_seconds": 0.2, "min_rounds": 6}


def test_values_of_the_command_line_are_the_numbers_and_texts_that_they_are(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SMOKE))
    given = ["timing={max_seconds: 0.2, precision: 1e-3}", "study=2026", "within_job=[dropout]", "life=false"]
    config = make_grid(read_config([path], [*given, "sweeps={article: {hidden_size: [8, 12]}}"])).config
    assert (config["timing"]["max_seconds"], config["timing"]["precision"]) == (0.2, 0.001)
    assert (config["study"], config["life"], config["within_job"]) == ("2026", False, ["dropout"])
    assert config["sweeps"]["article"]["hidden_size"] == [8, 12]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("timing={max_seconds: 1, max_seconds: 2}", '--config timing: line 1: the key "max_seconds" is set here'),
        ("timing={", "--config timing: is not YAML"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(setting, message):
    with pytest.raises(InputError, match=message):
        read_config([], [setting])


@pytest.mark.parametrize("text", ["", "- a", "words"])
def test_a_file_without_keys_is_named(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    said = "is empty" if text == "" else "holds .*"
    with pytest.raises(InputError, match=rf"config\.yaml: {said}, expected a mapping of keys"):
        read_config([path], [])
