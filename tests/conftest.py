"""Fixtures of every room. The shapes in the signatures of the rooms that judge are checked as the tests run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import settings

from fake_cudnn import cudnn as cudnn
from project import PROJECT as PROJECT  # for tests that say `from conftest import PROJECT`
from rnn_parity.experiment.devices import find_cuda

check_shapes = jaxtyping.jaxtyped


def check_shapes_where_stated(typechecker):
    """Check only what states shapes: to wrap every function took half of the time of the tests that compute."""

    def decorate(of):
        stated = any("[Tensor, '" in str(annotation) for annotation in getattr(of, "__annotations__", {}).values())
        return check_shapes(of, typechecker=typechecker) if stated else of

    return decorate


jaxtyping.jaxtyped = check_shapes_where_stated  # the hook decorates everything with it
jaxtyping.install_import_hook(["rnn_parity.cells", "rnn_parity.dropout", "rnn_parity.compare"], "beartype.beartype")
SHARE_A_RUN = {"test_finished.py", "test_misbehaving.py", "test_decoder_workflow.py", "test_server.py"}
FIRST = [("workflow", "server"), ("contained",)]
torch.set_num_threads(1)  # the tensors are small, and two processes of tests share the cores
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each process whole files, and one of them those that share a finished run: what takes long is made once."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return "the finished run" if Path(file).name in SHARE_A_RUN else file

    return ByFile(config, log)


def pytest_collection_modifyitems(items):
    """Run what takes longest first, then what cannot run once threads of torch are used; skip what needs a GPU."""

    def turn(item):
        return next((k for k, marks in enumerate(FIRST) if any(map(item.get_closest_marker, marks))), len(FIRST))

    items.sort(key=turn)
    on_gpu = [item for item in items if item.get_closest_marker("cuda")]
    if on_gpu and find_cuda().major is None:
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason=f"never run here: {find_cuda().why}"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test that needs layers in processes of their own in a new one, where this one has used threads of torch."""
    from rnn_parity.layers.containment import can_contain

    if not pyfuncitem.get_closest_marker("contained") or "NEW_PROCESS" in os.environ or can_contain():
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", pyfuncitem.nodeid]
    done = subprocess.run(
        run, cwd=pyfuncitem.config.rootpath, env=environment | {"NEW_PROCESS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return True


def missing(what):
    """Skip a test for what this machine lacks; fail it where every test has to run."""
    (pytest.fail if os.environ.get("EVERY_TEST") else pytest.skip)(f"{what} is not installed")


@pytest.fixture(scope="session")
def new_store(tmp_path_factory) -> Path:
    """An empty tracking store: making one takes seconds, copying it does not."""
    from rnn_parity.tracking import ensure_store

    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    ensure_store(f"sqlite:///{database}")
    return database


@pytest.fixture
def store(new_store, tmp_path) -> Path:
    """The database of an embedded tracking store of the test's own."""
    return Path(shutil.copy(new_store, tmp_path))


@pytest.fixture
def uri(store):
    return f"sqlite:///{store}"


@pytest.fixture(scope="session")
def browser():
    """A real Chromium without a window."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        missing("Chromium")
    from playwright.sync_api import sync_playwright

    arguments = ["--disable-gpu", "--disable-quic", "--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A copy of the project in which `pipeline.RUN` is done. To be read; `finished_copy` is for changes."""
    from pipeline import RUN, snakemake, write_config, write_trajectories
    from project import copy_project

    folder = copy_project(tmp_path_factory.mktemp("finished"))
    write_trajectories(folder)
    done = snakemake(folder, config=write_config(folder, RUN, "own.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "run.log").write_text(done.stdout + done.stderr)
    return folder


@pytest.fixture
def finished_copy(finished, tmp_path) -> Path:
    """The same in a folder of its own."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))
