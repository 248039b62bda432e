"""The browser that all of the page's tests share, and the page's modules in it."""

from pathlib import Path

import pytest

from page.browser import BLANK, chromium, serving
from page.visiting import address, bundle, source, visit

__all__ = ["address", "bundle", "chromium", "core", "source", "visit"]


@pytest.fixture(scope="module")
def core(chromium):
    """Ask the page's modules something, by a name in `in_page.js` and one argument."""
    with serving() as address:
        page = chromium.new_page()
        page.goto(address + BLANK)
        page.add_script_tag(path=Path(__file__).with_name("in_page.js"), type="module")
        page.wait_for_function("globalThis.core")
        yield lambda what, given: page.evaluate("([what, it]) => core[what](it)", [what, given])
        page.close()
