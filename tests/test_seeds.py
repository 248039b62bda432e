import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.seeds import derive, generator


@pytest.mark.parametrize(
    ("purpose", "expected"),
    [
        ((0,), 7896617691693857887),
        ((7, "shadow", 3), 4114542296437194055),
        ((2**40, "epoch", 0, "x"), 230290172757773420),
    ],
)
def test_seeds_never_change(purpose, expected):
    assert derive(*purpose) == expected


@given(st.integers(0, 2**63 - 1), st.lists(st.text(max_size=5) | st.integers(0, 2**40), max_size=3))
def test_seeds_have_63_bits_and_repeat(seed, purpose):
    derived = derive(seed, *purpose)
    assert 0 <= derived < 2**63
    assert derive(seed, *purpose) == derived
    assert generator(seed, *purpose).random() == np.random.default_rng(derived).random()


def test_different_purposes_get_different_seeds():
    purposes = [
        (seed, name, number)
        for seed, name, number in itertools.product(range(10), ("epoch", "fold", "a"), range(50))
    ]
    assert len({derive(*purpose) for purpose in purposes}) == len(purposes)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((7,), (7, "x")),
        ((7, "x"), (8, "x")),
        ((7, "x", 1), (7, 1, "x")),
        ((7, "x", 1), (7, "x", 2)),
        ((7, "x", 1), (7, "x1")),
        ((7, "1"), (7, 1)),
        ((7, "x"), (7, "x", 0)),
        ((7,), (7, 0)),
        ((7 + 5 * 2**32,), (7, 5)),
    ],
)
def test_purposes_that_look_alike_get_different_seeds(one, other):
    assert derive(*one) != derive(*other)


def test_streams_of_different_purposes_are_uncorrelated():
    names = ("fold", "epoch", "attack", "round")
    streams = np.stack(
        [generator(7, name, k).normal(size=10_000) for name in names for k in (1, 2)]
    )
    products = streams @ streams.T / 10_000
    # A mean of 10,000 products of independent normals has standard error 0.01.
    np.testing.assert_allclose(products[~np.eye(8, dtype=bool)], 0, atol=0.045)


def test_nested_seeds_do_not_meet_their_parents():
    outer = derive(7, "target")
    assert derive(outer, "epoch", 1) != derive(7, "epoch", 1)
    assert derive(outer) != outer
