"""Who may read a file that was replaced, or made from another."""

import os
import stat

import pytest

from privet.files import replacing, write_bytes

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX owners")
as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="gives files away")
NOBODY = 65534


def owned(path, user, group, mode):
    path.write_text("earlier")
    os.chown(path, user, group)
    path.chmod(mode)
    return path


def access(path):
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def written(path, source):
    with replacing(path, source=source) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        temporary.write_text("new")
    assert path.read_text() == "new"
    return access(path)


@as_root
def test_what_is_replaced_hands_on_its_owner_and_group(tmp_path):
    mine = owned(tmp_path / "x", NOBODY, NOBODY, 0o640)
    write_bytes(mine, b"new")
    assert access(mine) == (NOBODY, NOBODY, 0o640)
    assert written(mine, mine) == (NOBODY, NOBODY, 0o640)


@as_root
def test_a_private_result_is_this_users(tmp_path):
    path = owned(tmp_path / "x", NOBODY, NOBODY, 0o644)
    with replacing(path, mode=0o600):
        pass
    assert access(path) == (os.geteuid(), os.getegid(), 0o600)


@as_root
@pytest.mark.parametrize("mode", [0o640, 0o600, 0o644])
def test_a_new_file_has_its_sources_group_and_this_owner(tmp_path, mode):
    source = owned(tmp_path / "source", NOBODY, NOBODY, mode)
    assert written(tmp_path / "new", source) == (os.geteuid(), NOBODY, mode)


@as_root
def test_neither_owner_nor_group_of_an_earlier_file_sees_what_they_could_not(tmp_path):
    source = owned(tmp_path / "source", os.geteuid(), 12345, 0o640)
    earlier = owned(tmp_path / "out", NOBODY, NOBODY, 0o664)
    assert written(earlier, source) == (os.geteuid(), NOBODY, 0o600)


@as_root
@pytest.mark.parametrize(("before", "after"), [(0o640, 0o600), (0o664, 0o644), (0o600, 0o600)])
@pytest.mark.parametrize("new", [False, True])
def test_where_a_group_cannot_be_handed_on_another_may_do_what_all_may(
    tmp_path, monkeypatch, new, before, after
):
    def chown(*_):
        raise PermissionError

    source = owned(tmp_path / "x", NOBODY, NOBODY, before)
    monkeypatch.setattr(os, "chown", chown)
    result = tmp_path / "new" if new else source
    assert written(result, source) == (
        os.geteuid(),
        os.getegid(),
        after & (0o644 if new else 0o777),
    )


def test_who_owns_everything_keeps_it(tmp_path):
    path = tmp_path / "x"
    path.write_text("earlier")
    path.chmod(0o660)
    before = access(path)
    write_bytes(path, b"new")
    assert access(path) == before
