"""Attribute attackers learn what is there, nothing where nothing is, and repeat from a seed."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from privet.attacks.attribute import (
    ATTRIBUTE_ATTACKERS,
    NETWORK,
    Known,
    Majority,
    NeuralNetwork,
    RegionGuess,
    hold_out,
    with_hidden,
)
from privet.attacks.attribute.region import Change
from privet.errors import DataError, OptionError
from privet.models import FullyConnected

CLASSES = 3
SMALL = replace(NETWORK, hidden=32, learning_rate=5e-3, batch_size=100)
LATE = replace(SMALL, epochs=30, patience=None)
ATTACKERS = {
    **ATTRIBUTE_ATTACKERS,
    "nn": SMALL,
    "nn-sgd": replace(ATTRIBUTE_ATTACKERS["nn-sgd"], hidden=64, learning_rate=0.5, batch_size=50),
    "nn-late": LATE,
    "distilled": replace(ATTRIBUTE_ATTACKERS["distilled"], network=LATE, temperature=4.0),
    "region": replace(ATTRIBUTE_ATTACKERS["region"], network=SMALL),
    "adversarial": replace(ATTRIBUTE_ATTACKERS["adversarial"], network=LATE, draws=2),
}
LEARNERS = [name for name in ATTACKERS if name != "majority"]
NETWORKS = ["nn", "nn-sgd", "nn-late", "distilled", "region", "adversarial"]


def people(rng, users=600, features=40):
    """Random ratings in which features 0 to 2 tell the class; the last class is half of all."""
    labels = rng.choice(CLASSES, size=users, p=[0.25, 0.25, 0.5])
    records = (rng.random((users, features)) * (rng.random((users, features)) < 0.1)).astype("f4")
    records[:, :CLASSES] = np.eye(CLASSES)[labels]
    return records, labels


def decoys(records, seed):
    """A toy defense: the telling entry becomes 0.4, and another class's entry 1."""
    rng = np.random.default_rng(seed)
    dense = records if isinstance(records, np.ndarray) else records.toarray()
    told = dense[:, :CLASSES].argmax(axis=1)
    shown = (told + rng.integers(1, CLASSES, len(dense))) % CLASSES
    noisy = dense.copy()
    noisy[:, :CLASSES] = 0.4 * np.eye(CLASSES)[told] + np.eye(CLASSES)[shown]
    return noisy if isinstance(records, np.ndarray) else type(records)(noisy)


@pytest.fixture
def known():
    return people(np.random.default_rng(1))


@pytest.fixture
def asked():
    return people(np.random.default_rng(2), users=300)


def learned(name, records, labels, *, classes=CLASSES, seed=0):
    """Let an attacker learn; the defense is at hand for those that need one."""
    protect = decoys if ATTACKERS[name].needs_protection else None
    return ATTACKERS[name].fit(Known(records, labels, classes, protect), seed=seed)


def accuracy(name, known, asked, *, seed=0):
    return (learned(name, *known, seed=seed)(asked[0]) == asked[1]).mean()


@pytest.mark.parametrize("name", LEARNERS)
def test_a_feature_that_is_the_attribute_is_found(name, known, asked):
    assert accuracy(name, known, asked) > 0.95


def test_the_majority_needs_no_record(known, asked):
    guess = Majority("paper").fit(Known(*known, CLASSES), seed=0)
    assert np.array_equal(guess(asked[0]), np.full(300, 2))
    assert guess(sparse.csr_array(asked[0])).shape == (300,)


@pytest.mark.parametrize("name", ATTACKERS)
def test_shuffled_attributes_leave_the_majority_to_be_guessed(name, known, asked):
    shuffled = np.random.default_rng(3).permutation(known[1])
    found = accuracy(name, (known[0], shuffled), asked)
    # Four standard errors above always guessing the class of half of the people.
    assert found < 0.5 + 4 * np.sqrt(0.25 / 300)


def noisy(labels):
    """Labels of which half are right, and on which different fits differ."""
    rng = np.random.default_rng(4)
    return np.where(rng.random(len(labels)) < 0.3, labels, rng.permutation(labels))


