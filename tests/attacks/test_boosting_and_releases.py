"""Boosting on output features, and attacks on several releases together."""

from dataclasses import replace

import numpy as np
import pytest

from evidence import make_evidence
from privet.attacks import ATTACKS
from privet.attacks.boosting import output_features
from privet.attacks.releases import Releases
from privet.errors import EvidenceError
from privet.metrics import auc
from privet.signals import Evidence, Signals


def test_output_features_by_hand():
    posteriors = np.array([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]])
    found = output_features(Signals(np.log(posteriors)[None], np.array([0, 0])))
    log = np.log
    entropy = -(0.7 * log(0.7) + 0.2 * log(0.2) + 0.1 * log(0.1))
    modified = -(0.3 * log(0.7) + 0.2 * log(0.8) + 0.1 * log(0.9))
    right = [log(0.7), -entropy, -modified, log(0.7), log(0.7 / 0.2), log(0.7 / 0.2), 0]
    np.testing.assert_allclose(found[0], right)
    wrong = [log(0.2), log(0.5), log(0.5 / 0.3), log(0.2 / 0.5), 2]
    np.testing.assert_allclose(found[1, [0, 3, 4, 5, 6]], wrong)


def test_output_features_of_certain_answers_stay_finite():
    logits = np.array([[[1e6, -1e6, 0.0]]])
    for label in range(3):
        assert np.isfinite(output_features(Signals(logits, np.array([label])))).all()


def test_a_single_class_leads_over_none():
    with pytest.raises(EvidenceError, match="at least two classes; got 1"):
        output_features(Signals(np.zeros((1, 3, 1)), np.zeros(3, dtype=int)))


def moving(seed: int) -> tuple[Evidence, np.ndarray]:
    """Two releases, each of which tells nothing alone: members' answers move up in between."""
    rng = np.random.default_rng(seed)

    def answers(models: int) -> tuple[Signals, Signals, np.ndarray]:
        inside = rng.random((models, 800)) < 0.5
        labels = np.zeros(800, dtype=int)
        # The move is small beside how much samples differ, and hidden by it.
        shared, moved = rng.normal(scale=8.0, size=inside.shape), np.where(inside, 0.5, -0.5)
        logits = [shared - moved, shared + moved]
        pairs = [np.stack([each, np.zeros_like(each)], axis=2) for each in logits]
        return Signals(pairs[0], labels), Signals(pairs[1], labels), inside

    *targets, truth = answers(1)
    *shadows, members = answers(4)
    before, after = (
        Evidence(target, shadow, members) for target, shadow in zip(targets, shadows, strict=True)
    )
    return replace(after, releases=(before,)), truth[0]


@pytest.mark.slow
def test_a_leak_between_releases_is_found_though_each_alone_has_none():
    evidence, members = moving(0)
    alone = [
        auc(ATTACKS["boosting"].attack(each, np.random.default_rng(0)).scores, members)
        for each in (evidence, *evidence.releases)
    ]
    together = ATTACKS["multi-release"].attack(evidence, np.random.default_rng(0))
    assert max(alone) < 0.6
    assert auc(together.scores, members) > 0.95
    assert (together.decisions == members).mean() > 0.9


def test_releases_are_stacked_with_their_differences_from_the_audited_one():
    evidence, _ = make_evidence(leak=1.0, seed=0, samples=60)
    seen = []

    def spy(known, held, seed):
        seen.append(known)
        return lambda inputs: inputs[:, 0].astype(float)

    other = evidence.releases[0]
    three = replace(evidence, releases=(other, evidence))
    attack = Releases("", features=lambda signals: signals.logits[0, :, :2], learner=spy)
    attack.attack(three, np.random.default_rng(0))
    first = seen[0].samples[0]
    mine, others = (each.shadow.logits[0, first, :2] for each in (evidence, other))
    expected = np.concatenate([mine, others, mine, others - mine, mine - mine])
    np.testing.assert_allclose(seen[0].inputs[0], expected, rtol=1e-6)


def test_without_another_release_there_is_nothing_to_compare():
    evidence, _ = make_evidence(leak=1.0, seed=0, samples=60)
    with pytest.raises(EvidenceError, match="the evidence has one only"):
        ATTACKS["multi-release"].attack(replace(evidence, releases=()), np.random.default_rng(0))


@pytest.mark.parametrize("wrong", ["labels", "memberships", "none"])
def test_releases_must_come_from_the_same_shadow_trainings(wrong):
    evidence, _ = make_evidence(leak=1.0, seed=0, samples=60)
    other = evidence.releases[0]
    shadow, members = other.known()
    changed = {
        "labels": replace(
            other,
            shadow=replace(shadow, labels=(shadow.labels + 1) % 5),
            population=None,
        ),
        "memberships": replace(other, shadow_members=~members),
        "none": replace(other, shadow=None, shadow_members=None, population=None),
    }[wrong]
    with pytest.raises(EvidenceError, match=r"release 1 must answer|has none"):
        ATTACKS["multi-release"].attack(
            replace(evidence, releases=(other, changed)), np.random.default_rng(0)
        )
