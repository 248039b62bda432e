from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from device.plain_loops import Double, plain_search
from privet.device import Network, Rules, promises
from privet.device.attribute import search
from privet.errors import DataError, OptionError


def test_same_picks_as_the_plain_loop_on_every_pair(guesser, ratings):
    found = search(guesser, ratings)
    assert found.cost.sum() > 300  # the search had work to do
    for target in range(6):
        perturbed = found.apply(ratings, np.full(len(ratings), target))
        for record in range(len(ratings)):
            expected, reached = plain_search(Double(guesser), ratings[record], target)
            np.testing.assert_array_equal(perturbed[record], expected.astype(np.float32))
            assert found.reached[record, target] == reached
            assert found.cost[record, target] == (expected != ratings[record]).sum()


@pytest.mark.parametrize("few", [0, 4, 300])
@pytest.mark.parametrize("parts", [1, 3, 16])
def test_same_picks_where_gradients_are_summed_in_parts(guesser, ratings, monkeypatch, few, parts):
    for name, number in {
        "WIDE": 1, "PARTS": parts, "FEW": few, "HEAD": 2, "LENGTH": 5, "CACHE": 100,
    }.items():  # fmt: skip
        monkeypatch.setattr(promises, name, number)
    narrowed, narrow = [0], promises.Shortlist._narrow

    def counted(self, column, delta, **options):
        narrowed[0] += len(column)
        return narrow(self, column, delta, **options)

    monkeypatch.setattr(promises.Shortlist, "_narrow", counted)
    high = np.where(np.arange(300) % 2, 0.6, 1.0)
    some = np.minimum(ratings[:20].astype(np.float64), high)
    found = search(guesser, some, rules=Rules(high=high, keep=np.arange(300) % 7 == 0))
    assert narrowed[0] > (found.cost.sum() // 10 if parts > 1 else -1)
    for target in range(6):
        moved = found.apply(some, np.full(20, target))
        for i in range(20):
            expected, _ = plain_search(
                Double(guesser), some[i], target, high=high, keep=np.arange(300) % 7 == 0
            )
            np.testing.assert_array_equal(moved[i], expected)


def test_results_do_not_depend_on_memory_or_sparsity(guesser, ratings):
    whole = search(guesser, ratings)
    for other in (
        search(guesser, ratings, memory=1),
        search(guesser, ratings, memory=300_000),
        search(guesser, sp.csr_array(ratings)),
        search(guesser, sp.coo_matrix(ratings.astype(np.float64))),
    ):
        for name in ("start", "feature", "value", "label", "reached"):
            np.testing.assert_array_equal(getattr(whole, name), getattr(other, name))


def test_reached_means_that_the_model_says_so(guesser, ratings):
    found = search(guesser, ratings)
    assert found.reached.mean() > 0.9
    for target in range(6):
        perturbed = found.apply(ratings, np.full(len(ratings), target))
        said = guesser.logits(perturbed).argmax(axis=1) == target
        np.testing.assert_array_equal(said, found.reached[:, target])
        changed = perturbed != ratings
        assert np.isin(perturbed[changed], [0.0, 1.0]).all()
        np.testing.assert_array_equal(changed.sum(axis=1), found.cost[:, target])


def test_own_label_is_free_and_targets_select_columns(guesser, ratings):
    found = search(guesser, ratings)
    own = guesser.logits(ratings).argmax(axis=1)
    np.testing.assert_array_equal(found.label, own)
    assert (found.cost[np.arange(len(own)), own] == 0).all()
    some = search(guesser, ratings, targets=[4, 1])
    np.testing.assert_array_equal(some.cost, found.cost[:, [4, 1]])
    np.testing.assert_array_equal(some.reached, found.reached[:, [4, 1]])


def test_max_steps_limits_and_none_means_untouched(guesser, ratings):
    assert search(guesser, ratings, max_steps=2).cost.max() == 2
    still = search(guesser, ratings, max_steps=0)
    assert still.cost.max() == 0
    np.testing.assert_array_equal(still.reached, still.label[:, None] == np.arange(6))


def test_margin_spends_more_and_leads_by_it(guesser, ratings):
    plain = search(guesser, ratings)
    eager = search(guesser, ratings, margin=2.0)
    assert eager.cost.sum() > plain.cost.sum()
    for target in range(6):
        moved = guesser.logits(eager.apply(ratings, np.full(len(ratings), target)))
        own = moved[:, target].copy()
        moved[:, target] = -np.inf
        sure = (eager.cost[:, target] > 0) & (eager.cost[:, target] < 90)
        assert (own - moved.max(axis=1))[sure].min() >= 2.0
    mixed = search(guesser, ratings, margin=np.where(np.arange(len(ratings)) < 30, 2.0, 0.0))
    np.testing.assert_array_equal(mixed.cost[:30], eager.cost[:30])
    np.testing.assert_array_equal(mixed.cost[30:], plain.cost[30:])


def test_gives_up_at_once_where_no_change_helps():
    hopeless = Network(
        (np.zeros((3, 4), np.float32), np.zeros((2, 3), np.float32)),
        (np.zeros(3, np.float32), np.array([1, 0], np.float32)),
    )
    found = search(hopeless, np.full((5, 4), 0.5))
    np.testing.assert_array_equal(found.reached, [[True, False]] * 5)
    assert found.cost.sum() == 0


def test_same_picks_where_the_search_wanders_without_arriving():
    rng = np.random.default_rng(0)
    w1, w2 = rng.normal(size=(6, 5)), rng.normal(size=(3, 6))
    net = Network((w1.astype("f4"), w2.astype("f4")), (np.zeros(6, "f4"), np.zeros(3, "f4")))
    x = rng.integers(0, 2, size=(40, 5)).astype(np.float32)
    found = search(net, x, max_steps=9)
    assert not found.reached.all()
    for target in range(3):
        moved = found.apply(x, np.full(40, target))
        np.testing.assert_array_equal((moved != x).sum(axis=1), found.cost[:, target])
        for i in range(40):
            expected, _ = plain_search(Double(net), x[i], target, max_steps=9)
            np.testing.assert_array_equal(moved[i], expected)


def test_gradient_matches_finite_differences_at_any_depth():
    rng = np.random.default_rng(2)
    sizes = (7, 9, 8, 5)
    weights = tuple(rng.normal(size=(o, i)).astype("f4") for i, o in pairwise(sizes))
    net = Network(weights, tuple(rng.normal(size=o).astype("f4") for o in sizes[1:]))
    x, target = rng.random((20, 7)), rng.integers(5, size=20)
    first = net.first(x)
    gradient = net.backward(net.forward(first), target) @ net.weights[0]

    def exact(inputs):
        for w, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
            inputs = np.maximum(inputs @ w.astype(float).T + b, 0)
        return (inputs @ net.weights[-1].astype(float).T + net.biases[-1])[np.arange(20), target]

    for feature in range(7):
        bump = np.zeros(7)
        bump[feature] = 1e-6
        slope = (exact(x + bump) - exact(x - bump)) / 2e-6
        np.testing.assert_allclose(gradient[:, feature], slope, atol=1e-3)


def test_deeper_networks_are_searched_too():
    rng = np.random.default_rng(4)
    sizes = (40, 30, 20, 4)
    weights = tuple(rng.normal(0, 0.4, size=(o, i)).astype("f4") for i, o in pairwise(sizes))
    net = Network(weights, tuple(np.zeros(o, "f4") for o in sizes[1:]))
    x = (rng.random((30, 40)) < 0.2).astype(np.float32)
    found = search(net, x)
    assert found.reached.mean() > 0.8
    said = net.logits(found.apply(x, np.full(30, 2))).argmax(axis=1)
    np.testing.assert_array_equal(said == 2, found.reached[:, 2])


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (np.full((2, 300), np.nan), "record 0, feature 0 is nan"),
        (np.eye(2, 300) * 1.5, "record 0, feature 0 is 1.5"),
        (np.zeros((2, 299)), "shape"),
        (np.zeros((0, 300)), "n at least 1"),
        (np.zeros(300), "shape"),
        (np.array([["a"] * 300]), "numbers"),
    ],
)
def test_bad_records_are_named(guesser, records, message):
    with pytest.raises(DataError, match=message):
        search(guesser, records)


