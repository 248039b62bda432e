from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from privet.data import Table
from privet.errors import DataError


def dense(rows: int = 6) -> Table:
    inputs = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    return Table(inputs, np.arange(rows, dtype=np.int64) % 2, classes=2, name="t")


def csr() -> sparse.csr_array:
    return sparse.csr_array(np.array([[0, 1, 0], [2, 0, 3]], dtype=np.float32))


LABELS = np.array([0, 1], dtype=np.int64)


@pytest.mark.parametrize("kind", ["dense", "array", "matrix", "images"])
def test_accepts_every_kind_of_inputs(kind: str) -> None:
    inputs = {
        "dense": np.ones((2, 3), np.float32),
        "array": csr(),
        "matrix": sparse.csr_matrix(csr()),
        "images": np.ones((2, 3, 4, 5), np.float32),
    }[kind]
    table = Table(inputs, LABELS, classes=2, name="t")
    assert len(table) == 2
    assert table.images == (kind == "images")
    assert table.row_shape == ((3, 4, 5) if kind == "images" else (3,))
    assert table.take(np.array([1])).inputs.shape == (1, *table.row_shape)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_take_returns_rows_in_the_order_asked_for(indices: list[int]) -> None:
    table = dense()
    taken = table.take(np.array(indices))
    np.testing.assert_array_equal(taken.inputs, np.asarray(table.inputs)[indices])
    np.testing.assert_array_equal(taken.labels, table.labels[indices])
    assert (taken.classes, taken.name) == (2, "t")
    assert replace(table, class_names=("a", "b")).take(np.array(indices)).class_names == ("a", "b")


def test_take_leaves_the_test_table_behind() -> None:
    assert replace(dense(), test=dense(2)).take(np.array([0])).test is None


@pytest.mark.parametrize("index", [-1, 6])
def test_take_refuses_indices_outside(index: int) -> None:
    with pytest.raises(DataError, match=rf"rows 0\.\.5; got {index}"):
        dense().take(np.array([0, index]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_names_the_place_of_a_value_that_is_not_finite(value: float) -> None:
    inputs = np.ones((2, 3), np.float32)
    inputs[1, 2] = value
    with pytest.raises(DataError, match="row 1, column 2 is NaN"):
        Table(inputs, LABELS, classes=2, name="t")
    broken = csr()
    broken.data[1] = value
    with pytest.raises(DataError, match="row 1, column 0 is NaN"):
        Table(broken, LABELS, classes=2, name="t")


def test_image_values_lie_between_zero_and_one() -> None:
    inputs = np.zeros((2, 3, 4, 4), np.float32)
    inputs[1, 2, 3, 0] = 1.5
    with pytest.raises(DataError, match=r"row 1, column \(2, 3, 0\)"):
        Table(inputs, LABELS, classes=2, name="t")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 2])}, r"labels must lie in 0\.\.1; row 1 has 2"),
        ({"labels": np.array([-1, 0])}, "row 0 has -1"),
        ({"labels": np.array([0])}, r"labels of shape \(2,\)"),
        ({"labels": np.array([0, 1], np.int32)}, "int64; got int32"),
        ({"classes": 1}, "at least two classes"),
        ({"inputs": np.ones((2, 3))}, "float32; got float64"),
        ({"inputs": np.ones(2, np.float32)}, r"got \(2,\)"),
        ({"inputs": np.ones((2, 1, 4, 4), np.float32)}, "3, height, width"),
        ({"inputs": np.ones((0, 3), np.float32), "labels": LABELS[:0]}, "no data"),
        ({"inputs": sparse.csc_array(np.ones((2, 3), np.float32))}, "must be CSR"),
        ({"feature_names": ("a", "b")}, "2 feature names"),
        ({"class_names": ("a", "b", "c")}, "3 class names for 2 classes"),
        (
            {"test": Table(np.ones((1, 4), np.float32), LABELS[:1], classes=2, name="x")},
            "test rows have shape",
        ),
    ],
)
def test_refuses_parts_that_do_not_fit(change: dict[str, object], message: str) -> None:
    table = Table(np.ones((2, 3), np.float32), LABELS, classes=2, name="t")
    with pytest.raises(DataError, match=message):
        replace(table, **change)


def test_rows_without_entries_are_fine() -> None:
    table = Table(sparse.csr_array((2, 3), dtype=np.float32), LABELS, classes=2, name="t")
    assert table.inputs.nnz == 0
