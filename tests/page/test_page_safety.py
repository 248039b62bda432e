"""The page in a real browser sends nothing, trusts no bundle, and anybody can use it."""

import base64
import importlib
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from page.browser import serving as any_host
from page.small_bundles import with_wrong_self_test
from page.visiting import by_python, choose, downloaded, goes_to, use_key
from privet.page import assemble, serving, write_page

pytestmark = pytest.mark.slow  # browsers take their time

ROOT = Path(__file__).parents[2]
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True},
}


def test_no_request_leaves_the_page(visit, address, bundle, source):
    page = visit(address)
    asked = []
    page.on("request", lambda request: asked.append((request.method, request.url)))
    page.reload()
    page.locator("#file:enabled").wait_for()
    choose(page, source)
    page.locator("#budget").fill("7")
    downloaded(page, "#download")
    downloaded(page, "#report-text")
    downloaded(page, "#save-key")
    names = {urlsplit(url).path for _, url in asked if not url.startswith("blob:")}
    assert names <= {f"/{name}" for name in assemble(bundle)} | {"/"}
    assert all(method == "GET" for method, _ in asked)
    assert all(url.startswith((address, f"blob:{address}")) for _, url in asked)


def test_static_files_do_on_any_host_and_without_a_network(visit, bundle, source, tmp_path):
    write_page(bundle, tmp_path / "site")
    with any_host(tmp_path / "site") as address:
        page = visit(f"{address}/index.html")
        page.context.set_offline(True)
        choose(page, source)
        use_key(page)
        assert downloaded(page, "#download")[0] == by_python(source, bundle, budget=3)[0]


def test_opened_as_a_file_the_page_says_what_it_needs(chromium, bundle, tmp_path):
    write_page(bundle, tmp_path / "site")
    page = chromium.new_page()
    page.goto((tmp_path / "site" / "index.html").as_uri())
    stuck = page.locator("#stuck")
    for animation in ("before", "after"):
        assert stuck.is_visible() == (animation == "after")
        page.evaluate("document.getAnimations().forEach((each) => each.finish())")
    assert "web server" in stuck.inner_text()
    assert page.locator("#file").is_disabled()
    page.close()


# None of them may hang: what the policy lets pass reports nothing, and counts as sent.
ESCAPES = {
    "fetch": "fetch(URL).then(() => 'sent', () => 'blocked')",
    "fetch of its own": "fetch('/style.css').then(() => 'sent', () => 'blocked')",
    "beacon": "new Promise(done => { addEventListener('securitypolicyviolation', () => "
    "done('blocked')); navigator.sendBeacon(URL, 'data'); })",
    "request": "new Promise(done => { const r = new XMLHttpRequest(); r.open('POST', URL); "
    "r.onerror = () => done('blocked'); r.onload = () => done('sent'); r.send('data'); })",
    "socket": "new Promise(done => { addEventListener('securitypolicyviolation', () => "
    "done('blocked')); try { new WebSocket(URL.replace('http', 'ws')); } catch {} })",
    "image": "new Promise(done => { const i = new Image(); i.onerror = () => done('blocked'); "
    "i.onload = () => done('sent'); i.src = URL + 'i.svg'; })",
    "form": "new Promise(done => { const f = document.createElement('form'); f.action = URL; "
    "f.method = 'POST'; document.body.append(f); f.submit(); "
    "setTimeout(() => done('blocked'), 500); })",  # a form that is sent ends the page
    "frame": "new Promise(done => { addEventListener('securitypolicyviolation', () => "
    "done('blocked')); const f = document.createElement('iframe'); f.src = URL; "
    "document.body.append(f); })",
    "window": "window.open(URL) === null ? 'blocked' : 'sent'",
    "markup": "(() => { try { document.body.innerHTML = '<b>hello</b>'; return 'set'; } "
    "catch { return 'blocked'; } })()",
}


