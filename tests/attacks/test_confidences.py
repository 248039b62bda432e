"""Attackers of protected confidences, on people whose leak is known."""

from functools import cache

import numpy as np
import pytest

from privet.attacks.base import PACKAGES
from privet.attacks.confidences import (
    BUNDLE,
    CONFIDENCE_ATTACKERS,
    TRUE_LABEL,
    Answers,
    Case,
    ascending,
    shape,
)
from privet.device import Network
from privet.device.membership import find_noise
from privet.metrics import auc
from privet.signals import Signals

CLASSES = 6
# These train networks or forests, about a second each time.
SLOW = {"nn", "nn-label", "nn-adaptive", "nn-label-adaptive", "denoiser"}
every_attacker = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in CONFIDENCE_ATTACKERS
    ],
)


def watcher(certain=0.8):
    """A defense model that calls a vector a member's when its largest confidence is above a bound.

    Of the sorted confidences the last enters the one hidden unit that counts.
    """
    first = np.zeros((2, CLASSES), np.float32)
    first[0, -1], first[1, 0] = 1.0, 0.1
    last = np.array([[6.0, 0.0]], np.float32)
    return Network((first, last), (np.zeros(2, np.float32), np.array([-6 * certain], np.float32)))


def people(n, *, seed, leak=3.0):
    """Logits, labels and membership: members are predicted right, and with more confidence."""
    rng = np.random.default_rng(seed)
    members = np.arange(n) % 2 == 0
    labels = rng.integers(CLASSES, size=n)
    logits = rng.normal(0, 1, (n, CLASSES))
    logits[np.arange(n), labels] += 2.0 + leak * members
    return logits, labels, members


def case_of(shadow, asked, budget):
    """Everything attackers see when both parties are protected at a budget."""
    defense = watcher()
    known, hidden = (
        Answers.under(find_noise(defense, logits), budget, labels)
        for logits, labels, _ in (shadow, asked)
    )
    return Case(hidden.both(), known, shadow[2], defense), hidden


def expected(verdict, hidden, members, rng):
    """The AUC over many random choices of what is released."""
    scores = verdict.scores.reshape(2, -1)
    areas = []
    for _ in range(30):
        noisy = rng.random(len(members)) < hidden.probability
        areas.append(auc(np.where(noisy, scores[1], scores[0]), members))
    return float(np.mean(areas))


@pytest.fixture(scope="module")
def crowd():
    return people(240, seed=1), people(300, seed=2)


@pytest.fixture(scope="module")
def unprotected(crowd):
    return case_of(*crowd, 0.0)


@pytest.fixture(scope="module")
def protected(crowd):
    return case_of(*crowd, 2.0)


@pytest.fixture(scope="module")
def verdicts(protected):
    """Every attacker's verdict on the protected case, found when first asked for."""
    return cache(
        lambda name: CONFIDENCE_ATTACKERS[name].attack(protected[0], np.random.default_rng(0))
    )


@every_attacker
def test_every_attacker_finds_the_leak_where_nothing_protects(name, unprotected, crowd):
    case, hidden = unprotected
    verdict = CONFIDENCE_ATTACKERS[name].attack(case, np.random.default_rng(0))
    assert verdict.scores.shape == (600,)
    members = crowd[1][2]
    assert expected(verdict, hidden, members, np.random.default_rng(3)) > 0.55
    right = verdict.decisions[:300] == members
    assert right.mean() > 0.55


@every_attacker
def test_no_attacker_finds_what_is_not_there(name):
    shadow, asked = people(240, seed=5, leak=0.0), people(300, seed=6, leak=0.0)
    case, hidden = case_of(shadow, asked, 0.5)
    verdict = CONFIDENCE_ATTACKERS[name].attack(case, np.random.default_rng(0))
    area = expected(verdict, hidden, asked[2], np.random.default_rng(3))
    assert area == pytest.approx(0.5, abs=0.12)


