"""Attribute protection judged in expectation: hits, releases, and the control of random noise."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from scipy import sparse
from torch import nn

from privet.attacks.attribute import ATTRIBUTE_ATTACKERS, Known, NetworkGuess, RegionGuess
from privet.attacks.attribute.region import Change
from privet.data.synthetic import synthetic_ratings
from privet.device import Bundle, Network, Settings
from privet.device.attribute import Candidates, search
from privet.device.releases import Releases
from privet.jobs.attribute_evaluation import (
    attack_accuracy,
    bundle_protection,
    chance_right,
    expected_accuracy,
    hits,
    protection,
    random_noise,
    releases_by_budget,
    sample,
)
from privet.jobs.attribute_hits import perturbed
from privet.models import FullyConnected

USERS, FEATURES, CLASSES = 60, 40, 3
LAYOUTS = [np.asarray, sparse.csr_array, sparse.csr_matrix]


@pytest.fixture(scope="module")
def people():
    table = synthetic_ratings(3, users=USERS, features=FEATURES, classes=CLASSES)
    return table.inputs.toarray(), table.labels


@pytest.fixture(scope="module")
def defense():
    rng = np.random.default_rng(1)
    sizes = [(16, FEATURES), (CLASSES, 16)]
    return Network(
        tuple(rng.standard_normal(size).astype("f4") for size in sizes),
        tuple(rng.standard_normal(size[0]).astype("f4") for size in sizes),
    )


@pytest.fixture(scope="module")
def candidates(people, defense):
    found = search(defense, people[0], max_steps=8)
    assert found.cost.sum() > USERS  # else nothing below is tested
    return found


def one_by_one(guess, records, labels, candidates):
    """Ask about one target after the other."""
    right = np.zeros(candidates.reached.shape, dtype=bool)
    for target in range(right.shape[1]):
        changed = candidates.apply(records, np.full(len(labels), target))
        right[:, target] = guess(changed) == labels
    return right


def network(hidden, **options):
    torch.manual_seed(4)
    return FullyConnected(FEATURES, hidden, CLASSES, **options).build()


NETWORKS = {
    "plain": lambda: network((24,)),
    "sparse with dropout": lambda: network((24,), sparse_input=True, dropout=0.7),
    "dropout on ratings": lambda: network((24,), sparse_input=True, input_dropout=0.5),
    "two hidden layers": lambda: network((24, 9), sparse_input=True),
    "double precision": lambda: nn.Sequential(Double(), network((24,)).double()),
}


class Double(nn.Module):
    def forward(self, inputs):
        return (inputs.to_dense() if inputs.layout != torch.strided else inputs).double()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_hits_of_a_network_are_those_of_asking_one_by_one(name, layout, people, candidates):
    model = NETWORKS[name]().train()
    guess, records = NetworkGuess(model), layout(people[0])
    found = hits(guess, records, people[1], candidates)
    assert np.array_equal(found, one_by_one(guess, records, people[1], candidates))
    assert 0.05 < found.mean() < 0.95
    assert model.training


def test_hits_in_several_parts(people, candidates, monkeypatch):
    guess, records = NetworkGuess(NETWORKS["plain"]()), sparse.csr_array(people[0])
    whole = [hits(each, records, people[1], candidates) for each in (guess, guess.__call__)]
    monkeypatch.setattr("privet.jobs.attribute_hits.HIDDEN_BYTES", 4 * CLASSES * 24 * 7)
    monkeypatch.setattr("privet.jobs.attribute_hits.RECORD_BYTES", 10_000)
    parts = [hits(each, records, people[1], candidates) for each in (guess, guess.__call__)]
    for found in (*whole[1:], *parts):
        assert np.array_equal(found, whole[0])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["forest", "logistic", "majority"])
def test_hits_of_other_attackers_too(name, layout, people, candidates):
    records = layout(people[0])
    guess = ATTRIBUTE_ATTACKERS[name].fit(Known(records, people[1], CLASSES), seed=0)
    found = hits(guess, records, people[1], candidates)
    assert np.array_equal(found, one_by_one(guess, records, people[1], candidates))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_hits_of_voting_neighbors_too(layout, people, candidates):
    rng = np.random.default_rng(2)
    changes = tuple(
        Change(rng.random(FEATURES) < 0.6, rng.choice(FEATURES, 3, replace=False)) for _ in range(5)
    )
    guess = RegionGuess(NETWORKS["sparse with dropout"](), changes, CLASSES)
    records = layout(people[0])
    found = hits(guess, records, people[1], candidates)
    assert np.array_equal(found, one_by_one(guess, records, people[1], candidates))
    alone = hits(NetworkGuess(guess.model), records, people[1], candidates)
    assert not np.array_equal(found, alone)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_perturbed_records_are_those_that_candidates_apply(layout, people, candidates):
    records = layout(people[0])
    rows = perturbed(records, candidates, slice(10, 30))
    assert type(rows) is type(records)
    assert rows.dtype == records.dtype
    dense = rows if isinstance(rows, np.ndarray) else rows.toarray()
    for target in range(CLASSES):
        applied = candidates.apply(people[0], np.full(USERS, target))[10:30]
        assert np.array_equal(dense[target::CLASSES], applied)
    if not isinstance(rows, np.ndarray):
        assert rows.nnz == np.count_nonzero(dense)


# What may be released


PRIOR = np.array([0.2, 0.3, 0.5])


def test_budgets_of_one_margin_share_one_search(people, defense, monkeypatch):
    margins = []

    def spy(network, records, **options):
        margins.append(options["margin"][0])
        return search(network, records, **options)

    monkeypatch.setattr("privet.device.releases.search", spy)
    found = releases_by_budget(
        defense,
        people[0],
        prior=PRIOR,
        budgets=[1.0, 1.5, 2.0, 3.0],
        settings=Settings(max_steps=8, margins=((1.5, 0.0), (2.0, 0.5))),
    )
    assert margins == [0.0, 0.5]
    assert found[1.0].candidates is found[1.5].candidates
    assert found[2.0].candidates is found[3.0].candidates
    assert found[3.0].candidates.cost.sum() > found[1.0].candidates.cost.sum()


def test_the_rules_of_a_bundle_hold(people, defense):
    settings = Settings(max_steps=8, policy="add_new", high=0.8)
    found = releases_by_budget(defense, people[0], prior=PRIOR, budgets=[3.0], settings=settings)[
        3.0
    ].candidates
    assert len(found.value) > 0
    assert found.value == pytest.approx(np.full(len(found.value), 0.8))
    for target in range(CLASSES):
        row, feature, _ = found.changes(np.full(USERS, target))
        assert (people[0][row, feature] == 0).all()


@hypothesis(max_examples=20, deadline=None)
@given(budget=st.floats(0.1, 6.0))
def test_no_budget_is_exceeded_in_expectation(budget, people, defense):
    found = released(defense, people[0], budget)
    costs = (found.psi * found.candidates.cost).sum(axis=1)
    assert (costs <= budget * (1 + 1e-9)).all()
    assert found.expected_cost.mean() == pytest.approx(costs.mean())
    assert found.psi.sum(axis=1) == pytest.approx(np.ones(USERS))


def released(defense, records, budget):
    settings = Settings(max_steps=8)
    releases = releases_by_budget(
        defense, records, prior=PRIOR, budgets=[budget], settings=settings
    )
    return releases[budget]


def test_expected_accuracy_by_hand():
    right = np.array([[True, False], [True, True], [False, False]])
    psi = np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]])
    assert expected_accuracy(right, psi) == pytest.approx((0.25 + 1 + 0) / 3)


def test_the_expectation_is_the_mean_of_samples(people, defense):
    records, labels = people
    guess = NetworkGuess(NETWORKS["plain"]())
    releases = {budget: released(defense, records, budget) for budget in (1.0, 3.0)}
    expected = attack_accuracy(guess, records, labels, releases=releases)
    for budget, each in releases.items():
        drawn = [sample(each, records, seed) for seed in range(200)]
        right = [(guess(release) == labels).mean() for release in drawn]
        error = 4 * np.std(right) / np.sqrt(200)
        assert np.mean(right) == pytest.approx(expected[budget], abs=error)
        spent = [(release != records).sum(axis=1).mean() for release in drawn]
        error = 4 * np.std(spent) / np.sqrt(200)
        assert np.mean(spent) == pytest.approx(each.expected_cost.mean(), abs=error)
    assert expected[3.0] != expected[1.0]


def test_shared_candidates_are_asked_about_once(people, defense):
    asked = []

    def guess(records):
        asked.append(records.shape[0])
        return np.zeros(records.shape[0], dtype=int)

    settings = Settings(max_steps=8)
    releases = releases_by_budget(
        defense, people[0], prior=PRIOR, budgets=[1.0, 2.0], settings=settings
    )
    found = attack_accuracy(guess, *people, releases=releases)
    assert asked == [USERS * CLASSES]
    assert found == {budget: pytest.approx((people[1] == 0).mean()) for budget in (1.0, 2.0)}


def test_chances_of_single_users_make_the_accuracy(people, defense):
    guess = NetworkGuess(NETWORKS["plain"]())
    releases = {2.0: released(defense, people[0], 2.0)}
    chances = chance_right(guess, *people, releases=releases)[2.0]
    right = hits(guess, *people, releases[2.0].candidates)
    assert chances == pytest.approx((releases[2.0].psi * right).sum(axis=1))
    accuracy = attack_accuracy(guess, *people, releases=releases)[2.0]
    assert accuracy == pytest.approx(chances.mean())
    assert accuracy == pytest.approx(expected_accuracy(right, releases[2.0].psi))


# The defense in the attacker's hands


def test_an_attackers_draws_differ_by_seed_and_cost_one_search(people, defense):
    searched = []

    def release(records):
        searched.append(records)
        return released(defense, records, 3.0)

    protect = protection(release)
    first, again, other = (protect(people[0], seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(searched) == 1
    few = protect(people[0][:5], 1)
    assert few.shape == (5, FEATURES)
    assert len(searched) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_bundle_in_the_attackers_hands_does_what_it_does_in_the_users(layout, people, defense):
    bundle = Bundle("attribute", defense, PRIOR, Settings(8, margins=((1.0, 0.0), (3.0, 1.0))))
    records = layout(people[0])
    protect = bundle_protection(bundle, 2.0)
    theirs = [bundle.protect(records, budget=2.0, key=bytes([k] * 32)).records for k in range(80)]
    ours = [protect(records, seed) for seed in range(80)]
    assert type(ours[0]) is type(records)
    # How often each entry is changed, by the one and the other.
    often = [np.mean([abs(each - records).sum() for each in drawn]) for drawn in (theirs, ours)]
    spread = np.std([abs(each - records).sum() for each in ours])
    assert often[0] == pytest.approx(often[1], abs=4 * spread * np.sqrt(2 / 80))


# Random noise of equal cost


@pytest.mark.parametrize("layout", LAYOUTS)
def test_random_noise_costs_the_same(layout, people, candidates):
    records = layout(people[0])
    noise = random_noise(candidates, records, seed=3)
    assert np.array_equal(noise.cost, candidates.cost)
    for target in range(CLASSES):
        choice = np.full(USERS, target)
        changed = noise.apply(people[0], choice)
        # Every change is one: absent entries are 1 now, and present ones 0.
        assert np.array_equal((changed != people[0]).sum(axis=1), candidates.cost[:, target])
        assert np.array_equal(changed[changed != people[0]], (people[0] == 0)[changed != people[0]])
    assert (np.diff(noise.feature)[np.setdiff1d(np.arange(len(noise.feature) - 1),
                                                noise.start[1:-1] - 1)] > 0).all()  # fmt: skip


def test_random_noise_draws_features_evenly_and_by_seed():
    pairs, features = 3000, 6
    cost = np.tile([0, 2, 5], pairs // 3)
    made = Candidates(
        start=np.append(0, np.cumsum(cost)),
        feature=np.zeros(cost.sum(), dtype=int),
        value=np.ones(cost.sum(), dtype="f4"),
        label=np.zeros(pairs // 3, dtype=int),
        targets=np.arange(3),
        reached=np.ones((pairs // 3, 3), dtype=bool),
    )
    records = np.zeros((pairs // 3, features), dtype="f4")
    noise = random_noise(made, records, seed=1)
    counts = np.bincount(noise.feature, minlength=features)
    assert abs(counts - cost.sum() / features).max() < 4 * np.sqrt(cost.sum() / features)
    assert np.array_equal(noise.reached, np.tile([True, False, False], (pairs // 3, 1)))
    assert np.array_equal(noise.feature, random_noise(made, records, seed=1).feature)
    assert not np.array_equal(noise.feature, random_noise(made, records, seed=2).feature)


def test_where_every_entry_must_change_every_entry_does():
    made = Candidates(
        start=np.array([0, 7]),
        feature=np.arange(7),
        value=np.ones(7, dtype="f4"),
        label=np.zeros(1, dtype=int),
        targets=np.array([1]),
        reached=np.ones((1, 1), dtype=bool),
    )
    records = np.array([[0, 0.4, 0, 1, 1, 0, 0]], dtype="f4")
    noise = random_noise(made, records, seed=0)
    assert np.array_equal(noise.apply(records, np.array([0])), [[1, 0, 1, 0, 0, 1, 1]])


def test_random_noise_protects_less_than_the_search(people, defense):
    """Against the defense model itself, which the search fools by construction."""
    records = people[0]
    weights = zip(defense.weights, defense.biases, strict=True)
    model = network((16,))
    with torch.no_grad():
        for layer, (weight, bias) in zip((model[0], model[-1]), weights, strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
    guess = NetworkGuess(model)
    found = released(defense, records, 5.0)
    control = Releases(random_noise(found.candidates, records, seed=0), found.psi)
    assert control.expected_cost.mean() == pytest.approx(found.expected_cost.mean())
    score = partial(attack_accuracy, guess, records, guess(records))
    ours, random = (score(releases={0: each})[0] for each in (found, control))
    assert ours < random - 0.1


# The mechanism of answers, whose candidates are not one a class


@pytest.fixture(scope="module")
def stops(people, defense):
    """Releases at two budgets, with columns that stand for other classes in every record."""
    settings = Settings(max_steps=4, mechanism="answers", temperature=2.0, leak=0.1)
    return releases_by_budget(
        defense, people[0], prior=PRIOR, budgets=[1.0, 3.0], settings=settings
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["network", "majority", "neighbors"])
def test_hits_of_stops_are_those_of_asking_one_by_one(name, layout, people, stops):
    records, model = layout(people[0]), NETWORKS["plain"]()
    change = Change(np.arange(FEATURES) % 3 > 0, np.array([0, 6]))
    majority = ATTRIBUTE_ATTACKERS["majority"].fit(Known(records, people[1], CLASSES), seed=0)
    guess = {
        "network": NetworkGuess(model),
        "majority": majority,
        "neighbors": RegionGuess(model, (change,) * 3, CLASSES),
    }[name]
    for releases in stops.values():
        assert releases.candidates.reached.shape == (USERS, CLASSES + 1)
        found = hits(guess, records, people[1], releases.candidates)
        expected = one_by_one(guess, records, people[1], releases.candidates)
        assert np.array_equal(found, expected)


def test_stops_are_weighed_and_drawn_like_other_candidates(people, stops):
    records, labels = people
    guess = NetworkGuess(NETWORKS["plain"]())
    expected = attack_accuracy(guess, records, labels, releases=stops)
    for budget, each in stops.items():
        assert (each.expected_cost <= budget * (1 + 1e-9)).all()
        drawn = [sample(each, records, seed) for seed in range(200)]
        right = [(guess(release) == labels).mean() for release in drawn]
        error = 4 * np.std(right) / np.sqrt(200)
        assert np.mean(right) == pytest.approx(expected[budget], abs=error)
        spent = [(release != records).sum(axis=1).mean() for release in drawn]
        error = 4 * np.std(spent) / np.sqrt(200)
        assert np.mean(spent) == pytest.approx(each.expected_cost.mean(), abs=error)


def test_random_noise_costs_what_stops_cost(people, stops):
    for each in stops.values():
        noise = random_noise(each.candidates, people[0], seed=1)
        assert np.array_equal(noise.cost, each.candidates.cost)
        control = Releases(noise, each.psi)
        assert control.expected_cost == pytest.approx(each.expected_cost)
        own = each.candidates.targets == each.candidates.label[:, None]
        assert np.array_equal(noise.reached, own)
        assert not own.all()
