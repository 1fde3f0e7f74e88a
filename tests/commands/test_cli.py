"""The commands: their help, their exit codes, and what a person reads."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from conftest import PROJECT
from rnn_parity.commands.cli import init
from rnn_parity.experiment.devices import find_cuda
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import make_grid
from rnn_parity.tables import EQUIVALENCE, MASKS, SELF_TEST, TIMING, read_table, write_rows
from rnn_parity.trust.run import faults_for

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
PEOPLE = ["check", "self-test", "cases", "convert", "compare", "gate", "init", "run", "schema", "ui"]
RULES = ["collect", "device", "environment", "figures", "job", "publish", "publish-unfinished", "report", "store"]
RULES += ["validate"]


def rnn_parity(*arguments, folder=PROJECT):
    command = [sys.executable, "-m", "rnn_parity", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_help_names_the_commands_for_people_and_none_that_only_rules_call():
    named = {line.split()[1] for line in rnn_parity("--help").stdout.splitlines() if line.startswith("│ ")}
    assert set(PEOPLE) <= named
    assert not set(RULES) & named


@pytest.mark.parametrize("name", PEOPLE + RULES)
def test_the_help_of_a_command_says_what_it_does(name):
    from typer.testing import CliRunner

    from rnn_parity.commands.cli import app

    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert len(result.output) > 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["validate", "mine:Layer"], "mine:Layer: ok\n"),
        (["self-test", "--cell", "mine:Layer"], "error: cell: mine:Layer is not a kind of cell, expected a "),
        (["check", "mine:Absent"], "error: candidate: mine:Absent: cannot be imported (AttributeError: "),
    ],
)
def test_the_installed_command_finds_what_is_in_the_current_folder(tmp_path, arguments, said):
    (tmp_path / "mine.py").write_text("from torch.nn import GRU as Layer\n")
    command = [sys.executable, "-P", "-m", "rnn_parity", *arguments]  # -P: as an installed command, without the folder
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr).startswith(said)


def test_cases_shows_the_grid_without_importing_torch(tmp_path):
    shown = rnn_parity("cases", "--config", "config/smoke.yaml")
    assert shown.returncode == 0
    assert "5 cases in 3 jobs" in shown.stdout
    config = tmp_path / "one.json"
    config.write_text(json.dumps(SMOKE | {"sweeps": {"one": {}}}))
    assert "1 case in 1 job\n" in rnn_parity("cases", "--config", config).stdout.replace(" \n", "\n").replace("  ", "")
    lines = [json.loads(line) for line in rnn_parity("cases", "--json").stdout.splitlines()]
    assert {line["sweep"] for line in lines} == {
        "article",
        "t2vec",
        "lstm",
        "length",
        "width",
        "depth",
        "batch",
        "precision",
        "crossover",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cases", "--config", "absent.yaml"], "error: absent.yaml: cannot be read"),
        (["job", "equivalence", "--job", "{}", "--name", "x"], "error: --job: holds '{}'"),
        (["validate", "torch.nn:Absent"], "error: torch.nn:Absent: cannot be imported"),
        (["validate", "torch.nn:LSTM"], "error: torch.nn:LSTM: this is an LSTM, not a GRU: --cell lstm"),
        (["gate", "--equivalence", "absent.parquet"], "error: absent.parquet: cannot be read as a table"),
        (["run", "--config", "absent.yaml"], "error: --config: holds 'absent.yaml', which is not a file"),
        (["init", "."], "error: config.yaml: exists already"),
        (["init", "config.yaml"], "error: config.yaml/config.yaml: cannot be written (File exists);"),
        (["init", "/proc/none"], "error: /proc/none/config.yaml: cannot be written (No such file or directory)"),
        (
            ["run", "-n", "--config", "src/rnn_parity/py.typed"],
            "error: src/rnn_parity/py.typed: is empty, expected a mapping of keys",
        ),
        (["compare", "absent", "."], "error: absent/equivalence.parquet: cannot be read as a table (it is not there);"),
        (["check", "torch.nn.GRU"], "error: candidate: holds 'torch.nn.GRU', expected one of "),
        (["check", "torch.nn:GRU", "--hidden-size", "0"], "error: --hidden-size: holds 0, expected at least 1"),
        (["check", "torch.nn:GRU", "--seed", "-1"], "error: --seed: holds -1, expected at least 0"),
        (["check", "torch.nn:GRU", "--baseline", "a b"], "error: --baseline: holds 'a b', expected one of "),
        (["check", "torch.nn:GRU", "--time-limit", "inf"], "error: --time-limit: holds inf, expected more than 0"),
        (["replay", "/dev/null/absent"], "error: /dev/null/absent: cannot be read as a bundle (Not a directory)"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(arguments, message):
    done = rnn_parity(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_init_writes_nothing_beside_a_file_that_is_there(tmp_path):
    there = tmp_path / "profiles/slurm/config.yaml"
    there.parent.mkdir(parents=True)
    there.touch()
    with pytest.raises(InputError, match=f"^{there}: exists already; expected a path for a new file$"):
        init(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [there]


def test_a_port_that_is_none_is_refused():
    done = rnn_parity("ui", "--port", "-1")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(find_cuda().major is not None, reason="there is a GPU")
def test_a_self_test_on_a_device_that_is_not_there_is_refused_in_one_line():
    done = rnn_parity("self-test", "--device", "cuda")
    assert done.returncode == 2
    assert done.stderr.startswith("error: device: holds 'cuda', but this ")
    assert done.stderr.count("\n") == 1


def ends_with(error, monkeypatch, capsys):
    """The exit code where the commands raise an error, and what is said."""
    from rnn_parity.commands import cli

    def broken():
        raise error

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr().err


def test_a_fault_of_the_program_has_exit_code_3_its_traceback_and_a_last_line(monkeypatch, capsys):
    code, shown = ends_with(KeyError("ratio"), monkeypatch, capsys)
    assert code == 3
    assert shown.startswith("Traceback (most recent call last):\n")
    assert "test_cli.py" in shown
    assert shown.endswith(
        "\nfault: KeyError: 'ratio'; this is a bug, not a verdict: please report it with the lines above\n"
    )


def test_code_that_ends_the_process_is_no_verdict(monkeypatch, capsys):
    code, shown = ends_with(SystemExit(1), monkeypatch, capsys)
    assert (code, shown.splitlines()[-1].partition(";")[0]) == (3, "fault: SystemExit: 1")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "self-test", "convert", "gate", "compare", "cases", "validate", "job"])
def test_a_crash_within_a_command_is_3(tmp_path, command):
    """What a command calls first is made to raise: whatever it is, the exit code is never that of a verdict."""
    crash = {
        "check": ("rnn_parity.api.check", ["torch.nn:GRU"]),
        "self-test": ("rnn_parity.trust.run.examine_in_parallel", []),
        "convert": ("rnn_parity.convert.convert_checkpoint", ["a.pt", "b.pt", "--to", "stacking_gru"]),
        "gate": ("rnn_parity.report.gate.gate", []),
        "compare": ("rnn_parity.findings.compare.compare_runs", ["a", "b"]),
        "cases": ("rnn_parity.experiment.grid.make_grid", []),
        "validate": ("rnn_parity.layers.kinds.require_kind", ["torch.nn:GRU"]),
        "job": ("rnn_parity.experiment.grid.parse_request", ["equivalence", "--job", "{}", "--name", "x/y"]),
    }
    code = """