@every_attacker
def test_attackers_judge_each_answer_by_itself_and_know_no_more_than_they_say(
    name, protected, verdicts
):
    case, _ = protected
    attacker = CONFIDENCE_ATTACKERS[name]
    some = slice(100, 350)
    logits, labels = case.asked.logits[:, some], case.asked.labels[some]
    asked = Signals(
        np.concatenate([logits, logits], axis=1),
        np.concatenate([labels, (labels + 1) % CLASSES]),
    )
    known = case.shadow
    silent = Answers(known.before, known.before, known.probability, known.labels)
    verdict = attacker.attack(
        Case(asked, silent, case.members, case.defense), np.random.default_rng(0)
    )
    true, lied = verdict.scores.reshape(2, -1)
    assert np.allclose(true, lied, atol=1e-6) == (TRUE_LABEL not in attacker.knows)
    same = np.allclose(true, verdicts(name).scores[some], atol=1e-5)
    assert same == (BUNDLE not in attacker.knows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("adaptive", "unaware"),
    [
        ("nn-adaptive", "nn"),
        ("boosting-adaptive", "boosting"),
        ("boosting-label-adaptive", "boosting-label"),
        ("denoiser", "nn"),
        ("defense-model", "nn-label"),
    ],
)
def test_who_holds_the_bundle_sees_through_noise_that_fools_others(
    adaptive, unaware, protected, verdicts, crowd
):
    areas = [
        expected(verdicts(name), protected[1], crowd[1][2], np.random.default_rng(3))
        for name in (adaptive, unaware)
    ]
    assert areas[0] > areas[1] + 0.05


def test_the_defense_model_tells_its_own_decision_from_the_noisy_answer(protected, verdicts, crowd):
    case, hidden = protected
    verdict = verdicts("defense-model")
    logits, labels, _ = crowd[1]
    confidences = np.sort(np.exp(hidden.before), axis=1)
    true_decision = case.defense.logits(confidences)[:, 0] > 0
    right = logits.argmax(axis=1) == labels
    noisy = hidden.probability == 1
    assert noisy.mean() > 0.8
    undone = verdict.decisions[300:][noisy]
    assert (undone == (true_decision & right)[noisy]).mean() > 0.95


def test_the_gap_is_what_it_was(unprotected, protected):
    gap = CONFIDENCE_ATTACKERS["gap"]
    with_noise, without = (
        gap.attack(case, np.random.default_rng(0)).scores for case, _ in (protected, unprotected)
    )
    np.testing.assert_array_equal(with_noise, without)
    np.testing.assert_array_equal(with_noise[:300], with_noise[300:])


def answers(probability, n=50):
    rng = np.random.default_rng(0)
    before, after = (np.log(rng.dirichlet(np.ones(4), n)) for _ in range(2))
    return Answers(before, after, np.full(n, probability), rng.integers(4, size=n))


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_draws_are_noisy_as_often_as_the_service_is(probability):
    given = answers(probability)
    drawn = given.drawn(np.random.default_rng(1), 4).logits
    noisy = (drawn == given.after).all(axis=2)
    assert ((drawn == given.before).all(axis=2) == ~noisy).all()
    assert (noisy.sum(axis=0) == 4 * probability).all()


def test_odd_probabilities_hold_on_the_mean():
    given = answers(0.3, n=4000)
    noisy = (given.drawn(np.random.default_rng(1), 4).logits == given.after).all(axis=2)
    assert set(noisy.sum(axis=0)) == {1, 2}
    assert noisy.mean() == pytest.approx(0.3, abs=0.01)


def test_every_answer_comes_with_its_chance():
    given = answers(0.3)
    both = given.both()
    np.testing.assert_array_equal(both.logits[0], np.concatenate([given.before, given.after]))
    np.testing.assert_array_equal(both.labels, np.tile(given.labels, 2))
    np.testing.assert_allclose(given.weights, np.repeat([0.7, 0.3], 50))


def test_features_forget_the_order_of_classes():
    rng = np.random.default_rng(0)
    for classes in (2, 5, 9):
        logits = rng.normal(0, 2, (1, 30, classes))
        labels = np.zeros(30, dtype=int)
        shuffled = Signals(rng.permuted(logits, axis=2), labels)
        for features in (ascending, shape):
            here, there = features(Signals(logits, labels)), features(shuffled)
            np.testing.assert_allclose(here, there)
            assert np.isfinite(here).all()


def test_attackers_need_nothing_that_an_audit_would_not_say():
    needs = {
        need
        for attacker in CONFIDENCE_ATTACKERS.values()
        for need in getattr(getattr(attacker, "base", None), "needs", ())
    }
    assert needs <= {"shadow", *PACKAGES}
    assert all(len(attacker.paper) > 20 for attacker in CONFIDENCE_ATTACKERS.values())
