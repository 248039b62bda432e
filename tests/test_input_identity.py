"""Whatever a model reads as the same input is one to the one-time randomness, however spelled."""

from collections import OrderedDict
from datetime import date
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.pipeline import make_pipeline

from privet import ProtectedClassifier
from privet.device import Bundle, Network
from privet.device.identity import identity
from privet.device.mechanism import uniform
from privet.errors import DataError

KEY = bytes(range(32))
NEGATIVE_NAN = np.copysign(np.nan, -1.0)
ODD_NAN = np.array([0x7FF8000000000ABC]).view(np.float64)[0]


def numbers(X):
    return uniform(KEY, identity(X)).tolist()


def alone(X):
    return [number for row in range(len(X)) for number in numbers(X[row : row + 1])]


def bundle_for(classes):
    rng = np.random.default_rng(classes)
    first = rng.normal(0, 0.3, (12, classes)).astype(np.float32)
    last = np.ones((1, 12), np.float32)
    bias = -last @ np.maximum(first @ np.linspace(0.02, 0.6, classes, dtype=np.float32), 0)
    return Bundle("membership", Network((first, last), (np.zeros(12, np.float32), bias)))


def people(n, seed):
    """Eight numbers each, some missing, and which of three classes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 8))
    y = np.digitize(X[:, 0] + X[:, 1] + rng.normal(size=n), [-1, 1])
    X[rng.random(X.shape) < 0.1] = np.nan
    return X, y


def test_a_model_of_numbers_answers_alike_however_they_are_spelled():
    X, y = people(60, seed=0)
    model = HistGradientBoostingClassifier(max_iter=8).fit(X, y)
    served = ProtectedClassifier(model, bundle_for(3), budget=0.3, key=KEY)
    expected = served.predict_proba(X)
    assert (expected != model.predict_proba(X)).any()
    flipped = np.where(np.isnan(X), NEGATIVE_NAN, X)
    none = [[None if cell != cell else cell for cell in row] for row in X.tolist()]
    for spelled in (X.astype(object), X.tolist(), none, flipped, flipped.astype(object)):
        np.testing.assert_array_equal(model.predict_proba(spelled), model.predict_proba(X))
        np.testing.assert_allclose(served.predict_proba(spelled), expected, atol=1e-5)


def test_mappings_are_the_same_in_any_order():
    rng = np.random.default_rng(0)
    rows = [{name: float(rng.normal()) for name in "abcdef"} for _ in range(40)]
    y = np.arange(40) % 3
    model = make_pipeline(DictVectorizer(), RandomForestClassifier(20, random_state=0)).fit(rows, y)
    served = ProtectedClassifier(model, bundle_for(3), budget=0.3, key=KEY)
    turned = [OrderedDict(reversed(row.items())) for row in rows]
    np.testing.assert_array_equal(served.predict_proba(turned), served.predict_proba(rows))
    coarse = [{name: np.float32(cell) for name, cell in row.items()} for row in rows]
    assert numbers(coarse) == numbers(rows)
    assert len(set(numbers(rows))) == 40


cells = st.one_of(
    st.floats(width=32), st.integers(-(2**70), 2**70), st.booleans(), st.none(), st.just(ODD_NAN)
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(cells, min_size=2, max_size=2), min_size=1, max_size=4))
def test_other_rows_do_not_matter(rows):
    with np.errstate(all="ignore"):
        plain = np.array(rows, dtype=object).astype(np.float64)
    expected = numbers(plain)
    assert numbers(rows) == expected
    assert alone(rows) == expected
    assert numbers([*rows, ["text", None]])[:-1] == expected
    assert numbers(np.array([*rows, [b"text", 1]], dtype=object))[:-1] == expected
    assert numbers(sp.csr_matrix(plain)) == expected


def test_numbers_are_one_in_every_type():
    for same in (
        [0.5, np.float32(0.5), "0.5", np.str_(" 5e-1"), Decimal("0.5"), Fraction(1, 2), b"0.5"],
        [1, True, 1.0, np.int8(1), np.bool_(True), "1", np.longdouble(1)],
        [0.1, np.float32(0.1), np.array(0.1), 0.1 + 1e-12],
        [0.0, -0.0, False, "-0"],
        [np.nan, NEGATIVE_NAN, ODD_NAN, None, "nan", float("nan")],
        [np.inf, 1e300, 10**400, "inf"],
    ):
        for row in ([], [2.5], ["text"]):
            each = {numbers([[*row, cell, 7]])[0] for cell in same}
            arrays = {numbers(np.array([[*row, cell, 7]], dtype=object))[0] for cell in same}
            assert len(each | arrays) == 1, same


def test_text_is_one_in_every_type():
    texts = ["spam", "eggs and\nham", "\u00e9"]
    expected = numbers(texts)
    assert len(set(expected)) == 3
    assert numbers(np.array(texts)) == numbers(np.array(texts, dtype=object)) == expected
    assert numbers(list(map(np.str_, texts))) == alone(texts) == expected
    assert numbers([text.encode() for text in texts]) == expected
    assert numbers([[text] for text in texts]) == expected


def test_what_was_told_apart_still_is():
    rows = [
        ["a", 1],
        ["a", 2],
        ["a", 0.1],
        ["a", None],
        ["b", 1],
        [1, "a"],
        ["a", date(2020, 1, 1)],
    ]
    rows += [["a", {"x": 1}], ["a", {"x": 2}], ["a", {"y": 1}], ["a", {1, 2}], ["a", 1 + 2j]]
    assert len(set(numbers(rows))) == len(rows)
    assert alone(rows) == numbers(rows)


def test_the_identities_of_ordinary_inputs_stay_what_they_were():
    import hashlib
    import hmac

    X, _ = people(5, seed=1)
    np.testing.assert_array_equal(identity(X), X.astype(np.float32))
    assert identity(X).tobytes() == X.astype(np.float32).tobytes()
    for row in (["spam"], ["a", 0.1, 3], ["a", 1e-5, -2.5]):
        spelled = [repr(cell if type(cell) is str else float(cell)) for cell in row]
        content = hashlib.sha256("\n".join(spelled).encode()).digest()
        present = [(place, byte) for place, byte in enumerate(content) if byte]
        message = b"privet one-time randomness 1\n"
        message += np.array([place for place, _ in present], "<u4").tobytes()
        message += np.array([byte for _, byte in present], "<f4").tobytes()
        digest = hmac.new(KEY, message, hashlib.sha256).digest()
        assert numbers([row]) == [(int.from_bytes(digest[:8], "big") >> 11) / 2**53]


def test_sets_are_the_same_in_any_order_and_lists_may_differ_in_length():
    assert numbers([{"a", "b", "c"}]) == numbers([{"c", "b", "a"}])
    ragged = [["a", "b"], ["c"], [1, 2, 3]]
    assert numbers(ragged) == alone(ragged)
    assert numbers([{"x": [1, 2]}]) == numbers([{"x": np.array([1.0, 2.0])}])


@pytest.mark.parametrize("place", [lambda cell: [[cell, 1]], lambda cell: [{"x": [cell]}]])
def test_objects_that_another_run_would_spell_otherwise_are_refused(place):
    with pytest.raises(DataError, match="cannot be told from other inputs"):
        identity(place(object()))


def test_entries_that_a_sparse_matrix_lists_twice_are_one():
    twice = sp.csr_matrix(([0.1, 0.2, 1.0], [3, 3, 0], [0, 3]), shape=(1, 5))
    assert numbers(twice) == numbers(twice.toarray())
    assert twice.nnz == 3
    vast = np.array([[0, 1e300, NEGATIVE_NAN]])
    assert numbers(sp.coo_array(vast)) == numbers(vast) == numbers(vast.tolist())
    assert uniform(KEY, np.array([[np.nan]])) == uniform(KEY, np.array([[NEGATIVE_NAN]]))
