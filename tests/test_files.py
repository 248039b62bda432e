import json
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from privet.errors import DataError, OptionError
from privet.files import read_json, replacing, write_bytes, write_json


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "result.json"
    path.write_text('"old"')
    return path


def test_success_replaces_and_cleans_up(old):
    with replacing(old) as temporary:
        assert temporary.parent == old.parent
        assert temporary.suffix == ".json"
        temporary.write_text('"new"')
        assert old.read_text() == '"old"'
    assert old.read_text() == '"new"'
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_any_failure_leaves_the_old_file_and_nothing_else(old, failure):
    def interrupted():
        with replacing(old) as temporary:
            temporary.write_text('"half')
            raise failure

    with pytest.raises(failure):
        interrupted()
    assert old.read_text() == '"old"'
    assert list(old.parent.iterdir()) == [old]


def test_a_failure_where_nothing_was_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), replacing(tmp_path / "new" / "deep" / "x.bin"):
        raise RuntimeError
    assert list((tmp_path / "new" / "deep").iterdir()) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(old, step, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(type(old), "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(old, b"new")
    assert old.read_text() == '"old"'
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("name", ["x" * 244 + ".csv", "x." + "y" * 253, "ü" * 127])
def test_names_may_be_as_long_as_the_disk_allows(tmp_path, name):
    write_bytes(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_parent_folders_are_made(tmp_path):
    write_bytes(tmp_path / "a" / "b" / "c.bin", b"\0\1")
    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"\0\1"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_follow_the_umask(tmp_path, mask, expected):
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "x", b"")
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == expected
        assert os.umask(mask) == mask
    finally:
        os.umask(before)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.parametrize("before", [0o600, 0o444, 0o664])
def test_what_is_replaced_hands_on_its_permissions(old, before):
    old.chmod(before)
    write_bytes(old, b"new")
    assert stat.S_IMODE(old.stat().st_mode) == before
    assert old.read_bytes() == b"new"
    with replacing(old, mode=0o600) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    assert stat.S_IMODE(old.stat().st_mode) == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_private_results_are_private_while_they_are_written(tmp_path):
    with replacing(tmp_path / "x", mode=0o600) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


def test_folders_and_devices_are_not_replaced(tmp_path):
    for path in (tmp_path, Path(os.devnull)):
        with pytest.raises(OptionError, match="folder or a device"), replacing(path):
            pytest.fail("entered")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("value", [float("nan"), [1, {"x": float("inf")}], {"x": object()}])
def test_what_json_cannot_say_is_refused_before_writing(old, value):
    with pytest.raises((ValueError, TypeError)):
        write_json(old, value)
    assert old.read_text() == '"old"'
    assert list(old.parent.iterdir()) == [old]


def test_json_comes_back_as_it_was(tmp_path):
    value = {"naïve": [1, 0.1, None, True, "Σ"], "b": {"c": []}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert (tmp_path / "x.json").read_bytes().endswith(b"}\n")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json does not exist"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\0", b"{} {}", b"\x00" * 64])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.json is not readable JSON") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_concurrent_writers_and_readers_only_ever_meet_whole_files(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, [0] * 20_000)
    done = threading.Event()

    def write(number: int) -> None:
        for _ in range(8):
            write_json(path, [number] * 20_000)

    writers = [threading.Thread(target=write, args=(number,)) for number in (1, 2, 3)]
    seen, broken = [], []

    def read() -> None:
        while not done.is_set():
            try:
                seen.append(json.loads(path.read_bytes()))
            except ValueError as error:  # reported below: an exception here fails no test
                broken.append(error)

    reader = threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert broken == []
    assert seen
    assert all(len(each) == 20_000 and len(set(each)) == 1 for each in seen)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_and_stays(tmp_path):
    real, link = tmp_path / "folder" / "real.txt", tmp_path / "link.txt"
    write_bytes(real, b"old")
    link.symlink_to(real)
    write_bytes(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert [path.name for path in real.parent.iterdir()] == ["real.txt"]


@pytest.mark.parametrize("path", ["/dev/null", "/dev/stdout", "/proc/self/fd/1", "/dev/new"])
def test_devices_are_never_replaced(path):
    with pytest.raises(OptionError, match="device"):
        write_bytes(Path(path), b"x")


def test_a_place_below_a_file_is_refused(tmp_path):
    write_bytes(tmp_path / "file", b"x")
    with pytest.raises(OptionError, match="below a file"):
        write_bytes(tmp_path / "file" / "new.txt", b"x")
