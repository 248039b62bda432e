"""The page's files, with one bundle inside: nothing is fetched once the page is there.

The page may load its own scripts, styles and pictures, and nothing else; it may not fetch from or
post to any place, its own included. So the bundle is not a file beside the page but a block of data
in it.
"""

import base64
from importlib.resources import files
from pathlib import Path

from privet.device.bundle import read_bundle
from privet.device.self_test import run_self_test
from privet.errors import BundleError, OptionError
from privet.files import write_bytes

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'none'; "
    "form-action 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""The Content-Security-Policy that stands in the page itself, so that it holds on any host.

It is a second lock: the page's scripts send nothing. What no such policy keeps a script from is
going to another address, and WebRTC.
"""

INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
LARGEST = 256 << 20  # bytes of a bundle; browsers hold no text much longer than its base64
_EMPTY = b'<script type="application/octet-stream" id="bundle"></script>'


def assemble(bundle: Path | str) -> dict[str, bytes]:
    """Return the page's files by name, with the bundle at ``bundle`` inside ``index.html``.

    The bundle is verified first, its self-test included. The page does both again when it opens:
    it trusts neither the host nor the browser to have kept the bundle whole.

    Raises
    ------
    BundleError
        When the bundle cannot be read, fails its self-test, or is too large for a page.
    OptionError
        On a membership bundle. Whoever holds one can undo what it does, so it stays with whoever
        serves the classifier and goes into no page.
    """
    path = Path(bundle)
    content = _content(path)
    opened = read_bundle(content, path)
    if opened.kind != "attribute":
        raise OptionError(
            f"{path} is a membership bundle, a secret of whoever serves the classifier, and "
            f"cannot go into a page; name an attribute bundle"
        )
    run_self_test(opened)
    page = static_files()
    page[INDEX] = page[INDEX].replace(_EMPTY, _EMPTY.replace(b"><", _inside(content)))
    return page


def _content(path: Path) -> bytes:
    """Read a bundle once, so that what is verified is what goes into the page."""
    if path.exists() and not path.is_file():
        raise BundleError(f"{path} is a folder or a device; name a bundle")
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise BundleError(
                f"{path} has {size:,} bytes, too many for a page, which takes {LARGEST:,}; "
                f"choose a tier with a higher speed-up"
            )
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from None


def static_files() -> dict[str, bytes]:
    """Return the page's files by name, without a bundle."""
    folder = files("privet.page") / "static"
    found = {entry.name: entry for entry in folder.iterdir() if Path(entry.name).suffix in TYPES}
    return {name: found[name].read_bytes() for name in sorted(found)}


def _inside(content: bytes) -> bytes:
    """Return ``content`` as what stands between the tags of the data block."""
    return b">" + base64.b64encode(content) + b"<"


def write_page(bundle: Path | str, folder: Path | str) -> list[Path]:
    """Write the page to ``folder``, for any host of static files, and return what was written.

    Each file is replaced as a whole, ``index.html`` last. If writing fails, files that were not
    there before are gone again.

    Raises
    ------
    BundleError, OptionError
        As `assemble` does; also when ``folder`` holds other files, or is a file itself.
    """
    folder = Path(folder)
    page = assemble(bundle)
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder} is a file; name a folder for the page")
    before = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    # Hidden files are none of the page's: what a killed write left behind, for one.
    if others := sorted(name for name in before - set(page) if not name.startswith(".")):
        raise OptionError(
            f"{folder} holds other files, such as {others[0]!r}; name a folder of the page's own"
        )
    names = sorted(page, key=lambda name: (name == INDEX, name))
    try:
        for name in names:
            write_bytes(folder / name, page[name])
    except BaseException:
        for name in set(names) - before:
            (folder / name).unlink(missing_ok=True)
        raise
    return [folder / name for name in names]