def test_bad_options_are_named(guesser, ratings):
    for options in ({"targets": [6]}, {"targets": []}, {"max_steps": -1}, {"margin": -1.0}):
        with pytest.raises(OptionError):
            search(guesser, ratings, **options)
    found = search(guesser, ratings[:3])
    with pytest.raises(OptionError, match="choice"):
        found.apply(ratings[:3], np.array([0, 0, 6]))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 1.0]))
@settings(max_examples=30, deadline=None)
def test_values_stay_legal_for_any_network_and_density(seed, density):
    rng = np.random.default_rng(seed)
    net = Network(
        (rng.normal(size=(5, 12)).astype("f4"), rng.normal(size=(3, 5)).astype("f4")),
        (rng.normal(size=5).astype("f4"), rng.normal(size=3).astype("f4")),
    )
    x = (rng.random((7, 12)) < density) * rng.random((7, 12))
    found = search(net, x, max_steps=15)
    choice = rng.integers(3, size=7)
    moved = found.apply(x, choice)
    assert moved.dtype == x.dtype
    changed = moved != x
    assert np.isin(moved[changed], [0.0, 1.0]).all()
    np.testing.assert_array_equal(changed.sum(axis=1), found.cost[np.arange(7), choice])
    assert found.cost.max() <= 15
