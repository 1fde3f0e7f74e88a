"""A fault planted in the rounds makes their tests fail: they run too long for `make mutants`."""

import os
import shutil
import subprocess
import sys

import pytest

from project import PROJECT

pytestmark = pytest.mark.slow

SOURCE, TESTS = "src/rnn_parity/timing/rounds.py", "tests/timing/test_rounds.py"
PLANTED = [
    ("order.sample(contenders, len(contenders))", "contenders"),
    ("rounds >= min_rounds and", "rounds >= min_rounds or"),
    ("conclude(speedup, noise)", "conclude(noise, speedup)"),
    ("if noise is None:", "if False:"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    for name in ("src", "tests", "config", "workflow", "profiles"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "config.yaml", "Snakefile"):
        shutil.copy(PROJECT / name, folder)
    return folder


def run_tests(folder):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", TESTS]
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)


def test_without_a_fault_the_tests_pass_in_the_copy(copy):
    done = run_tests(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("right", "wrong"), PLANTED)
def test_a_planted_fault_fails(copy, right, wrong):
    source = copy / SOURCE
    before = source.read_text()
    assert before.count(right) == 1, f"{SOURCE} has not once: {right}"
    source.write_text(before.replace(right, wrong))
    try:
        done = run_tests(copy)
    finally:
        source.write_text(before)
    assert done.returncode == 1, done.stdout + done.stderr
    assert " failed" in done.stdout
