from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from privet.data import Table
from privet.data.table import joined, with_held_out
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


def test_sequences_are_rows_of_steps() -> None:
    table = Table(np.ones((2, 5, 3), np.float32), LABELS, classes=2, name="t")
    assert table.row_shape == (5, 3)
    assert not table.images


# Held-out rows


@pytest.mark.parametrize("kind", ["dense", "sparse", "mixed", "images"])
def test_joined_puts_the_test_rows_last(kind: str) -> None:
    rng = np.random.default_rng(0)
    shape = (3, 2, 2) if kind == "images" else (3,)
    ours, theirs = (rng.random((count, *shape)).astype(np.float32) for count in (4, 2))
    held = [ours, theirs]
    if kind in ("sparse", "mixed"):
        held[0] = sparse.csr_array(ours)
    if kind == "sparse":
        held[1] = sparse.csr_matrix(theirs)
    test = Table(held[1], LABELS, classes=2, name="test")
    table = Table(held[0], np.array([0, 1, 1, 0]), classes=2, name="t", test=test)
    whole = joined(table)
    found = whole.inputs.toarray() if sparse.issparse(whole.inputs) else whole.inputs
    np.testing.assert_array_equal(found, np.concatenate([ours, theirs]))
    np.testing.assert_array_equal(whole.labels, [0, 1, 1, 0, 0, 1])
    assert whole.test is None
    assert joined(whole) is whole


def animals(names: tuple[str, ...], labels: list[int], **changes: object) -> Table:
    """Rows whose only feature is the length of their class's name."""
    inputs = np.array([[len(names[label])] for label in labels], np.float32)
    table = Table(inputs, np.array(labels), classes=len(names), name="t", class_names=names)
    return replace(table, **changes)


def test_classes_of_held_out_rows_are_matched_by_name() -> None:
    table = animals(("cat", "horse", "wolf"), [0, 1, 2, 0])
    other = animals(("horse", "wolf"), [0, 1, 1], name="other")
    test = with_held_out(table, other).test
    assert test is not None
    assert [table.class_names[label] for label in test.labels] == ["horse", "wolf", "wolf"]
    np.testing.assert_array_equal(test.inputs[:, 0], [5, 4, 4])
    assert (test.classes, test.name) == (3, "other")


def test_the_datasets_own_held_out_rows_give_way() -> None:
    table, other = replace(dense(), test=dense(3)), dense(2)
    test = with_held_out(table, replace(other, test=dense(1))).test
    assert test is not None
    assert (len(test), test.test) == (2, None)


@pytest.mark.parametrize(
    ("table", "other", "message"),
    [
        (animals(("cat", "dog"), [0, 1]), animals(("cat", "wolf"), [0, 1]), "class 'wolf'"),
        (
            animals(("cat", "dog"), [0, 1], class_names=None),
            animals(("cat", "dog", "wolf"), [0, 1]),
            "3 classes; t 2",
        ),
        (dense(), replace(dense(), inputs=np.ones((6, 4), np.float32)), "shape"),
        (
            replace(dense(), feature_names=("a", "b", "c")),
            replace(dense(), feature_names=("a", "c", "b")),
            "columns must be those of",
        ),
    ],
)
def test_held_out_rows_unlike_the_others_are_refused(table, other, message) -> None:
    with pytest.raises(DataError, match=message):
        with_held_out(table, other)


def test_classes_without_names_keep_their_numbers() -> None:
    test = with_held_out(animals(("cat", "dog", "wolf"), [0, 1, 2]), dense_of_one()).test
    assert test is not None
    np.testing.assert_array_equal(test.labels, [0, 1])
    assert test.classes == 3


def dense_of_one() -> Table:
    return Table(np.ones((2, 1), np.float32), LABELS, classes=2, name="numbered")