import importlib, sys
from unittest import mock
import rnn_parity.report.comparison, rnn_parity.tables
target, *sys.argv = sys.argv[1:]
from rnn_parity.commands.cli import main
with (
    mock.patch(target, side_effect=RuntimeError("a crash")),
    mock.patch("rnn_parity.tables.read_table"),
    mock.patch("rnn_parity.report.comparison.read_run"),
):
    main()
"""
    target, arguments = crash[command]
    run = [sys.executable, "-c", code, target, "rnn-parity", command, *arguments]
    done = subprocess.run(run, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("fault: RuntimeError: a crash; this is a bug, not a verdict")


def test_a_pipe_that_nobody_reads_is_no_verdict():
    run = [sys.executable, "-m", "rnn_parity", "schema"]
    with subprocess.Popen(run, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.close()
        assert process.wait() == 141


@pytest.mark.slow
def test_check_accepts_what_fits():
    done = rnn_parity("validate", "torch.nn:GRU", "stacking_gru")
    assert (done.returncode, done.stdout) == (0, "torch.nn:GRU: ok\nstacking_gru: ok\n")


LAYERS = """
import os
from torch import nn

class NoForward(nn.Module):
    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size, num_layers)

class StateFirst(NoForward):
    def forward(self, hidden, input):
        return self.rnn(input, hidden)