@pytest.mark.parametrize("name", ATTACKERS)
def test_equal_seeds_give_equal_guesses(name, known, asked):
    first, again = (learned(name, known[0], noisy(known[1]), seed=5)(asked[0]) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("name", ["nn", "nn-sgd", "distilled", "region", "forest"])
def test_other_seeds_give_other_guesses(name, known, asked):
    first, other = (
        learned(name, known[0], noisy(known[1]), seed=seed)(asked[0]) for seed in (0, 1)
    )
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["logistic", "forest", "majority"])
def test_sparse_records_give_the_guesses_of_dense_ones(name, known, asked):
    labels = noisy(known[1])
    dense = learned(name, known[0], labels)(asked[0])
    guess = learned(name, sparse.csr_array(known[0]), labels)
    assert np.mean(guess(sparse.csr_array(asked[0])) == dense) > 0.99
    assert np.mean(guess(asked[0]) == dense) > 0.99


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_learn_from_sparse_records_too(name, known, asked):
    guess = learned(name, sparse.csr_array(known[0]), known[1])
    assert np.mean(guess(sparse.csr_array(asked[0])) == asked[1]) > 0.95
    assert np.mean(guess(sparse.csr_matrix(asked[0])) == asked[1]) > 0.95
    assert np.mean(guess(asked[0]) == asked[1]) > 0.95


@pytest.mark.parametrize("name", ATTACKERS)
def test_a_guess_depends_on_the_record_alone(name, known, asked):
    guess = learned(name, known[0], noisy(known[1]))
    assert np.array_equal(guess(asked[0])[200:203], guess(asked[0][200:203]))


@pytest.mark.parametrize("name", ATTACKERS)
def test_a_class_that_nobody_has_does_no_harm(name, known, asked):
    guess = learned(name, *known, classes=CLASSES + 2)
    assert set(guess(asked[0])) <= set(range(CLASSES))


@pytest.mark.parametrize("name", ATTACKERS)
def test_every_attacker_cites_its_paper(name):
    assert "20" in ATTRIBUTE_ATTACKERS[name].paper


@pytest.mark.parametrize("name", ["nn", "logistic", "region"])
def test_too_few_users_to_hold_any_out_are_refused(name):
    with pytest.raises(DataError, match="4 users"):
        learned(name, np.eye(4, dtype="f4"), np.arange(4) % 2, classes=2)


def test_held_out_users_are_the_share_asked_and_the_others_the_rest():
    held, rest = hold_out(50, 0.1, 3, what="them")
    assert (len(held), len(rest)) == (5, 45)
    assert np.array_equal(np.sort(np.concatenate([held, rest])), np.arange(50))


# The ways to train a network


def test_the_papers_attacker_is_as_published():
    attacker = ATTRIBUTE_ATTACKERS["nn-sgd"]
    assert isinstance(attacker, NeuralNetwork)
    assert (attacker.hidden, attacker.dropout, attacker.optimizer) == (30_000, 0.7, "sgd")
    assert (attacker.learning_rate, attacker.batch_size, attacker.epochs) == (0.05, 100, 50)
    assert attacker.patience is None


def test_the_late_attacker_knows_its_users_by_heart(known):
    labels = noisy(known[1])
    early, late = (learned(name, known[0], labels) for name in ("nn", "nn-late"))
    by_heart = [(guess(known[0]) == labels).mean() for guess in (early, late)]
    assert by_heart[1] > by_heart[0] + 0.1


def test_width_reaches_every_network_and_nothing_else():
    wide = {name: with_hidden(each, 7) for name, each in ATTRIBUTE_ATTACKERS.items()}
    assert wide["nn-sgd"] == replace(ATTRIBUTE_ATTACKERS["nn-sgd"], hidden=7)
    for name in ("distilled", "region", "adversarial"):
        expected = replace(ATTRIBUTE_ATTACKERS[name].network, hidden=7)
        assert wide[name] == replace(ATTRIBUTE_ATTACKERS[name], network=expected)
    for name in ("logistic", "forest", "majority"):
        assert wide[name] == ATTRIBUTE_ATTACKERS[name]


def test_a_distilled_network_is_surer_the_hotter_it_learned(known, asked):
    """At temperature T logits are T times as large for the same confidence while learning."""
    spread = [
        replace(ATTACKERS["distilled"], temperature=temperature)
        .fit(Known(*known, CLASSES), seed=0)
        .model(torch.from_numpy(asked[0]))
        .std()
        .item()
        for temperature in (1.0, 4.0)
    ]
    assert spread[1] > 1.5 * spread[0]


