"""What a person may say about the changes, and what then holds whatever the network."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from device.plain_loops import Double, plain_search
from privet.device import Bundle, Network, Rules, Settings, promises
from privet.device.attribute import search
from privet.device.mechanism import least_divergence
from privet.device.rules import work_out
from privet.errors import DataError, OptionError

POLICIES = ("modify_add", "modify_exist", "add_new")
KEYS = st.binary(min_size=32, max_size=32)


def random_network(rng, sizes):
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    return Network(
        tuple(rng.normal(size=shape).astype("f4") for shape in shapes),
        tuple(rng.normal(size=shape[0]).astype("f4") for shape in shapes),
    )


@pytest.fixture(params=["gradient", "shortlist", "short of a shortlist"])
def way(request, monkeypatch):
    """Both ways to the best change, and a list so short and late that both take turns."""
    monkeypatch.setattr(promises, "LENGTH", {"shortlist": 40}.get(request.param, 3))
    monkeypatch.setattr(promises, "ENOUGH", 10**6 if request.param == "gradient" else 1)
    monkeypatch.setattr(promises, "LATE", {"shortlist": 16}.get(request.param, 2))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kept", ["nothing", "features", "entries"])
def test_same_picks_as_the_plain_loop_under_any_rules(guesser, ratings, way, policy, kept):
    rng = np.random.default_rng(0)
    few = np.where(
        np.arange(300) % 3 == 0, 0.8, ratings[:12].astype(np.float64)
    )  # entries above what is legal too
    low, high = np.where(np.arange(300) % 5 == 0, 0.2, 0.0), np.where(np.arange(300) % 2, 0.6, 1.0)
    keep = {
        "nothing": np.zeros(300, np.bool_),
        "features": rng.random(300) < 0.5,
        "entries": rng.random((12, 300)) < 0.5,
    }[kept]
    rules = Rules(policy, keep=keep, low=low, high=high)
    found = search(guesser, few, max_steps=12, rules=rules)
    assert found.cost.sum() > 0
    for target in range(6):
        moved = found.apply(few, np.full(12, target))
        for i in range(12):
            mask = keep if keep.ndim == 1 else keep[i]
            expected, reached = plain_search(
                Double(guesser), few[i], target,
                max_steps=12, policy=policy, keep=mask, low=low, high=high,
            )  # fmt: skip
            np.testing.assert_array_equal(moved[i], expected)
            assert found.reached[i, target] == reached


def test_the_shortlist_picks_what_the_gradient_picks(guesser, ratings, way):
    found = search(guesser, ratings)
    for target in range(6):
        moved = found.apply(ratings, np.full(len(ratings), target))
        for i in range(0, len(ratings), 3):
            expected, _ = plain_search(Double(guesser), ratings[i], target)
            np.testing.assert_array_equal(moved[i], expected.astype(np.float32))


def test_a_shortlist_mostly_spares_the_gradient(guesser, ratings, monkeypatch):
    monkeypatch.setattr(promises, "LENGTH", 64)
    asked, by_gradient = [0], promises.by_gradient

    def counted(network, pairs, delta, **options):
        asked[0] += len(pairs)
        return by_gradient(network, pairs, delta, **options)

    monkeypatch.setattr(promises, "by_gradient", counted)
    found = search(guesser, ratings)
    assert found.cost.sum() > 0
    assert asked[0] < 0.3 * found.cost.sum()


def test_rules_may_be_sparse_and_say_nothing(guesser, ratings):
    mask = np.random.default_rng(1).random(ratings.shape) < 0.3
    dense = search(guesser, ratings, rules=Rules(keep=mask))
    for keep in (sp.csr_array(mask), sp.coo_matrix(mask)):
        other = search(guesser, sp.csr_array(ratings), rules=Rules(keep=keep))
        np.testing.assert_array_equal(dense.feature, other.feature)
        np.testing.assert_array_equal(dense.start, other.start)
    plain, silent = search(guesser, ratings), search(guesser, ratings, rules=Rules())
    np.testing.assert_array_equal(plain.feature, silent.feature)
    frozen = search(guesser, ratings, rules=Rules(keep=np.ones(300, np.bool_)))
    assert frozen.cost.sum() == 0


def test_legal_values_are_released_to_the_last_digit(guesser, ratings, key):
    scores = np.round(ratings.astype(np.float64) * 4 / 5 + 0.0, 1)
    bundle = Bundle("attribute", guesser, settings=Settings(high=0.8))
    released = bundle.protect(scores, budget=3.0, key=key).records
    assert 0.8 in released[released != scores]
    assert np.isin(released[released != scores], [0.0, 0.8]).all()


@given(
    seed=st.integers(0, 2**32 - 1),
    policy=st.sampled_from(POLICIES),
    budget=st.floats(0.05, 8),
    keys=st.tuples(KEYS, KEYS),
    sizes=st.sampled_from([(30, 8, 4), (30, 6, 5, 3)]),
)
@settings(max_examples=60, deadline=None)
def test_a_release_keeps_every_promise(seed, policy, budget, keys, sizes):
    rng = np.random.default_rng(seed)
    n, features, classes = 9, sizes[0], sizes[-1]
    steps = np.array([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    low = rng.choice(steps[:3], features)
    high = np.maximum(low, rng.choice(steps[2:], features))
    x = rng.choice([0, 1], (n, features), p=[0.7, 0.3]) * rng.choice(steps, (n, features))
    x = np.where(x == 0, 0, np.clip(x, low, high))
    keep = rng.random((n, features) if seed % 2 else features) < 0.3
    prior = rng.dirichlet(np.ones(classes), size=n)
    budgets = rng.uniform(0.5, 1.5, n) * budget
    bundle = Bundle("attribute", random_network(rng, sizes), settings=Settings(max_steps=12))
    rules = Rules(policy, keep=keep, low=low, high=high)
    options = {"budget": budgets, "prior": prior, "rules": rules}
    release = bundle.protect(x, key=keys[0], **options)
    changed = release.records != x
    # The budget holds in expectation, recomputed from the candidates.
    found = search(bundle.network, x, max_steps=12, rules=rules)
    psi = least_divergence(prior, found.cost, budgets)
    np.testing.assert_allclose((psi * found.cost).sum(axis=1), release.expected_cost)
    assert (release.expected_cost <= budgets + 1e-9).all()
    np.testing.assert_array_equal(changed.sum(axis=1), release.cost)
    # Forbidden entries are untouched, and values stay legal.
    assert not (changed & keep).any()
    assert not (changed & (x == 0)).any() or policy != "modify_exist"
    assert not (changed & (x > 0)).any() or policy != "add_new"
    legal = (release.records == low) | (release.records == high)
    assert legal[changed].all()
    # Asking again reveals nothing, whatever else is asked about.
    again = bundle.protect(x, key=keys[0], **options)
    np.testing.assert_array_equal(again.records, release.records)


def test_releases_under_two_keys_are_independent(guesser, ratings):
    bundle = Bundle("attribute", guesser)
    one, other = (
        np.array([
            bundle.protect(ratings, budget=100.0, key=bytes([fill, secret]) * 16).target
            for secret in range(60)
        ])
        for fill in (1, 2)
    )  # fmt: skip
    # Even prior over 6 classes: keys that agree more or less often than 1 in 6 would be related.
    agree = (one == other).mean()
    assert abs(agree - 1 / 6) < 5 * np.sqrt(5 / 36 / one.size)
    counts = np.zeros((6, 6))
    np.add.at(counts, (one.ravel(), other.ravel()), 1)
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 60  # chi-squared, 25 degrees of freedom


def test_everyone_may_have_a_prior(guesser, ratings, key):
    rng = np.random.default_rng(0)
    bundle = Bundle("attribute", guesser)
    wanted = rng.integers(6, size=len(ratings))
    certain = bundle.protect(ratings, budget=100.0, key=key, prior=np.eye(6)[wanted])
    np.testing.assert_array_equal(certain.target, wanted)
    shared = rng.dirichlet(np.ones(6))
    one = bundle.protect(ratings, budget=2.0, key=key, prior=shared)
    same = bundle.protect(ratings, budget=2.0, key=key, prior=np.tile(shared, (len(ratings), 1)))
    np.testing.assert_array_equal(one.records, same.records)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 30))
@settings(max_examples=100, deadline=None)
def test_priors_of_many_solve_like_priors_of_one(seed, budget):
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.full(7, 0.3), size=10)
    costs = rng.integers(0, 20, size=(10, 7)) * (np.arange(7) != rng.integers(7, size=(10, 1)))
    budgets = budget * rng.uniform(0.5, 2, size=10)
    together = least_divergence(prior, costs, budgets)
    for i in range(10):
        alone = least_divergence(prior[i], costs[i : i + 1], budgets[i])
        np.testing.assert_allclose(together[i : i + 1], alone, atol=1e-9)


@pytest.mark.parametrize(
    ("rules", "match"),
    [
        ({"policy": "add"}, "policy must be one of modify_add, modify_exist, add_new"),
        ({"keep": np.zeros(299, np.bool_)}, "keep must be"),
        ({"keep": np.zeros(300)}, "float64"),
        ({"keep": sp.csr_array(np.zeros((59, 300), np.bool_))}, "keep must be"),
        ({"low": 0.5, "high": 0.4}, "feature 0 is 0.5, above its highest, 0.4"),
        ({"low": -0.1}, "low must lie in 0..1; got -0.1"),
        ({"high": np.nan}, "high must lie in 0..1"),
        ({"high": [1.0] * 299}, "300, one a feature"),
        ({"high": "much"}, "high must be numbers"),
    ],
)
def test_rules_that_do_not_fit_are_named(guesser, ratings, rules, match):
    with pytest.raises(OptionError, match=match):
        search(guesser, ratings, rules=Rules(**rules))


def test_whole_numbers_cannot_hold_a_share(guesser, ratings):
    binary = (ratings > 0).astype(np.int8)
    search(guesser, binary, max_steps=1, rules=Rules(high=np.ones(300)))
    with pytest.raises(OptionError, match="give them as floats"):
        search(guesser, binary, rules=Rules(high=0.8))


def test_misplaced_priors_and_rules_are_refused(guesser, detector, ratings, logits, key):
    bundle = Bundle("attribute", guesser)
    bad = np.full((len(ratings), 6), 1 / 6)
    bad[7] = 0.1
    with pytest.raises(DataError, match=r"prior of record 7 .* sums to 0\.6"):
        bundle.protect(ratings, budget=2, key=key, prior=bad)
    with pytest.raises(DataError, match=r"\(6,\) or \(60, 6\)"):
        bundle.protect(ratings, budget=2, key=key, prior=np.full((59, 6), 1 / 6))
    with pytest.raises(DataError, match=r"shape \(6,\); got"):
        Bundle("attribute", guesser, prior=bad)
    guard = Bundle("membership", detector)
    for extra in ({"prior": [1.0]}, {"rules": Rules()}):
        with pytest.raises(OptionError, match="attribute bundles only"):
            guard.protect(logits, budget=1, key=key, logits=True, **extra)
    with pytest.raises(DataError, match="no settings but"):
        Bundle("membership", detector, settings=Settings(policy="add_new"))


def test_a_person_is_stricter_than_the_bundle(guesser, ratings, key):
    bundle = Bundle("attribute", guesser, settings=Settings(policy="add_new", high=0.8))
    keep = np.arange(300) < 150
    scores = ratings.astype(np.float64)
    release = bundle.protect(scores, budget=3.0, key=key, rules=Rules(keep=keep))
    changed = release.records != scores
    assert changed.any()
    assert (release.records[changed] == 0.8).all()
    assert not changed[:, :150].any()
    assert not changed[scores > 0].any()


def test_neither_the_person_nor_the_bundle_lifts_what_the_other_never_changes():
    both = Rules(never=(4, 7)).over(Rules(never=(1, 4)))
    assert both.never == (1, 4, 7)
    with pytest.raises(OptionError, match=r"0\.\.39; got -1"):
        work_out(Rules(never=(-1, 3)), np.zeros((2, 40)))


def test_a_bundle_cannot_ask_for_ways_without_end():
    assert Settings(max_steps=64, mechanism="answers").max_steps == 64
    with pytest.raises(OptionError, match="at most 64"):
        Settings(max_steps=65, mechanism="answers")