class Raises(nn.GRU):
    def __init__(self, **sizes):
        {}["x"]

class Leaves(nn.GRU):
    def __init__(self, **sizes):
        raise SystemExit(0)

class LeavesAtOnce(nn.GRU):
    def forward(self, *given):
        os._exit(0)

class Square(nn.GRU):
    def forward(self, *given):
        assert self.input_size == self.hidden_size
        return super().forward(*given)

class Crashes(nn.GRU):
    def forward(self, *given):
        print("Crashes: ok (it prints)")
        raise ValueError("it went wrong")
"""


@pytest.fixture
def validate(tmp_path, monkeypatch):
    """A function that validates the layer NAME of a module that holds `LAYERS`, or another text."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))

    def validate(name, *options, text=LAYERS):
        (tmp_path / "mine.py").write_text(text)
        return rnn_parity("validate", *options, f"mine:{name}", folder=tmp_path)

    return validate


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("NoForward", "NoForward has no forward, expected forward(input, states)\n"),
        ("StateFirst", "called with input (2, 7, 8) and h0 (3, 7, 16), or in any other way, it raises RuntimeError: "),
        ("Raises", "cannot be built with input_size 8, hidden_size 16, num_layers 2 (KeyError: 'x')\n"),
        ("Leaves", "it ends its process: SystemExit: 0\n"),
        ("LeavesAtOnce", "it ends its process: exit code 0\n"),
        ("Square", "called with input (2, 7, 8) and h0 (3, 7, 16), or in any other way, it raises AssertionError; "),
    ],
)
def test_a_layer_that_cannot_be_compared_is_refused_in_one_line_whatever_it_does(validate, name, why):
    done = validate(name)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"error: mine:{name}: {why}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import os; os._exit(0)", "it ends its process: exit code 0"),
        ("raise KeyboardInterrupt", "it ends its process: KeyboardInterrupt"),
        ("raise BaseException('base')", "cannot be imported (BaseException: base); expected package.module:Class"),
        ("raise SystemExit(0)", "cannot be imported (SystemExit: 0); expected package.module:Class"),
    ],
)
def test_a_module_that_ends_its_process_is_refused_in_one_line(validate, text, why):
    done = validate("Layer", text=text)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: mine:Layer: {why}\n")


@pytest.mark.slow
def test_a_layer_that_fails_in_its_own_way_or_runs_in_the_case_that_is_asked_for_is_no_bad_input(validate):
    """What it does wrong is a result; and what it prints is no part of the answer, which a workflow reads."""
    for options in (("Crashes",), ("Square", "--cases", '{"gru": {"input_size": 5, "hidden_size": 5}}')):
        done = validate(*options)
        assert (done.returncode, done.stdout) == (0, f"mine:{options[0]}: ok\n")


def told(done):
    """What a job says of its cases; where other tests measure meanwhile, it says too that it waits."""
    return [line for line in done.stderr.splitlines() if line.startswith("x/")]


@pytest.mark.slow
def test_a_job_is_measured_by_the_lines_that_cases_prints(tmp_path):
    config = tmp_path / "config.yaml"
    timing = {"phases": ["step"], "min_rounds": 6, "max_seconds": 0.05}
    sweeps = {"x": {"sequence_length": [1, 2]}}
    config.write_text(yaml.safe_dump({**SMOKE, "sweeps": sweeps, "timing": timing}))
    job = json.loads(rnn_parity("cases", "--config", config, "--json").stdout)
    here = "--name", "x/all", "--results", tmp_path
    checked = rnn_parity("job", "equivalence", "--job", job["equivalence"], *here)
    assert [line.rpartition(": ")[2] for line in told(checked)] == ["identical", "equivalent"]
    assert read_table(tmp_path / "equivalence/x/all.parquet", EQUIVALENCE).num_rows == 2 * 3 * (4 + 4 * 3)
    coverage = read_table(tmp_path / "coverage/x/all.parquet", SELF_TEST).to_pandas()
    assert coverage.groupby("case_id")["implementation"].nunique().tolist() == [len(faults_for("gru", "float32"))] * 2
    masks = read_table(tmp_path / "masks/x/all.parquet", MASKS).to_pandas()
    assert set(masks["sequence_length"]) == {2}
    assert len(masks) == 2 * 2 * 2 * 7 * 10
    timed = rnn_parity("job", "timing", "--job", job["timing"], *here)
    assert len(told(timed)) == 2
    assert read_table(tmp_path / "timing/x/all.parquet", TIMING).num_rows == 2 * 2
    unknown = rnn_parity("job", "drawing", "--job", job["timing"], *here)
    assert unknown.returncode == 2
    assert (
        unknown.stderr == "error: KIND: holds 'drawing', expected one of equivalence, timing for the workload layer\n"
    )


