"""The page in a real browser: usable by keyboard and screen reader, on a phone and on paper, without any network."""

import pandas as pd
import pytest
import yaml

from conftest import PROJECT
from rnn_parity.experiment.grid import make_grid
from rnn_parity.report.figures import FIGURES
from rnn_parity.report.write import write_report
from synthetic import PIXEL, capability_rows, equivalence_rows, finding_rows, results_of, timing_rows

pytestmark = pytest.mark.browser

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())

WIDE = '<svg xmlns="http://www.w3.org/2000/svg" width="672px" height="300px"/>'


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page with every section."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "figures").mkdir()
    for name in FIGURES:
        (folder / f"figures/{name}.svg").write_text(PIXEL)
    (folder / "figures/overview.svg").write_text(WIDE)
    grid = make_grid(SMOKE | {"candidates": ["stacking_gru", "torch.nn:GRU"]})
    equivalence = pd.DataFrame(equivalence_rows(grid, wrong="torch.nn:GRU"))
    for case, ratio in zip(grid.cases, (0.12, 0.9, 9.5, 12.0, 100.0), strict=True):
        own = (equivalence["case_id"] == case.case_id) & (equivalence["implementation"] == "stacking_gru")
        equivalence.loc[own, "ratio"] = ratio
    names = [grid.config["baseline"], *grid.config["candidates"]]
    trust = {"self_test": finding_rows(grid.cases), "coverage": finding_rows(grid.cases)}
    results = results_of(equivalence, pd.DataFrame(timing_rows(grid)), capabilities=capability_rows(names), **trust)
    write_report(grid.config, {}, results, folder)
    return folder / "report.html"


