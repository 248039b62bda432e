"""Protected confidences, judged in expectation: against brute force, and by every attacker."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privet.attacks.confidences import CONFIDENCE_ATTACKERS
from privet.device.membership import find_noise
from privet.errors import DataError
from privet.jobs.membership_attackers import (
    TrainedNetwork,
    attack_confidences,
    expected_accuracy,
    expected_auc,
)
from privet.jobs.membership_evaluation import Observed, attacked, found_share
from privet.jobs.tiers import fresh, to_device
from privet.metrics import auc, balanced_accuracy
from privet.models import FullyConnected, linear_layers

CLASSES = 5
BUDGETS = (0.3, 1.0)
QUICK = {name: CONFIDENCE_ATTACKERS[name] for name in ("hconf", "mentr", "gap", "defense-model")}


def observed(n, seed):
    rng = np.random.default_rng(seed)
    members = np.arange(n) < n // 2
    labels = rng.integers(CLASSES, size=n)
    logits = rng.normal(0, 1, (n, CLASSES))
    logits[np.arange(n), labels] += 2.0 + 3.0 * members
    return Observed(logits.astype(np.float32), members, labels)


@pytest.fixture(scope="module")
def shadow():
    return observed(200, 1)


@pytest.fixture(scope="module")
def vectors():
    return observed(240, 2)


def judge(certain, architecture=(4, 3)):
    """A network that says member where the largest confidence is above a bound."""
    network = fresh(FullyConnected(CLASSES, architecture, 1), 0)
    first, second, last = linear_layers(network.model)
    with torch.no_grad():
        for layer in (first, second, last):
            layer.weight.mul_(0.01)
            layer.bias.zero_()
        first.weight[0, -1] = second.weight[0, 0] = 1.0
        last.weight[0, 0], last.bias[0] = 6.0, -6.0 * certain
    return network


@pytest.fixture(scope="module")
def found(shadow, vectors):
    attackers = {**QUICK, "nn": TrainedNetwork(judge(0.75).model)}
    return {
        row["attacker"]: row
        for row in attack_confidences(
            to_device(judge(0.8).model),
            shadow=shadow,
            vectors=vectors,
            budgets=BUDGETS,
            seed=0,
            attackers=attackers,
        )
    }


chances = st.sampled_from([0.0, 0.25, 0.5, 1.0])
scores = st.sampled_from([-1.0, 0.0, 0.5, 2.0])


@given(
    st.lists(st.tuples(scores, scores, chances), min_size=2, max_size=6),
    st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_expectations_are_those_over_every_possible_release(vector, inside):
    either = np.array([[before, after] for before, after, _ in vector])
    p = np.array([chance for *_, chance in vector])
    members = np.arange(len(p)) < min(inside, len(p) - 1)
    mean_auc = mean_accuracy = 0.0
    for noisy in product([0, 1], repeat=len(p)):
        chosen = np.array(noisy)
        chance = np.where(chosen == 1, p, 1 - p).prod()
        released = either[np.arange(len(p)), chosen]
        mean_auc += chance * auc(released, members)
        mean_accuracy += chance * balanced_accuracy(released >= 0.5, members)
    weights, truth = np.concatenate([1 - p, p]), np.tile(members, 2)
    flat = either.T.ravel()
    assert expected_auc(flat, weights, truth) == pytest.approx(mean_auc)
    hits = (flat >= 0.5) == truth
    assert expected_accuracy(hits, weights, truth) == pytest.approx(mean_accuracy)


def test_the_trained_network_is_judged_as_the_papers_do(found, vectors):
    attacker = judge(0.75).model
    by_budget = attacked(judge(0.8), attacker, vectors, BUDGETS)
    figures = found["nn"]["by_budget"]
    assert list(figures) == ["0.3", "1"]
    for budget, expected in by_budget.items():
        assert figures[budget]["accuracy"] == pytest.approx(expected)
    confidences = vectors.as_training_data()[0]
    with torch.no_grad():
        scores = attacker(confidences)[:, 0].numpy()
    unprotected = found["nn"]["unprotected"]
    assert unprotected["auc"] == pytest.approx(auc(scores, vectors.members), abs=1e-3)
    assert unprotected["accuracy"] == pytest.approx(((scores > 0) == vectors.members).mean())
    assert unprotected["accuracy"] > by_budget["1"] + 0.1


def test_the_table_says_what_noise_hides_and_what_it_does_not(found, vectors):
    right = vectors.logits.argmax(axis=1) == vectors.labels
    gap = balanced_accuracy(right, vectors.members)
    for figures in (found["gap"]["unprotected"], *found["gap"]["by_budget"].values()):
        assert figures == {"accuracy": pytest.approx(gap), "auc": pytest.approx(gap)}
    confidence = found["hconf"]
    areas = [
        confidence["unprotected"]["auc"],
        *(f["auc"] for f in confidence["by_budget"].values()),
    ]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[-1] + 0.1
    holder = found["defense-model"]
    assert holder["knows"] == ["true label", "bundle"]
    assert holder["by_budget"]["1"]["accuracy"] > confidence["by_budget"]["1"]["accuracy"] + 0.1


def test_an_attackers_figures_do_not_depend_on_the_others(shadow, vectors, found):
    defense = to_device(judge(0.8).model)
    for name in ("defense-model", "hconf"):
        (alone,) = attack_confidences(
            defense,
            shadow=shadow,
            vectors=vectors,
            budgets=BUDGETS,
            seed=0,
            attackers={name: CONFIDENCE_ATTACKERS[name]},
        )
        assert alone == found[name]


def test_who_the_targets_members_are_changes_no_verdict(shadow, vectors, monkeypatch):
    seen = []
    for members in (vectors.members, ~vectors.members):
        for name, attacker in QUICK.items():

            class Spy:
                paper, knows = attacker.paper, attacker.knows

                def attack(self, case, rng, attacker=attacker):
                    verdict = attacker.attack(case, rng)
                    seen.append((verdict.scores, verdict.threshold))
                    return verdict

            attack_confidences(
                to_device(judge(0.8).model),
                shadow=shadow,
                vectors=Observed(vectors.logits, members, vectors.labels),
                budgets=(1.0,),
                seed=0,
                attackers={name: Spy()},
            )
    half = len(seen) // 2
    for (scores, threshold), (others, same) in zip(seen[:half], seen[half:], strict=True):
        np.testing.assert_array_equal(scores, others)
        assert threshold == same


@pytest.mark.slow
def test_every_attacker_has_figures_at_every_budget(shadow, vectors):
    rows = attack_confidences(
        to_device(judge(0.8).model), shadow=shadow, vectors=vectors, budgets=(1.0,), seed=0
    )
    assert [row["attacker"] for row in rows] == list(CONFIDENCE_ATTACKERS)
    for row in rows:
        for figures in (row["unprotected"], row["by_budget"]["1"]):
            assert 0.4 < figures["accuracy"] <= 1
            assert 0 <= figures["auc"] <= 1
        assert row["unprotected"]["auc"] > 0.6


def test_a_defense_model_that_finds_no_noise_protects_nobody(shadow, vectors):
    dead = judge(-1.0)  # no confidence is below its bound
    assert found_share(dead, vectors) == 0
    for row in attack_confidences(
        to_device(dead.model),
        shadow=shadow,
        vectors=vectors,
        budgets=BUDGETS,
        seed=0,
        attackers=QUICK,
    ):
        for figures in row["by_budget"].values():
            assert figures == row["unprotected"]


def test_true_labels_are_needed_and_asked_for(shadow, vectors):
    with pytest.raises(DataError, match="true labels"):
        attack_confidences(
            to_device(judge(0.8).model),
            shadow=shadow,
            vectors=Observed(vectors.logits, vectors.members),
            budgets=BUDGETS,
            seed=0,
            attackers=QUICK,
        )


def test_some_rows_keep_their_labels(vectors):
    rows = np.array([5, 3])
    some = vectors.take(rows)
    np.testing.assert_array_equal(some.truth(), vectors.labels[rows])
    np.testing.assert_array_equal(some.logits, vectors.logits[rows])
    assert Observed(vectors.logits, vectors.members).take(rows).labels is None


def test_noise_is_found_for_the_share_of_vectors_that_flip(vectors):
    tier = judge(0.8)
    noise = find_noise(to_device(tier.model), vectors.logits)
    assert found_share(tier, vectors) == noise.found.mean() > 0.9
