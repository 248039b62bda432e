import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from privet.device import Bundle, Network, load_bundle, quantized, write_bundle
from privet.device.quantize import PRECISIONS, from_levels, to_levels
from privet.errors import DataError, OptionError

weights = arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 6)),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


def network(weight):
    first, bias = np.asarray(weight, np.float32), np.array([0.1, -0.3], np.float32)
    last = np.eye(2, len(first), dtype=np.float32)
    return Network((first, last), (np.full(len(first), 0.7, np.float32), bias))


def same(a, b):
    for x, y in zip((*a.weights, *a.biases), (*b.weights, *b.biases), strict=True):
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype == np.float32


def test_int8_by_hand():
    # 127 / 127 = 1, a power of two: the scale needs no rounding.
    levels, scale = to_levels(np.array([[127, -63.5, 0.4], [0, 0, 0], [-254, 1, 3]], "f4"))
    np.testing.assert_array_equal(levels, [[127, -64, 0], [0, 0, 0], [-127, 0, 2]])
    np.testing.assert_array_equal(scale, [1, 1, 2])
    assert (levels.dtype, scale.dtype) == (np.int8, np.float32)
    np.testing.assert_array_equal(from_levels(levels, scale)[2], [-254, 0, 4])


@given(weights)
def test_int8_is_near_exact_and_settles_at_once(weight):
    levels, scale = to_levels(weight)
    assert abs(levels.astype(int)).max() <= 127
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
    back = from_levels(levels, scale)
    # The products are exact, so no order of rounding can tell implementations apart.
    np.testing.assert_array_equal(back, levels.astype(np.float64) * scale[:, None])
    # Half a level, and what rounding the scale moves the largest by.
    largest = abs(weight).max(axis=1, keepdims=True).astype(np.float64)
    assert (abs(back - weight.astype(np.float64)) <= largest * (0.5 / 127 + 2e-5) + 1e-36).all()
    again = to_levels(back)
    np.testing.assert_array_equal(again[0], levels)
    np.testing.assert_array_equal(again[1], scale)


def test_every_precision_keeps_what_it_must():
    rng = np.random.default_rng(0)
    exact = network(rng.normal(size=(3, 5)))
    for precision in PRECISIONS:
        coarse = quantized(exact, precision)
        same(quantized(coarse, precision), coarse)
    same(quantized(exact, "float32"), exact)
    half = quantized(exact, "float16")
    np.testing.assert_array_equal(half.weights[0], exact.weights[0].astype(np.float16))
    np.testing.assert_array_equal(half.biases[1], exact.biases[1].astype(np.float16))
    np.testing.assert_array_equal(quantized(exact, "int8").biases[1], exact.biases[1])


def test_what_cannot_be_stored_is_refused():
    with pytest.raises(DataError, match="infinite"):
        quantized(network([[1e6, 0], [0, 1]]), "float16")
    with pytest.raises(OptionError, match="float32, float16, int8; got 'int4'"):
        quantized(network([[1.0]] * 2), "int4")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_files_hold_the_quantized_network(precision, guesser, tmp_path):
    bundle = Bundle("attribute", guesser)
    digest = write_bundle(bundle, tmp_path / "a", precision=precision)
    loaded = load_bundle(tmp_path / "a")
    same(loaded.network, quantized(guesser, precision))
    # Written again it is the same file; stored in full it is other bytes, with the same digest.
    assert write_bundle(loaded, tmp_path / "b", precision=precision) == digest
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert write_bundle(loaded, tmp_path / "full") == digest
    full = (tmp_path / "full").stat().st_size
    share = {"float32": 1, "float16": 0.5, "int8": 0.25}[precision]
    assert (tmp_path / "a").stat().st_size == pytest.approx(share * full, abs=0.08 * full)


def test_networks_that_could_overflow_are_neither_written_nor_read(tmp_path):
    # The last layer has a gain of 1.3 and the biases add next to nothing: 1e30 is the limit.
    good = network([[7.6e29, 0], [0, 1]])
    write_bundle(Bundle("attribute", good), tmp_path / "good")
    with pytest.raises(DataError, match="gain"):
        write_bundle(Bundle("attribute", network([[7.8e29, 0], [0, 1]])), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
