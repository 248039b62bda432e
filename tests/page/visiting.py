"""A person's visit to the page: fixtures and steps that the page's tests share."""

import json
from pathlib import Path

import pytest

from page.small_bundles import people, small_bundle
from privet.device import load_bundle, protect_file
from privet.page import serving

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("bundle") / "bundle.safetensors")


@pytest.fixture(scope="module")
def address(bundle):
    with serving(bundle) as address:
        yield address


@pytest.fixture
def source(tmp_path):
    (tmp_path / "mine.txt").write_text(people())
    return tmp_path / "mine.txt"


@pytest.fixture
def visit(chromium):
    """Opens the page in a browser of its own; fails the test if the page complains or crashes."""
    contexts, problems = [], []

    def opened(address, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console", lambda line: problems.append(line.text) if line.type == "error" else None
        )
        page.goto(address)
        page.locator("#file:enabled, #failure:visible").first.wait_for()
        return page

    opened.problems = problems
    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def choose(page, path):
    """Give the page a file, and wait until what it gives away is drawn."""
    page.set_input_files("#file", path)
    page.locator("#status", has_text="At budget").wait_for(state="attached")


def goes_to(page, record):
    """Wait until a record, counted from 1, is the one in view."""
    page.wait_for_function(f"document.getElementById('record').value === '{record}'")


def use_key(page):
    """Make the page use ``KEY``."""
    key = {"name": "key", "mimeType": "application/octet-stream", "buffer": KEY}
    page.set_input_files("#load-key", key)
    page.locator("#key-state", has_text="Using the key in").wait_for()


def by_python(source, bundle, *, budget, rules=None):
    """Return what `protect_file` makes of a file under ``KEY``, and its list of changes."""
    out, changes = source.with_name("protected"), source.with_name("changes.json")
    protect_file(
        source, load_bundle(bundle), budget=budget, key=KEY, out=out, changes=changes,
        rules=rules, format="pairs" if source.suffix == ".txt" else None,
    )  # fmt: skip
    return out.read_bytes(), json.loads(changes.read_text())


def downloaded(page, button):
    with page.expect_download() as waiting:
        page.click(button)
    return Path(waiting.value.path()).read_bytes(), waiting.value.suggested_filename
