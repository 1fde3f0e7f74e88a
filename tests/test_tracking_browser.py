"""What a person sees in the MLflow UI, in a real browser: the runs, their charts, their groups and the report."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rnn_parity.report import render_html
from rnn_parity.tracking import ensure_store, publish_job, publish_report
from tracked import ENVIRONMENT, SERVE, equivalence_table, request_of, small_grid, timing_table

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium")
HOSTILE = "smoke <script>document.title='broken in'</script>"
PIXEL = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20" fill="teal"/></svg>'
)
MARKDOWN = (
    f"# {HOSTILE}\n\n![A picture](figures/speedup.png)\n\n| a | b |\n|---|---|\n| <img src=x onerror=alert(1)> | 2 |\n"
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A study with a hostile name, published and served: the link that the UI prints, and the ids of its runs."""
    folder = tmp_path_factory.mktemp("shown")
    uri = f"sqlite:///{folder}/mlflow.db"
    ensure_store(uri)
    grid = small_grid(study=HOSTILE)
    tables = equivalence_table(grid), timing_table(grid)
    ids = {}
    for sweep in grid.config["sweeps"]:
        ids |= publish_job(uri, request_of(grid, sweep), *tables, ENVIRONMENT).run_ids
    reports = folder / "reports"
    (reports / "figures").mkdir(parents=True)
    (reports / "tables").mkdir()
    (reports / "figures/speedup.svg").write_text(PIXEL)
    (reports / "tables/verdicts.csv").write_text("case,verdict\nT=1,equivalent\n")
    (reports / "report.html").write_text(render_html(HOSTILE, MARKDOWN, reports / "figures"))
    ids |= publish_report(uri, grid.config, {case.case_id for case in grid.cases}, reports, ENVIRONMENT).run_ids
    command = [sys.executable, "-c", SERVE, uri, str(folder), "0", HOSTILE]
    ui = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield ui.stdout.readline().strip(), ids
    finally:
        ui.send_signal(signal.SIGINT)
        ui.communicate(timeout=60)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-quic", "--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, request):
    page = browser.new_page(viewport={"width": 1500, "height": 950})
    page.set_default_timeout(60_000)
    yield page
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{request.node.name}.png")
    assert "broken in" not in page.title()
    page.close()


def test_the_runs_page_lists_every_case_by_its_values_and_the_report_first(page, shown):
    page.goto(shown[0].replace("compareRunsMode=CHART", "compareRunsMode=TABLE"))
    page.get_by_text("article T=10", exact=True).first.wait_for()
    names = (
        page.get_by_role("link").filter(has_text=re.compile(r"^(report|(article|width) [TH]=\d+)$")).all_inner_texts()
    )
    assert names[0] == "report"
    assert sorted(names[1:]) == ["article T=1", "article T=10", "article T=2", "width H=16", "width H=8"]
