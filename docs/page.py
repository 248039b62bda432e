"""Draw docs/page.png: the page with a person's file open. Needs Playwright and Chromium.

PRIVET_DATA=... privet protect build att --hidden 400 --speedups 4 --out runs/att
python docs/page.py runs/att/att-x4.safetensors $PRIVET_DATA/att/test_user.txt --record 7
"""

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from privet.page import serving

WIDTH, HEIGHT = 900, 1590
KEY = bytes(32)  # a picture protects nobody, and is the same every time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("records", type=Path, help="app:score text, a person a line")
    parser.add_argument("--record", type=int, default=0, help="which line, from 0")
    parser.add_argument("--budget", type=float, default=3.0)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("page.png"))
    asked = parser.parse_args()
    with TemporaryDirectory() as folder, serving(asked.bundle) as address:
        mine, key = Path(folder, "my-apps.txt"), Path(folder, "privet-key")
        mine.write_text(asked.records.read_text().splitlines()[asked.record] + "\n")
        key.write_bytes(KEY)
        draw(address, mine=mine, key=key, asked=asked)


def draw(address: str, *, mine: Path, key: Path, asked: argparse.Namespace) -> None:
    """Open the page as a person would, and take a picture of it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT},
            color_scheme="dark" if asked.dark else "light",
            reduced_motion="reduce",
        )
        page.goto(address)
        page.locator("#file:enabled").wait_for()
        page.set_input_files("#load-key", key)
        page.locator("#key-state", has_text="Using").wait_for(state="attached")
        page.set_input_files("#file", mine)
        page.locator("#budget").fill(f"{asked.budget:g}")
        page.locator("#status", has_text="At budget").wait_for(state="attached")
        page.locator("#budget").blur()
        page.screenshot(path=asked.out)
        browser.close()


if __name__ == "__main__":
    main()
