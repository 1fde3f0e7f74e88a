"""The config is checked before anything runs, and names come from values."""

import copy
import itertools
import json
import subprocess
import sys

import pytest

from project import PROJECT, SMOKE
from rnn_parity.experiment import devices
from rnn_parity.experiment.config import Config, complete_config
from rnn_parity.experiment.config_files import load_config
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case, make_grid, parse_request
from rnn_parity.experiment.vocabulary import AXES
from rnn_parity.tables import CASE_COLUMNS


def changed(path, value):
    """The smoke config with the key at `path` (dots between) set to `value`."""
    config = copy.deepcopy(SMOKE)
    *parents, last = path.split(".")
    at = config
    for part in parents:
        at = at.setdefault(part, {})
    at[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("studdy", "x", 'config: unknown key "studdy", expected one of baseline, .*; did you mean study'),
        ("sweeps.width.hiden_size", 8, 'sweeps.width: unknown key "hiden_size".*did you mean hidden_size'),
        ("sweeps.width.hidden_size", "wide", 'sweeps.width.hidden_size: holds "wide", expected a valid integer'),
        ("sweeps.width.hidden_size", True, "sweeps.width.hidden_size: holds true, expected a valid integer"),
        ("sweeps.width.hidden_size", [], r"sweeps.width.hidden_size: holds \[\], expected at least 1 value"),
        ("sweeps.width.hidden_size", -3, "sweeps.width.hidden_size: holds -3, expected at least 1"),
        ("sweeps.width.hidden_size", [8, 0], r"sweeps.width.hidden_size\[1\]: holds 0, expected at least 1"),
        ("sweeps.width.hidden_size", [8, 8], r"sweeps.width.hidden_size: holds \[8, 8\], expected every value once"),
        ("sweeps.width.dropout", [0, 0.0], r"sweeps.width.dropout: holds \[0, 0.0\], expected every value once"),
        ("sweeps.width.dropout", 1.5, "sweeps.width.dropout: holds 1.5, expected at most 1"),
        ("defaults.dropout", -0.1, "defaults.dropout: holds -0.1, expected at least 0"),
        ("sweeps.width.dtype", "float8", 'sweeps.width.dtype: holds "float8", expected one of float64, float32'),
        ("sweeps.width.dtype", ["float32", "int8"], r"sweeps.width.dtype\[1\]: holds \"int8\", expected one of"),
        ("sweeps.width.tf32", True, "sweeps.width.tf32: holds true, which a CPU does not have; expected false"),
        ("sweeps.a/b", {}, 'sweeps: the name "a/b" is not usable, expected at most 64 letters, digits, - and _, the'),
        ("sweeps", {}, r"sweeps: holds \{\}, expected at least 1 value"),
        ("sweeps.width", None, "sweeps.width: holds null, expected a mapping of keys"),
        ("within_job", ["size"], r"within_job\[0\]: holds \"size\", expected one of dtype"),
        ("device", "tpu", 'device: holds "tpu", expected one of auto, cpu, cuda'),
        ("baseline", "stacking_gruu", "baseline: holds 'stacking_gruu', expected one of .*did you mean stacking_gru"),
        ("candidates", ["no such"], r"candidates\[0\]: holds 'no such', expected one of stacking_gru_cell"),
        ("candidates", ["stacking_gru"] * 2, "candidates: holds the same implementation twice"),
        ("candidates", [], r"candidates: holds \[\], expected at least 1 value"),
        ("equivalence.seeds", [1, 1], r"equivalence.seeds: holds \[1, 1\], expected every value once"),
        ("equivalence.regimes", ["test"], r"equivalence.regimes\[0\]: holds \"test\", expected one of eval"),
        ("timing.precision", 0, "timing.precision: holds 0, expected more than 0"),
        ("case_limit_s", 1e300, r"case_limit_s: holds 1e\+300, expected at most 1000000"),
        ("timing.confidence", 0.99999, "timing.confidence: holds 0.99999, expected at most 0.999"),
        ("equivalence.draws", 10**12, "equivalence.draws: holds 1000000000000, expected at most 100000000"),
        ("study", "a\0b", 'study: holds "a.u0000b", expected one line of printable characters'),
        ("study", "a" * 201, 'study: holds "a+.*, expected at most 200 characters'),
        ("cells", {"foo": {"baseline": "x", "candidates": ["y"]}}, "cells: holds 'foo', expected one of gru, "),
        ("timing.max_seconds", "4 s", 'timing.max_seconds: holds "4 s", expected a valid number'),
        ("defaults.dropout", float("nan"), "defaults.dropout: holds NaN, expected a finite number"),
        ("timing.max_seconds", float("inf"), "timing.max_seconds: holds Infinity, expected a finite number"),
        (
            "sweeps.width.dropout",
            [0.1, float("nan")],
            r"sweeps.width.dropout\[1\]: holds NaN, expected a finite number",
        ),
        ("equivalence.seed", [0], 'equivalence: unknown key "seed", expected one of .*; did you mean seeds'),
        ("device", ["cpu", "auto"], "device: holds 'auto' beside others, expected auto alone"),
        ("device", ["cpu", "tpu"], r"device\[1\]: holds \"tpu\", expected one of"),
        ("tracking.uri", 5, "tracking.uri: holds 5, expected a valid string"),
        ("sweeps.width.batch_size", 2**31, "sweeps.width.batch_size: holds 2147483648, expected less than 2147483648"),
        ("report.sweep", "widths", 'report.sweep: holds "widths", expected one of .*; did you mean width'),
    ],
)
def test_bad_input_gets_one_line_that_names_the_key_the_value_and_what_was_expected(path, value, message):
    with pytest.raises(InputError, match=message) as caught:
        make_grid(changed(path, value))
    assert "\n" not in str(caught.value)


