"""The built wheel in an environment of its own, used from an empty folder while the sources are gone."""

import os
import shutil
import subprocess
import sys
import sysconfig

import pytest
import yaml

from pipeline import TINY, jobs_run
from project import PROJECT

pytestmark = pytest.mark.workflow

TAKEN = ("src", "workflow", "profiles", "Snakefile", "config.yaml", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A function that runs a program of the environment in an empty folder, and that folder."""
    folder = tmp_path_factory.mktemp("installed")
    sources, wheels, environment, empty = (folder / name for name in ("sources", "wheels", "environment", "empty"))
    for name in TAKEN:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy2
        copy(PROJECT / name, sources / name, **({"symlinks": True} if copy is shutil.copytree else {}))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(sources)]
    subprocess.run(build, check=True, capture_output=True)
    shutil.rmtree(sources)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin/python"
    subprocess.run([*pip, f"--python={python}", "install", "--no-deps", *map(str, wheels.iterdir())], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    # What the wheel depends on is where these tests have it; an editable install there is not followed from here.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    empty.mkdir()
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}

    def call(program, *arguments, ok=True):
        command = [str(environment / "bin" / program), *map(str, arguments)]
        done = subprocess.run(command, cwd=empty, env=variables, capture_output=True, text=True, check=False)
        assert not ok or done.returncode == 0, done.stdout + done.stderr
        return done

    return call, empty


def test_the_package_and_its_commands_work_from_any_folder(installed):
    call, folder = installed
    checked = "check('stacking_gru_cell', 'stacking_gru', timing_seconds=0, capabilities=False)"
    code = f"import rnn_parity; print(rnn_parity.__file__, rnn_parity.{checked}.equivalent)"
    where, equivalent = call("python", "-c", code).stdout.split()
    assert "installed" in where
    assert equivalent == "True"
    quick = "--no-timing", "--no-life", "--no-capabilities"
    assert "stacking_gru" in call("rnn-parity", "check", "stacking_gru", *quick).stdout
    assert call("rnn-parity", "self-test", "--cases", "1", "--dtype", "float32", ok=False).returncode in (0, 1)
    for command in ("convert", "ui"):
        assert call("rnn-parity", command, "--help").stdout
    assert not list(folder.iterdir())


def test_an_experiment_is_laid_out_planned_and_run_there(installed):
    call, folder = installed
    refused = call("rnn-parity", "run", ok=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --config: holds 'config.yaml'")
    call("rnn-parity", "init", ".")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.yaml")) == [
        "config.yaml",
        "profiles/default/config.yaml",
        "profiles/slurm/config.yaml",
    ]
    assert call("rnn-parity", "init", ".", ok=False).returncode == 2
    assert jobs_run(call("rnn-parity", "run", "-n"))["timing"] == 9
    (folder / "my.yaml").write_text(yaml.safe_dump(TINY))
    done = call("rnn-parity", "run", "--config", "my.yaml", "--cores", "2")
    assert "article: 2 cases compared and timed" in done.stdout + done.stderr
    assert (folder / "reports/report.html").is_file()
    assert (folder / "mlflow.db").is_file()
    assert "Nothing to be done" in call("rnn-parity", "run", "--config", "my.yaml").stderr
