"""Shapes in the signatures are checked at run time in every test."""

import os
import shutil
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

PROJECT = Path(__file__).parents[1]

install_import_hook(["rnn_parity", "rnn_parity_t2vec"], "beartype.beartype")


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