def test_an_interval_needs_as_many_rounds_as_its_confidence_takes():
    """The extremes of n ratios cover the median with probability 1 - 2 / 2**n."""
    for confidence, least in ((0.96875, 6), (0.99, 8), (0.999, 11)):
        assert make_grid(changed("timing", {"confidence": confidence, "min_rounds": least})).cases
        message = f"timing.min_rounds: holds {least - 1}, expected at least "
        with pytest.raises(InputError, match=message + (str(least) if least > 6 else "6")):
            make_grid(changed("timing", {"confidence": confidence, "min_rounds": least - 1}))


def test_a_sweep_without_end_is_refused_before_it_is_laid_out():
    many = list(range(1, 1002))
    axes = {"hidden_size": many, "input_size": many}
    with pytest.raises(InputError, match=r"sweeps.width: holds 1,002,001 cases, expected at most 1,000,000"):
        make_grid(changed("sweeps.width", axes))


def test_a_key_that_is_no_string_is_named():
    for config, where in (({1: 2}, "config"), ({"sweeps": {1: {}}}, "sweeps"), ({"timing": {1: 2}}, "timing")):
        with pytest.raises(InputError) as caught:
            make_grid(SMOKE | config)
        assert str(caught.value) == f"{where}: the key 1 is not usable, expected a string"


@pytest.mark.parametrize("text", ["[1, 2", "just words", "- a\n- b"])
def test_a_file_that_is_no_config_is_refused(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"is not YAML|expected a mapping"):
        make_grid(load_config(path))
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "absent.yaml")


def test_cuda_without_a_gpu_is_refused_and_auto_takes_the_cpu(monkeypatch):
    monkeypatch.setattr(devices, "find_cuda", lambda: devices.Cuda(why="this torch is built without CUDA"))
    with pytest.raises(InputError, match="device: holds 'cuda', but this torch is built without CUDA; expected"):
        make_grid(changed("device", "cuda"))
    assert make_grid(changed("device", "auto")).config["device"] == ["cpu"]