# Learning from the defense


@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array])
def test_adversarial_training_sees_through_a_defense_that_fools_the_others(layout, known, asked):
    records, questions = layout(known[0]), layout(asked[0])
    shielded = decoys(questions, 9)
    plain, adversarial = (
        (learned(name, records, known[1])(shielded) == asked[1]).mean()
        for name in ("nn", "adversarial")
    )
    assert plain < 0.2
    assert adversarial > 0.75


def test_adversarial_training_protects_the_known_users_only_and_differently(known):
    seen = []

    def spy(records, seed):
        seen.append((records, seed))
        return decoys(records, seed)

    ATTACKERS["adversarial"].fit(Known(*known, CLASSES, spy), seed=0)
    assert all(records is known[0] for records, _ in seen)
    assert len({seed for _, seed in seen}) == 2


def test_adversarial_training_without_the_defense_is_refused(known):
    with pytest.raises(OptionError, match="--bundle"):
        ATTACKERS["adversarial"].fit(Known(*known, CLASSES), seed=0)


# Region voting


def change(kept, added):
    return Change(np.array(kept, dtype=bool), np.array(added, dtype=int))


@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array, sparse.csr_matrix])
def test_a_neighbor_lacks_some_entries_and_has_others(layout):
    records = np.array([[0.2, 0.4, 0, 0.6], [0, 0, 0, 0], [1, 1, 1, 1]], dtype="f4")
    neighbors = change([1, 0, 1, 1], [2, 3])(layout(records))
    found = neighbors if isinstance(neighbors, np.ndarray) else neighbors.toarray()
    assert found.dtype == np.float32
    assert np.array_equal(found, np.array([[0.2, 0, 1, 1], [0, 0, 1, 1], [1, 0, 1, 1]], "f4"))
    assert records[0, 1] == np.float32(0.4)


def region_of(weight, changes):
    """Votes on a network with one unit a feature, whose logits are weight @ record."""
    weight = torch.tensor(weight, dtype=torch.float32)
    model = FullyConnected(weight.shape[1], (weight.shape[1],), weight.shape[0]).build()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(weight.shape[1]))
        model[-1].weight.copy_(weight)
        for layer in (model[0], model[-1]):
            layer.bias.zero_()
    return RegionGuess(model, tuple(changes), len(weight))


def test_the_vote_of_neighbors_that_agree_is_the_networks_own():
    # Feature 2 says nothing about either class: no change of it moves a vote.
    guess = region_of([[1, 0, 0], [0, 1, 0]], [change([1, 1, 0], []), change([1, 1, 1], [2])])
    records = np.array([[1, 0.2, 0], [0.2, 1, 1]], dtype="f4")
    assert guess(records).tolist() == [0, 1]


def test_most_neighbors_decide_and_ties_go_to_the_lowest_attribute():
    without_1 = change([1, 0, 1], [])
    guess = region_of([[1, 0, 0], [0, 1, 0]], [without_1, change([1, 1, 1], []), without_1])
    record = np.array([[0.2, 1, 0]], dtype="f4")
    assert guess(record).tolist() == [0]  # although the network itself says 1
    tied = region_of([[1, 0, 0], [0, 1, 0]], [without_1, change([1, 1, 1], [])])
    assert tied(record).tolist() == [0]


def test_the_region_is_the_widest_that_costs_no_accuracy(known):
    # Of classes told by one entry each, whoever drops entries loses some.
    guess = learned("region", *known)
    dropped = np.mean([~each.kept for each in guess.changes])
    assert dropped < 0.5
    # Of labels without any reason, nothing can be lost.
    free = learned("region", known[0], np.random.default_rng(8).permutation(known[1]))
    assert len(free.changes) == 25
    present = (known[0] != 0).sum() / len(known[0])
    rate = np.mean([~each.kept for each in free.changes])
    assert len(free.changes[0].added) == pytest.approx(rate * present, abs=1)


def test_importing_the_attackers_loads_nothing_heavy():
    script = (
        "import sys, privet.attacks.attribute, privet.jobs.attribute_audit\n"
        "print(sorted({'torch', 'sklearn', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr
