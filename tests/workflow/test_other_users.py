"""Other users, folders, languages and profiles: the real pipeline gives the same rows, and writes where it may.

Whatever it was told of cores, no timing runs beside another.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv

import pandas as pd
import pytest

from pipeline import SMOKE, TINY, jobs_run, runs, snakemake, write_config
from project import PROJECT, copy_project
from rnn_parity.experiment.grid import make_grid

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

ROWS = "results/equivalence.parquet"
GRID = {**TINY, "sweeps": SMOKE["sweeps"]}
"""The cases of the smoke run."""
OWNER, OTHER, GROUP = 64001, 64002, 64000
AS_USER = ["--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
"""Whoever runs the tests may read where no other user can, as in a home folder; writing is as for any user."""


def run_as(user, folder, *arguments, umask=0o022, **environment):
    """Run Snakemake as a user of the group, in a folder, with the Snakefile and the config of the checkout."""
    command = ["setpriv", f"--reuid={user}", f"--regid={GROUP}", *AS_USER, sys.executable, "-m", "snakemake"]
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        [*command, *arguments, "--cores", "2"], cwd=folder, capture_output=True, text=True, check=False, umask=umask,
        env=inherited | {"XDG_CACHE_HOME": str(folder.parent / f"cache-{user}"), "HOME": "/nonexistent"} | environment,
    )  # fmt: skip


needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becoming another user needs root and setpriv"
)


def home_of(folder, *users):
    """A folder of the group, and places for what Snakemake caches."""
    folder.mkdir(parents=True)
    for user in users:
        (folder.parent / f"cache-{user}").mkdir(exist_ok=True)
        os.chown(folder.parent / f"cache-{user}", user, GROUP)
    os.chown(folder, users[0], GROUP)
    folder.chmod(0o2775)
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the project that nobody may write to."""
    folder = copy_project(tmp_path_factory.mktemp("checkout"))
    write_config(folder, GRID, "own.yaml")
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
    return folder


