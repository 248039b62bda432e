from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import norm

from evidence import make_evidence
from privet.attacks.reference import RMIA, CalibratedLoss, LiRA, scaled_logit
from privet.attacks.threshold import balanced_threshold
from privet.errors import EvidenceError, OptionError
from privet.metrics import auc, balanced_accuracy, judge
from privet.signals import Evidence, Signals

ATTACKS = {
    "lira, online, fixed": LiRA("paper", variance="fixed"),
    "lira, online, per sample": LiRA("paper", variance="per-sample"),
    "lira, offline": LiRA("paper", online=False),
    "rmia, online": RMIA("paper", a=0.4),
    "rmia, offline": RMIA("paper", online=False, a=0.4),
    "rmia, offline, a chosen": RMIA("paper", online=False),
    "calibrated loss": CalibratedLoss("paper"),
}
RNG = np.random.default_rng(0)  # none of these attacks draws anything


@pytest.fixture(params=ATTACKS)
def attack(request):
    return ATTACKS[request.param]


def of_logits(phi: np.ndarray) -> Signals:
    """Return two-class signals whose scaled logits are ``phi`` (models, samples)."""
    logits = np.stack([phi, np.zeros_like(phi)], axis=2)
    return Signals(logits, np.zeros(phi.shape[1], dtype=int))


def gaussian(shift: float, seed: int, *, samples: int = 4000, models: int = 64, one_sided=None):
    """Return evidence of samples of very different difficulty; members are ``shift`` higher.

    Knowing each sample's difficulty, the best AUC is Phi(shift / sqrt 2) and the best balanced
    accuracy Phi(shift / 2). Of the first thousand samples, all references or none are IN models
    where ``one_sided`` is true or false.
    """
    rng = np.random.default_rng(seed)
    inside = rng.random((models + 1, samples)) < 0.5
    if one_sided is not None:
        inside[1:, :1000] = one_sided
    phi = rng.normal(size=inside.shape) + shift * inside + 10 * rng.normal(size=samples)
    reference = of_logits(phi[1:])
    evidence = Evidence(
        target=of_logits(phi[:1]),
        reference=reference,
        reference_members=inside[1:],
        shadow=reference,
        shadow_members=inside[1:],
    )
    return evidence, inside[0]


def played(evidence: Evidence, model: int) -> tuple[Evidence, np.ndarray]:
    """Return evidence in which a shadow model is the target and the others are the references."""
    shadow, members = evidence.known()
    rest = Signals(np.delete(shadow.logits, model, 0), shadow.labels)
    own = Evidence(
        shadow.one(model), reference=rest, reference_members=np.delete(members, model, 0)
    )
    return own, members[model]


# The scaled logit