@pytest.fixture
def page(browser, path):
    """The page, wide and light; it fails at the end if the page asked for anything or its script complained."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url) if not request.url.startswith("data:") else None)
    page.goto(path.as_uri())
    yield page
    assert heard == [path.as_uri()]
    page.close()


def first_cells(page, column):
    return page.eval_on_selector_all(
        "#cases tbody tr:not([hidden])", f"rows => rows.map(row => row.cells[{column}].textContent.trim())"
    )


def column_of(page, heading):
    return [text.strip() for text in page.locator("#cases thead th").all_text_contents()].index(heading)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_stands_in_the_way_of_a_screen_reader(page, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_the_page_is_no_wider_than_a_phone(page):
    page.set_viewport_size({"width": 400, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_cases_are_sorted_by_number_not_by_letter_and_from_the_keyboard(page):
    column = column_of(page, "H")
    page.locator("#cases thead th").nth(column).locator("button").focus()
    page.keyboard.press("Enter")
    up = [int(text) for text in first_cells(page, column)]
    assert up == [8, 8, *[10] * 6, 16, 16]
    page.keyboard.press("Enter")
    assert [int(text) for text in first_cells(page, column)] == up[::-1]
    assert page.locator("#cases thead th").nth(column).get_attribute("aria-sort") == "descending"
    page.locator("#cases thead th button", has_text="error / limit").click()
    column = column_of(page, "error / limit")
    keys = page.eval_on_selector_all("#cases tbody tr", f"rows => rows.map(row => row.cells[{column}].dataset.key)")
    assert keys == sorted(keys, key=float) != sorted(keys)  # 9.5 before 12, as letters do not have it


@pytest.mark.parametrize(
    "ordered",
    [
        ["3.1 × 10⁻⁷", "0.02", "17", "4 × 10⁵", "1,200,000", "∞", "–"],
        ["9.71 µs", "634 µs (30 %)", "3.15 ms (10.9 ms)", "27.5 ms", "1.20 s", "40.0 s"],
        ["900 B", "2 kB", "1.5 MB", "1 GB", "8 TFLOP/s in a product", "–"],
        ["0.93× to 1.63×", "2 seeds", "10 m", "11 of 12"],
    ],
)
def test_a_number_is_sorted_with_its_power_of_ten_and_its_unit(page, ordered):
    table = page.locator("#cases")
    shuffled = [*ordered[1::2], *ordered[::2]]
    table.locator("tbody tr").evaluate_all(f"rows => rows.slice({len(ordered)}).forEach(row => row.remove())")
    table.locator("tbody tr").evaluate_all(
        "(rows, texts) => rows.forEach((row, at) => row.cells[1].replaceWith("
        "Object.assign(document.createElement('td'), { textContent: texts[at] })))",
        shuffled,
    )
    table.locator("thead th button").nth(1).click()
    assert first_cells(page, 1) == ordered


def test_cases_are_filtered_by_words_and_by_choice(page):
    from playwright.sync_api import expect

    status = page.locator("#cases-filter [role=status]")
    assert status.text_content() == "10 of 10 rows"
    page.locator("[data-filter=verdict]").select_option("different")
    assert status.text_content() == "5 of 10 rows"
    assert set(first_cells(page, column_of(page, "candidate"))) == {"torch.nn:GRU"}
    page.locator("#cases-filter [data-filter=text]").fill("width h16")
    assert status.text_content() == "1 of 10 rows"
    page.get_by_role("button", name="Show all").click()
    expect(status).to_have_text("10 of 10 rows")  # a script that waited in the page, its policy would refuse


def test_every_other_table_is_sorted_too_and_a_long_one_filtered(page):
    table = page.locator("table", has_text="largest error / limit").first
    counts = "rows => rows.map(row => row.cells[2].textContent)"
    table.locator("th button", has_text="cases").click()
    found = [int(text) for text in table.locator("tbody tr").evaluate_all(counts)]
    assert found == sorted(found)
    table.locator("th button", has_text="largest error / limit").click()
    errors = table.locator("tbody tr").evaluate_all("rows => rows.map(row => row.cells[4].textContent)")
    numbers = [float(text.split(" (")[0].replace(" × 10⁵", "e5").split()[0]) for text in errors]
    assert numbers == sorted(numbers)
    assert errors != sorted(errors)  # 9.5 before 12, and 0.12 before 0.9
    fold = page.locator("main details", has_text="Every planted fault").first
    fold.locator("summary").click()
    fold.locator("input[type=search]").fill("h0 ignored")
    assert fold.locator("tbody tr:not([hidden])").count() == 1


def test_the_picture_is_on_the_first_screen_below_the_answer(page):
    card, picture = (page.locator(name).first.bounding_box() for name in (".card", "button.zoom"))
    assert card["y"] + card["height"] < picture["y"] < 900
    assert page.locator(".card").first.get_attribute("class") == "card yes"


def test_a_figure_is_enlarged_and_closed_from_the_keyboard(page):
    first = page.locator("button.zoom").first
    first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#enlarged").is_visible()
    assert page.locator("#enlarged img").get_attribute("alt") == FIGURES["overview"].title
    page.get_by_role("button", name="Twice the size").click()
    assert page.locator("#enlarged img.large").count() == 1
    page.keyboard.press("Escape")
    assert not page.locator("#enlarged").is_visible()
    assert page.evaluate("document.activeElement.className") == "zoom"


def test_on_a_phone_an_enlarged_figure_is_at_least_of_its_own_width_and_scrolls(page):
    page.set_viewport_size({"width": 400, "height": 800})
    page.locator("button.zoom").first.click()
    enlarged = page.locator("#enlarged img")
    assert enlarged.evaluate("image => image.naturalWidth") == 672
    width = enlarged.bounding_box()["width"]
    assert width >= 672
    assert page.locator("#enlarged div").evaluate("box => box.scrollWidth > box.clientWidth")
    page.get_by_role("button", name="Twice the size").click()
    assert enlarged.bounding_box()["width"] == pytest.approx(2 * width, abs=2)


def test_it_prints_without_what_only_a_screen_needs(page, tmp_path):
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not any(form.is_visible() for form in page.locator("form.filters").all())
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.set_viewport_size({"width": 750, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 750


def test_without_script_the_page_is_whole(browser, path):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(path.as_uri())
    assert page.locator("#cases tbody tr").count() == 10
    assert not page.locator("form.filters").is_visible()
    fold = page.locator("main details").first
    assert not fold.locator("p").first.is_visible()
    fold.locator("summary").click()
    assert fold.locator("p").first.is_visible()
    page.close()