def test_with_a_gpu_auto_takes_it_and_its_limits_are_checked(monkeypatch):
    monkeypatch.setattr(devices, "find_cuda", lambda: devices.Cuda(7))
    assert make_grid(changed("device", "auto")).config["device"] == ["cuda"]
    both = changed("device", ["cpu", "cuda"])
    assert {case.device for case in make_grid(both).cases} == {"cpu", "cuda"}
    on_gpu = changed("device", "cuda")
    on_gpu["sweeps"]["width"]["dtype"] = "bfloat16"
    with pytest.raises(InputError, match="sweeps.width.dtype: holds bfloat16, which needs compute capability 8"):
        make_grid(on_gpu)
    on_gpu["sweeps"]["width"] |= {"dtype": "float32", "tf32": True}
    with pytest.raises(InputError, match="sweeps.width.tf32: holds true, which needs compute capability 8"):
        make_grid(on_gpu)
    assert make_grid(on_gpu, devices.Cuda(8)).cases  # on another machine
    on_gpu["sweeps"]["width"] |= {"dtype": "float16", "tf32": True}
    with pytest.raises(InputError, match="sweeps.width.tf32: holds true with dtype float16, expected float32"):
        make_grid(on_gpu)


def test_a_variable_that_decides_on_tf32_behind_every_switch_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "find_cuda", lambda: devices.Cuda(9))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    for device in ("cuda", "auto"):
        with pytest.raises(InputError, match="NVIDIA_TF32_OVERRIDE: holds '0'"):
            make_grid(changed("device", device))
    assert make_grid(changed("device", "cpu")).cases


def test_defaults_of_the_model_fill_what_is_left_out():
    config = complete_config({"study": "s", "baseline": "a", "candidates": ["b"], "sweeps": {"x": {}}})
    assert config["defaults"]["hidden_size"] == 256
    assert config["within_job"] == ["sequence_length", "dropout"]
    assert config["timing"]["min_rounds"] == 10
    assert config["tracking"]["uri"] is None


def test_every_key_of_the_schema_that_editors_read_has_a_description():
    schema = Config.model_json_schema()
    for model in [schema, *schema["$defs"].values()]:
        for name, key in model["properties"].items():
            assert key.get("description") or "$ref" in key, name


def test_the_grid_is_the_product_of_the_lists_over_the_defaults():
    config = changed("sweeps", {"x": {"hidden_size": [8, 16], "sequence_length": [1, 2, 3], "dropout": [0, 0.5]}})
    grid = make_grid(config)
    expected = set(itertools.product([8, 16], [1, 2, 3], [0.0, 0.5]))
    assert {(case.hidden_size, case.sequence_length, case.dropout) for case in grid.cases} == expected
    assert len(grid.cases) == 12
    assert len(grid.jobs) == 2  # sequence_length and dropout vary inside
    assert all(case.input_size == SMOKE["defaults"]["input_size"] for case in grid.cases)


def test_names_are_readable_unique_and_do_not_change_when_the_grid_grows():
    small = make_grid(SMOKE)
    large = make_grid(changed("sweeps.width.hidden_size", [4, 8, 12, 16]))
    assert "width/cpu-float32-i5-h8-l3-t8-b7-p0.1-n1" in {case.case_id for case in small.cases}
    assert {case.case_id for case in small.cases} < {case.case_id for case in large.cases}
    assert {job.name for job in small.jobs} < {job.name for job in large.jobs}
    for grid in (small, large):
        assert len({case.case_id for case in grid.cases}) == len(grid.cases)
        assert len({(job.sweep, job.name) for job in grid.jobs}) == len(grid.jobs)