@pytest.mark.parametrize("way", ESCAPES)
def test_the_browser_blocks_what_a_policy_can_block(visit, address, way):
    """Known limits: going to another address, and WebRTC. The page's scripts do neither."""
    page = visit(address)
    late = "new Promise((done) => setTimeout(() => done('sent'), 3000))"
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        outside = f"'http://127.0.0.1:{elsewhere.getsockname()[1]}/'"
        attempt = ESCAPES[way].replace("URL", outside)
        assert page.evaluate(f"Promise.race([{attempt}, {late}])") == "blocked"
        page.wait_for_timeout(100)
        assert bytes_at(elsewhere) == b""
    visit.problems.clear()  # the browser's own reports of what it blocked


def bytes_at(server):
    """Return what arrived; Chromium opens connections ahead of forms it then does not send."""
    server.settimeout(0.1)
    try:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(0.2)
            return connection.recv(1)
    except TimeoutError:
        return b""


@pytest.mark.parametrize("look", LOOKS)
def test_no_serious_accessibility_fault(visit, address, source, look):
    if not AXE.is_file():
        pytest.skip("needs axe-core: run npm ci")
    page = visit(address, reduced_motion="reduce", **LOOKS[look])
    page.evaluate(AXE.read_text())
    assert serious(page) == []
    choose(page, source)
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    page.click("#all-classes")
    page.fill("#keep-name", "nothing")
    page.click("#keep-add")
    page.locator("#keep-problem", has_text="no entry").wait_for()
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    bar = page.locator(".bar").first
    assert bar.evaluate("(bar) => getComputedStyle(bar).transitionDuration") == "0s"


def serious(page):
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert found["passes"] or found["violations"]
    return [
        (fault["id"], [node["html"] for node in fault["nodes"]][:3])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]


def test_everything_can_be_done_with_the_keyboard(visit, address):
    page = visit(address)

    def tab_to(name):
        for _ in range(120):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id || document.activeElement.value") == name:
                outline = "getComputedStyle(document.activeElement).outlineStyle"
                assert page.evaluate(outline) != "none"
                return
        pytest.fail(f"the keyboard does not lead to {name}")

    tab_to("example")
    page.keyboard.press("Enter")
    page.locator("#status", has_text="At budget 3").wait_for(state="attached")
    assert page.evaluate("document.activeElement.id") == "guess-title"
    tab_to("next")
    page.keyboard.press("Enter")
    goes_to(page, 2)
    tab_to("budget")
    page.keyboard.press("ArrowRight")
    page.locator("#status", has_text="At budget 3.5").wait_for(state="attached")
    tab_to("modify_add")
    page.keyboard.press("ArrowDown")
    assert page.locator("[value=modify_exist]").is_checked()
    tab_to("remember")
    page.keyboard.press("Space")
    assert "will remember" in page.inner_text("#key-state")
    tab_to("download")
    with page.expect_download() as waiting:
        page.keyboard.press("Enter")
    assert waiting.value.suggested_filename == "made-up-protected.txt"
    assert page.evaluate("document.activeElement.id") == "download"


@contextmanager
def page_around(content, monkeypatch, bundle):
    """Serve a page around a bundle that Python would refuse."""
    module = importlib.import_module("privet.page.serve")
    page = assemble(bundle)
    old = base64.b64encode(bundle.read_bytes())
    page["index.html"] = page["index.html"].replace(old, base64.b64encode(content))
    monkeypatch.setattr(module, "assemble", lambda _: page)
    with serving(bundle) as address:
        yield address


@pytest.mark.parametrize("wrong", ["self-test", "damage", "nothing"])
def test_a_page_with_a_wrong_bundle_protects_nothing(visit, bundle, monkeypatch, wrong):
    content = bundle.read_bytes()
    content = {
        "self-test": with_wrong_self_test(content),
        "damage": content[:-1] + bytes([content[-1] ^ 1]),
        "nothing": b"",
    }[wrong]
    with page_around(content, monkeypatch, bundle) as address:
        page = visit(address)
        said = page.inner_text("#failure")
        assert "will not protect anything" in said
        assert {"self-test": "case 0", "damage": "digest", "nothing": "bundle"}[wrong] in said
        assert page.locator("#file").is_disabled()
        assert not page.locator("#trial").is_visible()


def test_the_types_of_the_page_hold():
    compiler = ROOT / "node_modules" / ".bin" / "tsc"
    if not compiler.exists():
        pytest.skip("needs TypeScript: run npm ci")
    done = subprocess.run([compiler], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
