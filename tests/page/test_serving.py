"""What the page is made of, and how it is served and written; no browser needed."""

import http.client
import importlib
import re
import socket
from urllib.parse import urlsplit

import numpy as np
import pytest

from page.small_bundles import inside, small_bundle, with_wrong_self_test
from privet.device import Bundle, Network, write_bundle
from privet.errors import BundleError, OptionError
from privet.page import assemble, serve, serving, write_page
from privet.page.assemble import POLICY, static_files
from privet.page.serve import HEADERS

ASSEMBLE = importlib.import_module("privet.page.assemble")  # the package names its function so
REFERENCE = re.compile(rb"""(?:(?:from|import) ["']\./|(?:src|href)=")([^"'#]+)["']""")


@pytest.fixture
def bundle(tmp_path):
    return small_bundle(tmp_path / "bundle.safetensors")


@pytest.fixture
def connect(bundle):
    with serving(bundle) as address:
        place = urlsplit(address)

        def ask(method, path, host=None):
            connection = http.client.HTTPConnection(place.hostname, place.port, timeout=10)
            connection.request(method, path, headers={"Host": host or place.netloc})
            response = connection.getresponse()
            body = response.read()
            connection.close()
            return response, body

        ask.port = place.port
        yield ask


def test_the_page_holds_the_very_bundle_and_its_policy(bundle):
    page = assemble(bundle)
    assert inside(page["index.html"]) == bundle.read_bytes()
    (policy,) = re.findall(
        rb'http-equiv="Content-Security-Policy" content="(.*?)"', page["index.html"]
    )
    assert policy.decode() == POLICY
    assert {"default-src 'none'", "connect-src 'none'"} <= set(POLICY.split("; "))
    assert "unsafe" not in POLICY


def test_the_page_is_light_and_refers_to_nothing_but_itself():
    page = static_files()
    assert sum(map(len, page.values())) < 200_000
    for name, content in page.items():
        found = {each.decode() for each in REFERENCE.findall(content)}
        assert found <= set(page), name
        assert b"://" not in content.replace(b"http://www.w3.org/2000/svg", b""), name
    assert REFERENCE.findall(page["main.js"])


def test_no_code_or_style_stands_inline_and_no_text_becomes_markup():
    page = static_files()
    assert not re.search(rb"<script(?! type=)|<style|\sstyle=|\son\w+=", page["index.html"])
    dangerous = (
        rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
    )
    assert not any(re.search(dangerous, content) for content in page.values())


def test_only_sound_attribute_bundles_go_into_a_page(bundle, tmp_path):
    noise = Network(
        (np.ones((2, 3), np.float32), np.ones((1, 2), np.float32)),
        (np.zeros(2, np.float32), np.zeros(1, np.float32)),
    )
    write_bundle(Bundle("membership", noise), tmp_path / "member")
    with pytest.raises(OptionError, match="membership bundle, a secret"):
        assemble(tmp_path / "member")
    (tmp_path / "cut").write_bytes(bundle.read_bytes()[:-4])
    with pytest.raises(BundleError, match="cut"):
        assemble(tmp_path / "cut")
    (tmp_path / "other").write_bytes(with_wrong_self_test(bundle.read_bytes()))
    with pytest.raises(BundleError, match="case 0"):
        assemble(tmp_path / "other")


def test_a_bundle_too_large_for_a_page_is_refused(bundle, monkeypatch):
    monkeypatch.setattr(ASSEMBLE, "LARGEST", 1000)
    with pytest.raises(BundleError, match="higher speed-up"):
        assemble(bundle)


def test_a_written_page_is_complete_and_can_be_written_again(bundle, tmp_path):
    folder = tmp_path / "site"
    written = write_page(bundle, folder)
    assert written[-1] == folder / "index.html"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == assemble(bundle)
    write_page(small_bundle(tmp_path / "next.safetensors", seed=6), folder)
    assert (
        inside((folder / "index.html").read_bytes()) == (tmp_path / "next.safetensors").read_bytes()
    )


def test_a_page_is_not_written_over_other_files(bundle, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OptionError, match=r"thesis\.txt"):
        write_page(bundle, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(OptionError, match="is a file"):
        write_page(bundle, bundle)


@pytest.mark.parametrize("name", [".privet-0123456789abcdef.html", ".index.html.243e.html"])
def test_what_a_killed_write_left_behind_keeps_no_page_away(bundle, tmp_path, name):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / name).write_text("<half")
    write_page(bundle, tmp_path / "site")
    assert {path.name for path in (tmp_path / "site").iterdir()} == {*assemble(bundle), name}


def test_a_page_that_cannot_be_written_leaves_nothing(bundle, tmp_path, monkeypatch):
    from privet import files

    def fails_late(path, content):
        if path.name == "style.css":
            raise OSError(28, "No space left on device")
        files.write_bytes(path, content)

    monkeypatch.setattr(ASSEMBLE, "write_bytes", fails_late)
    with pytest.raises(OSError, match="space"):
        write_page(bundle, tmp_path / "site")
    assert list((tmp_path / "site").iterdir()) == []


def test_files_are_served_with_their_types_and_the_policy(connect, bundle):
    page = assemble(bundle)
    for path, name, kind in [
        ("/", "index.html", "text/html"),
        ("/index.html?again", "index.html", "text/html"),
        ("/main.js", "main.js", "text/javascript"),
        ("/style.css", "style.css", "text/css"),
        ("/icon.svg", "icon.svg", "image/svg+xml"),
    ]:
        response, body = connect("GET", path)
        assert (response.status, body) == (200, page[name])
        assert response.headers["Content-Type"].startswith(kind)
        assert all(response.headers[header] == value for header, value in HEADERS.items())
    policy = response.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "sandbox" in policy
    assert not {"allow-popups", "allow-forms", "allow-top-navigation"} & set(policy.split())


def test_a_head_request_gets_the_headers_alone(connect):
    head, body = connect("HEAD", "/main.js")
    whole, content = connect("GET", "/main.js")
    assert body == b""
    assert head.headers["Content-Length"] == whole.headers["Content-Length"] == str(len(content))


@pytest.mark.parametrize(
    "path", ["/nothing.js", "/../assemble.py", "/%2e%2e/serve.py", "/static/", "/["]
)
def test_nothing_else_is_served(connect, path):
    response, _ = connect("GET", path)
    assert response.status == 404
    assert response.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent_to_the_server(connect, method):
    assert connect(method, "/")[0].status == 501


def test_a_request_by_another_name_is_refused(connect):
    for host in ("privet.example", f"privet.example:{connect.port}", "localhost:1", "127.0.0.1"):
        assert connect("GET", "/", host)[0].status == 421


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_one_address_alone_has_the_page(connect, method):
    response, body = connect(method, "/main.js?again", f"localhost:{connect.port}")
    assert (response.status, body) == (307, b"")
    assert response.headers["Location"] == f"http://127.0.0.1:{connect.port}/main.js"
    assert connect(method, "//privet.example/", f"localhost:{connect.port}")[0].status == 404


def test_other_machines_cannot_connect(connect):
    # Another of this machine's addresses: a server for everybody would answer there.
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", connect.port), timeout=2).close()


def test_a_port_that_cannot_be_had_is_named(bundle, connect):
    with (
        pytest.raises(OptionError, match=f"port {connect.port} is taken"),
        serving(bundle, port=connect.port),
    ):
        pass
    with pytest.raises(OptionError, match="70000"), serving(bundle, port=70_000):
        pass


def test_serving_ends_with_ctrl_c(bundle):
    said = []

    def interrupted(address):
        said.append(address)
        raise KeyboardInterrupt

    serve(bundle, port=0, ready=interrupted)
    (address,) = said
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", urlsplit(address).port), timeout=2).close()
