"""`privet protect apply` with a folder of bundles: what it takes, and what it leaves alone."""

import sys

import pytest

from cli.commands import refusal
from cli.person import APPLY, make_bundle, ratings, summary, write_csv
from cli.refusals import snapshot
from privet.device import pick

LEFT_BEHIND = (".privet-0123456789abcdef.safetensors", ".x2.safetensors.243e.safetensors")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Records, a key, and a folder of two bundles, of which x2 is the stronger."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fold").mkdir()
    make_bundle(tmp_path / "fold" / "x2.safetensors", hidden=64)
    make_bundle(tmp_path / "fold" / "x9.safetensors", hidden=8)
    write_csv(tmp_path / "mine.csv", ratings())
    (tmp_path / "key").write_bytes(bytes(32))
    (tmp_path / "key").chmod(0o600)
    return tmp_path


def test_no_release_hangs_on_how_fast_a_run_was(place, monkeypatch):
    speeds = {64: 1.0, 8: 0.5}
    monkeypatch.setattr(
        sys.modules["privet.device.pick"],
        "milliseconds",
        lambda bundle: speeds[bundle.network.sizes[1]],
    )
    command, files = f"{APPLY} --key key --max-ms 2", ("mine.csv", "fold")
    before = snapshot(place)
    assert summary(f"{command} --dry-run", *files)["bundle"] == "fold/x2.safetensors"
    assert snapshot(place) == before  # a rehearsal settles nothing
    assert summary(f"{command} --out one.csv", *files)["bundle"] == "fold/x2.safetensors"
    speeds[64] = 9.0
    for option in ("--out two.csv", "--dry-run"):
        assert summary(f"{command} {option}", *files)["bundle"] == "fold/x2.safetensors"
    assert (place / "one.csv").read_bytes() == (place / "two.csv").read_bytes()
    # Another key, other limits and other bundles are chosen for anew.
    for other in ("--key other --max-ms 2", "--key key --max-ms 3"):
        told = summary(f"{APPLY} {other} --dry-run", *files)
        assert told["bundle"] == "fold/x9.safetensors"
    make_bundle(place / "fold" / "x3.safetensors", hidden=32)
    speeds[32] = 1.5
    assert summary(f"{command} --dry-run", *files)["bundle"] == "fold/x3.safetensors"


def test_bad_records_settle_nothing(place, capsys):
    (place / "bad.csv").write_text("not,a,header\n")
    before = snapshot(place)
    refusal(f"{APPLY} --key key --max-ms 60000 --out new.csv", "bad.csv", "fold", capsys=capsys)
    assert snapshot(place) == before


@pytest.mark.parametrize("damage", ["", "[]", "{"])
def test_a_damaged_note_of_choices_is_named(place, capsys, damage):
    (place / "key.bundles").write_text(damage)
    err = refusal(f"{APPLY} --key key --max-ms 2 --dry-run", "mine.csv", "fold", capsys=capsys)
    assert "key.bundles" in err


def test_the_note_of_choices_is_not_overwritten(place, capsys):
    err = refusal(f"{APPLY} --key key --out key.bundles", "mine.csv", "fold", capsys=capsys)
    assert "key.bundles is needed and would be overwritten" in err


def test_what_does_not_hang_on_time_is_released_again_and_again(place):
    for out in ("first.csv", "second.csv"):
        told = summary(f"{APPLY} --key key --max-memory 1000 --out {out}", "mine.csv", "fold")
        assert told["bundle"] == "fold/x2.safetensors"
    assert (place / "first.csv").read_bytes() == (place / "second.csv").read_bytes()


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_a_killed_build_left_behind_is_no_bundle(place, name):
    (place / "fold" / name).write_bytes(b"half")
    told = summary(f"{APPLY} --dry-run", "mine.csv", "fold")
    assert told["bundle"] == str(pick(sorted((place / "fold").glob("x*"))).relative_to(place))


@pytest.mark.parametrize("option", ["--out {}", "--dry-run --changes {}"])
@pytest.mark.parametrize("name", ["x2.safetensors", "x9.safetensors", "x9.safetensors.sig"])
def test_no_bundle_of_the_folder_is_overwritten(place, capsys, option, name):
    before = snapshot(place)
    target = place / "fold" / name
    err = refusal(f"{APPLY} --key key {option}", "mine.csv", "fold", target, capsys=capsys)
    assert f"{name} is needed and would be overwritten" in err
    assert snapshot(place) == before


def test_the_signature_of_a_bundle_is_not_overwritten_though_nobody_asked_for_it(place, capsys):
    bundle = place / "fold" / "x9.safetensors"
    err = refusal(f"{APPLY} --key key --out {bundle}.sig", "mine.csv", bundle, capsys=capsys)
    assert "is needed and would be overwritten" in err
