import io
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.data import tables
from privet.errors import DataError


def write_tgz(path: Path, content: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))


def csv_rows(values: np.ndarray, heads: list[str] | None = None, newline: str = "\n") -> bytes:
    lines = [",".join(map(str, row)) for row in values]
    if heads is not None:
        lines = [f"{head},{line}" for head, line in zip(heads, lines, strict=True)]
    return (newline.join(lines) + newline).encode()


def bits(rows: int, features: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, size=(rows, features))


# index:score files


@pytest.mark.parametrize(
    "text",
    [
        b"0:1.0 2:0.5\n\n1:.2\n",
        b"0:1.0 2:0.5 \r\n\r\n1:0.2\r\n",
        b"2:0.5  0:1\n \n\t1:0.20 3:0.0",
    ],
)
def test_reads_scores(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "u.txt"
    path.write_bytes(text)
    table = tables.read_scores(path, features=4)
    expected = np.array([[1, 0, 0.5, 0], [0, 0, 0, 0], [0, 0.2, 0, 0]], dtype=np.float32)
    np.testing.assert_array_equal(table.toarray(), expected)
    assert table.nnz == 3
    assert table.has_canonical_format


@given(
    st.lists(
        st.dictionaries(st.integers(0, 49), st.sampled_from([0.2, 0.4, 0.6, 0.8, 1.0]), max_size=9),
        min_size=1,
        max_size=9,
    ).filter(any)
)
def test_scores_survive_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, users: list[dict[int, float]]
) -> None:
    path = tmp_path_factory.mktemp("scores") / "u.txt"
    path.write_text("".join(" ".join(f"{i}:{s}" for i, s in u.items()) + "\n" for u in users))
    expected = np.zeros((len(users), 50), np.float32)
    for row, user in enumerate(users):
        expected[row, list(user)] = list(user.values())
    np.testing.assert_array_equal(tables.read_scores(path, features=50).toarray(), expected)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"1:1.5", "'1:1.5'"),
        (b"1:-0.5", "'1:-0.5'"),
        (b"1:nan", "'1:nan'"),
        (b"4:1.0", "'4:1.0'"),
        (b"-1:1.0", "'-1:1.0'"),
        (b"1.5:1.0", "'1.5:1.0'"),
        (b"99999999999999999999:1.0", "'99999999999999999999:1.0'"),
        (b"1:0.5:1.0 3", "'1:0.5:1.0'"),
        (b"1: 0.5", "'1:'"),
        (b":1 2", "':1'"),
        (b"1 0.5", "'1'"),
        (b"1:x", "'1:x'"),
        (b"1:1.0 1:0.5", "index 1 appears twice"),
    ],
)
def test_names_the_pair_at_fault(tmp_path: Path, line: bytes, shown: str) -> None:
    path = tmp_path / "u.txt"
    path.write_bytes(b"0:1.0 2:0.5\n" + line + b"\n")
    with pytest.raises(DataError, match=r"u\.txt, line 2: ") as caught:
        tables.read_scores(path, features=4)
    assert shown in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"\n \n"])
