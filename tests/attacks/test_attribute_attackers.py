"""Attribute attackers learn what is there, nothing where nothing is, and repeat from a seed."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from privet.attacks.attribute import ATTRIBUTE_ATTACKERS, NETWORK, Majority, hold_out
from privet.errors import DataError

CLASSES = 3
ATTACKERS = {**ATTRIBUTE_ATTACKERS, "nn": replace(NETWORK, hidden=32, learning_rate=5e-3)}
LEARNERS = [name for name in ATTACKERS if name != "majority"]


def people(rng, users=600, features=40):
    """Random ratings in which features 0 to 2 tell the class; the last class is half of all."""
    labels = rng.choice(CLASSES, size=users, p=[0.25, 0.25, 0.5])
    records = (rng.random((users, features)) * (rng.random((users, features)) < 0.1)).astype("f4")
    records[:, :CLASSES] = np.eye(CLASSES)[labels]
    return records, labels


@pytest.fixture
def known():
    return people(np.random.default_rng(1))


@pytest.fixture
def asked():
    return people(np.random.default_rng(2), users=300)


def accuracy(name, known, asked, *, seed=0):
    guess = ATTACKERS[name].fit(*known, classes=CLASSES, seed=seed)
    return (guess(asked[0]) == asked[1]).mean()


@pytest.mark.parametrize("name", LEARNERS)
def test_a_feature_that_is_the_attribute_is_found(name, known, asked):
    assert accuracy(name, known, asked) > 0.97


def test_the_majority_needs_no_record(known, asked):
    guess = Majority("paper").fit(known[0], known[1], classes=CLASSES, seed=0)
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
    labels = noisy(known[1])
    first, again = (
        ATTACKERS[name].fit(known[0], labels, classes=CLASSES, seed=5)(asked[0]) for _ in range(2)
    )
    assert np.array_equal(first, again)


@pytest.mark.parametrize("name", ["nn", "forest"])
def test_other_seeds_give_other_guesses(name, known, asked):
    labels = noisy(known[1])
    first, other = (
        ATTACKERS[name].fit(known[0], labels, classes=CLASSES, seed=seed)(asked[0])
        for seed in (0, 1)
    )
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["logistic", "forest", "majority"])
def test_sparse_records_give_the_guesses_of_dense_ones(name, known, asked):
    labels = noisy(known[1])
    dense = ATTACKERS[name].fit(known[0], labels, classes=CLASSES, seed=0)(asked[0])
    guess = ATTACKERS[name].fit(sparse.csr_array(known[0]), labels, classes=CLASSES, seed=0)
    assert np.mean(guess(sparse.csr_array(asked[0])) == dense) > 0.99
    assert np.mean(guess(asked[0]) == dense) > 0.99


def test_the_network_learns_from_sparse_records_too(known, asked):
    for kept in (sparse.csr_array, sparse.csr_matrix):
        guess = ATTACKERS["nn"].fit(kept(known[0]), known[1], classes=CLASSES, seed=0)
        assert np.mean(guess(kept(asked[0])) == asked[1]) > 0.97
        assert np.mean(guess(asked[0]) == asked[1]) > 0.97


@pytest.mark.parametrize("name", ATTACKERS)
def test_a_class_that_nobody_has_does_no_harm(name, known, asked):
    guess = ATTACKERS[name].fit(*known, classes=CLASSES + 2, seed=0)
    assert set(guess(asked[0])) <= set(range(CLASSES))


@pytest.mark.parametrize("name", ATTACKERS)
def test_every_attacker_cites_its_paper(name):
    assert "20" in ATTACKERS[name].paper


@pytest.mark.parametrize("name", ["nn", "logistic"])
def test_too_few_users_to_hold_any_out_are_refused(name):
    with pytest.raises(DataError, match="4 users"):
        ATTACKERS[name].fit(np.eye(4, dtype="f4"), np.arange(4) % 2, classes=2, seed=0)


def test_held_out_users_are_the_share_asked_and_the_others_the_rest():
    held, rest = hold_out(50, 0.1, 3, what="them")
    assert (len(held), len(rest)) == (5, 45)
    assert np.array_equal(np.sort(np.concatenate([held, rest])), np.arange(50))


def test_importing_the_attackers_loads_nothing_heavy():
    script = (
        "import sys, privet.attacks.attribute, privet.jobs.attribute_audit\n"
        "print(sorted({'torch', 'sklearn', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr
