"""A server that refuses is told from one that is gone, and both from the proxy on the way."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from project import SMOKE
from rnn_parity.experiment.grid import make_grid
from rnn_parity.experiment.results import Results
from rnn_parity.tracking import TrackingUnavailable, publish_report
from rnn_parity.tracking.publish import publish_job
from tracked import ENVIRONMENT, equivalence_table, request_of, small_grid, timing_table

SECRET = "pa55word"


@contextmanager
def answering(status, body=""):
    """A server with one answer to everything; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def unavailable(uri):
    grid = small_grid()
    tables = equivalence_table(grid), timing_table(grid)
    with pytest.raises(TrackingUnavailable) as caught:
        publish_job(uri, Path(), request_of(grid, "article"), *tables, ENVIRONMENT)
    said = str(caught.value)
    assert SECRET not in said
    assert "\n" not in said
    return said


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            401,
            "You are not authenticated.",
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are missing or wrong",
        ),
        (403, "Permission denied", "refuses: this user may not write there"),
        (403, json.dumps({"error_code": "PERMISSION_DENIED", "message": "no"}), "refuses: this user may not"),
        (407, "", "is behind a proxy that asks for a password"),
        (500, "", "answers with an error (HTTP 500, INTERNAL_ERROR)"),
        (404, "<html>", "answers with an error (HTTP 404"),
    ],
)
def test_a_refusal_is_named_for_what_it_is(status, body, said):
    with answering(status, body) as port:
        shown = unavailable(f"http://me:{SECRET}@127.0.0.1:{port}")
    assert shown.startswith(f"http://***@127.0.0.1:{port} ")
    assert said in shown
    assert "proxy http" not in shown


@pytest.mark.parametrize("status", [None, 502])
def test_a_proxy_on_the_way_is_named(monkeypatch, status):
    with answering(status or 200) as port:
        proxy = port if status else 9
        monkeypatch.setenv("http_proxy", f"http://me:{SECRET}@127.0.0.1:{proxy}")
        shown = unavailable("http://mlflow.invalid:5000")
    assert shown.endswith(f", through the proxy http://***@127.0.0.1:{proxy}; no_proxy=mlflow.invalid bypasses it")
    monkeypatch.setenv("no_proxy", "mlflow.invalid")
    assert "proxy" not in unavailable("http://mlflow.invalid:5000")


def test_a_store_that_takes_runs_and_no_files_is_told_apart(uri, tmp_path):
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=uri).create_experiment("smoke", artifact_location="/proc/none")
    grid, reports = small_grid(), tmp_path / "reports"
    reports.mkdir()
    (reports / "report.html").write_text("<p>the report</p>")
    with pytest.raises(TrackingUnavailable, match="answers, but its artifact store cannot be written from here"):
        publish_report(uri, tmp_path, grid.config, [], reports, ENVIRONMENT)


def test_what_no_server_took_is_counted_with_the_reason(tmp_path):
    grid, results = make_grid(SMOKE), Results(tmp_path)
    assert results.not_published(grid) == ""
    for job in grid.jobs:
        marker = results.published(job.sweep, job.name)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(json.dumps({"published": False, "reason": "it is gone"}))
    assert results.not_published(grid) == "5 of 5 runs not published: it is gone; `snakemake publish` tries again"
    marker.write_text(json.dumps({"published": True}))
    left = 5 - len(grid.jobs[-1].cases)
    assert results.not_published(grid).startswith(f"{left} of 5 runs not published")
    for job in grid.jobs:
        results.published(job.sweep, job.name).unlink()
    results.published_report.write_text(json.dumps({"published": False, "reason": "no files"}))
    assert results.not_published(grid, with_report=False) == ""
    assert results.not_published(grid) == "the report was not published: no files; `snakemake publish` tries again"
