from pathlib import Path

import numpy as np
import pytest

from privet.data import load
from privet.errors import DataError


def write(path: Path, text: str) -> str:
    path.write_bytes(text.encode())
    return str(path)


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("t.csv", "1,2,0\n3,4,1\n", None),
        ("t.csv", "a,b,city\n1,2,0\n3,4,1\n", ("a", "b")),
        ("t.csv", "label,a,b\n0,1,2\n1,3,4\n", ("a", "b")),
        ("t.csv", "\ufeffa, Label ,b\r\n1,0,2\r\n3,1,4\r\n", ("a", "b")),
        ("t.csv", "a;b;c\n1;2;0\n3;4;1\n", ("a", "b")),
        ("t.tsv", '1\t2\t"Bonn"\n3\t4\tZadar', None),
        ("t.csv", "1,2,Bonn\n\n3,4,Zadar\n", None),
        ("t.csv", "1,2,-1\n3,4,5\n", None),
        ("t.csv", "1,2,0.0\n3,4,1.0\n", None),
    ],
)
def test_reads_tables(tmp_path: Path, name: str, text: str, names: tuple[str, ...] | None) -> None:
    table = load(write(tmp_path / name, text))
    np.testing.assert_array_equal(table.inputs, np.array([[1, 2], [3, 4]], np.float32))
    np.testing.assert_array_equal(table.labels, [0, 1])
    assert (table.classes, table.feature_names, table.name) == (2, names, "t")
    assert table.class_names is not None
    assert len(table.class_names) == 2


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["Zadar", "Bonn", "Köln"], ("Bonn", "Köln", "Zadar")),
        (["10", "9", "2"], ("2", "9", "10")),
        (["1.0", "-1.0", "7.0"], ("-1", "1", "7")),
    ],
)
def test_classes_are_called_what_the_file_calls_them(
    tmp_path: Path, labels: list[str], names: tuple[str, ...]
) -> None:
    text = "".join(f"1,2,{label}\n" for label in labels)
    path = tmp_path / "t.npz"
    arrays = [np.array(labels), np.array([label.encode() for label in labels])]
    tables = [load(write(tmp_path / "t.csv", text))]
    for array in arrays:
        np.savez(path, X=np.zeros((3, 2)), y=array)
        tables.append(load(str(path)))
    for table in tables:
        assert table.class_names == names
        assert [table.class_names[number] for number in table.labels] == [
            label.removesuffix(".0") for label in labels
        ]


@pytest.mark.parametrize("kind", [np.int8, np.uint64, np.float32, np.bool_])
def test_numbered_classes_of_an_npz_have_names_too(tmp_path: Path, kind: type) -> None:
    np.savez(tmp_path / "t.npz", X=np.eye(3), y=np.array([1, 0, 1], kind))
    table = load(str(tmp_path / "t.npz"))
    assert table.class_names == (("False", "True") if kind is np.bool_ else ("0", "1"))
    assert table.take(np.array([0])).class_names == table.class_names


def test_integer_labels_sort_by_value(tmp_path: Path) -> None:
    table = load(write(tmp_path / "t.csv", "1,10\n1,9\n1,2\n"))
    np.testing.assert_array_equal(table.labels, [2, 1, 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,0\n3,1\n", r"line 2: 2 columns; line 1 has 3"),
        ("1,2,0\n3,1,1,1\n", r"line 2: 4 columns"),
        ("1,2,0\n3,x,1\n", r"line 2, column 2: 'x'"),
        ("a,b,label\n1,2,0\n3,nan,1\n", r"line 3, column 2: 'nan'"),
        ("a,b,label\n1,2,0\n3,,1\n", r"line 3, column 2: ''"),
        ("1,2,0\n3,1e99,1\n", r"line 2, column 2: '1e99'"),
        ("1,2,0\n3,inf,1\n", r"line 2, column 2"),
        ("a,b,label\n1,2,0\n3,4,\n", "line 3: the label is empty"),
        ("1,2,0.5\n3,4,1.5\n", "row 0 has label 0.5"),
        ("1,2,7\n3,4,7\n", "all labels are 7"),
        ("a,b,label\n", "no rows"),
        ("1\n2\n", "one column"),
        ("", "empty"),
    ],
)
def test_names_the_cell_at_fault(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "t.csv", text))


