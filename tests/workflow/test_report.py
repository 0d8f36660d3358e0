"""The report in a real browser: as it is opened from the file system, without a network."""

import shutil
from pathlib import Path

import pytest

from tests.chromium import LAPTOP, OVERFLOW, PHONE
from tests.workflow.held import LIMIT

pytestmark = pytest.mark.pipeline

BROKEN_IMAGES = """[...document.querySelectorAll('figure img')].filter(
  i => !i.complete || i.naturalWidth === 0).length"""
# Text that is cut off by the edge of the page, outside of what scrolls on its own.
OUTSIDE = """[...document.querySelectorAll('h1, h2, p, td, figcaption, pre, li')].filter(e =>
  e.getBoundingClientRect().width > 0 && (e.getBoundingClientRect().right > innerWidth + 1
  || e.getBoundingClientRect().left < -1)).map(e => e.textContent.slice(0, 40))"""


@pytest.fixture
def opened(finished, browser, tmp_path):
    """A function that opens the report; afterwards it must have said nothing, and asked for nothing."""
    folder, _ = finished
    # Moved away from everything that it could secretly need.
    alone = shutil.copy(folder / "results/report.html", tmp_path / "report.html")
    messages: list[str] = []
    asked: list[str] = []
    pages = []

    def open_page(size=LAPTOP, **options):
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, **options)
        pages.append(page)
        page.set_default_timeout(1000 * LIMIT)  # milliseconds
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(Path(alone).as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()
    assert messages == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def shown(page) -> list[str]:
    """The names of the rows that can be seen, from top to bottom."""
    return page.evaluate(
        "[...document.querySelectorAll('#ledger tr[id]')].filter(r => r.offsetHeight).map(r => r.id)"
    )


def numbers(page, key: str) -> list[str]:
    return page.evaluate(
        "key => [...document.querySelectorAll('#ledger tr[id]')].map(r => r.dataset[key])", key
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_the_report_is_whole_and_readable(opened, size, scheme):
    page = opened(size, color_scheme=scheme)
    page.locator("#unfold").click()
    assert page.locator("figure img").count() == 4
    assert page.evaluate(BROKEN_IMAGES) == 0
    assert page.evaluate(OVERFLOW) == 0
    assert page.evaluate(OUTSIDE) == []
    assert len(page.screenshot(full_page=True)) > 10_000
    ground = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (min(ground) > 200) == (scheme == "light")
    # The claims come first, each with its verdict; a link in a caption leads to its row.
    assert page.locator("h2").first.text_content() == "Claims"
    assert page.locator("td .verdict").count() == page.locator("tr[id]").count() > 10
    assert page.locator("tr[id]").first.get_attribute("data-origin") == "paper"
    page.locator("figcaption a").first.click()
    assert page.locator("tr:target").count() == 1


def test_the_ledger_is_filtered(opened):
    page = opened()
    # The claims of the paper come first, the others are folded.
    papers = numbers(page, "origin").count("paper")
    assert len(shown(page)) == papers
    page.get_by_role("button", name="Show them").click()
    rows = shown(page)
    assert len(rows) == page.locator("tr[id]").count() > papers
    page.select_option("[name=family]", "C2")
    assert shown(page) == [name for name in rows if name.split(".")[0] == "C2"]
    assert page.locator("output").text_content() == f"{len(shown(page))} of {len(rows)} rows"
    assert page.locator("tr.group:visible").count() <= 2
    page.select_option("[name=origin]", "paper")
    assert shown(page) == ["C2"]
    page.get_by_role("button", name="Show all").click()
    assert shown(page) == rows
    page.select_option("[name=experiment]", "boundary")
    kept = set(shown(page))
    assert set() < kept < set(rows)
    page.get_by_role("button", name="Show all").click()
    page.fill("[name=text]", "HESSIAN closed form")
    assert "C1.sharpness" in shown(page)
    page.fill("[name=text]", "no such word")
    assert shown(page) == []
    assert page.locator("tr.section:visible").count() == 0
    # A link to a row that is filtered out brings it back.
    page.locator("figcaption a").first.click()
    page.wait_for_function("document.querySelector('tr:target')?.offsetHeight > 0")


@pytest.mark.parametrize("key", ["used", "n", "problems", "verdict"])
def test_the_ledger_is_sorted(opened, key):
    page = opened()
    page.get_by_role("button", name="Show all").click()
    rows = shown(page)
    button = page.locator(f"th[data-sort={key}] button")
    for sign in (-1, 1):
        button.focus()
        page.keyboard.press("Enter")
        found = numbers(page, key)
        known = [sign * float(number) for number in found if number]
        assert known == sorted(known)
        assert not any(found[len(known) :])  # without a number, at the end
        assert sorted(shown(page)) == sorted(rows)
        direction = "descending" if sign < 0 else "ascending"
        assert page.locator(f"th[aria-sort={direction}]").count() == 1
    assert page.locator("tr.group:visible").count() == 0
    page.locator("th[data-sort=order] button").click()
    assert shown(page) == rows
    assert page.locator("tr.group:visible").count() > 0


def test_a_row_unfolds_its_sample(opened):
    page = opened()
    details = page.locator("tr[id] details").first
    assert not details.locator("svg.strip").is_visible()
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    plot = details.locator("svg.strip")
    assert plot.is_visible()
    for name in ("measured", "control"):
        box = plot.locator(f".{name} path").bounding_box()
        assert box["width"] > 0 or box["height"] > 0
        assert plot.bounding_box()["x"] <= box["x"]


def test_figures_are_enlarged(opened):
    page = opened()
    image = page.locator("figure img").nth(1)
    width = image.bounding_box()["width"]
    page.locator(".frame button").nth(1).focus()
    page.keyboard.press("Enter")
    large = page.locator("dialog img")
    assert large.get_attribute("src") == image.get_attribute("src")
    large.click()
    assert large.bounding_box()["width"] > width
    large.click()
    page.keyboard.press("ArrowRight")
    assert large.get_attribute("src") == page.locator("figure img").nth(2).get_attribute("src")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    # Whoever uses the keyboard is where they were.
    page.wait_for_function("document.activeElement.matches('#figures ~ figure button')")


def test_on_paper_every_row_and_figure_is_there_and_no_control(opened):
    page = opened(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    rows = shown(page)
    assert len(rows) == page.locator("tr[id]").count()
    page.emulate_media(media="screen", color_scheme="dark")
    page.fill("[name=text]", "no such word")
    page.locator("th[data-sort=n] button").click()
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 680, "height": 1000})  # A4 between its margins
    assert sorted(shown(page)) == sorted(rows)
    for hidden in ("nav", ".controls", "#unfold", "dialog"):
        assert page.locator(hidden).is_hidden()
    assert page.locator("figure img:visible").count() == 4
    assert page.evaluate(OVERFLOW) == 0
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4")[:5] == b"%PDF-"


def test_without_scripts_everything_is_shown(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("tr[id]:visible").count() == page.locator("tr[id]").count() > 10
    assert page.locator(".controls").is_hidden()
    assert page.locator("dialog").is_hidden()
    page.locator("summary").first.click()
    assert page.locator("svg.strip").first.is_visible()


def test_the_report_says_where_its_numbers_come_from(finished):
    folder, _ = finished
    report = folder / "results/report.html"
    text = report.read_text().replace("<wbr>", "")
    assert report.stat().st_size < 10e6
    assert "results/sharpness/{boundary,matrix,scalar}.parquet" in text  # of a row of the ledger
    assert "results/landscape/scalar.safetensors" in text  # of a figure
    for said in ("evaluate_sharpness", "generate_minimizers", "simulate_escape", "Python", "cores"):
        assert said in text
    assert "experiments: [scalar, matrix, digits, boundary]" in text
