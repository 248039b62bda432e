"""`privet protect check` and `serve` from end to end."""

import base64
import re
import signal
import socket
from contextlib import closing
from http.client import HTTPConnection

import pytest

from cli.commands import asked, refusal
from cli.person import PATIENCE, handmade, make_bundle, started, summary
from cli.refusals import snapshot
from page.small_bundles import with_wrong_self_test
from privet.cli import run
from privet.device import Bundle, load_bundle, write_bundle


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_bundle(tmp_path / "made.safetensors")


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_check_says_what_a_bundle_is_and_prints_its_card(precision, tmp_path):
    card = {"dataset": "cities", "precision": precision, "accuracy": 0.5}
    path = make_bundle(tmp_path / "b.safetensors", precision=precision, card=card)
    status, printed = asked("protect check {}", path)
    text = " ".join(printed.replace("\N{NO-BREAK SPACE}", " ").split())
    cases = len(load_bundle(path).self_test)
    assert status == 0
    assert cases > 0
    assert f"answers its {cases} test records right" in text
    assert f"layers of 6, 8, 3 units, weights stored as {precision}" in text
    assert f" precision {precision}" in text
    assert summary("protect check {}", path) == card


@pytest.mark.parametrize("command", ["check {}", "serve {} --out new"])
def test_a_bundle_that_fails_its_self_test_is_refused(command, bundle, tmp_path, capsys):
    bundle.write_bytes(with_wrong_self_test(bundle.read_bytes()))
    assert load_bundle(bundle).self_test
    before = snapshot(tmp_path)
    assert "self-test" in refusal(f"protect {command}", bundle, capsys=capsys)
    assert snapshot(tmp_path) == before


def inside(page):
    (text,) = re.findall(rb'id="bundle">([^<]*)<', page)
    return base64.b64decode(text, validate=True)


def test_serve_answers_until_ctrl_c(bundle):
    running = started("protect serve {} --port 0", bundle)
    port = re.search(rb"http://127\.0\.0\.1:(\d+)/", running.stdout.readline())[1]
    with closing(HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE)) as connection:
        connection.request("GET", "/")
        assert inside(connection.getresponse().read()) == bundle.read_bytes()
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=PATIENCE) == (b"", b"")
    assert running.returncode == 0


def test_a_port_that_is_taken_is_refused_in_a_line(bundle, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        err = refusal(f"protect serve {{}} --port {port}", bundle, capsys=capsys)
    assert f"port {port} is taken already" in err


def test_the_page_can_be_written_and_written_again(bundle, tmp_path):
    folder = tmp_path / "page"
    assert run(["protect", "serve", str(bundle), "--out", str(folder)]) == 0
    before = snapshot(folder)
    assert inside(before["index.html"]) == bundle.read_bytes()
    assert run(["protect", "serve", str(bundle), "--out", str(folder)]) == 0
    assert snapshot(folder) == before


def test_a_membership_bundle_gets_no_page(tmp_path, capsys):
    path = tmp_path / "secret.safetensors"
    write_bundle(Bundle("membership", handmade(3, 5, 1)), path)
    before = snapshot(tmp_path)
    for options in ("", "--out page"):
        assert "secret" in refusal(f"protect serve {{}} {options}", path, capsys=capsys)
    assert snapshot(tmp_path) == before
