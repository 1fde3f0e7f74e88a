"""An address of a wrong form is refused before anything is measured, with the one that was probably meant."""

import subprocess
import sys

import pytest

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.tracking_uri import resolve_uri

SECRET = "pa55word"


def refusal(uri, folder):
    with pytest.raises(InputError) as refused:
        resolve_uri(uri, folder)
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("uri", "meant"),
    [
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1:5000/mlflow", "http://127.0.0.1:5000/mlflow"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("mlflow.example.org", "http://mlflow.example.org"),
        ("htp://host:5000", "http://host:5000"),
        ("HTTPS://host", "https://host"),
        ("http:/host:5000", "http://host:5000"),
        ("http//host", "http://host"),
        (" http://host", "http://host"),
        ("http://host\n", "http://host"),
        ("sqlite:/runs.db", "sqlite:///runs.db"),
        ("runs/mlflow.db", "sqlite:///runs/mlflow.db"),
        (f"me:{SECRET}@host:5000", "http://***@host:5000"),
        (f"postgres://me:{SECRET}@host/runs", "postgresql://***@host/runs"),
    ],
)
def test_a_wrong_form_is_refused_with_what_was_probably_meant(tmp_path, uri, meant):
    assert refusal(uri, tmp_path).endswith(f", expected a URL: {meant!r}?")


@pytest.mark.parametrize(
    "uri", ["http://", "http://host:port", "http://host:99999", "http://[::1", "http://a b", "mlruns", "s3://x", "x"]
)
def test_where_nothing_is_likely_the_forms_are_named(tmp_path, uri):
    assert refusal(uri, tmp_path).endswith(", expected sqlite:///PATH or http(s)://HOST:PORT")


@pytest.mark.parametrize(
    "uri",
    ["http://host", "https://me:pw@host/a?b=c", "http://[::1]:5000", "databricks", "postgresql+psycopg://me@host/runs"],
)
def test_what_can_be_tried_is_taken_as_it_is(tmp_path, uri):
    assert resolve_uri(uri, tmp_path) == uri


def test_a_database_without_its_driver_or_of_no_known_kind_is_refused(tmp_path):
    missing = refusal(f"mysql+aiomysql://me:{SECRET}@host/runs", tmp_path)
    assert "whose driver is missing (No module named 'aiomysql'); expected one that is installed" in missing
    assert "which SQLAlchemy does not know (NoSuchModuleError)" in refusal("postgresql+nope://host/runs", tmp_path)


def test_reading_an_address_imports_nothing_heavy(tmp_path):
    code = "import sys; from rnn_parity.experiment.tracking_uri import resolve_uri; from pathlib import Path\n"
    code += "resolve_uri('http://host', Path()); print({'mlflow', 'sqlalchemy', 'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