def from_checkout(checkout):
    return ["-s", str(checkout / "Snakefile"), "--configfile", str(checkout / "own.yaml")]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A copy of the project in which the grid has been run."""
    folder = copy_project(tmp_path_factory.mktemp("plain"))
    done = snakemake(folder, ROWS, config=write_config(folder, GRID))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def rows(plain):
    """What that gave."""
    return pd.read_parquet(plain / ROWS)


@needs_root
def test_another_user_runs_a_checkout_that_cannot_be_written_in_a_folder_of_their_own(tmp_path, checkout, rows):
    before = {path: path.stat().st_mtime_ns for path in checkout.rglob("*")}
    out = home_of(tmp_path / "Ergebnisse für später", OTHER)
    done = run_as(OTHER, out, *from_checkout(checkout))
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(pd.read_parquet(out / ROWS), rows)
    assert set(runs(out)["status"]) == {"FINISHED"}
    assert {path.stat().st_uid for path in out.rglob("*")} == {OTHER}
    assert {path: path.stat().st_mtime_ns for path in checkout.rglob("*")} == before


@needs_root
@pytest.mark.parametrize(("umask", "code"), [(0o002, 0), (0o022, 2)])
def test_a_second_person_in_the_folder_goes_on_where_the_first_one_lets_the_group_write(
    tmp_path, checkout, rows, umask, code
):
    shared = home_of(tmp_path / "shared", OWNER, OTHER)
    first = run_as(OWNER, shared, ROWS, *from_checkout(checkout), umask=umask)
    assert first.returncode == 0, first.stderr
    pd.testing.assert_frame_equal(pd.read_parquet(shared / ROWS), rows)
    second = run_as(OTHER, shared, "publish", *from_checkout(checkout), umask=umask)
    assert second.returncode == code, second.stderr
    assert "Traceback" not in second.stderr
    if code:
        (told,) = [line for line in second.stderr.splitlines() if line.startswith("error: ")]
        assert (
            f"cannot be written (Permission denied); only user {OWNER} may; to share a folder in a group, use umask"
            in told
        )
    else:
        assert set(runs(shared)["status"]) == {"FINISHED"}


PROFILE = "cores: 1\nmax-threads: 1\n"


@pytest.mark.parametrize(
    ("name", "arguments", "environment"),
    [
        ("ascii", [], {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONOPTIMIZE": "2"}),
        ("ein Ördner", [], {"HOME": "/nonexistent", "http_proxy": "http://127.0.0.1:9", "PYTHONUTF8": "0"}),
        ("profile", ["--profile", "mine"], {"TORCHDYNAMO_DISABLE": "1", "MPLBACKEND": "nowhere"}),
    ],
)
def test_the_rows_are_the_same_in_other_surroundings(tmp_path, checkout, rows, name, arguments, environment):
    folder = tmp_path / name
    (folder / "mine").mkdir(parents=True)
    (folder / "mine/config.yaml").write_text(PROFILE)
    (tmp_path / "cache").mkdir()
    done = snakemake(
        folder, ROWS, "-s", str(checkout / "Snakefile"), *arguments,
        config=checkout / "own.yaml", XDG_CACHE_HOME=str(tmp_path / "cache"), **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(pd.read_parquet(folder / ROWS), rows)


@needs_root
def test_who_may_only_read_a_run_reads_it(tmp_path, plain):
    """And changes nothing there; the report goes where the reader may write."""
    home_of(tmp_path / "reader", OTHER)
    cache = str(tmp_path / f"cache-{OTHER}")
    before = {path: path.stat().st_mtime_ns for path in plain.rglob("*")}
    for reading in (["--summary"], ["--dag"], ["--list-changes", "code"], ["--report", tmp_path / "reader/run.zip"]):
        done = run_as(OTHER, plain, ROWS, *map(str, reading), "--configfile", "other.yaml", XDG_CACHE_HOME=cache)
        assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in plain.rglob("*")} == before


TIMED = {
    **TINY,
    "candidates": ["own_layer:Stamped"],
    "timing": {**TINY["timing"], "max_seconds": 0.5},
    "sweeps": {"mine": {"hidden_size": [8, 9], "sequence_length": 1, "regimes": ["eval"]}},
}


@pytest.mark.parametrize(
    "arguments",
    [["--set-threads", "timing=1"], ["--max-threads", "1"], ["--profile", "mine"]],
    ids=lambda given: given[0],
)
def test_no_timing_runs_beside_another_whatever_was_asked_for(tmp_path, arguments):
    """The evidence is what the layer writes down of its calls, not what a row says of itself."""
    folder = copy_project(tmp_path)
    (folder / "mine").mkdir()
    (folder / "mine/config.yaml").write_text("cores: 2\nmax-threads: 1\n")
    shutil.copy2(PROJECT / "tests/faults.py", folder / "own_layer.py")
    tables = [f"results/timing/mine/{job.name}.parquet" for job in make_grid(TIMED).jobs]
    done = snakemake(folder, *tables, *arguments, config=write_config(folder, TIMED))
    assert done.returncode == 0, done.stderr
    waited = [log for log in (folder / "logs/timing/mine").iterdir() if "waits until other" in log.read_text()]
    assert waited  # they were started side by side
    calls = pd.read_csv(folder / "calls.csv", names=["process", "at"]).groupby("process")["at"].agg(["min", "max"])
    validation, first, second = calls.sort_values("min").itertuples()
    assert validation.max < first.min
    assert first.max < second.min
    assert pd.concat(map(pd.read_parquet, (folder / name for name in tables)))["exclusive"].all()


def test_an_environment_moves_with_its_folder(tmp_path):
    """Its programs name the place where it was made; the commands of the Makefile do not start them."""
    folder = copy_project(tmp_path / "before")
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy2(PROJECT / name, folder)
    venv.create(folder / ".venv")
    (site,) = folder.glob(".venv/lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / ".venv/installed").touch()
    moved = folder.rename(tmp_path / "after")
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    planned = subprocess.run(
        ["make", "run", f"CORES=1 --dry-run --configfile {write_config(moved, TINY)}"],
        cwd=moved, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert planned.returncode == 0, planned.stderr
    assert jobs_run(planned)["timing"] == 1
