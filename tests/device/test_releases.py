"""Both phases together: what a bundle's settings make of records, by either mechanism."""

from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from device.test_attribute_rules import POLICIES, random_network
from privet.device import Bundle, Rules, Settings, releases
from privet.device.attribute import search
from privet.device.mechanism import choose, least_divergence
from privet.device.network import softmax
from privet.device.paths import search_paths
from privet.device.releases import plan_releases
from privet.errors import DataError, OptionError

PRIOR = np.array([0.3, 0.25, 0.2, 0.15, 0.08, 0.02])
ANSWERS = Settings(mechanism="answers", max_steps=6, temperature=1.5, leak=0.05)


def plan(network, records, budgets, given=ANSWERS, **options):
    options = {"prior": PRIOR} | options
    return plan_releases(network, records, budgets=budgets, settings=given, **options)


def spent(planned):
    return (planned.psi * planned.candidates.cost).sum(axis=1)


def test_several_budgets_cost_one_walk(guesser, ratings, monkeypatch):
    asked = []

    def spy(network, records, *, steps, rules):
        asked.append(steps)
        return search_paths(network, records, steps=steps, rules=rules)

    monkeypatch.setattr(releases, "search_paths", spy)
    budgets = [0.5, 2.0, np.linspace(0.1, 5, 60)]
    together = plan(guesser, ratings, budgets)
    assert asked == [6]
    for planned, budget in zip(together, budgets, strict=True):
        assert planned.psi.shape == planned.candidates.reached.shape == (60, 7)
        np.testing.assert_allclose(planned.psi.sum(axis=1), 1, atol=1e-12)
        np.testing.assert_array_equal(planned.expected_cost, spent(planned))
        assert (planned.expected_cost <= np.multiply(budget, 1 + 1e-9)).all()
        (alone,) = plan(guesser, ratings, [budget])
        np.testing.assert_array_equal(alone.psi, planned.psi)
        np.testing.assert_array_equal(alone.candidates.feature, planned.candidates.feature)
    assert spent(together[0]).mean() < spent(together[1]).mean()
    plan(guesser, ratings, [1.0], Settings(mechanism="answers"))
    assert asked[-1] == releases.STOPS


def test_targets_search_once_a_margin(guesser, ratings, monkeypatch):
    margins = []

    def spy(network, records, *, max_steps, margin, rules):
        margins.append((max_steps, *np.unique(margin)))
        return search(network, records, max_steps=max_steps, margin=margin, rules=rules)

    monkeypatch.setattr(releases, "search", spy)
    given = Settings(max_steps=8, margins=((1.5, 0.0), (2.0, 0.5)))
    one, two, three = plan(guesser, ratings, [1.0, 1.5, 3.0], given)
    assert margins == [(8, 0.0), (8, 0.5)]
    assert one.candidates is two.candidates
    for planned, budget in ((one, 1.0), (two, 1.5), (three, 3.0)):
        expected = least_divergence(PRIOR, planned.candidates.cost, budget)
        np.testing.assert_array_equal(planned.psi, expected)
        np.testing.assert_array_equal(planned.expected_cost, spent(planned))
    plan(guesser, ratings[:2], [1.0], Settings())
    assert margins[-1][0] == releases.MAX_STEPS


@pytest.mark.parametrize("memory", [1, 500_000])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_blocks_joined_are_one_block(guesser, ratings, monkeypatch, memory, make):
    priors = np.random.default_rng(0).dirichlet(np.ones(6), size=60)
    budgets = [0.7, np.linspace(0.2, 6, 60)]
    whole = plan(guesser, ratings, budgets, prior=priors)
    monkeypatch.setattr(releases, "search_paths", partial(search_paths, memory=memory))
    parts = plan(guesser, make(ratings), budgets, prior=priors)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.psi, other.psi, atol=1e-4)
        for name in ("start", "feature", "value", "label", "targets", "reached"):
            ours, theirs = getattr(one.candidates, name), getattr(other.candidates, name)
            np.testing.assert_array_equal(ours, theirs)


def seen(bundle, records, planned):
    """What the defense model says on average over releases; shape (n, classes)."""
    n, columns = planned.psi.shape
    said = [
        bundle.posterior(planned.candidates.apply(records, np.full(n, m))) for m in range(columns)
    ]
    return np.einsum("nm,mnk->nk", planned.psi, np.array(said))


