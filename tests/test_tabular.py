import zipfile
from pathlib import Path

import numpy as np
import pytest

from privet.errors import DataError
from privet.tabular import delimiter, read_npz


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("a.tsv", "a,b;c\td", "\t"),
        ("a.TSV", "a", "\t"),
        ("a.csv", "a,b", ","),
        ("a.csv", "a;b", ";"),
        ("a.csv", "a;b,c", ","),
        ("a.csv", "a\tb", ","),
    ],
)
def test_one_rule_says_what_separates_cells(name, line, expected):
    assert delimiter(Path(name), line) == expected


def npz(path, header, *, body=b"", compression=zipfile.ZIP_STORED):
    """An NPZ file of one array ``x`` with a header of our making."""
    text = header.encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", content)


def described(shape, kind="<f8", order="False"):
    return f"{{'descr': {kind!r}, 'fortran_order': {order}, 'shape': {shape}}}"


@pytest.mark.parametrize(
    "header",
    [
        described("(10**3,)"),
        described("(1000000000000,)"),
        described("(100000000000000000,)"),
        described(f"({10**30},)"),
        described(f"({2**62}, 4)"),
        described("(-5,)"),
        described("(3.0,)"),
        described("(1,) * 9"),
        described("()", kind="|O"),
        described("(1,)", kind="|V2147483647"),
        described("(1,)", kind="nonsense"),
        described("(1,)", order="None"),
        "(" * 5000,
        "[" * 60000,
        "{'a':",
        "'" * 3,
        "",
    ],
)
def test_hostile_arrays_are_named(tmp_path, header):
    npz(tmp_path / "x.npz", header, body=b"\0" * 64)
    with pytest.raises(DataError, match=r"x\.npz is not a sound NPZ file") as caught:
        read_npz(tmp_path / "x.npz", [("x",)])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_any_flipped_byte_of_an_archive_is_survived(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).integers(0, 5, (40, 8)))
    whole = path.read_bytes()
    read, refused = 0, 0
    for place in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[place] ^= flip
            path.write_bytes(damaged)
            try:
                arrays = read_npz(path, [("x",)])
            except DataError:
                refused += 1
            else:
                assert list(arrays) == ["x"]
                read += 1
    assert refused > 4 * read


def test_one_group_of_arrays_is_read(tmp_path):
    path = tmp_path / "x.npz"
    groups = [("a", "b"), ("c",)]
    np.savez(path, a=1, b=2, z=3)
    assert list(read_npz(path, groups)) == ["a", "b"]
    for arrays, held in (
        ({"a": 1}, "holds a"),
        ({}, "holds nothing"),
        ({"a": 1, "b": 1, "c": 1}, "a, b, c"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=rf"one of: a and b; c\. It .*{held}"):
            read_npz(path, groups)
    np.save(tmp_path / "x.npy", np.eye(2))
    with pytest.raises(DataError, match="single array"):
        read_npz(tmp_path / "x.npy", groups)
    with pytest.raises(DataError, match="cannot read"):
        read_npz(tmp_path / "none.npz", groups)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("c.npy", b"no array")
    with pytest.raises(DataError, match="c is no array"):
        read_npz(path, groups)
