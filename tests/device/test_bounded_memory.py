"""However wide a network or a record is, what many records take at once is bounded."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from privet.device import Bundle, Network, Settings, paths
from privet.device.matrices import MEMORY
from privet.device.mechanism import uniform
from privet.device.membership_rounds import Detector

MIB = 1 << 20


def wide(*sizes):
    rng = np.random.default_rng(0)
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    weights = tuple((rng.normal(size=s) / np.sqrt(s[1])).astype("f4") for s in shapes)
    return Network(weights, tuple(np.zeros(s[0], "f4") for s in shapes))


def peak_of(call):
    tracemalloc.start()
    result = call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, peak


@pytest.mark.slow
def test_a_wide_membership_network_searches_few_records_at_once(key):
    # One unit after another would take 1024 * 60,000 * 4 bytes each of several times: a GB.
    bundle = Bundle("membership", wide(2, 60_000, 1), settings=Settings(max_steps=2))
    rows = np.random.default_rng(1).dirichlet(np.ones(2), 1024)
    release, peak = peak_of(lambda: bundle.protect(rows, budget=0.5, key=key))
    assert peak < 1.5 * MEMORY
    assert release.records.sum(axis=1) == pytest.approx(1.0)


def test_many_classes_do_not_multiply_what_many_features_take(key, monkeypatch):
    # The gradients of 400 classes at 20,000 features are 32 MB.
    monkeypatch.setattr(paths, "MEMORY", 2 * MIB)
    settings = Settings(max_steps=1, mechanism="answers")
    bundle = Bundle("attribute", wide(20_000, 1, 400), settings=settings)
    row = np.zeros((1, 20_000))
    row[0, :3] = 1
    _, peak = peak_of(lambda: bundle.protect(row, budget=1.0, key=key))
    assert peak < 16 * MIB


@pytest.mark.parametrize("kind", ["attribute", "membership"])
def test_a_wide_network_says_what_it_believes_of_few_records_at_once(kind):
    outputs = 2 if kind == "attribute" else 1
    bundle = Bundle(kind, wide(2, 60_000, outputs))
    rows = np.random.default_rng(1).dirichlet(np.ones(2), 1500)
    together, peak = peak_of(lambda: bundle.posterior(rows))
    assert peak < 1.5 * MEMORY
    np.testing.assert_allclose(together[-3:], bundle.posterior(rows[-3:]), atol=1e-5)


@pytest.mark.parametrize(
    ("hidden", "batch"),
    [
        ((20, 10), 2048),
        ((256, 128, 64), 1024),
        ((4000, 2000), 1024),
        ((500_000,), 12),
        ((10**8,), 1),
    ],
)
def test_ordinary_networks_search_as_many_at_once_as_ever(hidden, batch):
    class Sized:
        """A network's sizes; its weights would not fit here."""

        sizes = (30, *hidden, 1)
        weights = (np.zeros((1, 2), "f4"), np.zeros((1, 1), "f4"))
        biases = (np.zeros(1, "f4"), np.zeros(1, "f4"))

    assert Detector(Sized()).batch == batch


def test_wide_sparse_records_are_never_made_dense(key):
    rng = np.random.default_rng(0)
    entries = rng.random((1024, 12)) * (rng.random((1024, 12)) < 0.9)
    columns = np.sort(
        rng.permuted(np.tile(np.arange(1 << 20, step=1 << 12), (1024, 1)), axis=1)[:, :12]
    )
    ends = 12 * np.arange(1025)
    rows = sp.csr_matrix((entries.ravel(), columns.ravel(), ends), shape=(1024, 1 << 20))
    numbers, peak = peak_of(lambda: uniform(key, rows))
    assert peak < 4 * MIB
    assert len(set(numbers)) == 1024
    for row in (0, 7, 1023):
        assert uniform(key, rows[row].toarray())[0] == numbers[row]
    assert rows.nnz == 1024 * 12


def test_sparse_and_dense_records_have_one_number(key):
    unsorted = sp.csr_matrix(
        ([0.5, 0.25, -0.5, 0.5, 1e-60, 2.0], [4, 1, 4, 2, 0, 0], [0, 4, 5, 5, 6]), shape=(4, 5)
    )
    before = unsorted.indices.copy()
    for each in (unsorted, unsorted.tocsc(), sp.coo_array(unsorted), unsorted.astype(np.float32)):
        np.testing.assert_array_equal(uniform(key, each), uniform(key, each.toarray()))
    np.testing.assert_array_equal(unsorted.indices, before)