def test_what_is_seen_moves_to_the_prior_with_the_budget(guesser, ratings):
    given = Settings(mechanism="answers")
    bundle = Bundle("attribute", guesser, prior=PRIOR, settings=given)
    budgets = [0.3, 1.0, 3.0, 8.0]
    gap = [(PRIOR * np.log(PRIOR / bundle.posterior(ratings))).sum(axis=1)]
    for planned in plan(guesser, ratings, budgets, given):
        mixed = seen(bundle, ratings, planned)
        gap.append((PRIOR * np.log(PRIOR / mixed)).sum(axis=1))
    assert (np.diff(gap, axis=0) < 0.05).all()
    means = np.mean(gap, axis=1)
    assert (np.diff(means) < -0.02).all()
    assert means[0] > 2
    assert means[-1] < 0.05


def test_samples_follow_the_plan(guesser, ratings):
    bundle = Bundle("attribute", guesser, prior=PRIOR, settings=ANSWERS)
    (planned,) = plan(guesser, ratings, [2.0])
    keys = [bytes([each]) * 32 for each in range(80)]
    drawn = [bundle.protect(ratings, budget=2.0, key=key) for key in keys]
    for release in drawn[:5]:
        np.testing.assert_array_equal((release.records != ratings).sum(axis=1), release.cost)
        said = guesser.logits(release.records).argmax(axis=1)
        assert release.reached[said == release.target].all()
        np.testing.assert_array_equal(release.expected_cost, planned.expected_cost)
    costs = np.array([release.cost for release in drawn])
    error = 4 * costs.mean(axis=1).std() / np.sqrt(80)
    assert costs.mean() == pytest.approx(planned.expected_cost.mean(), abs=error)
    stays = (costs == 0).mean()
    assert stays == pytest.approx((planned.psi * (planned.candidates.cost == 0)).sum(axis=1).mean(),
                                  abs=0.03)  # fmt: skip
    # Columns in ascending order decide which release one number stands for.
    assert (planned.candidates.cost[:, 0] == 0).all()
    assert (choose(planned.psi, np.zeros(60))[planned.psi[:, 0] > 0] == 0).all()


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array, sp.coo_matrix])
def test_answers_are_one_time_and_keyed(guesser, ratings, key, make):
    bundle = Bundle("attribute", guesser, prior=PRIOR, settings=ANSWERS)
    one = bundle.protect(ratings, budget=3.0, key=key)
    again = bundle.protect(make(ratings), budget=3.0, key=key)
    assert type(again.records) is type(make(ratings))
    dense = again.records.toarray() if sp.issparse(again.records) else again.records
    np.testing.assert_array_equal(one.records, dense)
    shuffled = bundle.protect(ratings[::-1], budget=3.0, key=key)
    np.testing.assert_array_equal(one.records, shuffled.records[::-1])
    alone = bundle.protect(ratings[7:8], budget=3.0, key=key)
    np.testing.assert_array_equal(one.records[7], alone.records[0])
    other = bundle.protect(ratings, budget=3.0, key=bytes(32))
    assert (one.target != other.target).mean() > 0.3


@given(
    seed=st.integers(0, 2**32 - 1),
    policy=st.sampled_from(POLICIES),
    budget=st.floats(0.05, 8),
    mechanism=st.sampled_from(["targets", "answers"]),
    sizes=st.sampled_from([(30, 8, 4), (30, 6, 5, 3)]),
)
@settings(max_examples=60, deadline=None)
def test_a_release_keeps_every_promise(seed, policy, budget, mechanism, sizes):
    rng = np.random.default_rng(seed)
    n, features, classes = 6, sizes[0], sizes[-1]
    high = float(rng.choice([0.6, 0.8, 1.0]))
    x = rng.choice([0, 0.2, 0.4, high], (n, features), p=[0.7, 0.1, 0.1, 0.1])
    keep = rng.random((n, features) if seed % 2 else features) < 0.3
    never = tuple(np.flatnonzero(rng.random(features) < 0.3).tolist())
    given = Settings(
        max_steps=5, policy=policy, high=high, never=never,
        mechanism=mechanism,
        temperature=float(rng.choice([0.01, 1, 30])) if mechanism == "answers" else 1.0,
        leak=float(rng.choice([0, 0.5])) if mechanism == "answers" else 0.0,
    )  # fmt: skip
    bundle = Bundle("attribute", random_network(rng, sizes), settings=given)
    prior = rng.dirichlet(np.ones(classes), size=n)
    budgets = rng.uniform(0.5, 1.5, n) * budget
    key = bytes(rng.integers(256, size=32).tolist())
    options = {"budget": budgets, "key": key, "prior": prior, "rules": Rules(keep=keep)}
    release = bundle.protect(x, **options)
    assert (release.expected_cost <= budgets * (1 + 1e-9)).all()
    changed = release.records != x
    np.testing.assert_array_equal(changed.sum(axis=1), release.cost)
    assert release.cost.max() <= 5
    assert not (changed & keep).any()
    assert not changed[:, never].any()
    assert not (changed & (x == 0)).any() or policy != "modify_exist"
    assert not (changed & (x > 0)).any() or policy != "add_new"
    assert np.isin(release.records[changed], [0, high]).all()
    again = bundle.protect(x, **options)
    np.testing.assert_array_equal(again.records, release.records)


