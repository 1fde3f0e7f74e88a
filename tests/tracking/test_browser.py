"""What a person sees in the MLflow UI, in a real browser: the runs, their charts, their groups and the report."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rnn_parity.report.figures import FIGURES
from rnn_parity.report.write import write_report
from rnn_parity.tracking import ensure_store, publish_report
from rnn_parity.tracking.publish import publish_job
from synthetic import PIXEL, results_of
from tracked import ENVIRONMENT, SERVE, equivalence_table, request_of, small_grid, timing_table, wait_for

pytestmark = pytest.mark.browser

HOSTILE = "smoke <script>document.title='broken in'</script>"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A study with a hostile name, published and served: the link that the UI prints."""
    folder = tmp_path_factory.mktemp("shown")
    uri = f"sqlite:///{folder}/mlflow.db"
    ensure_store(uri)
    grid = small_grid(study=HOSTILE)
    tables = equivalence_table(grid), timing_table(grid)
    for sweep in grid.config["sweeps"]:
        publish_job(uri, folder, request_of(grid, sweep), *tables, ENVIRONMENT)
    reports = folder / "reports"
    (reports / "figures").mkdir(parents=True)
    (reports / "tables").mkdir()
    for name in FIGURES:
        (reports / f"figures/{name}.svg").write_text(PIXEL)
    (reports / "tables/verdicts.csv").write_text("case,verdict\nT=1,equivalent\n")
    results = results_of(*(table.to_pandas() for table in tables))
    write_report(grid.config | {"report": grid.config["report"] | {"title": HOSTILE}}, {}, results, reports)
    publish_report(uri, folder, grid.config, {case.case_id for case in grid.cases}, reports, ENVIRONMENT)
    command = [sys.executable, "-c", SERVE, uri, str(folder), "0", HOSTILE]
    ui = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        link = ui.stdout.readline().strip()
        wait_for(link.partition("/#")[0], ui)
        yield link
    finally:
        ui.send_signal(signal.SIGINT)
        ui.communicate(timeout=60)


@pytest.fixture
def page(browser, request):
    page = browser.new_page(viewport={"width": 1500, "height": 950})
    page.timeout_ms = int(os.environ.get("T", 60000))
    page.set_default_timeout(page.timeout_ms)
    yield page
    if folder := os.environ.get("SCREENSHOTS"):
        for number, opened in enumerate(page.context.pages):
            opened.screenshot(path=Path(folder) / f"{request.node.name}-{number}.png")
    assert not any("broken in" in opened.title() for opened in page.context.pages)
    page.context.close()


def follow(page, name):
    """The page that a link of the note opens in another tab."""
    with page.expect_popup() as opened:
        page.get_by_role("link", name=name, exact=True).click()
    opened.value.set_default_timeout(page.timeout_ms)
    return opened.value


def test_the_runs_page_lists_every_case_by_its_values_and_the_report_first(page, shown):
    page.goto(shown.replace("compareRunsMode=CHART", "compareRunsMode=TABLE"))
    page.get_by_text("article T=10", exact=True).first.wait_for()
    links = page.get_by_role("link").filter(has_text=re.compile(r"^(report|(article|width) [TH]=\d+)$"))
    names = links.all_inner_texts()
    assert names[0] == "report"
    assert sorted(names[1:]) == ["article T=1", "article T=10", "article T=2", "width H=16", "width H=8"]


@pytest.mark.parametrize("section", ["speedup", "worst_error_log10"])
def test_the_link_that_the_ui_prints_opens_charts_that_are_drawn(page, shown, section):
    page.goto(shown)
    header = page.get_by_test_id("experiment-view-compare-runs-section-header")
    assert header.first.inner_text().startswith("speedup")
    header.filter(has_text=re.compile(rf"^{section} ?\(")).scroll_into_view_if_needed()
    charts = page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text=f"{section}/")
    charts.locator(".bars path").first.wait_for()
    bars = charts.first.locator(".bars path")
    assert bars.count() == 5
    assert all(box["width"] > 5 for box in (bar.bounding_box() for bar in bars.all()))


def test_a_runs_page_shows_its_params_metrics_and_tags(page, shown):
    page.goto(shown)
    page.get_by_role("link", name="article T=10", exact=True).click()
    for text in (
        "sequence_length",
        "speedup/step stacking_gru",
        "case_id",
        "article/cpu-float32-i5-h10-l3-t10-b7-p0.1-n1",
    ):
        page.get_by_text(text).first.wait_for()


def test_the_report_opens_from_the_note_with_its_pictures_and_runs_nothing(page, shown):
    outside = []
    server = shown.partition("/#")[0]
    page.context.on("request", lambda request: outside.append(request.url))
    page.goto(shown)
    report = follow(page, "The report").frame_locator("iframe").last
    picture = report.locator("figure img").first
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 0
    assert HOSTILE in report.locator("h1").inner_text()
    assert (
        "broken in" not in page.title() + report.locator("html").evaluate("page => page.ownerDocument.title || ''")[:9]
    )
    assert [url for url in outside if not url.startswith((server, "data:", "blob:", "about:"))] == []