def test_refuses_empty_files(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "u.txt"
    path.write_bytes(text)
    for read in (tables.read_scores, tables.read_labels):
        with pytest.raises(DataError, match="empty"):
            read(path, **({"features": 4} if read is tables.read_scores else {"classes": 2}))


def test_reads_labels(tmp_path: Path) -> None:
    path = tmp_path / "l.txt"
    path.write_bytes(b"0\r\n2 \r\n1")
    np.testing.assert_array_equal(tables.read_labels(path, classes=3), [0, 2, 1])


@pytest.mark.parametrize("label", ["3", "-1", "x", "1.5", "", "9" * 30])
def test_names_the_label_at_fault(tmp_path: Path, label: str) -> None:
    path = tmp_path / "l.txt"
    path.write_text(f"0\n{label}\n1\n")
    with pytest.raises(DataError, match="line 2") as caught:
        tables.read_labels(path, classes=3)
    assert label in str(caught.value)


def test_att_needs_a_label_for_every_user(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / f"{part}_user.txt").write_text("1:1.0\n2:0.5\n")
        (tmp_path / f"{part}_label.txt").write_text("0\n")
    with pytest.raises(DataError, match="2 rows need labels"):
        tables.load_att(tmp_path)


def test_real_att(real_data: Path) -> None:
    before = time.perf_counter()
    table = tables.load_att(real_data / "att")
    assert time.perf_counter() - before < 5
    assert (table.inputs.shape, table.classes, table.inputs.nnz) == ((14607, 10000), 25, 339463)
    assert table.test is not None
    assert (table.test.inputs.shape, table.test.inputs.nnz) == ((1631, 10000), 37134)
    assert table.inputs[0, 3] == 1
    assert table.inputs[1, 80] == np.float32(0.8)
    np.testing.assert_array_equal(table.labels[:3], [5, 4, 3])
    np.testing.assert_array_equal(np.unique(table.labels), np.arange(25))


# Zeros and ones in a tar archive


def test_real_location(real_data: Path) -> None:
    table = tables.load_location(real_data / "location")
    assert (table.inputs.shape, table.classes) == ((5010, 446), 30)
    np.testing.assert_array_equal(np.unique(table.inputs), [0, 1])
    np.testing.assert_array_equal(np.unique(table.labels), np.arange(30))
    np.testing.assert_array_equal(table.labels[:2], [12, 10])
    np.testing.assert_array_equal(table.inputs[0, :4], [0, 1, 0, 1])


def test_a_file_as_wide_as_its_first_line(tmp_path: Path) -> None:
    for width in (1, 5):
        write_tgz(
            tmp_path / "dataset_location.tgz", {"bangkok": csv_rows(bits(2, width), ['"1"', '"2"'])}
        )
        assert tables.load_location(tmp_path).inputs.shape == (2, width)
    write_tgz(tmp_path / "dataset_location.tgz", {"bangkok": b'"1"\n'})
    with pytest.raises(DataError, match="one column only"):
        tables.load_location(tmp_path)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_location_strips_quotes_and_counts_from_zero(tmp_path: Path, newline: str) -> None:
    values = bits(3, 446)
    text = csv_rows(values, ['"1"', '"30"', '"7"'], newline)
    write_tgz(tmp_path / "dataset_location.tgz", {"bangkok": text})
    table = tables.load_location(tmp_path)
    np.testing.assert_array_equal(table.inputs, values)
    np.testing.assert_array_equal(table.labels, [0, 29, 6])


@pytest.mark.parametrize("block", [64, 1300, 1 << 24])
def test_purchase_in_blocks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(tables, "_BLOCK", block)
    values = bits(7, 600)
    text = csv_rows(values, ["1", "100", "55", "2", "3", "4", "99"]).rstrip()
    write_tgz(tmp_path / "dataset_purchase.tgz", {"./dataset_purchase": text})
    table = tables.load_purchase100(tmp_path)
    np.testing.assert_array_equal(table.inputs, values)
    np.testing.assert_array_equal(table.labels, [0, 99, 54, 1, 2, 3, 98])
    assert table.classes == 100


def test_texas_in_both_orders_of_its_members(tmp_path: Path) -> None:
    values = bits(2, 6169)
    content = {"texas/100/feats": csv_rows(values), "texas/100/labels": b"100\n1\n"}
    for names in (content, dict(reversed(content.items()))):
        write_tgz(tmp_path / "dataset_texas.tgz", names)
        table = tables.load_texas100(tmp_path)
        np.testing.assert_array_equal(table.inputs, values)
        np.testing.assert_array_equal(table.labels, [99, 0])


def _purchase(folder: Path, text: bytes) -> None:
    write_tgz(folder / "dataset_purchase.tgz", {"dataset_purchase": text})
    tables.load_purchase100(folder)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("5" + ",0" * 599, "line 2: 600 columns"),
        ("5" + ",0" * 601, "line 2"),
        ("5" + ",0" * 598 + ",2,0", "line 2, column 600: '2' is not 0 or 1"),
        ("5" + ",0" * 599 + ",nan", "line 2"),
        ("5" + ";0" * 600, "line 2"),
        ("0" + ",0" * 600, r"line 2: label 0 is not in 1\.\.100"),
        ("101" + ",0" * 600, "line 2: label 101"),
        ("-1" + ",0" * 600, "line 2"),
        ("", "line 2"),
    ],
)
def test_names_the_row_at_fault(tmp_path: Path, second: str, message: str) -> None:
    good = "1" + ",1" * 600
    with pytest.raises(DataError, match=message):
        _purchase(tmp_path, f"{good}\n{second}\n{good}\n".encode())


def test_refuses_archives_that_are_empty_short_or_something_else(tmp_path: Path) -> None:
    path = tmp_path / "dataset_purchase.tgz"
    with pytest.raises(DataError, match="does not exist"):
        tables.load_purchase100(tmp_path)
    with pytest.raises(DataError, match="is empty"):
        _purchase(tmp_path, b"")
    write_tgz(path, {"other": b"1"})
    with pytest.raises(DataError, match="no member 'dataset_purchase'"):
        tables.load_purchase100(tmp_path)
    text = csv_rows(bits(500, 600), ["1"] * 500)
    write_tgz(path, {"dataset_purchase": text})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged or cut short"):
        tables.load_purchase100(tmp_path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="damaged or cut short"):
        tables.load_purchase100(tmp_path)


def test_links_in_archives_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(csv_rows(bits(1, 600), ["1"]))
    with tarfile.open(tmp_path / "dataset_purchase.tgz", "w:gz") as archive:
        info = tarfile.TarInfo("dataset_purchase")
        info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        archive.addfile(info)
    with pytest.raises(DataError, match="no member"):
        tables.load_purchase100(tmp_path)