@pytest.mark.parametrize("mechanism", ["targets", "answers"])
def test_no_candidate_names_a_feature_that_never_changes(guesser, ratings, mechanism):
    (free,) = plan(guesser, ratings, [3.0], Settings(mechanism=mechanism))
    counts = np.bincount(free.candidates.feature, minlength=300)
    never = np.sort(np.argsort(counts)[-100:])
    assert counts[never].sum() > 0.5 * counts.sum()
    given = Settings(mechanism=mechanism, never=tuple(never.tolist()))
    (bound,) = plan(guesser, ratings, [3.0], given)
    assert len(bound.candidates.feature) > 100
    assert not np.isin(bound.candidates.feature, never).any()
    # A person's own rules come on top of that.
    mask = np.random.default_rng(0).random(ratings.shape) < 0.5
    (strict,) = plan(guesser, ratings, [3.0], given, rules=Rules("add_new", keep=mask))
    assert len(strict.candidates.feature) > 100
    assert not np.isin(strict.candidates.feature, never).any()
    for column in range(strict.psi.shape[1]):
        row, feature, value = strict.candidates.changes(np.full(60, column))
        assert not mask[row, feature].any()
        assert (ratings[row, feature] == 0).all()
        assert (value == 1).all()


def test_where_nothing_may_change_records_are_released_as_they_are(guesser, ratings, key):
    bundle = Bundle("attribute", guesser, settings=ANSWERS)
    rules = Rules(keep=np.ones(300, np.bool_))
    release = bundle.protect(ratings, budget=2.0, key=key, rules=rules)
    np.testing.assert_array_equal(release.records, ratings)
    assert release.cost.sum() == 0
    np.testing.assert_allclose(softmax(guesser.logits(ratings)), bundle.posterior(ratings))


@pytest.mark.parametrize("mechanism", ["targets", "answers"])
def test_misuse_is_refused_before_the_long_search(guesser, ratings, monkeypatch, mechanism):
    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(releases, "search", never)
    monkeypatch.setattr(releases, "search_paths", never)
    given = Settings(mechanism=mechanism)
    for budgets in ([-1.0], [1.0, np.nan], [[1.0, 2.0]]):
        with pytest.raises(OptionError, match="budget"):
            plan(guesser, ratings, budgets, given)
    for prior in (PRIOR[:5], PRIOR * 2, np.tile(PRIOR, (59, 1))):
        with pytest.raises(DataError, match="prior"):
            plan(guesser, ratings, [1.0], given, prior=prior)
    with pytest.raises(DataError, match="shape"):
        plan(guesser, ratings[:, 1:], [1.0], given)


@pytest.mark.parametrize("mechanism", ["targets", "answers"])
def test_a_budget_of_nothing_is_refused(guesser, ratings, mechanism):
    with pytest.raises(OptionError, match="least budget"):
        plan(guesser, ratings, [1.0, 0.0], Settings(mechanism=mechanism))


@pytest.mark.parametrize("mechanism", ["targets", "answers"])
def test_bad_records_are_named(guesser, ratings, mechanism):
    bad = ratings.copy()
    bad[3, 4] = np.nan
    with pytest.raises(DataError, match="record 3, feature 4 is nan"):
        plan(guesser, bad, [1.0], Settings(mechanism=mechanism))