def test_refuses_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe1,2\n")
    with pytest.raises(DataError, match="UTF-8"):
        load(str(tmp_path / "t.csv"))
    (tmp_path / "t.csv").write_bytes(b"1,2\n3,\xff\n")
    with pytest.raises(DataError, match=r"t\.csv"):
        load(str(tmp_path / "t.csv"))


@pytest.mark.parametrize("names", [("inputs", "labels"), ("X", "y")])
def test_reads_npz(tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, **{names[0]: np.eye(3), names[1]: np.array([5, 7, 5], np.uint8)})
    table = load(str(path))
    np.testing.assert_array_equal(table.inputs, np.eye(3, dtype=np.float32))
    np.testing.assert_array_equal(table.labels, [0, 1, 0])


def test_npz_images_of_bytes_are_scaled(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez_compressed(path, X=np.full((2, 3, 4, 4), 255, np.uint8), y=["cat", "dog"])
    table = load(str(path))
    assert table.images
    assert np.asarray(table.inputs).max() == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": np.eye(2)}, "must hold one of: inputs and labels; X and y. It holds inputs"),
        ({"X": np.array([{}, {}]), "y": np.arange(2)}, "not a sound NPZ"),
        ({"X": np.eye(2), "y": np.eye(2)}, "one label for each of 2 rows"),
        ({"X": np.array([["a"], ["b"]]), "y": np.arange(2)}, "must be rows of numbers"),
        ({"X": np.full((2, 2), np.nan), "y": np.arange(2)}, "row 0, column 0"),
        ({"X": np.eye(3), "y": np.arange(2)}, "3 rows"),
        ({"X": np.eye(2), "y": np.array([0.5, 1])}, "row 0 has label 0.5"),
    ],
)
def test_refuses_unfit_npz(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message):
        load(str(path))


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (np.float64(3), np.arange(2), "rows of numbers"),
        (np.eye(2) * 1j, np.arange(2), "rows of numbers"),
        (np.zeros((2, 2), "M8[s]"), np.arange(2), "rows of numbers"),
        (np.zeros((0, 3)), np.zeros(0), "labels are missing"),
        (np.zeros((2, 0)), np.arange(2), "no data"),
        (np.full((2, 2), 1e300), np.arange(2), "NaN or infinite"),
        (np.eye(2), np.array([1, 2], "M8[s]"), "integers or names"),
        (np.eye(2), np.array([np.nan, 1]), "row 0 has label nan"),
        (np.eye(2), np.array(3), "one label for each"),
    ],
)
def test_refuses_arrays_of_other_kinds(
    tmp_path: Path, inputs: np.ndarray, labels: np.ndarray, message: str
) -> None:
    np.savez(tmp_path / "t.npz", X=inputs, y=labels)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "t.npz"))


def test_refuses_damaged_deflate_bytes(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez_compressed(path, X=np.random.default_rng(0).random((50, 4)), y=np.arange(50))
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.npz is not a sound NPZ"):
        load(str(path))


def test_refuses_a_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, X=np.eye(50), y=np.arange(50))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="not a sound NPZ"):
        load(str(path))
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="not a sound NPZ"):
        load(str(path))


@pytest.mark.parametrize("header", ["a,a,label", ",b,label", "a, a ,label"])
def test_columns_without_a_name_of_their_own_are_refused(tmp_path, header):
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n1,2,x\n3,4,y\n")
    with pytest.raises(DataError, match="name of its own"):
        load(str(path))


def test_numbers_are_no_names(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("0,1,label\n1,2,x\n3,4,y\n")
    table = load(str(path))
    assert table.feature_names is None
    assert len(table) == 2
