"""Whatever surrounds a command: words in any encoding, and exit codes that are never a verdict by accident."""

import io
import os
import signal
import subprocess
import sys
import time

import pytest

from project import PROJECT
from rnn_parity.commands import ending, processes
from rnn_parity.experiment.errors import InputError

ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def rnn_parity(*arguments, folder=PROJECT, **environment):
    command = [sys.executable, "-m", "rnn_parity", *arguments]
    variables = os.environ | environment
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def test_letters_that_an_encoding_lacks_are_written_in_ascii():
    for encoding in ("ascii", "latin-1"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding, errors="in_ascii")
        stream.write("2.04× … −1 ≤ é ü 😀")
        stream.flush()
        written = stream.buffer.getvalue().decode(encoding)
        assert written == ("2.04x ... -1 <= e? u? ?" if encoding == "ascii" else "2.04× ... -1 <= é ü ?")


@pytest.mark.slow
@pytest.mark.parametrize("surroundings", [ASCII, {"PYTHONOPTIMIZE": "2"}], ids=["ascii", "optimized"])
def test_check_answers_in_any_surroundings(surroundings):
    quick = ["--no-life", "--no-capabilities", "--seed", "0", "--sequence-length", "2"]
    done = rnn_parity("check", "stacking_gru", *quick, **surroundings)
    assert done.returncode == 0, done.stderr
    assert "yes: " in " ".join(done.stdout.split())
    assert done.stdout.isascii() == (surroundings is ASCII)


def test_bad_input_is_one_line_where_only_ascii_is_shown():
    done = rnn_parity("cases", "--config", "å.yaml", **ASCII)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: ")


def test_what_is_still_to_be_written_ends_in_the_code_of_a_closed_pipe_or_of_a_full_disk():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "rnn_parity", "--version"]
    done = subprocess.run(command, cwd=PROJECT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
    for arguments in (["--version"], ["schema"]):  # one that is written at the end, one that is longer than a buffer
        with open("/dev/full", "w") as full:  # noqa: PTH123
            run = [*command[:-1], *arguments]
            done = subprocess.run(run, cwd=PROJECT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        said = "error: the disk is full; free some space and run the same command again\n"
        assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("closed", "code", "said"),
    [(">&-", 2, "error: stdout: is closed, expected an open stream, such as /dev/null\n"), ("2>&-", 0, "")],
)
def test_a_stream_that_is_closed_is_no_fault(closed, code, said):
    quick = "--device cpu --no-life --no-capabilities --no-timing --seed 0 --sequence-length 2"
    command = f"{sys.executable} -m rnn_parity check stacking_gru {quick} {closed}"
    done = subprocess.run(command, shell=True, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.slow
def test_ctrl_c_is_130(tmp_path):
    (tmp_path / "slow.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "rnn_parity", "validate", "slow:Layer"]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    variables = os.environ | {"PYTHONPATH": path}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": variables}
    # What a shell starts in its background ignores Ctrl-C, and so would this process.
    with subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes) as process:
        assert process.stderr.readline() == "here\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert "Traceback" not in process.stderr.read()


def test_a_fault_within_the_snakefile_is_3(capsys):
    with pytest.raises(SystemExit) as ended, ending.ending_in_3():
        raise NameError("GRID")
    assert ended.value.code == 3
    assert capsys.readouterr().err.endswith("fault: NameError: GRID; " + ending.ADVICE + "\n")


def test_a_job_with_other_sources_than_its_workflow_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(processes.SOURCES_VARIABLE, str(processes.SOURCES))
    processes.require_own_sources()
    monkeypatch.setenv(processes.SOURCES_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=rf"the workflow's sources are in {tmp_path}, but its jobs run those in "):
        processes.require_own_sources()


def test_a_checkout_is_not_served_by_the_environment_of_another(tmp_path, monkeypatch):
    monkeypatch.delenv(processes.SOURCES_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    processes.require_own_sources()
    package = tmp_path / "src/rnn_parity"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    with pytest.raises(InputError, match=r"this folder has its own sources, but .* runs those in "):
        processes.require_own_sources()
    monkeypatch.setattr(processes, "SOURCES", tmp_path / "lib/python3.11/site-packages/rnn_parity")
    processes.require_own_sources()  # a wheel is a choice
    monkeypatch.setattr(processes, "SOURCES", package)
    processes.require_own_sources()


def test_a_snakefile_runs_with_its_own_package_only(tmp_path, monkeypatch):
    processes.require_own_snakefile(PROJECT)
    for folder, words in ((tmp_path, "does not belong to"), (tmp_path / "a:b", "has ':' in its name")):
        with pytest.raises(InputError, match=words):
            processes.require_own_snakefile(folder)
    wheel = tmp_path / "site-packages/rnn_parity"
    (wheel / "pipeline").mkdir(parents=True)
    monkeypatch.setattr(processes, "SOURCES", wheel)
    processes.require_own_snakefile(wheel / "pipeline")


def test_run_says_what_to_set_where_the_home_cannot_be_written():
    done = rnn_parity("run", "-n", HOME="/proc/none", XDG_CACHE_HOME="")
    assert done.returncode == 2
    assert done.stderr.startswith("error: HOME: Snakemake keeps a cache in /proc/none/.cache, which cannot be made")
    assert done.stderr.endswith("expected XDG_CACHE_HOME to name a folder\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["gatee", "-n"], "error: Snakemake ended with an error of its own"), (["--directory", "a", "-n"], "error: ")],
)
def test_run_ends_with_1_for_nothing_but_the_gate(tmp_path, arguments, words):
    """A target that is none, a folder that is a file: Snakemake ends with 1 for both."""
    (tmp_path / "a").touch()
    (tmp_path / "config.yaml").write_text((PROJECT / "config/smoke.yaml").read_text())
    done = rnn_parity("run", *arguments, folder=tmp_path, PYTHONPATH=str(PROJECT / "src"))
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(words)


def test_words_in_braces_are_no_wildcards(tmp_path):
    text = (PROJECT / "config/smoke.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("study: ", "study: '{v2}' #", 1))
    done = rnn_parity("run", "-n", folder=tmp_path, PYTHONPATH=str(PROJECT / "src"), TORCH_OF_MINE="{a}")
    assert done.returncode == 0, done.stderr


def test_run_takes_no_config_of_snakemakes():
    done = rnn_parity("run", "--configfile", "my.yaml", "gate")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: --configfile: is Snakemake's, which takes the targets after it for more files"
    )