@pytest.mark.slow
def test_the_log_of_a_job_and_the_validation_say_what_a_layer_sets_for_all(tmp_path):
    (tmp_path / "sets.py").write_text(
        "import torch\ntorch.backends.fp32_precision = 'ieee'\nclass Layer(torch.nn.GRU): pass\n"
    )
    environment = {"PYTHONPATH": ":".join([str(tmp_path), *sys.path])}
    config = {**SMOKE, "candidates": ["sets:Layer"], "sweeps": {"x": {"sequence_length": 1}}}
    (job,) = make_grid(config).jobs
    asked = ["--job", make_grid(config).equivalence_request(job), "--name", "x/all", "--results", str(tmp_path)]
    sets = "note that it sets torch.backends.fp32_precision to 'ieee'"
    for command, said in ((["job", "equivalence", *asked], f"sets:Layer: {sets}\n"), (["validate", "sets:Layer"], "")):
        run = [sys.executable, "-m", "rnn_parity", *command]
        done = subprocess.run(run, capture_output=True, text=True, check=True, env=environment)
        assert done.stderr.endswith(said)
    assert done.stdout == f"sets:Layer: ok ({sets})\n"
    assert (tmp_path / "equivalence/x/all.parquet").exists()


def test_the_gate_names_the_worst_and_exits_with_1(tmp_path):
    from synthetic import equivalence_rows

    grid = make_grid(SMOKE)
    path = tmp_path / "equivalence.parquet"
    write_rows(path, EQUIVALENCE, equivalence_rows(grid))
    done = rnn_parity("gate", "--equivalence", path)
    assert (done.returncode, done.stdout) == (0, "gate: 5 of 5 cases hold\n")
    write_rows(path, EQUIVALENCE, equivalence_rows(grid, wrong="stacking_gru"))
    done = rnn_parity("gate", "--equivalence", path)
    assert done.returncode == 1
    assert done.stderr.startswith("**gate: 5 of 5 cases do not hold.** The worst: `stacking_gru` in `")
    assert "| article | `stacking_gru` | `eval` | **different** | 3 of 3 |" in done.stderr


def test_the_gate_stays_shut_where_nothing_could_be_judged(tmp_path):
    from synthetic import equivalence_rows

    rows, path = equivalence_rows(make_grid(SMOKE)), tmp_path / "equivalence.parquet"
    unknown = {"verdict": "not judged", "reason": "too coarse: at this precision its limit is 80% of its size"}
    write_rows(path, EQUIVALENCE, [row | unknown if row["hidden_size"] == 16 else row for row in rows])
    done = rnn_parity("gate", "--equivalence", path)
    in_part = "gate: 4 of 5 cases hold; in the other 1 nothing fails, but not all could be judged\n"
    assert (done.returncode, done.stdout) == (0, in_part)
    write_rows(path, EQUIVALENCE, [row | unknown for row in rows])
    done = rnn_parity("gate", "--equivalence", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gate: stacking_gru: output, hn, grad_input,")
    assert done.stderr.endswith(
        "could be judged in no case: too coarse: at this precision its limit is 80% of its size\n"
    )


@pytest.mark.slow
def test_the_measuring_commands_import_neither_mlflow_nor_plotting_nor_the_compiler(tmp_path):
    job = make_grid(SMOKE).jobs[1]
    grid = make_grid({**SMOKE, "timing": {"phases": ["step"], "min_rounds": 6, "max_seconds": 0.01}})
    code = """
import sys
from rnn_parity.commands.cli import app
arguments = sys.argv[1:]
app(arguments, standalone_mode=False)
print({"mlflow", "matplotlib", "seaborn", "snakemake", "torch._dynamo"} & set(sys.modules))
"""
    for kind, request in (("equivalence", grid.equivalence_request(job)), ("timing", grid.timing_request(job))):
        command = ["job", kind, "--job", request, "--name", "width/one", "--results", tmp_path]
        run = [sys.executable, "-c", code, *map(str, command)]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"
        assert (tmp_path / kind / "width/one.parquet").exists()