def test_the_scaled_logit_is_the_log_odds_of_the_true_class():
    posterior = np.array([[[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]])
    signals = Signals(np.log(posterior) + 3.0, np.array([0, 2]))
    np.testing.assert_allclose(scaled_logit(signals), [[np.log(7 / 3), 0.0]], atol=1e-12)


def test_the_scaled_logit_does_not_saturate():
    phi = scaled_logit(Signals(np.array([[[1e4, 0, 0], [0, 1e30, 1]]]), np.array([0, 0])))
    np.testing.assert_allclose(phi, [[1e4 - np.log(2), -1e30]])


def test_the_scaled_logit_needs_two_classes():
    with pytest.raises(EvidenceError, match="two classes"):
        scaled_logit(Signals(np.zeros((1, 3, 1)), np.zeros(3, dtype=int)))


# LiRA


@pytest.mark.parametrize("variance", ["fixed", "per-sample"])
@pytest.mark.parametrize("online", [True, False])
def test_lira_equals_plain_loops(online, variance):
    evidence, _ = gaussian(1.0, seed=0, samples=30, models=12)
    phi, inside = scaled_logit(evidence.reference), evidence.reference_members
    sides = [[phi[inside[:, i] == side, i] for i in range(30)] for side in (True, False)]
    fixed = [
        np.sqrt(sum(((v - v.mean()) ** 2).sum() for v in side) / sum(len(v) - 1 for v in side))
        for side in sides
    ]
    expected = []
    for i, own in enumerate(scaled_logit(evidence.target)[0]):
        (mean_in, sd_in), (mean_out, sd_out) = (
            (side[i].mean(), spread if variance == "fixed" else side[i].std(ddof=1))
            for side, spread in zip(sides, fixed, strict=True)
        )
        expected.append(
            norm.logpdf(own, mean_in, sd_in) - norm.logpdf(own, mean_out, sd_out)
            if online
            else norm.cdf(own, mean_out, sd_out)
        )
    scores = LiRA("paper", online=online, variance=variance).attack(evidence, RNG).scores
    np.testing.assert_allclose(scores if online else ndtr(scores), expected, rtol=1e-9)


def test_variances_are_per_sample_from_64_reference_models_on():
    for models, like in ((63, "fixed"), (64, "per-sample")):
        evidence, _ = gaussian(1.0, seed=0, samples=50, models=models)
        np.testing.assert_array_equal(
            LiRA("paper").attack(evidence, RNG).scores,
            LiRA("paper", variance=like).attack(evidence, RNG).scores,
        )


@pytest.mark.parametrize(
    "lira",
    [
        LiRA("paper", variance="fixed"),
        LiRA("paper", variance="per-sample"),
        LiRA("paper", online=False),
    ],
)
def test_lira_comes_close_to_the_optimum_on_gaussians(lira):
    evidence, members = gaussian(2.0, seed=1)
    verdict = lira.attack(evidence, RNG)
    judged = judge(verdict.scores, members, decisions=verdict.decisions)
    assert judged.auc == pytest.approx(ndtr(2 / np.sqrt(2)), abs=0.015)
    assert judged.balanced_accuracy == pytest.approx(ndtr(1.0), abs=0.015)
    # Without calibration the difficulty hides nearly all of it.
    assert auc(scaled_logit(evidence.target)[0], members) < 0.6


@pytest.mark.parametrize("one_sided", [True, False])
@pytest.mark.parametrize("online", [True, False])
def test_samples_without_in_or_without_out_models_are_judged_as_sharply(online, one_sided):
    evidence, members = gaussian(2.0, seed=2, one_sided=one_sided)
    scores = LiRA("paper", online=online, variance="fixed").attack(evidence, RNG).scores
    assert auc(scores[:1000], members[:1000]) == pytest.approx(ndtr(2 / np.sqrt(2)), abs=0.03)
    assert auc(scores, members) == pytest.approx(ndtr(2 / np.sqrt(2)), abs=0.015)


# Calibrated loss


def test_calibrated_loss_by_hand():
    log_p = np.log([[0.9, 0.5], [0.5, 0.4], [0.2, 0.1]])
    phi = log_p - np.log1p(-np.exp(log_p))
    inside = np.array([[False, True], [False, False]])
    evidence = Evidence(of_logits(phi[:1]), reference=of_logits(phi[1:]), reference_members=inside)
    scores = CalibratedLoss("paper").attack(evidence, RNG).scores
    np.testing.assert_allclose(
        scores, [np.log(0.9) - np.log(0.5 * 0.2) / 2, np.log(0.5) - np.log(0.1)]
    )


# All of them


def test_thresholds_are_those_of_shadow_models_playing_the_target(attack):
    evidence, _ = make_evidence(2.0, seed=5, samples=150, shadows=5)
    evidence = replace(evidence, population=None)
    if isinstance(attack, RMIA):
        attack = replace(attack, a=0.4)  # the chosen one would differ from game to game
    games = [played(evidence, model) for model in range(5)]
    scores, members = [], []
    for model, (own, truth) in enumerate(games):
        others = np.delete(evidence.shadow_members, model, axis=0)
        # Means that would have to be borrowed teach nothing.
        told = ~others.all(axis=0) & (others.any(axis=0) | ("online" not in attack.needs))
        scores.append(attack.attack(own, RNG).scores[told])
        members.append(truth[told])
    expected = balanced_threshold(np.concatenate(scores), np.concatenate(members))
    assert attack.attack(evidence, RNG).threshold == pytest.approx(expected, rel=1e-9)


def test_offline_rules_hold_where_shadow_models_train_on_nearly_everything():
    """Six in seven trained on, leaving one of five out leaves half the samples without OUT."""
    rng = np.random.default_rng(0)
    members, inside = rng.random(4000) < 0.5, rng.random((5, 4000)) < 6 / 7
    difficulty = rng.normal(scale=3, size=(2, 4000))

    def answers(shift, where):
        phi = where + shift * 2.0 + rng.normal(size=np.shape(shift))
        return of_logits(phi)

    evidence = Evidence(
        answers(members[None], difficulty[0]),
        answers(inside, difficulty[1]),
        inside,
        reference=answers(np.zeros((5, 4000)), difficulty[0]),
        reference_members=np.zeros((5, 4000), dtype=bool),
    )
    for offline in (CalibratedLoss("paper"), LiRA("paper", online=False)):
        verdict = offline.attack(evidence, RNG)
        best = balanced_accuracy(
            verdict.scores >= balanced_threshold(verdict.scores, members), members
        )
        assert balanced_accuracy(verdict.decisions, members) > best - 0.03


def test_three_shadow_models_are_the_fewest_to_learn_from(attack):
    for shadows in (2, 3):
        evidence, _ = make_evidence(2.0, seed=0, samples=100, shadows=shadows)
        assert (attack.attack(evidence, RNG).threshold is None) == (shadows < 3)


def test_references_that_know_audited_samples_replace_shadow_models(attack):
    evidence, members = make_evidence(6.0, seed=0, shadows=6)
    evidence = replace(evidence, shadow=None, shadow_members=None, population=None)
    decisions = attack.attack(evidence, RNG).decisions
    assert balanced_accuracy(decisions, members) > 0.75


def test_offline_references_alone_only_rank(attack):
    evidence, members = make_evidence(6.0, seed=0, samples=500, shadows=6)
    logits = make_evidence(0.0, seed=1, samples=500, shadows=6)[0].reference.logits
    offline = Evidence(
        evidence.target,
        reference=Signals(logits, evidence.target.labels),
        reference_members=np.zeros((6, 500), dtype=bool),
    )
    if "online" in attack.needs:
        assert not attack.needs <= offline.holds
        with pytest.raises(EvidenceError, match="offline"):
            attack.attack(offline, RNG)
    else:
        assert attack.needs <= offline.holds
        verdict = attack.attack(offline, RNG)
        assert verdict.threshold is None
        assert auc(verdict.scores, members) > 0.8


def test_references_that_all_trained_on_everything_are_refused(attack):
    evidence, _ = make_evidence(1.0, seed=0, samples=20)
    with pytest.raises(EvidenceError, match="every reference model trained on every"):
        attack.attack(
            replace(evidence, reference_members=np.ones_like(evidence.reference_members)), RNG
        )


def test_references_are_needed(attack):
    evidence, _ = make_evidence(1.0, seed=0, samples=20)
    with pytest.raises(EvidenceError, match="reference"):
        attack.attack(replace(evidence, reference=None, reference_members=None), RNG)


@settings(max_examples=25)
@given(st.permutations(range(6)), st.integers(0, 100))
def test_the_order_of_the_models_does_not_matter(order, seed):
    evidence, _ = make_evidence(1.0, seed=seed, samples=40, shadows=6)
    shuffled = replace(
        evidence,
        reference=Signals(evidence.reference.logits[order], evidence.reference.labels),
        reference_members=evidence.reference_members[order],
        shadow=Signals(evidence.shadow.logits[order], evidence.shadow.labels),
        shadow_members=evidence.shadow_members[order],
    )
    for attack in ATTACKS.values():
        first, second = attack.attack(evidence, RNG), attack.attack(shuffled, RNG)
        np.testing.assert_allclose(first.scores, second.scores, rtol=1e-7, atol=1e-9)
        assert first.threshold == pytest.approx(second.threshold, rel=1e-7, abs=1e-9)


def test_a_constant_added_to_all_logits_of_a_sample_does_not_matter(attack):
    evidence, _ = make_evidence(1.0, seed=0, samples=60, shadows=6)
    rng = np.random.default_rng(1)

    def moved(signals: Signals) -> Signals:
        constant = 5 * rng.normal(size=(*signals.logits.shape[:2], 1))
        return Signals(signals.logits + constant, signals.labels)

    parts = ("target", "reference", "shadow", "population")
    other = replace(evidence, **{part: moved(getattr(evidence, part)) for part in parts})
    first, second = attack.attack(evidence, RNG), attack.attack(other, RNG)
    np.testing.assert_allclose(first.scores, second.scores, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in ATTACKS if "lira, online" not in name])
def test_a_more_confident_target_never_looks_less_like_a_member(name):
    attack = ATTACKS[name]  # of two spreads, a likelihood ratio need not be monotone
    evidence, _ = make_evidence(3.0, seed=0, samples=300, shadows=8)
    before = attack.attack(evidence, RNG).scores
    logits = evidence.target.logits.copy()
    logits[0, 0, evidence.target.labels[0]] += 1.0
    after = attack.attack(replace(evidence, target=Signals(logits, evidence.target.labels)), RNG)
    assert after.scores[0] >= before[0]
    if not isinstance(attack, RMIA):
        np.testing.assert_array_equal(after.scores[1:], before[1:])


def test_extreme_logits_everywhere_stay_finite(attack):
    evidence, _ = make_evidence(1.0, seed=0, samples=60, shadows=6)
    for part in (evidence.target, evidence.reference, evidence.shadow, evidence.population):
        part.logits[0, :20] *= 1e6
        part.logits[:, 20:30] = 0.0
    verdict = attack.attack(evidence, RNG)
    assert np.isfinite(verdict.scores).all()
    assert not np.isnan(verdict.threshold)


def test_options_out_of_range_are_refused():
    with pytest.raises(OptionError, match="'median'"):
        LiRA("paper", variance="median")
