"""The site that ``make docs`` has built, as it is opened from the disk, without a network."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import dmf_sharpness
from tests.chromium import LAPTOP, OVERFLOW, PHONE
from tests.workflow.held import LIMIT

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build/site"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
TUTORIALS = sorted(path.stem for path in (ROOT / "docs/tutorials").glob("*.md"))
BROKEN_IMAGES = "[...document.images].filter(i => !i.complete || i.naturalWidth === 0).length"
# Formulas that take no room, or are not set in the font of mathematics.
UNSET = """[...document.querySelectorAll('math')].filter(m => m.getBoundingClientRect().width < 1
  || !getComputedStyle(m).fontFamily.includes('STIX')).length"""
BACKGROUND = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"

pytestmark = pytest.mark.skipif(not PAGES, reason="no site: make docs")


class Page(HTMLParser):
    """Targets, links and addresses of a page."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed((SITE / name).read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.ids |= {given[key] for key in ("id", "name") if key in given}
        self.links += [given[key] for key in ("href", "src") if key in given]


@pytest.fixture(scope="module")
def pages() -> dict[str, Page]:
    return {name: Page(name) for name in PAGES}


def test_no_link_is_broken(pages):
    broken = []
    for name, page in pages.items():
        for link in page.links:
            if re.match(r"(https?|mailto|data):", link):
                continue
            path, _, anchor = unquote(link).partition("#")
            target = (SITE / name).parent / path.partition("?")[0] if path else SITE / name
            inside = target.resolve().relative_to(SITE).as_posix() if target.exists() else None
            if inside is None or (anchor and inside in pages and anchor not in pages[inside].ids):
                broken.append(f"{name}: {link}")
    assert broken == []


def test_all_pages_are_there(pages):
    assert len(TUTORIALS) == 5
    assert {f"tutorials/{name}.html" for name in TUTORIALS} <= set(pages)
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} <= set(pages)


def test_every_public_name_has_its_place(pages):
    wanted = {f"dmf_sharpness.{name}" for name in dmf_sharpness.__all__}
    assert wanted - pages["api.html"].ids == set()


def test_tutorials_were_executed():
    for name in TUTORIALS:
        text = (SITE / f"tutorials/{name}.html").read_text(encoding="utf-8")
        assert "cell_output" in text, name
        assert "Traceback" not in text, name
        assert str(ROOT) not in text, name  # nor anything else of the machine that builds it


SHORT = ["index.html", "derivation.html", "claims.html", "tutorials/watch_an_escape.html"]


@pytest.mark.parametrize(
    ("size", "scheme", "names"),
    [
        (LAPTOP, "light", PAGES),
        (PHONE, "dark", PAGES),
        (LAPTOP, "dark", SHORT),
        (PHONE, "light", SHORT),
    ],
)
def test_every_page_is_whole_and_readable(browser, size, scheme, names):
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.set_default_timeout(1000 * LIMIT)  # milliseconds
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(f"{page.url}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"{page.url}: {error}"))
    page.on("request", lambda request: asked.append(request.url))
    for name in names:
        page.goto((SITE / name).as_uri())
        faults = {
            "wider than the screen": page.evaluate(OVERFLOW),
            "images": page.evaluate(BROKEN_IMAGES),
            "formulas": page.evaluate(UNSET),
        }
        assert not any(faults.values()), (name, faults)
        assert (sum(page.evaluate(BACKGROUND)) < 200) == (scheme == "dark"), name
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    page.goto((SITE / "derivation.html").as_uri())
    assert page.locator("math").count() > 50
    assert page.evaluate("document.fonts.check('16px \"STIX Two Math\"')")
    page.close()
