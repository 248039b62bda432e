"""What holds for every registered attack."""

import numpy as np
import pytest

from evidence import make_evidence
from privet.attacks import ATTACKS
from privet.metrics import judge


@pytest.fixture(params=sorted(ATTACKS))
def attack(request):
    return ATTACKS[request.param]


def test_it_cites_its_paper(attack):
    assert len(attack.paper) > 20


def test_scores_are_one_finite_number_a_sample(attack):
    evidence, members = make_evidence(leak=1.0, seed=0)
    verdict = attack.attack(evidence, np.random.default_rng(0))
    assert verdict.scores.shape == members.shape
    assert np.isfinite(verdict.scores).all()
    assert verdict.decisions is None or verdict.decisions.dtype == np.bool_


def test_leaky_evidence_is_found_in_the_right_direction(attack):
    evidence, members = make_evidence(leak=6.0, seed=1)
    verdict = attack.attack(evidence, np.random.default_rng(0))
    judged = judge(verdict.scores, members, decisions=verdict.decisions)
    assert judged.auc > 0.8
    assert judged.balanced_accuracy is None or judged.balanced_accuracy > 0.75


def test_null_evidence_is_not(attack):
    aucs, accuracies = [], []
    for seed in range(8):
        evidence, members = make_evidence(leak=0.0, seed=seed)
        verdict = attack.attack(evidence, np.random.default_rng(seed))
        judged = judge(verdict.scores, members, decisions=verdict.decisions)
        aucs.append(judged.auc)
        accuracies.append(0.5 if judged.balanced_accuracy is None else judged.balanced_accuracy)
    # Standard error of a mean of eight: about 0.013 / sqrt(8) each.
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.02)
    assert np.mean(accuracies) == pytest.approx(0.5, abs=0.02)


def test_the_same_generator_gives_the_same_verdict(attack):
    evidence, _ = make_evidence(leak=1.0, seed=3)
    first = attack.attack(evidence, np.random.default_rng(5))
    second = attack.attack(evidence, np.random.default_rng(5))
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.threshold, second.threshold)


def test_extreme_logits_stay_finite(attack):
    evidence, _ = make_evidence(leak=0.0, seed=4, samples=200)
    evidence.target.logits[0, :50] *= 1e4
    evidence.shadow.logits[0, :50] *= 1e4
    assert np.isfinite(attack.attack(evidence, np.random.default_rng(0)).scores).all()


def test_a_class_the_shadows_never_saw_is_judged_all_the_same(attack):
    evidence, members = make_evidence(leak=6.0, seed=6)
    evidence.shadow.labels[evidence.shadow.labels == 4] = 0
    verdict = attack.attack(evidence, np.random.default_rng(0))
    rare = evidence.target.labels == 4
    assert verdict.decisions is None or verdict.decisions[rare & members].mean() > 0.5
