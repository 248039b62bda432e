import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from privet.data import fetch as fetch_module
from privet.data.fetch import RemoteFile, fetch
from privet.errors import DataError
from privet.progress import watching

CONTENT = bytes(range(256)) * 4000
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
MD5 = "md5:" + hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@dataclass
class Host:
    """What the test server does, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    ranges: bool = True
    wrong_range: bool = False
    cut_after: int | None = None
    asked: list[str | None] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)


def handler(host: Host) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            host.asked.append(asked)
            total = len(host.content)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            partial = asked is not None and host.ranges
            if partial and start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = host.content[start:] if partial else host.content
            self.send_response(206 if partial else 200)
            if partial:
                begin = 0 if host.wrong_range else start
                self.send_header("Content-Range", f"bytes {begin}-{total - 1}/{total}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            body = body if host.cut_after is None else body[: host.cut_after]
            # Before the last byte leaves: the client may be done first.
            host.sent.append(len(body))
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch_module, "_CHUNK", 1 << 16)
    settings = Host()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(settings))
    settings.url = f"http://127.0.0.1:{server.server_address[1]}/file.bin"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield settings
    server.shutdown()
    thread.join()
    server.server_close()


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("digest", [SHA256, MD5, None])
def test_downloads_once(
    host: Host, tmp_path: Path, digest: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = RemoteFile("file.bin", host.url, digest)
    path = fetch(file, tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert fetch(file, path.parent) == path
    assert host.asked == [None]
    assert listed(path.parent) == ["file.bin"]
    assert (SHA256 in caplog.text) == (digest is None)


def test_reports_progress(host: Host, tmp_path: Path) -> None:
    seen = []

    def watcher(items: Any, what: str, total: int | None) -> Iterator[Any]:
        chunks = list(items)
        seen.append((what, total, len(chunks)))
        return iter(chunks)

    with watching(watcher):
        fetch(RemoteFile("file.bin", host.url, SHA256), tmp_path)
    chunks = -(-len(CONTENT) // (1 << 16))
    assert seen == [("downloading file.bin", chunks, chunks)]


def test_resumes_after_a_cut(host: Host, tmp_path: Path) -> None:
    file = RemoteFile("file.bin", host.url, SHA256, len(CONTENT))
    host.cut_after = 300_000
    with pytest.raises(DataError, match="hung up after 300000 of 1024000 bytes"):
        fetch(file, tmp_path)
    assert listed(tmp_path) == ["file.bin.part"]
    host.cut_after = None
    assert fetch(file, tmp_path).read_bytes() == CONTENT
    assert host.asked == [None, "bytes=300000-"]
    assert host.sent == [300_000, len(CONTENT) - 300_000]
    assert listed(tmp_path) == ["file.bin"]


def test_a_server_that_ignores_ranges_sends_all_of_it(host: Host, tmp_path: Path) -> None:
    host.ranges = False
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    path = fetch(RemoteFile("file.bin", host.url, SHA256), tmp_path)
    assert path.read_bytes() == CONTENT
    assert host.asked == ["bytes=1000-"]


def test_refuses_another_range_than_asked_for(host: Host, tmp_path: Path) -> None:
    host.wrong_range = True
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DataError, match="another range"):
        fetch(RemoteFile("file.bin", host.url, SHA256), tmp_path)


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_complete_part_needs_no_bytes(host: Host, tmp_path: Path, size: int | None) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    path = fetch(RemoteFile("file.bin", host.url, SHA256, size), tmp_path)
    assert path.read_bytes() == CONTENT
    assert host.sent == []


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_part_that_is_too_long_starts_over(host: Host, tmp_path: Path, size: int | None) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    path = fetch(RemoteFile("file.bin", host.url, SHA256, size), tmp_path)
    assert path.read_bytes() == CONTENT
    assert host.asked[-1] is None


def test_a_wrong_file_is_removed(host: Host, tmp_path: Path) -> None:
    host.content = b"not what was published"
    with pytest.raises(DataError, match=f"expected {SHA256}, got sha256:") as caught:
        fetch(RemoteFile("file.bin", host.url, SHA256), tmp_path)
    assert "\n" not in str(caught.value)
    assert listed(tmp_path) == []


def test_a_wrong_file_already_there_is_kept_and_named(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"mine")
    with pytest.raises(DataError, match="is not the published file"):
        fetch(RemoteFile("file.bin", host.url, SHA256), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == b"mine"
    assert host.asked == []


def test_an_interrupted_download_leaves_its_part(host: Host, tmp_path: Path) -> None:
    def watcher(items: Any, what: str, total: int | None) -> Iterator[Any]:
        yield next(items)
        raise KeyboardInterrupt

    file = RemoteFile("file.bin", host.url, SHA256)
    with pytest.raises(KeyboardInterrupt), watching(watcher):
        fetch(file, tmp_path)
    assert listed(tmp_path) == ["file.bin.part"]
    assert fetch(file, tmp_path).read_bytes() == CONTENT
    assert host.asked == [None, "bytes=65536-"]


def test_offline_names_the_address_and_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
    with pytest.raises(DataError, match="could not reach") as caught:
        fetch(RemoteFile("file.bin", url, SHA256), tmp_path / "new")
    message = str(caught.value)
    assert url in message
    assert str(tmp_path / "new" / "file.bin") in message
    assert "\n" not in message
    assert listed(tmp_path) == []


def test_a_missing_page_is_named(host: Host, tmp_path: Path) -> None:
    class Missing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Missing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/gone"
    try:
        with pytest.raises(DataError, match="HTTP 404"):
            fetch(RemoteFile("gone", url), tmp_path)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_refuses_what_is_not_a_web_address(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    with pytest.raises(DataError, match="not an http"):
        fetch(RemoteFile("copy", secret.as_uri()), tmp_path)
    with pytest.raises(DataError, match="put it at"):
        fetch(RemoteFile("copy"), tmp_path)


def test_a_folder_that_cannot_be_written_is_named(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="PRIVET_DATA"):
        fetch(RemoteFile("x", host.url), tmp_path / "file")
