"""A real browser for the tests of pages, as they are opened from the file system."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LAPTOP, PHONE = (1366, 768), (390, 844)
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
"""By how many pixels a page is wider than its window."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; a test that asks for it is skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api")
    from tests.workflow.held import LIMIT  # needs psutil, which the library's tests do without

    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        # Without its sandbox, which root cannot have; it opens nothing but our own files.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=1000 * LIMIT
        )
        yield browser
        browser.close()