def test_every_axis_is_in_the_name_so_that_no_two_cases_share_one():
    case = Case("s", "cpu", "float32", False, 1, 2, 3, 4, 5, 0.25, 6)
    others = [("device", "cuda"), ("dtype", "float16"), ("tf32", True), ("dropout", 0.5), ("cell", "lstm")]
    others += [(name, 99) for name, axis in AXES.items() if axis.type is int]
    assert {axis for axis, _ in others} == set(AXES)
    names = {Case(**{**case.__dict__, axis: value}).case_id for axis, value in others}
    assert len(names | {case.case_id}) == len(AXES) + 1


def test_a_request_says_all_a_process_needs():
    grid = make_grid(changed("sweeps.article.regimes", ["eval"]))
    job = grid.jobs[0]
    cases, settings = parse_request(grid.equivalence_request(job))
    assert cases == job.cases
    assert settings == {
        "baseline": "stacking_gru_cell",
        "candidates": ["stacking_gru"],
        "seeds": [1215],  # the sweep's own
        "regimes": ["eval"],
        "draws": 1000,
        "workload": "layer",
        "settings": {},
        "own_cases": True,
        "picture": cases[1].case_id,
    }
    _, settings = parse_request(grid.timing_request(job))
    assert settings["max_seconds"] == SMOKE["timing"]["max_seconds"]
    with pytest.raises(InputError, match="--job"):
        parse_request("{}")


def test_a_job_is_asked_the_same_whatever_else_the_config_holds():
    before, after = make_grid(SMOKE), make_grid(changed("sweeps.width.hidden_size", [8, 16, 24]))
    asked = {before.equivalence_request(job) for job in before.jobs}
    assert asked < {after.equivalence_request(job) for job in after.jobs}
    retimed = make_grid(changed("timing.max_seconds", 1.0))
    assert {retimed.equivalence_request(job) for job in retimed.jobs} == asked
    reordered = make_grid({**SMOKE, "timing": dict(reversed(SMOKE["timing"].items()))})
    assert [*map(reordered.timing_request, reordered.jobs)] == [*map(before.timing_request, before.jobs)]


def pictures(grid):
    asked = [json.loads(grid.equivalence_request(job)).get("picture") for job in grid.jobs]
    return [case_id for case_id in asked if case_id]


def test_the_masks_are_shown_of_the_smallest_case_where_they_can_differ():
    grid = make_grid(SMOKE)
    (case,) = [case for case in grid.cases if case.case_id in pictures(grid)]
    assert (case.sequence_length, case.num_layers) == (2, 3)
    assert pictures(make_grid(changed("sweeps", {"x": {"dropout": 0}}))) == []


def test_tables_begin_with_the_axes_of_a_case():
    columns = make_grid(SMOKE).cases[0].columns
    assert list(columns) == list(CASE_COLUMNS)
    assert all(type(columns[name]) is kind for name, kind in CASE_COLUMNS.items())


@pytest.mark.parametrize("path", [*(PROJECT / "config").glob("*.yaml"), PROJECT / "config.yaml"], ids=str)
def test_every_experiment_of_the_project_is_valid(path, monkeypatch):
    monkeypatch.setattr(devices, "find_cuda", lambda: devices.Cuda(9))
    assert make_grid(load_config(path)).cases


def test_the_snakefile_imports_nothing_heavy():
    code = (
        "import sys; import rnn_parity.experiment.grid, rnn_parity.report.figures; "
        "print({'torch', 'mlflow', 'pandas', 'matplotlib', 'scipy', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_peaks_are_asked_for_once_for_every_setting_that_changes_them():
    config = {"sweeps": {"a": {"threads": [1, 2]}, "b": {"dtype": ["float32", "float64"], "hidden_size": [8, 16]}}}
    asked = json.loads(make_grid(SMOKE | config).environment_request())
    assert [(kind["dtype"], kind["tf32"], kind["threads"]) for kind in asked] == [
        ("float32", False, 1), ("float32", False, 2), ("float64", False, 1),
    ]  # fmt: skip
