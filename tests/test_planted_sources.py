"""A fault planted in the sources that decide makes the fast tests of its room fail."""

import os
import shutil
import subprocess
import sys

import pytest

from project import PROJECT

pytestmark = pytest.mark.slow

CRITERION, STATISTICS = "compare/criterion.py", "statistics.py"
ROUNDS, ANSWER = "timing/rounds.py", "findings/answer.py"
TESTS = {
    CRITERION: "tests/compare/test_criterion.py",
    STATISTICS: "tests/test_statistics.py",
    ROUNDS: "tests/timing/test_rounds.py",
    ANSWER: "tests/findings/test_answer.py",
}
PLANTED = [
    (CRITERION, "FACTOR * max(sensitivity, floor)", "FACTOR * min(sensitivity, floor)"),
    (CRITERION, "if math.isfinite(error) else math.inf", "if math.isfinite(error) else 0.0"),
    (CRITERION, "if baseline_ratio > 1:", "if False:"),
    (CRITERION, "if not max(limits) <= LARGEST_LIMIT:", "if False:"),
    (CRITERION, "if ill_conditioned(sensitivities, u):", "if False:"),
    (CRITERION, "max(error_ratio(error, bar) for", "min(error_ratio(error, bar) for"),
    (STATISTICS, "speedup.low > max(1.0, control.high)", "speedup.low > 1.0"),
    (STATISTICS, "speedup.high < min(1.0, control.low)", "speedup.high < 1.0"),
    (STATISTICS, "np.sort(numerator / denominator)", "np.sort(denominator / numerator)"),
    (STATISTICS, "return bool(apart and", "return bool(not apart and"),
    (ROUNDS, "order.sample(contenders, len(contenders))", "contenders"),
    (ROUNDS, "rounds >= min_rounds and", "rounds >= min_rounds or"),
    (ROUNDS, "conclude(speedup, noise)", "conclude(noise, speedup)"),
    (ROUNDS, "if noise is None:", "if False:"),
    (ANSWER, '"yes, when" if excused or (seed and seed.differing) else "yes"', '"yes"'),
    (ANSWER, "elif held.empty or len(unjudged):", "elif held.empty:"),
    (
        ANSWER,
        '(rows["regime"] == Regime.TRAIN_SAME_SEED) & draw_dropout(rows)',
        'rows["regime"] == Regime.TRAIN_SAME_SEED',
    ),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    for name in ("src", "tests", "config", "workflow", "profiles"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "config.yaml", "Snakefile"):
        shutil.copy(PROJECT / name, folder)
    return folder


def run_tests(folder, tests):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", tests]
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("room", TESTS)
def test_without_a_fault_the_tests_pass_in_the_copy(copy, room):
    done = run_tests(copy, TESTS[room])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("room", "right", "wrong"), PLANTED)
def test_a_planted_fault_fails(copy, room, right, wrong):
    source = copy / "src/rnn_parity" / room
    before = source.read_text()
    assert before.count(right) == 1, f"{room} has not once: {right}"
    source.write_text(before.replace(right, wrong))
    try:
        done = run_tests(copy, TESTS[room])
    finally:
        source.write_text(before)
    assert done.returncode == 1, done.stdout + done.stderr
    assert " failed" in done.stdout
