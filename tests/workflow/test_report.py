"""The report in a real browser: as it is opened from the file system, without a network."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.held import LIMIT

pytestmark = pytest.mark.pipeline

api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LAPTOP, PHONE = (1366, 768), (390, 844)
BROKEN_IMAGES = "[...document.images].filter(i => !i.complete || i.naturalWidth === 0).length"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Text that is cut off by the edge of the page, outside of what scrolls on its own.
OUTSIDE = """[...document.querySelectorAll('h1, h2, p, td, figcaption, pre, li')].filter(e =>
  e.getBoundingClientRect().width > 0 && (e.getBoundingClientRect().right > innerWidth + 1
  || e.getBoundingClientRect().left < -1)).map(e => e.textContent.slice(0, 40))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        # Without its sandbox, which root cannot have; it opens nothing but our own file.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=1000 * LIMIT
        )
        yield browser
        browser.close()


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_the_report_is_whole_and_readable(finished, browser, size, tmp_path):
    folder, _ = finished
    # Moved away from everything that it could secretly need.
    alone = shutil.copy(folder / "results/report.html", tmp_path / "report.html")
    messages: list[str] = []
    asked: list[str] = []
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.set_default_timeout(1000 * LIMIT)  # milliseconds
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(Path(alone).as_uri())
    assert messages == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("document.images.length") == 4
    assert page.evaluate(BROKEN_IMAGES) == 0
    assert page.evaluate(OVERFLOW) == 0
    assert page.evaluate(OUTSIDE) == []
    assert len(page.screenshot(full_page=True)) > 10_000
    # The claims come first, each with its verdict; a link in a caption leads to its row.
    assert page.locator("h2").first.text_content() == "Claims"
    assert page.locator("td .verdict").count() == page.locator("tr[id]").count() > 10
    page.locator("figcaption a").first.click()
    assert page.locator("tr:target").count() == 1
    page.close()


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
