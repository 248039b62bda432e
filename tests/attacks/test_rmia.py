from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import rankdata

from evidence import make_evidence
from privet.attacks.reference import DEFAULT_A, RMIA, share
from privet.attacks.threshold import balanced_threshold, confidence
from privet.errors import OptionError
from privet.metrics import auc, judge
from privet.signals import Evidence, Signals

RNG = np.random.default_rng(0)  # the attack draws nothing


def played(evidence: Evidence, model: int) -> tuple[Evidence, np.ndarray]:
    """Return evidence in which a shadow model is the target and the others are the references."""
    shadow, members = evidence.known()
    rest = Signals(np.delete(shadow.logits, model, 0), shadow.labels)
    own = Evidence(
        shadow.one(model), reference=rest, reference_members=np.delete(members, model, 0)
    )
    return own, members[model]


def plain_rmia(log_p, references, inside, *, a, online):
    """Return ratio_x, sample by sample, in probabilities."""
    ratios = []
    for i, own in enumerate(np.exp(log_p)):
        p = np.exp(references[:, i])
        p_out = p[~inside[:, i]].mean()
        p_in = a * p_out + 1 - a
        if online and inside[:, i].any():
            p_in = p[inside[:, i]].mean()
        ratios.append(own / ((p_in + p_out) / 2))
    return np.array(ratios)


@pytest.mark.parametrize("with_population", [True, False])
@pytest.mark.parametrize("gamma", [1.0, 1.5])
@pytest.mark.parametrize("online", [True, False])
def test_rmia_equals_plain_loops(online, gamma, with_population):
    evidence, _ = make_evidence(2.0, seed=3, samples=60, shadows=12)
    options = {"a": 0.3, "online": online}
    x = plain_rmia(
        confidence(evidence.target)[0],
        confidence(evidence.reference),
        evidence.reference_members,
        **options,
    )
    z = x
    if with_population:
        z = plain_rmia(
            confidence(evidence.population)[0],
            confidence(evidence.shadow),
            evidence.shadow_members,
            **options,
        )
    else:
        evidence = replace(evidence, population=None)
    scores = RMIA("paper", gamma=gamma, **options).attack(evidence, RNG).scores
    expected = np.array([sum(own / other >= gamma * (1 - 1e-12) for other in z) for own in x])
    np.testing.assert_array_equal(np.floor(scores * 61 + 1e-9), expected)
    np.testing.assert_array_equal(rankdata(scores), rankdata(x))


def test_the_share_by_hand():
    ratios = np.log([0.5, 1.0, 3.0, 9.0])
    found = share(ratios, np.log([4.0, 1.0]), gamma=2.0)
    np.testing.assert_allclose(found, (np.array([0, 0, 1, 2]) + expit(ratios)) / 3)


def test_the_coefficient_with_the_best_auc_of_shadow_models_is_chosen():
    # The known IN means lie on the line for a = 0.8: that a ranks best.
    rng = np.random.default_rng(0)
    inside = rng.random((9, 1500)) < 0.5
    p_out = rng.random(1500)
    p = np.where(inside, 0.8 * p_out + 0.2, p_out) * np.exp(0.1 * rng.normal(size=inside.shape))
    log_odds = np.log(p / 2) - np.log1p(-p / 2)
    signals = Signals(np.stack([log_odds, np.zeros_like(p)], axis=2), np.zeros(1500, dtype=int))
    evidence = Evidence(
        signals.one(0), signals, inside, reference=signals, reference_members=inside
    )
    means = {}
    for a in np.linspace(0, 1, 11):
        aucs = []
        for model in range(9):
            own, members = played(evidence, model)
            verdict = RMIA("paper", online=False, a=a).attack(own, RNG)
            aucs.append(auc(verdict.scores, members))
        means[a] = np.mean(aucs)
    best = max(means, key=means.get)
    assert 0 < best < 1
    np.testing.assert_array_equal(
        RMIA("paper", online=False).attack(evidence, RNG).scores,
        RMIA("paper", online=False, a=best).attack(evidence, RNG).scores,
    )


def test_without_models_to_learn_from_the_coefficient_is_the_default():
    evidence, _ = make_evidence(2.0, seed=0, samples=50, shadows=2)
    np.testing.assert_array_equal(
        RMIA("paper", online=False).attack(evidence, RNG).scores,
        RMIA("paper", online=False, a=DEFAULT_A).attack(evidence, RNG).scores,
    )


def test_low_false_positive_rates_are_not_lost_in_ties():
    evidence, members = make_evidence(6.0, seed=0, samples=1000, shadows=8)
    scores = RMIA("paper", a=0.3).attack(evidence, RNG).scores
    assert len(np.unique(scores)) == 1000
    without = np.floor(scores * 1001)
    assert (without == without.max()).sum() > 50
    assert judge(scores, members).tpr_at_fpr[0.01].tpr > 0.5


def test_with_a_population_the_shadow_models_meet_their_own_nonmembers():
    evidence, _ = make_evidence(2.0, seed=5, samples=150, shadows=8)
    found, truth = [], []
    for model in range(8):
        own, members = played(evidence, model)
        ratios = np.log(
            plain_rmia(
                confidence(own.target)[0],
                confidence(own.reference),
                own.reference_members,
                a=0.4,
                online=False,
            )
        )
        found.append(share(ratios, ratios[~members], gamma=1.0))
        truth.append(members)
    expected = balanced_threshold(np.concatenate(found), np.concatenate(truth))
    verdict = RMIA("paper", online=False, a=0.4).attack(evidence, RNG)
    assert verdict.threshold == pytest.approx(expected, rel=1e-9)


def test_options_out_of_range_are_refused():
    for gamma in (0.5, np.inf, np.nan):
        with pytest.raises(OptionError, match="gamma"):
            RMIA("paper", gamma=gamma)
    for a in (-0.1, 1.5, np.nan):
        with pytest.raises(OptionError, match="a must lie"):
            RMIA("paper", a=a)
